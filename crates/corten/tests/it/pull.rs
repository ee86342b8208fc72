//! `corten pull` against a runtime that tells how far it is, and against one that has only the CRI.

use super::{World, text};
use cri_api::corten_v1 as wire;
use cri_api::corten_v1::images_server::{Images, ImagesServer};
use cri_api::corten_v1::{Finished, Layer, LayerState, PullEvent, PullRequest, Resolved, pull_event::Event};
use futures_util::stream::{self, BoxStream, StreamExt};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{Request, Response, Status, Streaming};

type Answer = Vec<Result<Event, Status>>;

/// Gives the same answer to every pull.
#[derive(Clone, Default)]
struct Teller {
    answer: Answer,
    asked: Arc<Mutex<Vec<PullRequest>>>,
}

#[tonic::async_trait]
impl Images for Teller {
    type PullStream = BoxStream<'static, Result<PullEvent, Status>>;

    async fn pull(&self, request: Request<PullRequest>) -> Result<Response<Self::PullStream>, Status> {
        self.asked.lock().unwrap().push(request.into_inner());
        let events = self.answer.clone().into_iter();
        let events = events.map(|event| event.map(|event| PullEvent { event: Some(event) }));
        Ok(Response::new(stream::iter(events).boxed()))
    }

    // Nobody asks for the rest here.
    type ImportStream = BoxStream<'static, Result<wire::ImportEvent, Status>>;
    type ExportStream = BoxStream<'static, Result<wire::ExportChunk, Status>>;
    type PushStream = BoxStream<'static, Result<wire::PushEvent, Status>>;
    type CheckStream = BoxStream<'static, Result<wire::CheckEvent, Status>>;

    async fn import(
        &self,
        _: Request<Streaming<wire::ImportRequest>>,
    ) -> Result<Response<Self::ImportStream>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn export(&self, _: Request<wire::ExportRequest>) -> Result<Response<Self::ExportStream>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn push(&self, _: Request<wire::PushRequest>) -> Result<Response<Self::PushStream>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn pack(
        &self,
        _: Request<Streaming<wire::PackRequest>>,
    ) -> Result<Response<wire::PackResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn check(&self, _: Request<wire::CheckRequest>) -> Result<Response<Self::CheckStream>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn prune(&self, _: Request<wire::PruneRequest>) -> Result<Response<wire::PruneResponse>, Status> {
        Err(Status::unimplemented(""))
    }
}

impl Teller {
    /// Serves in the world's folder as long as the test runs.
    fn serve(world: &World, answer: Answer) -> (Self, PathBuf) {
        let teller = Self { answer, ..Default::default() };
        let socket = world.dir.path().join("teller.sock");
        let listener = tokio::net::UnixListener::bind(&socket).unwrap();
        let server = tonic::transport::Server::builder().add_service(ImagesServer::new(teller.clone()));
        tokio::spawn(server.serve_with_incoming(UnixListenerStream::new(listener)));
        (teller, socket)
    }
}

fn layer(digit: &str, done: u64, state: LayerState) -> Result<Event, Status> {
    let digest = format!("sha256:{}", digit.repeat(64));
    Ok(Event::Layer(Layer { digest, total: 3_400_000, done, state: state.into() }))
}

fn found() -> Result<Event, Status> {
    Ok(Event::Resolved(Resolved { digest: "sha256:\u{1b}abc".into(), layers: 2, bytes: 6_800_000 }))
}

#[tokio::test]
async fn a_runtime_with_only_the_cri_is_asked_as_the_cri_has_it() {
    let world = World::new();
    let got = world.run("pull --creds user:hunter2 app:1").await;
    assert!(got.status.success(), "{}", text(&got.stderr));
    assert_eq!(text(&got.stdout), "Image is up to date for app:1\n");
    assert_eq!(text(&got.stderr), "", "nothing is shown where there is no terminal");
    assert_eq!(world.fake.calls(), ["pull app:1"]);
    world.fake.state.lock().unwrap().fail.push("pull app:2".into());
    let got = world.run("pull app:2").await;
    assert_eq!(got.status.code(), Some(1));
    assert_eq!(text(&got.stderr), "corten: cannot pull app:2: told to fail\n");
}

#[tokio::test]
async fn without_a_terminal_there_is_one_line_for_each_layer_that_is_there() {
    let world = World::new();
    let answer = vec![
        found(),
        layer("a", 0, LayerState::Waiting),
        layer("b", 3_400_000, LayerState::Present),
        layer("a", 1_000_000, LayerState::Fetching),
        layer("a", 3_400_000, LayerState::Unpacked),
        layer("a", 3_400_000, LayerState::Done),
        layer("a", 3_400_000, LayerState::Done),
        Ok(Event::Finished(Finished { image_ref: "sha256:c".into() })),
    ];
    let (teller, socket) = Teller::serve(&world, answer);
    let got = world.run(&format!("-r {} pull --creds user:hunter2 app:1", socket.display())).await;
    assert!(got.status.success(), "{}", text(&got.stderr));
    assert_eq!(text(&got.stdout), "Image is up to date for sha256:c\n");
    let lines =
        "app:1 is sha256:?abc: 2 layers, 6.8MB\nbbbbbbbbbbbbb: was here, 3.4MB\naaaaaaaaaaaaa: done, 3.4MB\n";
    assert_eq!(text(&got.stderr), lines);
    let asked = teller.asked.lock().unwrap();
    let [request] = asked.as_slice() else { panic!("it is asked once") };
    assert_eq!(request.auth.as_ref().unwrap().password, "hunter2");
    assert!(world.fake.calls().is_empty());
}

#[tokio::test]
async fn a_pull_that_fails_or_breaks_off_is_an_error() {
    let world = World::new();
    let (_, socket) = Teller::serve(&world, vec![found(), Err(Status::not_found("no such tag"))]);
    let got = world.run(&format!("-r {} pull app:1", socket.display())).await;
    assert_eq!((got.status.code(), text(&got.stdout)), (Some(1), String::new()));
    assert!(text(&got.stderr).ends_with("corten: cannot pull app:1: no such tag\n"), "{}", text(&got.stderr));

    let world = World::new();
    let (_, socket) = Teller::serve(&world, vec![found(), layer("a", 0, LayerState::Waiting)]);
    let got = world.run(&format!("-r {} pull app:1", socket.display())).await;
    assert_eq!(got.status.code(), Some(1));
    assert!(text(&got.stderr).contains("ended before the pull did"), "{}", text(&got.stderr));
}
