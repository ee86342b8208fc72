//! Export: writes images as one archive, in pieces. A caller that reads slowly makes the writer wait.

use super::Answers;
use crate::call::{concerns, read};
use crate::convert::image;
use cri_api::corten_v1::{ArchiveFormat, ExportChunk, ExportRequest};
use engine::Engine;
use futures_util::stream::{self, StreamExt};
use images::Exported;
use tonic::{Response, Status};
use types::{Error, Result};

/// What cannot be written is refused before the first piece.
pub async fn call(engine: &Engine, request: ExportRequest) -> Result<Response<Answers<ExportChunk>>, Status> {
    let exported = read("Export", begin(engine, request)).await?.into_inner();
    let total = exported.total.unwrap_or(0);
    let chunks = stream::unfold((exported.parts, total), |(mut parts, total)| async move {
        let chunk = match parts.recv().await? {
            Ok(part) => Ok(ExportChunk { data: part.into(), total }),
            Err(error) => {
                let status = crate::status::of(&error);
                tracing::warn!(rpc = "Export", error = status.message(), "failed");
                Err(status)
            }
        };
        Some((chunk, (parts, 0)))
    });
    Ok(Response::new(chunks.boxed()))
}

async fn begin(engine: &Engine, request: ExportRequest) -> Result<Exported> {
    let format = match request.format() {
        ArchiveFormat::Unspecified | ArchiveFormat::Oci => images::ArchiveFormat::Oci,
        ArchiveFormat::Docker => images::ArchiveFormat::Docker,
    };
    if request.images.is_empty() {
        return Err(Error::invalid("images: none is named"));
    }
    request.images.iter().try_for_each(|name| image::named("images", name))?;
    concerns(&request.images.join(" "));
    engine.images().export(&request.images, format).await
}
