//! A registry in this process: what it serves, what it saw, and how it misbehaves, are the test's.

use crate::image::Image;
use bytes::Bytes;
use futures_util::stream;
use http::{Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// A request as it came.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    pub method: String,
    /// Path and query.
    pub path: String,
    pub authorization: Option<String>,
    pub range: Option<String>,
    pub marker: Option<String>,
    pub body: String,
}

/// An answer.
#[derive(Debug, Clone, Default)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Bytes,
    /// Break the connection after so many bytes of the body.
    pub cut: Option<usize>,
    /// Wait before answering.
    pub delay: Duration,
    /// Send so many bytes of the body at once, and pause after each.
    pub trickle: Option<(usize, Duration)>,
}

impl Reply {
    pub fn new(status: u16, body: impl Into<Bytes>) -> Reply {
        Reply { status, body: body.into(), ..Reply::default() }
    }

    pub fn with(mut self, name: &str, value: impl Into<String>) -> Reply {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    pub fn error(status: u16, code: &str, message: &str) -> Reply {
        let body = format!(r#"{{"errors":[{{"code":"{code}","message":"{message}"}}]}}"#);
        Reply::new(status, body).with("content-type", "application/json")
    }
}

type Handler = Arc<dyn Fn(&Seen) -> Option<Reply> + Send + Sync>;

/// What a registry holds.
#[derive(Debug, Clone, Default)]
pub struct Shelf {
    manifests: HashMap<String, (String, Bytes)>,
    blobs: HashMap<String, Bytes>,
}

impl Shelf {
    /// The image under a tag, with all its blobs.
    pub fn with(mut self, tag: &str, image: &Image) -> Shelf {
        self.add_manifest(tag, &image.manifest_type, image.manifest.clone());
        for (digest, blob) in &image.blobs {
            self.blobs.insert(digest.clone(), blob.clone());
        }
        self
    }

    /// A manifest or index under a tag and its digest.
    pub fn add_manifest(&mut self, tag: &str, media_type: &str, bytes: Bytes) {
        for key in [tag.to_owned(), crate::image::digest(&bytes)] {
            self.manifests.insert(key, (media_type.to_owned(), bytes.clone()));
        }
    }

    /// Any bytes under any digest.
    pub fn put_blob(&mut self, digest: &str, bytes: impl Into<Bytes>) {
        self.blobs.insert(digest.to_owned(), bytes.into());
    }

    fn serve(&self, seen: &Seen) -> Reply {
        let path = seen.path.split('?').next().unwrap_or_default();
        let last = path.rsplit('/').next().unwrap_or_default();
        if path.contains("/manifests/") {
            return match self.manifests.get(last) {
                Some((kind, bytes)) => Reply::new(200, bytes.clone())
                    .with("content-type", kind)
                    .with("docker-content-digest", crate::image::digest(bytes)),
                None => Reply::error(404, "MANIFEST_UNKNOWN", "manifest unknown to registry"),
            };
        }
        match self.blobs.get(last) {
            None => Reply::error(404, "BLOB_UNKNOWN", "blob unknown to registry"),
            Some(bytes) => {
                let start: Option<usize> = seen
                    .range
                    .as_ref()
                    .and_then(|r| r.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
                match start {
                    None => Reply::new(200, bytes.clone()),
                    Some(start) if start < bytes.len() => Reply::new(206, bytes.slice(start..))
                        .with("content-range", format!("bytes {start}-{}/{}", bytes.len() - 1, bytes.len())),
                    Some(_) => Reply::new(416, ""),
                }
            }
        }
    }
}

/// A running server. It ends with the value.
pub struct Server {
    pub addr: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    /// Plain HTTP. `first` may answer in place of the shelf.
    pub async fn start(
        shelf: Shelf,
        first: impl Fn(&Seen) -> Option<Reply> + Send + Sync + 'static,
    ) -> Server {
        Server::launch(shelf, Arc::new(first), None).await
    }

    /// HTTPS with this certificate and key; with `h2`, HTTP/2 only.
    pub async fn start_tls(shelf: Shelf, config: Arc<rustls::ServerConfig>) -> Server {
        Server::launch(shelf, Arc::new(|_| None), Some(config)).await
    }

    async fn launch(shelf: Shelf, first: Handler, tls: Option<Arc<rustls::ServerConfig>>) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let addr = listener.local_addr().expect("address");
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (shelf, log) = (Arc::new(shelf), seen.clone());
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (shelf, first, log, tls) = (shelf.clone(), first.clone(), log.clone(), tls.clone());
                connections.spawn(async move {
                    let service = service_fn(move |request: Request<Incoming>| {
                        let (shelf, first, log) = (shelf.clone(), first.clone(), log.clone());
                        async move { Ok::<_, Infallible>(handle(&shelf, &first, &log, request).await) }
                    });
                    let http1 = hyper::server::conn::http1::Builder::new();
                    let Some(tls) = tls else {
                        let _ = http1.serve_connection(TokioIo::new(stream), service).await;
                        return;
                    };
                    let Ok(stream) = TlsAcceptor::from(tls).accept(stream).await else { return };
                    if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
                        let http2 =
                            hyper::server::conn::http2::Builder::new(hyper_util::rt::TokioExecutor::new());
                        let _ = http2.serve_connection(TokioIo::new(stream), service).await;
                    } else {
                        let _ = http1.serve_connection(TokioIo::new(stream), service).await;
                    }
                });
            }
        });
        Server { addr, seen, task }
    }

    /// `repository:tag` at this server.
    pub fn name(&self, rest: &str) -> types::Reference {
        types::Reference::parse(&format!("{}/{rest}", self.addr)).expect("reference")
    }

    /// What has come so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().expect("log").clone()
    }

    /// How many requests had this in their method and path.
    pub fn count(&self, method: &str, part: &str) -> usize {
        self.seen().iter().filter(|s| s.method == method && s.path.contains(part)).count()
    }
}

async fn handle(
    shelf: &Shelf,
    first: &Handler,
    log: &Mutex<Vec<Seen>>,
    request: Request<Incoming>,
) -> Response<BoxBody<Bytes, io::Error>> {
    let header = |name: &str| request.headers().get(name).and_then(|v| v.to_str().ok()).map(str::to_owned);
    let mut seen = Seen {
        method: request.method().to_string(),
        path: request.uri().path_and_query().map(ToString::to_string).unwrap_or_default(),
        authorization: header("authorization"),
        range: header("range"),
        marker: header("x-marker"),
        body: String::new(),
    };
    let head = seen.method == "HEAD";
    let body = request.into_body().collect().await.map(|b| b.to_bytes()).unwrap_or_default();
    seen.body = String::from_utf8_lossy(&body).into_owned();
    log.lock().expect("log").push(seen.clone());
    let reply = first(&seen).unwrap_or_else(|| shelf.serve(&seen));
    tokio::time::sleep(reply.delay).await;
    let mut response = Response::builder().status(StatusCode::from_u16(reply.status).expect("status"));
    for (name, value) in &reply.headers {
        response = response.header(name, value);
    }
    let whole = reply.body.len();
    let mut frames: Vec<io::Result<Frame<Bytes>>> = Vec::new();
    match reply.cut {
        _ if head => {}
        Some(cut) => {
            frames.push(Ok(Frame::data(reply.body.slice(..cut.min(whole)))));
            frames.push(Err(io::Error::other("cut")));
        }
        None => match reply.trickle {
            Some((size, _)) => {
                let parts = (0..whole).step_by(size).map(|at| reply.body.slice(at..whole.min(at + size)));
                frames.extend(parts.map(|part| Ok(Frame::data(part))));
            }
            None => frames.push(Ok(Frame::data(reply.body))),
        },
    }
    let pause = reply.trickle.map_or(Duration::ZERO, |(_, pause)| pause);
    if !reply.headers.iter().any(|(n, _)| n == "content-length") {
        response = response.header("content-length", whole);
    }
    // The pause lets what was sent arrive before the connection breaks.
    let body = StreamBody::new(stream::unfold(frames.into_iter(), move |mut frames| async move {
        let next = frames.next()?;
        if next.is_err() {
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
        tokio::time::sleep(pause).await;
        Some((next, frames))
    }));
    response.body(BodyExt::boxed(body)).expect("response")
}
