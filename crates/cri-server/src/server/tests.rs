//! Tests of serving and draining, over real sockets and a service whose calls last as long as a test wants.

use super::*;
use cri_api::v1;
use cri_api::v1::image_service_client::ImageServiceClient;
use cri_api::v1::image_service_server::ImageService;
use futures_util::stream::BoxStream;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::Semaphore;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Response, Status};

/// ImageFsInfo waits for a permit; ListImages answers at once; the rest is not there.
struct Slow(Arc<Semaphore>);

type Answer<T> = std::result::Result<Response<T>, Status>;

#[tonic::async_trait]
impl ImageService for Slow {
    async fn list_images(&self, _: Request<v1::ListImagesRequest>) -> Answer<v1::ListImagesResponse> {
        Ok(Response::new(v1::ListImagesResponse::default()))
    }
    async fn image_fs_info(&self, _: Request<v1::ImageFsInfoRequest>) -> Answer<v1::ImageFsInfoResponse> {
        self.0.acquire().await.expect("never closed").forget();
        Ok(Response::new(v1::ImageFsInfoResponse::default()))
    }
    type StreamImagesStream = BoxStream<'static, std::result::Result<v1::StreamImagesResponse, Status>>;
    async fn stream_images(&self, _: Request<v1::StreamImagesRequest>) -> Answer<Self::StreamImagesStream> {
        Err(Status::unimplemented(""))
    }
    async fn image_status(&self, _: Request<v1::ImageStatusRequest>) -> Answer<v1::ImageStatusResponse> {
        Err(Status::unimplemented(""))
    }
    async fn pull_image(&self, _: Request<v1::PullImageRequest>) -> Answer<v1::PullImageResponse> {
        Err(Status::unimplemented(""))
    }
    async fn remove_image(&self, _: Request<v1::RemoveImageRequest>) -> Answer<v1::RemoveImageResponse> {
        Err(Status::unimplemented(""))
    }
}

fn slow() -> (Router, Arc<Semaphore>) {
    let permits = Arc::new(Semaphore::new(0));
    let service = ImageServiceServer::new(Slow(Arc::clone(&permits))).max_decoding_message_size(MESSAGE_MAX);
    (Server::builder().add_service(service), permits)
}

/// A client over one connection that is there already.
async fn client<IO>(io: IO) -> ImageServiceClient<Channel>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut io = Some(hyper_util::rt::TokioIo::new(io));
    let endpoint = Endpoint::try_from("http://[::]:1").expect("a name that is not used");
    let channel = endpoint
        .connect_with_connector(tower::service_fn(move |_| {
            let io = io.take().ok_or_else(|| io::Error::other("there is one connection"));
            async move { io }
        }))
        .await
        .expect("the other end serves");
    ImageServiceClient::new(channel)
}

struct Served {
    folder: tempfile::TempDir,
    permits: Arc<Semaphore>,
    finish: oneshot::Sender<()>,
    stop: oneshot::Sender<()>,
    server: tokio::task::JoinHandle<Result<()>>,
}

fn served(drain: Duration) -> Served {
    let folder = tempfile::tempdir().expect("a folder");
    let listener = UnixListener::bind(folder.path().join("s")).expect("a socket");
    let (router, permits) = slow();
    let (stop, stopped) = oneshot::channel();
    let (finish, finished) = oneshot::channel();
    let operations = finished.map(|_: std::result::Result<(), _>| ());
    let server = tokio::spawn(serve_and_drain(router, listener, stopped, operations, drain));
    Served { folder, permits, finish, stop, server }
}

impl Served {
    fn socket(&self) -> PathBuf {
        self.folder.path().join("s")
    }

    async fn client(&self) -> ImageServiceClient<Channel> {
        client(UnixStream::connect(self.socket()).await.expect("the server listens")).await
    }
}

async fn a_moment() {
    tokio::time::sleep(Duration::from_millis(50)).await;
}

async fn ends_well(server: tokio::task::JoinHandle<Result<()>>) {
    let ended = tokio::time::timeout(Duration::from_secs(10), server).await;
    ended.expect("it ends in time").expect("no panic").expect("a clean end");
}

#[tokio::test]
async fn a_running_call_is_answered_after_shutdown_and_new_callers_are_not_let_in() {
    let served = served(DRAIN);
    let mut caller = served.client().await;
    let call = tokio::spawn(async move { caller.image_fs_info(v1::ImageFsInfoRequest {}).await });
    a_moment().await;
    let socket = served.socket();
    served.stop.send(()).expect("the server listens");
    a_moment().await;
    assert!(!served.server.is_finished(), "it ended before its call");
    assert!(UnixStream::connect(socket).await.is_err(), "it let a caller in while draining");
    served.permits.add_permits(1);
    call.await.expect("no panic").expect("the answer came");
    served.finish.send(()).expect("it waits for operations");
    ends_well(served.server).await;
}

#[tokio::test]
async fn an_operation_without_a_caller_is_waited_for() {
    let served = served(DRAIN);
    served.stop.send(()).expect("the server listens");
    a_moment().await;
    assert!(!served.server.is_finished(), "it left an operation behind");
    served.finish.send(()).expect("it waits for operations");
    ends_well(served.server).await;
}

#[tokio::test]
async fn a_call_that_never_ends_does_not_hold_the_server_for_ever() {
    let served = served(Duration::from_millis(100));
    let mut caller = served.client().await;
    let call = tokio::spawn(async move { caller.image_fs_info(v1::ImageFsInfoRequest {}).await });
    a_moment().await;
    served.stop.send(()).expect("the server listens");
    ends_well(served.server).await;
    call.abort();
}

#[tokio::test]
async fn a_connection_within_the_process_is_served_until_it_is_closed() {
    let (ours, theirs) = tokio::io::duplex(1 << 16);
    let (router, _permits) = slow();
    let server = tokio::spawn(connected(router, ours));
    let mut caller = client(theirs).await;
    for _ in 0..3 {
        caller.list_images(v1::ListImagesRequest::default()).await.expect("an answer");
    }
    assert!(!server.is_finished());
    drop(caller);
    ends_well(server).await;
}

#[tokio::test]
async fn a_request_above_16_mib_is_refused() {
    let (ours, theirs) = tokio::io::duplex(1 << 16);
    tokio::spawn(connected(slow().0, ours));
    let image = |bytes: usize| v1::ListImagesRequest {
        filter: Some(v1::ImageFilter {
            image: Some(v1::ImageSpec { image: "a".repeat(bytes), ..Default::default() }),
        }),
    };
    let mut caller = client(theirs).await;
    caller.list_images(image(5 << 20)).await.expect("more than gRPC's default of 4 MiB is fine");
    let refused = caller.list_images(image(MESSAGE_MAX)).await.expect_err("above the limit");
    assert_eq!(refused.code(), Code::OutOfRange);
}
