//! Pushing: to Debian's docker-registry, and to one in this process that breaks off and complains.

use crate::server::{Reply, Seen, Server, digest, noise};
use crate::{alice, open, open_push, source, transport};
use bytes::Bytes;
use registry::{Auth, Session};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use test_support::Registry;
use test_support::registry::{Options, PASSWORD, USER};
use types::{ErrorKind, Reference};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

fn manifest(config: &Bytes, layer: &Bytes) -> Bytes {
    let part = |kind: &str, bytes: &Bytes| serde_json::json!({"mediaType": kind, "digest": digest(bytes).as_str(), "size": bytes.len()});
    let document = serde_json::json!({
        "schemaVersion": 2, "mediaType": MANIFEST,
        "config": part("application/vnd.oci.image.config.v1+json", config),
        "layers": [part("application/vnd.oci.image.layer.v1.tar", layer)],
    });
    document.to_string().into()
}

#[tokio::test]
async fn what_is_pushed_to_docker_registry_is_there_and_blobs_are_mounted() {
    if !Registry::available() {
        println!("skipped: docker-registry is not installed");
        return;
    }
    let registry =
        Registry::start_with(&Options { basic_auth: true, ..Options::default() }).expect("registry");
    let auth = Auth { username: Some(USER.into()), password: Some(PASSWORD.into()), ..Auth::default() };
    let name = Reference::parse(&registry.reference("team/app", "v1")).expect("reference");
    let session = open_push(&name, Some(&auth));
    let (config, layer) = (Bytes::from_static(b"{}"), noise(3 << 20, 5));
    let told = AtomicU64::new(0);
    for blob in [&config, &layer] {
        assert!(!session.blob_exists(&digest(blob)).await.expect("exists"));
        let tell = |bytes| told.store(bytes, Ordering::SeqCst);
        session
            .push_blob(&digest(blob), blob.len() as u64, &source(blob.clone()), &tell)
            .await
            .expect("push");
        assert!(session.blob_exists(&digest(blob)).await.expect("exists"));
    }
    assert_eq!(told.load(Ordering::SeqCst), layer.len() as u64);
    let document = manifest(&config, &layer);
    let put = session.put_manifest("v1", MANIFEST, document.clone()).await.expect("manifest");
    assert_eq!(put.digest, digest(&document));
    session.put_manifest(put.digest.as_str(), MANIFEST, document.clone()).await.expect("by digest");
    let fetched = open(&name, Some(&auth)).manifest("v1").await.expect("fetch");
    assert_eq!(fetched.bytes, document);
    assert_eq!(session.tags(10).await.expect("tags"), ["v1"]);
    assert_eq!(session.referrers(&put.digest, None).await.expect("referrers"), []);
    // Another repository takes the layer over.
    let other = Reference::parse(&registry.reference("other/app", "v1")).expect("reference");
    let other = open_push(&other, Some(&auth));
    assert!(!other.blob_exists(&digest(&layer)).await.expect("exists"));
    assert!(other.mount(&digest(&layer), "team/app").await.expect("mount"));
    assert!(other.blob_exists(&digest(&layer)).await.expect("exists"));
    assert!(!other.mount(&digest(b"nothing"), "team/app").await.expect("mount"));
    // Without the password nothing is taken.
    let error =
        open_push(&name, None).push_blob(&digest(b"x"), 1, &source(Bytes::from_static(b"x")), &|_| ()).await;
    assert_eq!(error.expect_err("no password").kind(), ErrorKind::PermissionDenied);
}

/// An upload in the making.
#[derive(Default)]
struct Shelf {
    have: Mutex<Vec<u8>>,
    uploads: AtomicUsize,
    whole: Mutex<Option<Bytes>>,
}

impl Shelf {
    /// What a registry of the distribution project answers.
    fn answer(&self, seen: &Seen) -> Reply {
        let path = seen.path.split('?').next().unwrap_or_default();
        let mut have = self.have.lock().expect("shelf");
        let go_on = |status: u16, have: &Vec<u8>| {
            let reply = Reply::new(status, "").with("location", format!("/upload/next?state={}", have.len()));
            reply.with("range", format!("0-{}", have.len().saturating_sub(1)))
        };
        match seen.method.as_str() {
            "HEAD" => Reply::error(404, "BLOB_UNKNOWN", ""),
            "POST" => {
                self.uploads.fetch_add(1, Ordering::SeqCst);
                have.clear();
                go_on(202, &have)
            }
            "GET" => go_on(204, &have),
            "PATCH" | "PUT" => {
                assert_eq!(path, "/upload/next");
                if let Some(range) = seen.header("content-range")
                    && range.split('-').next() != Some(have.len().to_string().as_str())
                {
                    return go_on(416, &have);
                }
                have.extend_from_slice(&seen.body);
                if seen.method == "PATCH" {
                    return go_on(202, &have);
                }
                let whole = Bytes::from(have.clone());
                let name = format!("digest=sha256%3A{}", digest(&whole).hex());
                if seen.cut {
                    return Reply::default();
                }
                if !seen.path.contains(&name) {
                    return Reply::error(400, "DIGEST_INVALID", "not what was sent");
                }
                *self.whole.lock().expect("shelf") = Some(whole);
                Reply::new(201, "")
            }
            _ => Reply::new(405, ""),
        }
    }
}

#[tokio::test]
async fn a_broken_upload_is_taken_up_where_the_registry_says() {
    let (blob, shelf, cuts) = (noise(2 << 20, 6), Arc::new(Shelf::default()), AtomicUsize::new(0));
    let own = shelf.clone();
    let cutter = move |method: &str, _: &str| match (method, cuts.load(Ordering::SeqCst)) {
        ("PUT", 0) => {
            cuts.store(1, Ordering::SeqCst);
            Some(700_000)
        }
        ("PATCH", 1) => {
            cuts.store(2, Ordering::SeqCst);
            Some(300_000)
        }
        _ => None,
    };
    let server = Server::cutting(cutter, move |seen| own.answer(seen)).await;
    let session = open_push(&server.name("app:1"), None);
    session.push_blob(&digest(&blob), blob.len() as u64, &source(blob.clone()), &|_| ()).await.expect("push");
    assert_eq!(shelf.whole.lock().expect("shelf").as_ref(), Some(&blob));
    assert_eq!(shelf.uploads.load(Ordering::SeqCst), 1, "it was begun again");
    let sent: usize = server.seen().iter().map(|s| s.body.len()).sum();
    assert_eq!(sent, blob.len(), "bytes were sent twice");
}

#[tokio::test]
async fn an_upload_that_the_registry_forgot_is_begun_again() {
    let (blob, shelf, cuts) = (noise(1 << 20, 7), Arc::new(Shelf::default()), AtomicUsize::new(0));
    let own = shelf.clone();
    let cutter = move |method: &str, _: &str| {
        (method == "PUT" && cuts.fetch_add(1, Ordering::SeqCst) == 0).then_some(1000)
    };
    let server = Server::cutting(cutter, move |seen| match seen.method.as_str() {
        "GET" => Reply::error(404, "BLOB_UPLOAD_UNKNOWN", "forgotten"),
        _ => own.answer(seen),
    })
    .await;
    let session = open_push(&server.name("app:1"), None);
    session.push_blob(&digest(&blob), blob.len() as u64, &source(blob.clone()), &|_| ()).await.expect("push");
    assert_eq!(shelf.uploads.load(Ordering::SeqCst), 2);
    assert_eq!(shelf.whole.lock().expect("shelf").as_ref(), Some(&blob));
}

#[tokio::test]
async fn a_registry_that_takes_no_large_request_gets_chunks_of_its_size() {
    let (blob, shelf) = (noise(11 << 20, 8), Arc::new(Shelf::default()));
    let own = shelf.clone();
    let server = Server::start(move |seen| {
        if seen.body.len() > 10 << 20 {
            return Reply::new(413, "too large");
        }
        own.answer(seen).with("oci-chunk-min-length", (9 << 20).to_string())
    })
    .await;
    let session = open_push(&server.name("app:1"), None);
    session.push_blob(&digest(&blob), blob.len() as u64, &source(blob.clone()), &|_| ()).await.expect("push");
    assert_eq!(shelf.whole.lock().expect("shelf").as_ref(), Some(&blob));
    let parts: Vec<usize> =
        server.seen().iter().filter(|s| s.method == "PATCH").map(|s| s.body.len()).collect();
    assert_eq!(parts, [9 << 20, 2 << 20]);
}

#[tokio::test]
async fn an_upload_that_always_breaks_ends_and_a_refusal_is_passed_on_in_words() {
    let (blob, shelf) = (noise(1 << 20, 9), Arc::new(Shelf::default()));
    let own = shelf.clone();
    let server =
        Server::cutting(|m, _| matches!(m, "PUT" | "PATCH").then_some(0), move |seen| own.answer(seen)).await;
    let session = open_push(&server.name("app:1"), None);
    let error = session.push_blob(&digest(&blob), blob.len() as u64, &source(blob.clone()), &|_| ()).await;
    assert_eq!(error.expect_err("broken").kind(), ErrorKind::Unavailable);
    let denied = Server::start(|_| Reply::error(403, "DENIED", "the quota of this team is used up")).await;
    let session = open_push(&denied.name("app:1"), None);
    let error = session.push_blob(&digest(&blob), 1 << 20, &source(blob), &|_| ()).await.expect_err("denied");
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    assert!(
        error.to_string().contains("403 Forbidden: DENIED: the quota of this team is used up"),
        "{error}"
    );
    assert_eq!(denied.seen().len(), 1, "it was tried again");
}

#[tokio::test]
async fn a_push_asks_for_a_token_to_push_and_for_those_it_mounts_from() {
    let tokens =
        Server::start(|seen| Reply::new(200, format!(r#"{{"token":"for {}"}}"#, seen.path.replace('"', ""))))
            .await;
    let realm = format!("http://{}/token", tokens.addr);
    let server = Server::start(move |seen| {
        let authorization = seen.header("authorization").unwrap_or_default();
        match seen.method.as_str() {
            // A registry may say in one challenge what it wants, and may want too much.
            _ if authorization.is_empty() => Reply::bearer(&realm, "registry:catalog:*"),
            "POST" if seen.path.contains("from=") && !authorization.contains("other%2Fapp%3Apull") => {
                Reply::bearer(&realm, "repository:team/app:pull,push repository:other/app:pull")
            }
            "POST" => Reply::new(201, ""),
            _ => Reply::error(404, "BLOB_UNKNOWN", ""),
        }
    })
    .await;
    let session = open_push(&server.name("team/app:1"), Some(&alice()));
    assert!(!session.blob_exists(&digest(b"x")).await.expect("exists"));
    assert!(session.mount(&digest(b"x"), "other/app").await.expect("mount"));
    let asked: Vec<String> = tokens.seen().into_iter().map(|s| s.path).collect();
    assert_eq!(
        asked,
        [
            "/token?service=reg&scope=repository%3Ateam%2Fapp%3Apull%2Cpush",
            "/token?service=reg&scope=repository%3Ateam%2Fapp%3Apull%2Cpush&scope=repository%3Aother%2Fapp%3Apull"
        ]
    );
}

#[tokio::test]
async fn a_push_goes_only_to_hosts_that_may_be_pushed_to() {
    let mirror = Server::start(|_| Reply::new(500, "")).await;
    let taker = Server::start(|_| Reply::error(404, "BLOB_UNKNOWN", "")).await;
    let dir = tempfile::tempdir().expect("temp dir");
    std::fs::create_dir(dir.path().join("r.example")).expect("folder");
    let write = |text: String| std::fs::write(dir.path().join("r.example/hosts.toml"), text).expect("write");
    let name = Reference::parse("r.example/app:1").expect("reference");
    write(format!(
        "server = \"http://{}\"\n[host.\"http://{}\"]\ncapabilities = [\"pull\", \"resolve\"]",
        taker.addr, mirror.addr
    ));
    let session = Session::open_push(transport(), Some(dir.path().to_owned()), &name, None).expect("session");
    assert!(!session.blob_exists(&digest(b"x")).await.expect("exists"));
    assert_eq!((mirror.seen().len(), taker.seen().len()), (0, 1));
    write(format!("server = \"http://{}\"\ncapabilities = [\"pull\", \"resolve\"]", taker.addr));
    let error =
        Session::open_push(transport(), Some(dir.path().to_owned()), &name, None).err().expect("nobody");
    assert_eq!(error.message(), "no host is configured that may push for r.example");
}

#[tokio::test]
async fn an_upload_elsewhere_gets_no_credentials_and_none_goes_on_without_tls() {
    let store = Server::start(|_| Reply::new(201, "")).await;
    let at = store.addr;
    let server = Server::start(move |seen| match (seen.header("authorization"), seen.method.as_str()) {
        (None, _) => Reply::basic(),
        (_, "POST") => Reply::new(202, "").with("location", format!("http://{at}/put?sig=1")),
        _ => Reply::error(404, "BLOB_UNKNOWN", ""),
    })
    .await;
    let session = open_push(&server.name("app:1"), Some(&alice()));
    session.push_blob(&digest(b"x"), 1, &source(Bytes::from_static(b"x")), &|_| ()).await.expect("push");
    let put = &store.seen()[0];
    assert!(put.is("PUT", "/put?sig=1&digest=sha256") && put.header("authorization").is_none(), "{put:?}");
}

#[tokio::test]
async fn a_registry_that_stores_something_else_is_found_out() {
    let server =
        Server::start(|_| Reply::new(201, "").with("docker-content-digest", digest(b"else").as_str())).await;
    let session = open_push(&server.name("app:1"), None);
    let error = session.put_manifest("v1", MANIFEST, Bytes::from_static(b"{}")).await.expect_err("else");
    assert!(error.to_string().contains("announced"), "{error}");
    let wrong = session.put_manifest(digest(b"else").as_str(), MANIFEST, Bytes::from_static(b"{}")).await;
    wrong.expect_err("another digest than its own");
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn a_slow_upload_that_moves_is_not_broken_off() {
    let server = Server::start(|seen| match seen.method.as_str() {
        "POST" => Reply::new(202, "").with("location", "/up"),
        "PUT" => Reply::new(201, ""),
        _ => Reply::error(404, "BLOB_UNKNOWN", ""),
    })
    .await;
    // 40 KiB in each of five waits: longer in all than the limit for an answer.
    let slow = |_| {
        let parts = futures_util::stream::unfold(0, |n| async move {
            if n == 5 {
                return None;
            }
            tokio::time::sleep(std::time::Duration::from_millis(650)).await;
            Some((Ok::<_, std::io::Error>(Bytes::from(vec![7u8; 40 << 10])), n + 1))
        });
        Ok(Box::new(tokio_util::io::StreamReader::new(Box::pin(parts))) as registry::BlobReader)
    };
    let blob = vec![7u8; 200 << 10];
    let session = open_push(&server.name("app:1"), None);
    session.push_blob(&digest(&blob), blob.len() as u64, &slow, &|_| ()).await.expect("push");
}
