//! Images of `corten.v1`, our own service beside the CRI: one file per RPC, and here the table of them. It does
//! nothing that the CRI cannot; it only tells more.

mod pull;
mod untold;

use cri_api::corten_v1 as wire;
use cri_api::corten_v1::images_server;
use engine::Engine;
use tonic::{Request, Response, Status};

/// Serves images, with progress.
pub struct Images {
    engine: Engine,
}

impl Images {
    /// All it needs.
    pub fn new(engine: Engine) -> Self {
        Self { engine }
    }
}

#[tonic::async_trait]
impl images_server::Images for Images {
    type PullStream = pull::Events;

    async fn pull(&self, request: Request<wire::PullRequest>) -> Result<Response<Self::PullStream>, Status> {
        Ok(Response::new(pull::call(self.engine.clone(), request.into_inner())))
    }
}
