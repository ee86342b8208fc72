//! Who gets which credentials, and where they are shown: to nobody else, and nowhere.

use crate::server::{Reply, Server, digest};
use crate::{PASSWORD, alice, open, open_with};
use registry::Auth;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use types::{Error, ErrorKind, Reference};

/// Base64 of `alice:s3cret&pass`.
const BASIC: &str = "Basic YWxpY2U6czNjcmV0JnBhc3M=";

/// The whole text of an error, which must show no secret.
fn text(error: impl Into<Error>) -> String {
    let error: Error = error.into();
    let text = format!("{} {error:?}", error.chain());
    for secret in [PASSWORD, &BASIC[6..], "s3cret%26pass", "alice:s3cret"] {
        assert!(!text.contains(secret), "{text}");
    }
    text
}

/// CVE-2020-15157: containerd gave the pull's credentials to whoever a manifest's URL or a redirect named.
#[tokio::test]
async fn cve_2020_15157_credentials_follow_no_redirect_and_no_foreign_realm() {
    let foreign = Server::start(|seen| match seen.header("authorization") {
        // It asks for credentials in every way there is.
        None => Reply::basic().with("www-authenticate", "Bearer realm=\"http://127.0.0.1:1/token\""),
        Some(_) => Reply::new(200, "stolen"),
    })
    .await;
    let at = foreign.addr;
    let server = Server::start(move |seen| match seen.header("authorization") {
        None => Reply::basic(),
        Some(_) if seen.path.contains("/blobs/") => {
            Reply::new(307, "").with("location", format!("http://{at}/v2/stolen/blobs/x"))
        }
        Some(_) => Reply::new(302, "").with("location", format!("http://{at}/v2/stolen/manifests/x")),
    })
    .await;
    let session = open(&server.name("app:1"), Some(&alice()));
    text(session.manifest("1").await.expect_err("redirected"));
    text(session.blob(&digest(b"x"), 0).await.err().expect("redirected"));
    assert_eq!(foreign.seen().len(), 2);
    assert!(foreign.seen().iter().all(|s| s.header("authorization").is_none()), "{:?}", foreign.seen());
}

#[tokio::test]
async fn a_redirect_back_to_the_registry_does_not_restore_credentials() {
    let home = std::sync::Arc::new(std::sync::Mutex::new(String::new()));
    let back = home.clone();
    let foreign = Server::start(move |_| {
        Reply::new(302, "")
            .with("location", format!("http://{}/v2/app/blobs/secret", back.lock().expect("home")))
    })
    .await;
    let at = foreign.addr;
    let server = Server::start(move |seen| match seen.header("authorization") {
        _ if seen.path.contains("/blobs/secret") => Reply::new(200, "x"),
        None => Reply::basic(),
        Some(_) => Reply::new(302, "").with("location", format!("http://{at}/")),
    })
    .await;
    *home.lock().expect("home") = server.addr.to_string();
    open(&server.name("app:1"), Some(&alice())).blob(&digest(b"x"), 0).await.expect("blob");
    let last = server.seen().pop().expect("asked");
    assert!(last.path.contains("secret") && last.header("authorization").is_none(), "{last:?}");
}

#[tokio::test]
async fn a_realm_on_another_host_gets_a_password_by_tls_only() {
    // 0.0.0.0 leads to this machine and is, by its name, another host, spoken to without TLS.
    let realm = Server::start(|_| Reply::new(200, r#"{"token":"tok"}"#)).await;
    let port = realm.addr.port();
    let server = Server::start(move |_| Reply::bearer(&format!("http://0.0.0.0:{port}/token"), "")).await;
    let error = open(&server.name("app:1"), Some(&alice())).manifest("1").await.expect_err("no TLS");
    assert!(text(error).contains("neither https nor on this machine"));
    assert_eq!(realm.seen().len(), 0);
    // Nor without a password: 0.0.0.0 is no address of a server.
    let error = open(&server.name("app:1"), None).manifest("1").await.expect_err("no address of a server");
    assert!(text(error).contains("where nothing is asked for it"));
    assert_eq!(realm.seen().len(), 0);
}

#[tokio::test]
async fn an_error_that_echoes_credentials_is_shown_without_them() {
    let server = Server::start(|seen| match seen.header("authorization") {
        None => Reply::basic(),
        Some(sent) => {
            Reply::error(403, "DENIED", &format!("{sent}, alice:{PASSWORD}, s3cret%26pass may not"))
        }
    })
    .await;
    let error = open(&server.name("app:1"), Some(&alice())).manifest("1").await.expect_err("denied");
    assert!(text(error).contains("may not"));
    // In the realm, the path of a redirect and the place of an upload as well.
    let server = Server::start(|seen| match (seen.header("authorization"), seen.method.as_str()) {
        (None, _) => Reply::basic(),
        (_, "GET") if seen.path.contains("/manifests/1") => {
            Reply::bearer("http://127.0.0.1:1/s3cret%26pass/YWxpY2U6czNjcmV0JnBhc3M=", "")
        }
        (_, "GET") if seen.path.contains("/manifests/2") => {
            Reply::new(302, "").with("location", "/v2/s3cret&pass/YWxpY2U6czNjcmV0JnBhc3M=?a=s3cret")
        }
        (_, "GET") => Reply::new(302, "").with("location", "ftp://alice:s3cret&pass@x"),
        _ => Reply::new(202, "").with("location", "/YWxpY2U6czNjcmV0JnBhc3M="),
    })
    .await;
    let session = open(&server.name("app:1"), Some(&alice()));
    for tag in ["1", "2", "3"] {
        text(session.manifest(tag).await.expect_err(tag));
    }
    let session = crate::open_push(&server.name("app:1"), Some(&alice()));
    let blob = crate::source(bytes::Bytes::from_static(b"x"));
    text(session.push_blob(&digest(b"x"), 1, &blob, &|_| ()).await.expect_err("no upload"));
}

#[tokio::test]
async fn a_token_servers_echo_of_a_refresh_token_is_hidden() {
    let tokens = Server::start(|seen| {
        assert_eq!(seen.method, "POST");
        let form = String::from_utf8_lossy(&seen.body).into_owned();
        Reply::new(401, format!(r#"{{"details":"wrong: {form}"}}"#))
    })
    .await;
    let realm = format!("http://{}/token", tokens.addr);
    let server = Server::start(move |_| Reply::bearer(&realm, "")).await;
    let auth = Auth { identity_token: Some("refresh/tok+en".into()), ..Auth::default() };
    let error: Error =
        open(&server.name("app:1"), Some(&auth)).manifest("1").await.expect_err("wrong").into();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    let text = error.chain();
    assert!(text.contains("wrong: grant_type=refresh_token"), "{text}");
    assert!(!text.contains("refresh/tok+en") && !text.contains("refresh%2Ftok%2Ben"), "{text}");
}

#[tokio::test]
async fn a_mirrors_own_header_goes_to_it_alone_and_is_shown_nowhere() {
    let server = Server::start(|seen| {
        Reply::error(500, "BROKEN", &format!("you sent {:?}", seen.header("authorization")))
    })
    .await;
    let dir = tempfile::tempdir().expect("temp dir");
    std::fs::create_dir(dir.path().join("r.example")).expect("folder");
    let hosts = format!(
        "server = \"http://{0}\"\n[host.\"http://{0}/m\"]\n[host.\"http://{0}/m\".header]\nAuthorization = \"Basic bWlycm9yOm0xcnIwcg==\"",
        server.addr
    );
    std::fs::write(dir.path().join("r.example/hosts.toml"), hosts).expect("write");
    let session = open_with(dir.path(), &Reference::parse("r.example/app:1").expect("reference"), None)
        .expect("session");
    let error: Error = session.manifest("1").await.expect_err("broken").into();
    assert!(error.chain().contains("you sent") && !error.chain().contains("bWlycm9y"), "{}", error.chain());
    for seen in server.seen() {
        assert_eq!(seen.header("authorization").is_some(), seen.path.starts_with("/m/"), "{}", seen.path);
    }
}

#[tokio::test]
async fn every_form_of_credentials_is_understood() {
    let tokens = Server::start(|seen| {
        let body = String::from_utf8_lossy(&seen.body);
        let known = seen.header("authorization") == Some(BASIC) || body.contains("refresh_token=idtok");
        if known { Reply::new(200, r#"{"access_token":"good"}"#) } else { Reply::new(401, "{}") }
    })
    .await;
    let realm = format!("http://{}/token", tokens.addr);
    let server = Server::start(move |seen| match seen.header("authorization") {
        Some("Bearer good" | "Bearer mine") => Reply::new(200, "{}"),
        _ => Reply::bearer(&realm, ""),
    })
    .await;
    let some = |text: &str| Some(text.to_owned());
    let address = || some(&format!("http://{}/v2/", server.addr));
    for auth in [
        alice(),
        Auth { server_address: address(), ..alice() },
        Auth { auth: some(&BASIC[6..]), ..Auth::default() },
        Auth { identity_token: some("idtok"), ..Auth::default() },
        Auth { registry_token: some("mine"), ..Auth::default() },
    ] {
        open(&server.name("app:1"), Some(&auth))
            .manifest("1")
            .await
            .unwrap_or_else(|e| panic!("{auth:?}: {e}"));
    }
    let elsewhere = Auth { server_address: some("quay.io"), ..alice() };
    open(&server.name("app:1"), Some(&elsewhere)).manifest("1").await.expect_err("meant for another");
}

#[tokio::test]
async fn a_token_that_ends_in_the_middle_is_got_again() {
    let given = std::sync::Arc::new(AtomicUsize::new(0));
    let count = given.clone();
    let tokens = Server::start(move |_| {
        let n = count.fetch_add(1, Ordering::SeqCst) + 1;
        Reply::new(200, format!(r#"{{"token":"t{n}","expires_in":3600}}"#))
    })
    .await;
    let realm = format!("http://{}/token", tokens.addr);
    // Each token is good for three answers.
    let used = AtomicUsize::new(0);
    let last = given.clone();
    let server = Server::start(move |seen| {
        let good = format!("Bearer t{}", last.load(Ordering::SeqCst));
        if seen.header("authorization") != Some(&good) {
            return Reply::bearer(&realm, "");
        }
        if used.fetch_add(1, Ordering::SeqCst) % 4 == 3 {
            return Reply::bearer(&realm, "");
        }
        Reply::new(200, "{}")
    })
    .await;
    let session = open(&server.name("app:1"), None);
    for _ in 0..10 {
        session.manifest("1").await.expect("manifest");
    }
    assert!(given.load(Ordering::SeqCst) >= 3);
}

#[tokio::test]
async fn a_token_that_is_about_to_end_is_renewed_before_it_is_refused() {
    let tokens = Server::start(|_| Reply::new(200, r#"{"token":"t","expires_in":1}"#)).await;
    let realm = format!("http://{}/token", tokens.addr);
    let server = Server::start(move |seen| match seen.header("authorization") {
        None => Reply::bearer(&realm, ""),
        Some(_) => Reply::new(200, "{}"),
    })
    .await;
    let session = open(&server.name("app:1"), None);
    session.manifest("1").await.expect("first");
    session.manifest("1").await.expect("still good");
    assert_eq!((server.seen().len(), tokens.seen().len()), (3, 1));
    tokio::time::sleep(Duration::from_millis(900)).await;
    session.manifest("1").await.expect("renewed");
    assert_eq!((server.seen().len(), tokens.seen().len()), (4, 2), "it was refused first");
}

#[tokio::test]
async fn many_requests_at_once_ask_for_one_token() {
    let tokens = Server::start(|_| Reply::new(200, r#"{"token":"t","expires_in":300}"#)).await;
    let realm = format!("http://{}/token", tokens.addr);
    let server = Server::start(move |seen| match seen.header("authorization") {
        None => Reply::bearer(&realm, ""),
        Some(_) => Reply::new(200, "{}"),
    })
    .await;
    let session = open(&server.name("app:1"), None);
    let all = futures_util::future::join_all((0..8).map(|_| session.manifest("1"))).await;
    assert!(all.iter().all(Result::is_ok));
    assert_eq!(tokens.seen().len(), 1);
}

/// Takes what is logged.
#[derive(Clone, Default)]
struct Log(std::sync::Arc<std::sync::Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("log").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// All on this thread, so that the log of every part of it is caught.
#[tokio::test]
async fn no_log_of_any_level_shows_a_credential_or_a_token() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_ansi(false);
    let caught = tracing::subscriber::set_default(subscriber.with_writer(move || writer.clone()).finish());
    let tokens = Server::start(|_| Reply::new(200, r#"{"token":"t0kentoken","expires_in":1}"#)).await;
    let realm = format!("http://{}/token", tokens.addr);
    let calls = AtomicUsize::new(0);
    let server = Server::start(move |seen| match (seen.header("authorization"), seen.method.as_str()) {
        (None, _) => Reply::bearer(&realm, ""),
        (Some(sent), "GET") if calls.fetch_add(1, Ordering::SeqCst) < 2 => {
            Reply::error(503, "BUSY", &format!("{sent} {PASSWORD}")).with("retry-after", "0")
        }
        (Some(_), "GET") => Reply::new(200, "{}"),
        (Some(sent), "POST") => Reply::error(500, "BROKEN", &format!("{sent} {PASSWORD}")),
        _ => Reply::error(404, "BLOB_UNKNOWN", PASSWORD),
    })
    .await;
    open(&server.name("app:1"), Some(&alice())).manifest("1").await.expect("after a while");
    let identity = Auth { identity_token: Some("refreshtoken".into()), ..Auth::default() };
    let session = crate::open_push(&server.name("app:1"), Some(&identity));
    session.mount(&digest(b"x"), "other/app").await.expect_err("broken");
    tokio::time::sleep(Duration::from_millis(800)).await;
    session.manifest("1").await.expect("with a new token");
    drop(caught);
    let text = String::from_utf8_lossy(&log.0.lock().expect("log")).into_owned();
    assert!(text.contains("waiting before the next attempt"), "nothing was caught: {text}");
    for secret in [PASSWORD, &BASIC[6..], "s3cret%26pass", "t0kentoken", "refreshtoken"] {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
}

#[tokio::test]
async fn without_credentials_a_public_image_is_had_with_an_anonymous_token() {
    let tokens = Server::start(|seen| match seen.header("authorization") {
        None => Reply::new(200, r#"{"token":"anonymous"}"#),
        Some(_) => Reply::new(401, "{}"),
    })
    .await;
    let realm = format!("http://{}/token", tokens.addr);
    let server = Server::start(move |seen| match seen.header("authorization") {
        Some("Bearer anonymous") => Reply::new(200, "{}"),
        _ => Reply::bearer(&realm, "repository:app:pull"),
    })
    .await;
    open(&server.name("app:1"), None).manifest("1").await.expect("public");
    // Wrong ones are no reason to go on as nobody: who gave them would not learn that they are wrong.
    let error: Error =
        open(&server.name("app:1"), Some(&alice())).manifest("1").await.expect_err("wrong").into();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
}
