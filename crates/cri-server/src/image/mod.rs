//! ImageService: one file per RPC, and here the table that says how each is run.

mod image_fs_info;
mod image_status;
mod list_images;
mod pull_image;
mod remove_image;
mod stream_images;

use crate::call::{change, read};
use crate::chunks::Chunks;
use cri_api::v1;
use cri_api::v1::image_service_server::ImageService;
use engine::Engine;
use tonic::{Request, Response, Status};

type Answer<T> = Result<Response<T>, Status>;

/// Serves images.
pub struct Image {
    engine: Engine,
}

impl Image {
    /// All it needs.
    pub fn new(engine: Engine) -> Self {
        Self { engine }
    }
}

#[tonic::async_trait]
impl ImageService for Image {
    async fn list_images(&self, request: Request<v1::ListImagesRequest>) -> Answer<v1::ListImagesResponse> {
        read("ListImages", async { list_images::call(&self.engine, request.into_inner()) }).await
    }

    type StreamImagesStream = Chunks<v1::StreamImagesResponse>;

    async fn stream_images(
        &self,
        request: Request<v1::StreamImagesRequest>,
    ) -> Answer<Self::StreamImagesStream> {
        read("StreamImages", async { stream_images::call(&self.engine, request.into_inner()) }).await
    }

    async fn image_status(
        &self,
        request: Request<v1::ImageStatusRequest>,
    ) -> Answer<v1::ImageStatusResponse> {
        read("ImageStatus", image_status::call(&self.engine, request.into_inner())).await
    }

    async fn pull_image(&self, request: Request<v1::PullImageRequest>) -> Answer<v1::PullImageResponse> {
        change("PullImage", pull_image::call(&self.engine, request.into_inner())).await
    }

    async fn remove_image(
        &self,
        request: Request<v1::RemoveImageRequest>,
    ) -> Answer<v1::RemoveImageResponse> {
        change("RemoveImage", remove_image::call(&self.engine, request.into_inner())).await
    }

    async fn image_fs_info(&self, _: Request<v1::ImageFsInfoRequest>) -> Answer<v1::ImageFsInfoResponse> {
        read("ImageFsInfo", image_fs_info::call(&self.engine)).await
    }
}
