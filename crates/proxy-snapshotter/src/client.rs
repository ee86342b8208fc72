//! Calls to the other process: blocking, each with a time limit, from whatever thread.

use crate::api::snapshots_client::SnapshotsClient;
use hyper_util::rt::TokioIo;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Code, Request, Status};
use types::{Error, ErrorKind, Result};

/// How long one answer may take. A lazy snapshotter asks its registry before it answers.
const CALL: Duration = Duration::from_secs(120);
/// The largest answer, in bytes.
const ANSWER_MAX: usize = 16 << 20;
/// The metadata by which containerd's services know whose things are meant.
const NAMESPACE: (&str, &str) = ("containerd-namespace", "corten");

/// A connection that is made when it is needed, and made again when it broke.
pub struct Client {
    /// `None` only while it is dropped.
    runtime: Option<tokio::runtime::Runtime>,
    client: SnapshotsClient<Channel>,
    address: PathBuf,
}

impl Client {
    pub fn new(address: &Path) -> Result<Client> {
        let failed = |what: &str, cause: Box<dyn std::error::Error + Send + Sync>| {
            Error::with_source(ErrorKind::Internal, what.to_owned(), cause)
        };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("proxy-snapshots")
            .enable_all()
            .build()
            .map_err(|e| failed("cannot start the thread of the proxied snapshotter", e.into()))?;
        let path = address.to_owned();
        let connector = tower::service_fn(move |_: Uri| {
            let path = path.clone();
            async move { Ok::<_, std::io::Error>(TokioIo::new(UnixStream::connect(path).await?)) }
        });
        let channel = {
            let _inside = runtime.enter();
            Endpoint::from_static("http://snapshotter").connect_with_connector_lazy(connector)
        };
        let client = SnapshotsClient::new(channel).max_decoding_message_size(ANSWER_MAX);
        Ok(Client { runtime: Some(runtime), client, address: address.to_owned() })
    }

    /// Makes one call and waits for its answer.
    pub fn call<T, F>(&self, what: &str, call: impl FnOnce(SnapshotsClient<Channel>) -> F) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = std::result::Result<T, Status>> + Send + 'static,
    {
        let runtime =
            self.runtime.as_ref().ok_or_else(|| Error::internal("the proxied snapshotter is closed"))?;
        let (tell, told) = std::sync::mpsc::sync_channel(1);
        let work = call(self.client.clone());
        // Not block_on: whoever calls may be a thread of another runtime.
        runtime.spawn(async move {
            let answer = tokio::time::timeout(CALL, work).await;
            // Nobody waits any more only where the caller's thread is gone.
            let _ = tell.send(answer);
        });
        match told.recv() {
            Ok(Ok(Ok(answer))) => Ok(answer),
            Ok(Ok(Err(status))) => Err(self.refused(what, &status)),
            Ok(Err(_)) => Err(Error::new(
                ErrorKind::DeadlineExceeded,
                format!(
                    "the snapshotter at {} did not {what} within {} s",
                    self.address.display(),
                    CALL.as_secs()
                ),
            )),
            Err(_) => Err(Error::internal("the thread of the proxied snapshotter ended")),
        }
    }

    fn refused(&self, what: &str, status: &Status) -> Error {
        let kind = match status.code() {
            Code::NotFound => ErrorKind::NotFound,
            Code::AlreadyExists => ErrorKind::AlreadyExists,
            Code::FailedPrecondition => ErrorKind::FailedPrecondition,
            Code::InvalidArgument => ErrorKind::InvalidArgument,
            Code::Unavailable => ErrorKind::Unavailable,
            Code::ResourceExhausted => ErrorKind::ResourceExhausted,
            Code::Unimplemented => ErrorKind::Unimplemented,
            _ => ErrorKind::Internal,
        };
        let words = types::reference::shorten(status.message());
        Error::new(kind, format!("the snapshotter at {} could not {what}: {words}", self.address.display()))
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // Does not wait, and may be dropped inside of another runtime.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// A request under our name.
pub fn request<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    let (key, value) = NAMESPACE;
    request.metadata_mut().insert(key, tonic::metadata::MetadataValue::from_static(value));
    request
}
