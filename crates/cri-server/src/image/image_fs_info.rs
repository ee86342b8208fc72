//! ImageFsInfo: measures what images take, and what containers' writable layers take.

use crate::convert::image;
use cri_api::v1;
use engine::Engine;
use types::Result;

/// Both name the same mount point, for layers and writable layers lie in one file system: by two names the kubelet
/// would take it for a split one (kubernetes `pkg/kubelet/kuberuntime`, IsContainerFsSeparateFromImageFs).
pub async fn call(engine: &Engine) -> Result<v1::ImageFsInfoResponse> {
    let info = engine.images().fs_info().await?;
    Ok(v1::ImageFsInfoResponse {
        image_filesystems: vec![image::usage(&info, info.images)],
        container_filesystems: vec![image::usage(&info, info.containers)],
    })
}
