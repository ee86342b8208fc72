//! ImageFsInfo: measures the file system that holds images and containers.

use crate::convert::image;
use cri_api::v1;
use engine::Engine;
use types::Result;

/// Both lists name the same file system, for layers and writable layers lie side by side; a kubelet that found
/// the second empty would take it for a split one.
pub fn call(engine: &Engine) -> Result<v1::ImageFsInfoResponse> {
    let usage = image::usage(&engine.images().fs_info()?);
    Ok(v1::ImageFsInfoResponse { image_filesystems: vec![usage.clone()], container_filesystems: vec![usage] })
}
