//! A read-only registry in threads of this process: the pull half of the OCI distribution specification.
//!
//! The demonstration uses it, because its machine has no registry. It serves what it was given from
//! memory and knows no authentication.

use crate::image::Blob;
use crate::{Image, Result, Tried, http};
use std::collections::BTreeMap;
use std::io::{BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How long a connection may be silent.
const IDLE: Duration = Duration::from_secs(30);
/// The most requests that are remembered.
const REMEMBERED: usize = 10_000;

/// One request that was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// `GET`, `HEAD`, …
    pub method: String,
    /// As it came.
    pub path: String,
    /// What was answered.
    pub status: u16,
}

/// Serves until dropped.
#[derive(Debug)]
pub struct OciServer {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: Option<std::thread::JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    /// `repo/manifests/tag`, `repo/manifests/digest`, `repo/blobs/digest` → content.
    content: BTreeMap<String, Blob>,
    tags: BTreeMap<String, Vec<String>>,
    requests: Mutex<Vec<Request>>,
    stop: AtomicBool,
}

/// Serves images, each as `(repository, tag, image)`, on a free loopback port.
pub fn serve_oci(images: &[(&str, &str, &Image)]) -> Result<OciServer> {
    serve_oci_at((Ipv4Addr::LOCALHOST, 0).into(), images)
}

fn serve_oci_at(address: SocketAddr, images: &[(&str, &str, &Image)]) -> Result<OciServer> {
    let mut shared = Shared::default();
    for (repo, tag, image) in images {
        shared.tags.entry((*repo).to_owned()).or_default().push((*tag).to_owned());
        shared.content.insert(format!("{repo}/manifests/{tag}"), image.top.clone());
        for manifest in image.manifests.iter().chain([&image.top]) {
            shared.content.insert(format!("{repo}/manifests/{}", manifest.digest), manifest.clone());
        }
        for blob in &image.blobs {
            shared.content.insert(format!("{repo}/blobs/{}", blob.digest), blob.clone());
        }
    }
    let listener = TcpListener::bind(address).tried(format_args!("listen on {address}"))?;
    let address = listener.local_addr().tried("read a port")?;
    let shared = Arc::new(shared);
    let accepting = std::thread::spawn({
        let shared = Arc::clone(&shared);
        move || accept(&listener, &shared)
    });
    Ok(OciServer { address, shared, accepting: Some(accepting) })
}

impl OciServer {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `127.0.0.1:PORT/repo:tag`
    pub fn reference(&self, repo: &str, tag: &str) -> String {
        format!("{}/{repo}:{tag}", self.address)
    }

    /// What was asked so far, in order of the answers.
    pub fn requests(&self) -> Vec<Request> {
        self.shared.requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for OciServer {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        // Wakes the accepting thread, which then sees that it shall stop.
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.accepting.take() {
            let _ = thread.join();
        }
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for stream in listener.incoming() {
        if shared.stop.load(Ordering::SeqCst) {
            return;
        }
        let Ok(stream) = stream else { continue };
        let shared = Arc::clone(shared);
        std::thread::spawn(move || {
            let _ = converse(&stream, &shared);
        });
    }
}

/// Answers the requests of one connection, one after the other, until the client closes it.
fn converse(stream: &TcpStream, shared: &Shared) -> Result<()> {
    stream.set_read_timeout(Some(IDLE)).tried("set a time limit")?;
    stream.set_write_timeout(Some(IDLE)).tried("set a time limit")?;
    let mut reader = BufReader::new(stream);
    while let Ok(line) = http::read_line(&mut reader) {
        let headers = http::read_headers(&mut reader)?;
        let header =
            |name: &str| headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
        let mut words = line.split(' ');
        let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let answer = shared.answer(method, path, header("range"));
        let mut requests = shared.requests.lock().unwrap_or_else(PoisonError::into_inner);
        if requests.len() < REMEMBERED {
            requests.push(Request {
                method: method.to_owned(),
                path: path.to_owned(),
                status: answer.status,
            });
        }
        drop(requests);
        answer.send(stream, method == "HEAD")?;
        // A body is never expected; a client that sends one would be misread from here on.
        if header("content-length").is_some_and(|length| length != "0")
            || header("transfer-encoding").is_some()
        {
            break;
        }
    }
    Ok(())
}

struct Answer {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Arc<[u8]>,
    span: std::ops::Range<usize>,
}

impl Shared {
    fn answer(&self, method: &str, path: &str, range: Option<&str>) -> Answer {
        if !matches!(method, "GET" | "HEAD") {
            return Answer::error(405, "UNSUPPORTED", "this registry is read-only");
        }
        let path = path.split('?').next().unwrap_or_default();
        let Some(name) = path.strip_prefix("/v2/") else {
            return Answer::error(404, "NAME_UNKNOWN", "only /v2/ is served");
        };
        if name.is_empty() {
            return Answer::of(200, "application/json", Arc::from(&b"{}"[..]));
        }
        if let Some((repo, tags)) =
            name.strip_suffix("/tags/list").and_then(|r| self.tags.get(r).map(|t| (r, t)))
        {
            let list = serde_json::json!({ "name": repo, "tags": tags }).to_string();
            return Answer::of(200, "application/json", list.into_bytes().into());
        }
        match self.content.get(name) {
            Some(blob) => Answer::content(blob, range),
            None if name.contains("/manifests/") => {
                Answer::error(404, "MANIFEST_UNKNOWN", "manifest unknown")
            }
            None => Answer::error(404, "BLOB_UNKNOWN", "blob unknown"),
        }
    }
}

impl Answer {
    fn of(status: u16, media_type: &str, body: Arc<[u8]>) -> Self {
        let span = 0..body.len();
        Self { status, headers: vec![("Content-Type", media_type.to_owned())], body, span }
    }

    fn error(status: u16, code: &str, message: &str) -> Self {
        let body = serde_json::json!({ "errors": [{ "code": code, "message": message }] }).to_string();
        Self::of(status, "application/json", body.into_bytes().into())
    }

    fn content(blob: &Blob, range: Option<&str>) -> Self {
        let total = blob.data.len();
        let mut answer = Self::of(200, &blob.media_type, Arc::clone(&blob.data));
        answer.headers.push(("Docker-Content-Digest", blob.digest.to_string()));
        answer.headers.push(("Accept-Ranges", "bytes".to_owned()));
        if let Some(span) = range.and_then(|range| parse_range(range, total)) {
            answer.status = 206;
            answer.headers.push(("Content-Range", format!("bytes {}-{}/{total}", span.start, span.end - 1)));
            answer.span = span;
        }
        answer
    }

    fn send(&self, mut stream: &TcpStream, head_only: bool) -> Result<()> {
        let mut head = format!("HTTP/1.1 {} \r\nContent-Length: {}\r\n", self.status, self.span.len());
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        stream.write_all(head.as_bytes()).tried("send an answer")?;
        if !head_only {
            stream.write_all(&self.body[self.span.clone()]).tried("send a body")?;
        }
        Ok(())
    }
}

/// `bytes=first-` and `bytes=first-last`; anything else is answered whole, as RFC 9110 allows.
fn parse_range(range: &str, total: usize) -> Option<std::ops::Range<usize>> {
    let (first, last) = range.strip_prefix("bytes=")?.split_once('-')?;
    let first: usize = first.parse().ok()?;
    let end = if last.is_empty() { total } else { last.parse::<usize>().ok()?.checked_add(1)?.min(total) };
    (first < end).then_some(first..end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Layer;

    #[test]
    fn an_image_is_served_by_tag_by_digest_and_in_parts() {
        let image = Image::builder().layer(Layer::new().file("a", 0o644, "b")).build().expect("built");
        let server = serve_oci(&[("team/app", "v1", &image)]).expect("a server");
        let at = server.address();
        assert_eq!(http::get(at, "/v2/").expect("an answer").status, 200);
        let by_tag = http::get(at, "/v2/team/app/manifests/v1").expect("an answer");
        assert_eq!(by_tag.body, *image.top.data);
        assert_eq!(by_tag.header("docker-content-digest"), Some(image.top.digest.as_str()));
        assert_eq!(by_tag.header("content-type"), Some(image.top.media_type.as_str()));
        let path = format!("/v2/team/app/blobs/{}", image.blobs[1].digest);
        let part = http::request(at, "GET", &path, &[("Range", "bytes=10-19")], &[]).expect("an answer");
        assert_eq!((part.status, &part.body[..]), (206, &image.blobs[1].data[10..20]));
        assert_eq!(http::get(at, "/v2/team/app/manifests/v2").expect("an answer").status, 404);
        assert_eq!(http::request(at, "PUT", "/v2/x", &[], &[]).expect("an answer").status, 405);
        assert_eq!(server.requests().len(), 5);
        drop(server);
        assert!(TcpStream::connect(at).is_err(), "it still listens");
    }

    #[test]
    fn ranges_that_cannot_be_met_are_answered_whole() {
        assert_eq!(parse_range("bytes=2-3", 10), Some(2..4));
        assert_eq!(parse_range("bytes=8-", 10), Some(8..10));
        assert_eq!(parse_range("bytes=5-100", 10), Some(5..10));
        for odd in
            ["bytes=-5", "bytes=10-", "bytes=4-3", "bytes=a-b", "items=1-2", "bytes=0-18446744073709551615"]
        {
            assert_eq!(parse_range(odd, 10), None, "{odd}");
        }
    }
}
