//! Where a registry may lead a pull, and what is never asked on its behalf.

use crate::hosts::{authority, tls};
use crate::server::{Reply, Server, digest};
use crate::{PASSWORD, alice, open, open_with};
use registry::Session;
use std::path::Path;
use types::{Error, ErrorKind, Reference};

/// What the victim would give: a token, in the form that is understood.
async fn victim() -> Server {
    Server::start(|_| Reply::new(200, r#"{"token":"of the victim"}"#)).await
}

/// A session with `server` as a registry elsewhere: 0.0.0.0 leads to this machine and is, by its name, another one.
fn elsewhere(dir: &Path, server: &Server, scheme: &str, auth: Option<&registry::Auth>) -> Session {
    let name = named(dir, server, scheme);
    open_with(dir, &name, auth).expect("session")
}

fn named(dir: &Path, server: &Server, scheme: &str) -> Reference {
    let host = format!("0.0.0.0:{}", server.addr.port());
    std::fs::create_dir_all(dir.join(&host)).expect("folder");
    let skip = if scheme == "https" { "skip_verify = true\n" } else { "" };
    std::fs::write(dir.join(&host).join("hosts.toml"), format!("server = \"{scheme}://{host}\"\n{skip}"))
        .expect("write");
    Reference::parse(&format!("{host}/app:1")).expect("reference")
}

fn text(error: impl Into<Error>) -> String {
    let error: Error = error.into();
    assert!(!error.chain().contains(PASSWORD), "{}", error.chain());
    error.chain()
}

#[tokio::test]
async fn a_plain_http_token_realm_of_a_hostile_registry_reaches_no_metadata_service_and_nothing_on_this_machine()
 {
    let victim = victim().await;
    let port = victim.addr.port();
    let dir = tempfile::tempdir().expect("temp dir");
    for (realm, words) in [
        ("http://169.254.169.254/latest/meta-data/iam".to_owned(), "a link-local address"),
        ("http://[fe80::1]/token".to_owned(), "a link-local address"),
        ("http://[::ffff:a9fe:a9fe]/token".to_owned(), "a link-local address"),
        ("http://100.100.100.200/latest".to_owned(), "the metadata service of a cloud"),
        ("https://[fd00:ec2::254]/latest".to_owned(), "the metadata service of a cloud"),
        (format!("http://127.0.0.1:{port}/token"), "this machine itself"),
        (format!("http://localhost:{port}/token"), "this machine itself"),
        (format!("http://[::ffff:127.0.0.1]:{port}/token"), "this machine itself"),
        (format!("http://0.0.0.0:{port}/token"), "no address of a server"),
    ] {
        let challenge = realm.clone();
        let hostile = Server::start(move |_| Reply::bearer(&challenge, "")).await;
        let session = elsewhere(dir.path(), &hostile, "http", None);
        let said = text(session.manifest("1").await.expect_err(&realm));
        assert!(said.contains(words) && said.contains("where nothing is asked for it"), "{realm}: {said}");
    }
    assert_eq!(victim.seen().len(), 0);
    // The same for a redirect, and for where an upload is to go.
    let place = format!("http://127.0.0.1:{port}/");
    let hostile = Server::start(move |seen| match seen.method.as_str() {
        "POST" => Reply::new(202, "").with("location", place.clone()),
        "HEAD" => Reply::error(404, "BLOB_UNKNOWN", ""),
        _ => Reply::new(307, "").with("location", place.clone()),
    })
    .await;
    let session = elsewhere(dir.path(), &hostile, "http", None);
    let said = text(session.blob(&digest(b"x"), 0).await.err().expect("redirected"));
    assert!(said.contains("this machine itself"), "{said}");
    let name = named(dir.path(), &hostile, "http");
    let session = Session::open_push(crate::transport(), Some(dir.path().to_owned()), &name, None);
    let blob = crate::source(bytes::Bytes::from_static(b"x"));
    let pushed = session.expect("session").push_blob(&digest(b"x"), 1, &blob, &|_| ()).await;
    assert!(text(pushed.expect_err("led away")).contains("this machine itself"));
    assert_eq!(victim.seen().len(), 0);
    // A registry of this machine may have its token server there.
    let realm = format!("http://127.0.0.1:{port}/token");
    let local = Server::start(move |seen| match seen.header("authorization") {
        Some("Bearer of the victim") => Reply::new(200, "{}"),
        _ => Reply::bearer(&realm, ""),
    })
    .await;
    open(&local.name("app:1"), None).manifest("1").await.expect("both are here");
    assert_eq!(victim.seen().len(), 1);
}

#[tokio::test]
async fn what_a_registry_with_tls_names_without_tls_is_asked_by_tls_only() {
    let (ca, victim) = (authority("own"), victim().await);
    let dir = tempfile::tempdir().expect("temp dir");
    // Its own address, as a registry behind a proxy that ends TLS writes it.
    let port = std::sync::Arc::new(std::sync::atomic::AtomicU16::new(0));
    let own = port.clone();
    let server = Server::start_tls(tls(&ca, None), move |seen| {
        let port = own.load(std::sync::atomic::Ordering::SeqCst);
        match seen.header("authorization") {
            _ if seen.path.starts_with("/token") => Reply::new(200, r#"{"token":"good"}"#),
            Some("Bearer good") => Reply::new(200, "{}"),
            _ => Reply::bearer(&format!("http://0.0.0.0:{port}/token"), ""),
        }
    })
    .await;
    port.store(server.addr.port(), std::sync::atomic::Ordering::SeqCst);
    for auth in [None, Some(&alice())] {
        let session = elsewhere(dir.path(), &server, "https", auth);
        session.manifest("1").await.expect("by TLS");
        let asked = server.seen().into_iter().rfind(|seen| seen.path.starts_with("/token")).expect("asked");
        assert_eq!(asked.header("authorization").is_some(), auth.is_some());
    }
    // Another place gets nothing, with credentials or without.
    let realm = format!("http://0.0.0.0:{}/token", victim.addr.port());
    let server = Server::start_tls(tls(&ca, None), move |_| Reply::bearer(&realm, "")).await;
    for auth in [None, Some(&alice())] {
        let session = elsewhere(dir.path(), &server, "https", auth);
        let said = text(session.manifest("1").await.expect_err("no TLS there"));
        assert!(said.contains("so it is asked by TLS only"), "{said}");
    }
    assert_eq!(victim.seen().len(), 0);
    // On this machine plain text leaves it nowhere; credentials are not sent even so.
    let realm = format!("http://127.0.0.1:{}/token", victim.addr.port());
    let local = Server::start_tls(tls(&ca, None), move |seen| match seen.header("authorization") {
        Some("Bearer of the victim") => Reply::new(200, "{}"),
        _ => Reply::bearer(&realm, ""),
    })
    .await;
    let error: Error =
        open(&local.name("app:1"), Some(&alice())).manifest("1").await.expect_err("credentials").into();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(text(error).contains("credentials are not sent to it"));
    assert_eq!(victim.seen().len(), 0);
    open(&local.name("app:1"), None).manifest("1").await.expect("anonymous");
    assert_eq!(victim.seen().len(), 1);
}
