//! The gRPC server around the CRI's two services and our own: limits, serving, draining. It opens no socket and
//! reads no configuration; callers hand it what it serves on.

use crate::call::MESSAGE_MAX;
use crate::{Image, Images, Runtime};
use cri_api::corten_v1::images_server::ImagesServer;
use cri_api::v1::image_service_server::ImageServiceServer;
use cri_api::v1::runtime_service_server::RuntimeServiceServer;
use engine::Engine;
use futures_util::{FutureExt, Stream, StreamExt, stream};
use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::oneshot;
use tonic::transport::Server;
use tonic::transport::server::{Connected, Router};
use tracing::{info, warn};
use types::{Error, ErrorKind, Result};

/// How long calls that run at shutdown may go on.
pub const DRAIN: Duration = Duration::from_secs(30);

/// Calls of one connection at the same time. gRPC's Go clients queue what is above it. It bounds what one
/// client can make us hold.
const STREAMS_MAX: u32 = 1024;

/// See [`incoming`].
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The CRI's two services and our own, with messages of 16 MiB both ways.
pub fn services(
    engine: Engine,
) -> (RuntimeServiceServer<Runtime>, ImageServiceServer<Image>, ImagesServer<Images>) {
    let runtime = RuntimeServiceServer::new(Runtime::new(engine.clone()))
        .max_decoding_message_size(MESSAGE_MAX)
        .max_encoding_message_size(MESSAGE_MAX);
    let image = ImageServiceServer::new(Image::new(engine.clone()))
        .max_decoding_message_size(MESSAGE_MAX)
        .max_encoding_message_size(MESSAGE_MAX);
    let own = ImagesServer::new(Images::new(engine))
        .max_decoding_message_size(MESSAGE_MAX)
        .max_encoding_message_size(MESSAGE_MAX);
    (runtime, image, own)
}

/// The services behind one server, for callers that serve it themselves.
pub fn router(engine: Engine) -> Router {
    let (runtime, image, own) = services(engine);
    Server::builder()
        .max_concurrent_streams(STREAMS_MAX)
        .add_service(runtime)
        .add_service(image)
        .add_service(own)
}

/// Serves until `shutdown`, then lets running calls finish, and the operations whose callers are gone,
/// [`DRAIN`] at most.
pub async fn serve(engine: Engine, listener: UnixListener, shutdown: impl Future) -> Result<()> {
    let router = router(engine.clone());
    serve_and_drain(router, listener, shutdown, async { engine.drain().await }, DRAIN).await
}

/// `operations` ends when nothing runs any more that answers nobody.
async fn serve_and_drain(
    router: Router,
    listener: UnixListener,
    shutdown: impl Future,
    operations: impl Future<Output = ()>,
    drain: Duration,
) -> Result<()> {
    let (stop, stopped) = oneshot::channel::<()>();
    // The server owns the listener and drops it with the first sign of shutdown: nobody new is let in.
    let mut server = pin!(router.serve_with_incoming_shutdown(incoming(listener), stopped.map(|_| ())));
    tokio::select! {
        ended = &mut server => return ended.map_err(broken),
        _ = shutdown => {}
    }
    info!("draining");
    // The server hears it as long as it is polled, which is below.
    let _ = stop.send(());
    let drained = async {
        let ended = server.await;
        operations.await;
        ended
    };
    match tokio::time::timeout(drain, drained).await {
        Ok(ended) => ended.map_err(broken),
        Err(_) => {
            warn!(seconds = drain.as_secs(), "calls still run; they are left behind");
            Ok(())
        }
    }
}

/// Connections as they come. Where accept(2) fails, most often for want of file descriptors, it fails again at
/// once: a pause keeps that from eating a processor.
fn incoming(listener: UnixListener) -> impl Stream<Item = io::Result<UnixStream>> {
    stream::unfold(listener, |listener| async move {
        loop {
            match listener.accept().await {
                Ok((io, _)) => return Some((Ok(io), listener)),
                Err(error) => {
                    warn!(%error, "cannot accept a connection; trying again in 100 ms");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    })
}

fn broken(cause: tonic::transport::Error) -> Error {
    Error::with_source(ErrorKind::Internal, "the CRI server ended", cause)
}

/// Serves one connection until its other end closes it, for clients in the same process.
pub async fn serve_connection<IO>(engine: Engine, io: IO) -> Result<()>
where
    IO: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
{
    connected(router(engine), io).await
}

async fn connected<IO>(router: Router, io: IO) -> Result<()>
where
    IO: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
{
    let (closed, ended) = oneshot::channel();
    let io = Watched { io, _closed: closed };
    // No second connection comes, and the server must not take that for its end.
    let incoming = stream::iter([Ok::<_, io::Error>(io)]).chain(stream::pending());
    router.serve_with_incoming_shutdown(incoming, ended.map(|_| ())).await.map_err(broken)
}

/// A connection whose drop is seen: the sender goes with it, and wakes the receiver.
struct Watched<IO> {
    io: IO,
    _closed: oneshot::Sender<()>,
}

impl<IO: Connected> Connected for Watched<IO> {
    type ConnectInfo = IO::ConnectInfo;

    fn connect_info(&self) -> Self::ConnectInfo {
        self.io.connect_info()
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Watched<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Watched<IO> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests;
