//! Images of `corten.v1`, our own service beside the CRI: one file per RPC, and here the table of them. It tells
//! more of what the CRI does, and does with images what the CRI does not.

mod check;
mod export;
mod import;
mod pack;
mod prune;
mod pull;
mod push;
mod untold;
mod upload;

use cri_api::corten_v1 as wire;
use cri_api::corten_v1::images_server;
use engine::Engine;
use futures_util::stream::BoxStream;
use tonic::{Request, Response, Status, Streaming};

/// An answer of many messages.
type Answers<T> = BoxStream<'static, Result<T, Status>>;

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

    type ImportStream = Answers<wire::ImportEvent>;

    async fn import(
        &self,
        request: Request<Streaming<wire::ImportRequest>>,
    ) -> Result<Response<Self::ImportStream>, Status> {
        Ok(Response::new(import::call(self.engine.clone(), request.into_inner())))
    }

    type ExportStream = Answers<wire::ExportChunk>;

    async fn export(
        &self,
        request: Request<wire::ExportRequest>,
    ) -> Result<Response<Self::ExportStream>, Status> {
        export::call(&self.engine, request.into_inner()).await
    }

    type PushStream = Answers<wire::PushEvent>;

    async fn push(&self, request: Request<wire::PushRequest>) -> Result<Response<Self::PushStream>, Status> {
        Ok(Response::new(push::call(self.engine.clone(), request.into_inner())))
    }

    async fn pack(
        &self,
        request: Request<Streaming<wire::PackRequest>>,
    ) -> Result<Response<wire::PackResponse>, Status> {
        pack::call(&self.engine, request.into_inner()).await
    }

    type CheckStream = check::Events;

    async fn check(
        &self,
        request: Request<wire::CheckRequest>,
    ) -> Result<Response<Self::CheckStream>, Status> {
        check::call(self.engine.clone(), request.into_inner()).await
    }

    async fn prune(
        &self,
        request: Request<wire::PruneRequest>,
    ) -> Result<Response<wire::PruneResponse>, Status> {
        prune::call(&self.engine, request.into_inner()).await
    }
}
