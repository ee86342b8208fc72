//! Against the distribution project's own registry, as Debian packages it.

use crate::image::{Image, OCI_INDEX, layer, noise};
use crate::node::Node;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tokio::net::TcpStream;

pub const REGISTRY: &str = "/usr/bin/docker-registry";

pub struct Registry {
    child: Child,
    pub addr: SocketAddr,
    _dir: tempfile::TempDir,
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Registry {
    pub async fn start() -> Registry {
        let dir = tempfile::tempdir().expect("temp dir");
        let free = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
        let addr = free.local_addr().expect("address");
        drop(free);
        let config = dir.path().join("config.yml");
        let text = format!(
            "version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: {addr}\n",
            dir.path().join("data").display()
        );
        std::fs::write(&config, text).expect("config");
        let child = Command::new(REGISTRY)
            .arg("serve")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("docker-registry");
        for _ in 0..400 {
            if TcpStream::connect(addr).await.is_ok() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        Registry { child, addr, _dir: dir }
    }

    async fn send(&self, method: Method, path: &str, content_type: &str, body: Bytes) -> Response<Incoming> {
        let stream = TcpStream::connect(self.addr).await.expect("connect");
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.expect("handshake");
        tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", self.addr.to_string())
            .header("content-type", content_type)
            .header("content-length", body.len())
            .body(Full::new(body))
            .expect("request");
        sender.send_request(request).await.expect("response")
    }

    async fn push(&self, repository: &str, tag: &str, image: &Image) {
        for (digest, blob) in &image.blobs {
            let start =
                self.send(Method::POST, &format!("/v2/{repository}/blobs/uploads/"), "", Bytes::new()).await;
            assert_eq!(start.status(), StatusCode::ACCEPTED);
            let location = start.headers()["location"].to_str().expect("location");
            let path = location.split_once("://").map_or(location, |(_, r)| &r[r.find('/').unwrap_or(0)..]);
            let separator = if path.contains('?') { '&' } else { '?' };
            let path = format!("{path}{separator}digest={digest}");
            let put = self.send(Method::PUT, &path, "application/octet-stream", blob.clone()).await;
            assert_eq!(put.status(), StatusCode::CREATED);
        }
        self.push_manifest(repository, tag, &image.manifest_type, image.manifest.clone()).await;
    }

    async fn push_manifest(&self, repository: &str, tag: &str, kind: &str, manifest: Bytes) {
        let path = format!("/v2/{repository}/manifests/{tag}");
        let put = self.send(Method::PUT, &path, kind, manifest).await;
        let status = put.status();
        let body = put.into_body().collect().await.expect("body").to_bytes();
        assert_eq!(status, StatusCode::CREATED, "{}", String::from_utf8_lossy(&body));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_distribution_projects_registry_is_pulled_from() {
    if !std::path::Path::new(REGISTRY).exists() {
        eprintln!("skipped: {REGISTRY} is not installed (Debian package docker-registry)");
        return;
    }
    let registry = Registry::start().await;
    let layers =
        [layer(&[("etc/os", b"test")]), layer(&[("big", &noise(4 << 20, 1))]), layer(&[("app", b"run")])];
    let image = Image::new("app", &layers);
    registry.push("team/app", "v1", &image).await;
    registry.push_manifest("team/app", "multi", OCI_INDEX, index_of_one(&image)).await;
    let node = Node::new();
    let name =
        |rest: &str| types::Reference::parse(&format!("{}/team/app:{rest}", registry.addr)).expect("name");
    let record = node.images.pull(&name("v1"), None, None).await.expect("by tag");
    assert_eq!((record.id.as_str(), record.chain.len()), (image.id().as_str(), 3));
    assert_eq!(node.file(&record, "etc/os").as_deref(), Some("test"));
    let multi = node.images.pull(&name("multi"), None, None).await.expect("by index");
    assert_eq!((multi.id == record.id, multi.names.len(), multi.digests.len()), (true, 2, 2));
    let by_digest = types::Reference::parse(&record.digests[0]).expect("digest");
    node.images.pull(&by_digest, None, None).await.expect("by digest");
    let error = node.images.pull(&name("missing"), None, None).await.expect_err("missing");
    assert_eq!(error.kind(), types::ErrorKind::NotFound);
    assert!(error.chain().contains("MANIFEST_UNKNOWN"), "{}", error.chain());
}

/// docker-registry refuses an index whose manifests it does not have.
fn index_of_one(image: &Image) -> Bytes {
    let d = crate::image::digest(&image.manifest);
    let plain = crate::image::descriptor(&image.manifest_type, &d, image.manifest.len());
    format!(
        r#"{{"schemaVersion":2,"mediaType":"{OCI_INDEX}","manifests":[{},"platform":{{"os":"linux","architecture":"{}"}}}}]}}"#,
        &plain[..plain.len() - 1],
        crate::image::architecture()
    )
    .into()
}
