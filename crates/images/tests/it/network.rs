//! Broken transfers, throttling, redirects, mirrors and TLS.

use crate::image::{Image, digest, layer, noise};
use crate::node::{Node, Settings};
use crate::server::{Reply, Server, Shelf};
use rustls::pki_types::PrivateKeyDer;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use types::{ErrorKind, Reference};

fn big() -> (Image, bytes::Bytes) {
    let layer = layer(&[("big", &noise(2 << 20, 11))]);
    (Image::new("app", std::slice::from_ref(&layer)), layer.0)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_transfer_is_taken_up_where_it_broke() {
    let (image, blob) = big();
    let (name, breaks) = (digest(&blob), AtomicUsize::new(0));
    let content = blob.clone();
    let server = Server::start(Shelf::default().with("v1", &image), move |seen| {
        (seen.path.contains(&name) && breaks.fetch_add(1, Ordering::SeqCst) < 1)
            .then(|| Reply { cut: Some(700_000), ..Reply::new(200, content.clone()) })
    })
    .await;
    let node = Node::new();
    let record = node.images.pull(&server.name("app:v1"), None, None).await.expect("pull");
    assert_eq!(record.id.as_str(), image.id());
    let ranges: Vec<_> = server.seen().into_iter().filter_map(|s| s.range).collect();
    assert_eq!(ranges.len(), 1);
    assert!(ranges[0].starts_with("bytes=") && ranges[0] != "bytes=0-", "{ranges:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transfer_that_always_breaks_fails_in_the_end_and_leaves_nothing() {
    let (image, blob) = big();
    let name = digest(&blob);
    let server = Server::start(Shelf::default().with("v1", &image), move |seen| {
        (seen.path.contains(&name)).then(|| Reply { cut: Some(0), ..Reply::new(200, blob.clone()) })
    })
    .await;
    let node = Node::new();
    let error = node.images.pull(&server.name("app:v1"), None, None).await.expect_err("broken");
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{}", error.chain());
    assert!(node.content("ingest").is_empty() && node.images.list().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_throttling_registry_is_waited_for_and_its_words_are_passed_on() {
    let (image, calls) = (Image::small("app"), AtomicUsize::new(0));
    let server = Server::start(Shelf::default().with("v1", &image), move |seen| {
        (seen.path.contains("/manifests/v1") && calls.fetch_add(1, Ordering::SeqCst) == 0)
            .then(|| Reply::error(429, "TOOMANYREQUESTS", "slow down").with("retry-after", "1"))
    })
    .await;
    let (node, start) = (Node::new(), Instant::now());
    node.images.pull(&server.name("app:v1"), None, None).await.expect("pull");
    assert!(start.elapsed() >= Duration::from_secs(1));
    let strict = Server::start(Shelf::default(), |_| {
        Some(Reply::error(429, "TOOMANYREQUESTS", "quota used up").with("retry-after", "3600"))
    })
    .await;
    let error = node.images.pull(&strict.name("app:v1"), None, None).await.expect_err("an hour");
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.chain().contains("3600 s") && error.chain().contains("quota used up"), "{}", error.chain());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_that_makes_no_progress_ends_with_the_registrys_name_and_status() {
    let (image, blob) = big();
    let name = digest(&blob);
    let server = Server::start(Shelf::default().with("v1", &image), move |seen| {
        // One byte now and then, from wherever it is asked to go on.
        seen.path.contains(&name).then(|| Reply {
            trickle: Some((1, Duration::from_millis(100))),
            ..Reply::new(200, blob.clone())
        })
    })
    .await;
    let (node, start) = (Node::new(), Instant::now());
    let error = node.images.pull(&server.name("app:v1"), None, None).await.expect_err("no progress");
    let text = error.chain();
    assert!(text.contains(&server.addr.to_string()) && text.contains("200 OK"), "{text}");
    assert!(text.contains("no progress"), "{text}");
    assert_eq!(error.kind(), ErrorKind::DeadlineExceeded, "{text}");
    // The limit of the test's node is 0.7 s; many resumes would take many times that.
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    assert!(node.content("ingest").is_empty() && node.images.list().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_that_trickles_is_left_for_the_registry() {
    let (image, blob) = big();
    let name = digest(&blob);
    let content = blob.clone();
    let slow = Server::start(Shelf::default().with("v1", &image), move |seen| {
        seen.path.contains(&name).then(|| Reply {
            trickle: Some((1, Duration::from_millis(100))),
            ..Reply::new(200, content.clone())
        })
    })
    .await;
    let good = Server::start(Shelf::default().with("v1", &image), |_| None).await;
    let hosts = format!("server = \"http://{}\"\n[host.\"http://{}\"]\n", good.addr, slow.addr);
    let node = Node::with_hosts(&[("example.org", &hosts)]);
    let name = Reference::parse("example.org/app:v1").expect("reference");
    node.images.pull(&name, None, None).await.expect("from the registry itself");
    assert_eq!(good.count("GET", &digest(&blob)), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_drips_just_enough_to_count_as_progress_keeps_no_place() {
    let (image, blob) = big();
    let name = digest(&blob);
    let server = Server::start(Shelf::default().with("v1", &image), move |seen| {
        // 10 KiB a second: more than 16 KiB in the 2 s of this node's limit.
        seen.path.contains(&name).then(|| Reply {
            trickle: Some((2 << 10, Duration::from_millis(200))),
            ..Reply::new(200, blob.clone())
        })
    })
    .await;
    let node = Node::with(Settings { idle: Duration::from_secs(2), ..Settings::default() });
    let start = Instant::now();
    let error = node.images.pull(&server.name("app:v1"), None, None).await.expect_err("a drip");
    assert!(error.chain().contains("no progress"), "{}", error.chain());
    assert_eq!(error.kind(), ErrorKind::DeadlineExceeded, "{}", error.chain());
    assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
    assert!(node.content("ingest").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_went_on_where_another_sent_wrong_content_is_not_blamed() {
    let (image, blob) = big();
    let name = digest(&blob);
    let mut wrong = blob.to_vec();
    wrong[1000] ^= 1;
    let wrong = bytes::Bytes::from(wrong);
    let asked = AtomicUsize::new(0);
    let mirror = Server::start(Shelf::default().with("v1", &image), move |seen| {
        // The beginning, wrong, and no more of it.
        seen.path.contains(&name).then(|| match asked.fetch_add(1, Ordering::SeqCst) {
            0 => Reply { cut: Some(300_000), ..Reply::new(200, wrong.clone()) },
            _ => Reply::error(404, "BLOB_UNKNOWN", "not any more"),
        })
    })
    .await;
    let good = Server::start(Shelf::default().with("v1", &image), |_| None).await;
    let hosts = format!("server = \"http://{}\"\n[host.\"http://{}\"]\n", good.addr, mirror.addr);
    let node = Node::with_hosts(&[("example.org", &hosts)]);
    let name = Reference::parse("example.org/app:v1").expect("reference");
    node.images.pull(&name, None, None).await.expect("from the one that is right");
    assert_eq!(good.count("GET", &digest(&blob)), 2, "the rest, and then all of it");
    assert!(mirror.count("GET", &digest(&blob)) >= 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_not_found_and_said_in_the_registrys_words() {
    let (server, node) = (Server::start(Shelf::default(), |_| None).await, Node::new());
    let error = node.images.pull(&server.name("app:v1"), None, None).await.expect_err("missing");
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.chain().contains("MANIFEST_UNKNOWN: manifest unknown to registry"), "{}", error.chain());
}

#[tokio::test(flavor = "multi_thread")]
async fn redirects_are_followed_within_bounds() {
    let image = Image::small("app");
    let storage = Server::start(Shelf::default().with("v1", &image), |_| None).await;
    let at = storage.addr;
    let server = Server::start(Shelf::default().with("v1", &image), move |seen| {
        let blob = seen.path.rsplit('/').next().unwrap_or_default();
        seen.path
            .contains("/blobs/")
            .then(|| Reply::new(307, "").with("location", format!("http://{at}/store/{blob}?sig=a%20b")))
    })
    .await;
    let node = Node::new();
    node.images.pull(&server.name("app:v1"), None, None).await.expect("pull");
    assert_eq!(storage.count("GET", "?sig=a%20b"), 2);
    let circle =
        Server::start(Shelf::default(), |s| Some(Reply::new(302, "").with("location", s.path.clone()))).await;
    let error = node.images.pull(&circle.name("app:v1"), None, None).await.expect_err("circle");
    assert!(error.chain().contains("5 redirects"), "{}", error.chain());
    assert_eq!(circle.seen().len(), 6);
    let odd =
        Server::start(Shelf::default(), |_| Some(Reply::new(302, "").with("location", "file:///etc/shadow")))
            .await;
    let error = node.images.pull(&odd.name("app:v1"), None, None).await.expect_err("file");
    assert!(error.chain().contains("neither http nor https"), "{}", error.chain());
}

#[tokio::test(flavor = "multi_thread")]
async fn mirrors_are_asked_in_order_and_the_server_last() {
    let image = Image::small("app");
    let broken = Server::start(Shelf::default(), |_| Some(Reply::error(502, "BAD", "gateway"))).await;
    let empty = Server::start(Shelf::default(), |_| None).await;
    let good = Server::start(Shelf::default().with("v1", &image), |_| None).await;
    let dead = "127.0.0.1:1";
    let hosts = format!(
        "server = \"http://{dead}\"\n[host.\"http://{dead}\"]\n[host.\"http://{}\"]\n  capabilities = [\"pull\"]\n\
         [host.\"http://{}\"]\n  [host.\"http://{}\".header]\n    x-marker = \"m\"\n[host.\"http://{}\"]\n",
        broken.addr, empty.addr, empty.addr, good.addr
    );
    let node = Node::with_hosts(&[("example.org", &hosts)]);
    let name = Reference::parse("example.org/team/app:v1").expect("reference");
    let record = node.images.pull(&name, None, None).await.expect("pull");
    assert_eq!(record.names, ["example.org/team/app:v1"]);
    // Not for tags; and a mirror is told which registry is meant.
    assert_eq!(broken.count("GET", "/manifests/"), 0);
    assert_eq!(good.count("GET", "?ns=example.org"), good.seen().len());
    assert!(empty.seen().iter().all(|s| s.marker.as_deref() == Some("m")));
    assert!(good.seen().iter().all(|s| s.marker.is_none()), "a header went to another host");
    let error = node
        .images
        .pull(&Reference::parse("example.org/team/app:v2").expect("reference"), None, None)
        .await
        .expect_err("nowhere");
    assert!(error.chain().contains("hosts of example.org failed"), "{}", error.chain());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_with_wrong_content_is_passed_over() {
    let (image, blob) = big();
    let mut poisoned = Shelf::default().with("v1", &image);
    let mut content = blob.to_vec();
    content[1_000_000] ^= 1;
    poisoned.put_blob(&digest(&blob), content);
    let mirror = Server::start(poisoned, |_| None).await;
    let good = Server::start(Shelf::default().with("v1", &image), |_| None).await;
    let hosts = format!("server = \"http://{}\"\n[host.\"http://{}\"]\n", good.addr, mirror.addr);
    let node = Node::with_hosts(&[("example.org", &hosts)]);
    let name = Reference::parse("example.org/app:v1").expect("reference");
    node.images.pull(&name, None, None).await.expect("pull");
    assert_eq!((mirror.count("GET", &digest(&blob)), good.count("GET", &digest(&blob))), (1, 1));
}

/// A certificate authority, and a server's settings with a certificate of it for 127.0.0.1.
fn tls(alpn: &[&str]) -> (String, Arc<rustls::ServerConfig>) {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
    let mut params = CertificateParams::new(Vec::new()).expect("params");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("key");
    let ca = params.self_signed(&key).expect("ca").pem();
    let issuer = Issuer::new(params, key);
    let key = KeyPair::generate().expect("key");
    let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("params");
    let certificate = params.signed_by(&key, &issuer).expect("certificate");
    let key = PrivateKeyDer::try_from(key.serialize_der()).expect("key");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .expect("config");
    config.alpn_protocols = alpn.iter().map(|p| p.as_bytes().to_vec()).collect();
    (ca, Arc::new(config))
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_needs_a_known_authority_or_the_admins_word() {
    let image = Image::small("app");
    for alpn in [&["http/1.1"][..], &["h2"]] {
        let (ca, config) = tls(alpn);
        let server = Server::start_tls(Shelf::default().with("v1", &image), config).await;
        let url = format!("https://{}", server.addr);
        let pull = |hosts: String| async move {
            let node = Node::with_hosts(&[("example.org", &hosts)]);
            let folder = node.root.join("certs.d/example.org");
            std::fs::write(folder.join("ca.pem"), tls_ca()).expect("another ca");
            node.images
                .pull(&Reference::parse("example.org/app:v1").expect("reference"), None, None)
                .await
                .map(|_| ())
        };
        let own_ca = std::env::temp_dir().join(format!("images-test-ca-{}.pem", server.addr.port()));
        std::fs::write(&own_ca, &ca).expect("ca");
        let trusted = pull(format!("server = \"{url}\"\nca = \"{}\"", own_ca.display())).await;
        std::fs::remove_file(&own_ca).expect("remove");
        trusted.expect("a known authority");
        pull(format!("server = \"{url}\"\nskip_verify = true")).await.expect("the admin's word");
        let error = pull(format!("server = \"{url}\"")).await.expect_err("unknown authority");
        assert!(error.chain().to_lowercase().contains("certificate"), "{}", error.chain());
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        let other = pull(format!("server = \"{url}\"\nca = \"ca.pem\"")).await;
        other.expect_err("another authority");
    }
}

/// An authority that signed nothing.
fn tls_ca() -> String {
    tls(&[]).0
}

#[tokio::test(flavor = "multi_thread")]
async fn only_this_machine_is_trusted_by_default_and_no_host_that_it_names() {
    let (_, config) = tls(&["http/1.1"]);
    let realm = Server::start_tls(Shelf::default(), config).await;
    let port = realm.addr.port();
    // The first leads to this machine, too, but by its name it is another host.
    for (host, asked) in [("[::ffff:127.0.0.1]", 0), ("127.0.0.1", 1)] {
        let server = Server::start(Shelf::default(), move |_| {
            let challenge = format!("Bearer realm=\"https://{host}:{port}/token\",service=\"reg\"");
            Some(Reply::error(401, "UNAUTHORIZED", "who").with("www-authenticate", challenge))
        })
        .await;
        let error = Node::new().images.pull(&server.name("app:v1"), None, None).await.expect_err(host);
        assert_eq!(realm.count("GET", "/token"), asked, "{}", error.chain());
        assert_eq!(error.chain().to_lowercase().contains("certificate"), asked == 0, "{}", error.chain());
    }
}
