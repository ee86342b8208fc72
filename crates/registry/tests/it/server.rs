//! A registry in this process: what it answers is the test's; what it was asked is kept.

use bytes::{Bytes, BytesMut};
use futures_util::stream;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use types::Digest;

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Seen {
    pub method: String,
    /// Path and query; with the host before it where a proxy was asked.
    pub path: String,
    pub headers: HeaderMap,
    pub body: Bytes,
    /// The body was cut off, as the reply to its head asked.
    pub cut: bool,
    /// The subject of the client's certificate, if it showed one.
    pub client: Option<Vec<u8>>,
}

impl Seen {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|v| v.to_str().ok())
    }

    pub fn is(&self, method: &str, part: &str) -> bool {
        self.method == method && self.path.contains(part)
    }
}

/// An answer.
#[derive(Debug, Clone, Default)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Bytes,
    /// Bytes of the body that are sent at once, and the pause between them.
    pub trickle: Option<(usize, Duration)>,
    /// No answer at all: the connection is closed.
    pub hang_up: bool,
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
        let body = serde_json::json!({"errors": [{"code": code, "message": message}]}).to_string();
        Reply::new(status, body).with("content-type", "application/json")
    }

    /// Asks for a password.
    pub fn basic() -> Reply {
        Reply::error(401, "UNAUTHORIZED", "who").with("www-authenticate", "Basic realm=\"r\"")
    }

    /// Asks for a token of a server.
    pub fn bearer(realm: &str, scope: &str) -> Reply {
        let challenge = format!("Bearer realm=\"{realm}\",service=\"reg\",scope=\"{scope}\"");
        Reply::error(401, "UNAUTHORIZED", "who").with("www-authenticate", challenge)
    }

    /// A part of `content`, as the request's `Range` asks.
    pub fn ranged(seen: &Seen, content: &Bytes) -> Reply {
        let Some(range) = seen.header("range").and_then(|r| r.strip_prefix("bytes=")) else {
            return Reply::new(200, content.clone());
        };
        let (start, end) = range.split_once('-').expect("range");
        let start: usize = start.parse().expect("start");
        let end = end.parse::<usize>().map_or(content.len(), |last| (last + 1).min(content.len()));
        Reply::new(206, content.slice(start..end))
            .with("content-range", format!("bytes {start}-{}/{}", end - 1, content.len()))
    }
}

type Handler = Arc<dyn Fn(&Seen) -> Reply + Send + Sync>;
/// How much of a request's body is read before the connection is closed, by method and path.
type Cutter = Arc<dyn Fn(&str, &str) -> Option<usize> + Send + Sync>;

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
    pub async fn start(handler: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Server {
        Server::launch(Arc::new(handler), Arc::new(|_, _| None), None).await
    }

    /// One that reads only a part of some requests.
    pub async fn cutting(
        cutter: impl Fn(&str, &str) -> Option<usize> + Send + Sync + 'static,
        handler: impl Fn(&Seen) -> Reply + Send + Sync + 'static,
    ) -> Server {
        Server::launch(Arc::new(handler), Arc::new(cutter), None).await
    }

    pub async fn start_tls(
        config: Arc<rustls::ServerConfig>,
        handler: impl Fn(&Seen) -> Reply + Send + Sync + 'static,
    ) -> Server {
        Server::launch(Arc::new(handler), Arc::new(|_, _| None), Some(config)).await
    }

    async fn launch(handler: Handler, cutter: Cutter, tls: Option<Arc<rustls::ServerConfig>>) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let addr = listener.local_addr().expect("address");
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = seen.clone();
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (handler, cutter, log, tls) = (handler.clone(), cutter.clone(), log.clone(), tls.clone());
                connections.spawn(async move {
                    let mut client = None;
                    let stream: Box<dyn Stream> = match tls {
                        None => Box::new(stream),
                        Some(tls) => {
                            let Ok(stream) = TlsAcceptor::from(tls).accept(stream).await else { return };
                            client = stream.get_ref().1.peer_certificates().map(|c| c[0].to_vec());
                            Box::new(stream)
                        }
                    };
                    let service = service_fn(move |request| {
                        let (handler, cutter, log, client) =
                            (handler.clone(), cutter.clone(), log.clone(), client.clone());
                        async move { handle(&handler, &cutter, &log, request, client).await }
                    });
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
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

    pub fn count(&self, method: &str, part: &str) -> usize {
        self.seen().iter().filter(|s| s.is(method, part)).count()
    }
}

trait Stream: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send {}
impl<T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send> Stream for T {}

async fn handle(
    handler: &Handler,
    cutter: &Cutter,
    log: &Mutex<Vec<Seen>>,
    request: Request<Incoming>,
    client: Option<Vec<u8>>,
) -> io::Result<Response<BoxBody<Bytes, io::Error>>> {
    let (head, mut body) = request.into_parts();
    let (method, path) = (head.method.to_string(), head.uri.to_string());
    let limit = cutter(&method, &path);
    let mut read = BytesMut::new();
    let mut cut = false;
    while let Some(Ok(frame)) = body.frame().await {
        read.extend_from_slice(&frame.into_data().unwrap_or_default());
        if limit.is_some_and(|limit| read.len() >= limit) {
            read.truncate(limit.unwrap_or(0));
            cut = true;
            break;
        }
    }
    let seen = Seen { method, path, headers: head.headers, body: read.freeze(), cut, client };
    log.lock().expect("log").push(seen.clone());
    let reply = handler(&seen);
    if cut || reply.hang_up {
        return Err(io::Error::other("hung up"));
    }
    let mut response = Response::builder().status(StatusCode::from_u16(reply.status).expect("status"));
    for (name, value) in &reply.headers {
        response = response.header(name, value);
    }
    if !reply.headers.iter().any(|(name, _)| name == "content-length") && reply.status != 204 {
        response = response.header("content-length", reply.body.len());
    }
    let (size, pause) = reply.trickle.unwrap_or((usize::MAX, Duration::ZERO));
    let left = if seen.method == "HEAD" { Bytes::new() } else { reply.body };
    let frames = stream::unfold((left, true), move |(mut left, first)| async move {
        if left.is_empty() {
            return None;
        }
        if !first {
            tokio::time::sleep(pause).await;
        }
        let part = left.split_to(size.min(left.len()));
        Some((Ok::<_, io::Error>(Frame::data(part)), (left, false)))
    });
    Ok(response.body(BodyExt::boxed(StreamBody::new(frames))).expect("response"))
}

/// `sha256:…` of bytes.
pub fn digest(bytes: &[u8]) -> Digest {
    content::Hasher::of(types::digest::Algorithm::Sha256, bytes)
}

/// Bytes that do not repeat soon.
pub fn noise(size: usize, seed: u64) -> Bytes {
    let mut state = seed | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..size).map(|_| next()).collect()
}
