//! Who gets which credentials.

use crate::image::Image;
use crate::node::Node;
use crate::server::{Reply, Seen, Server, Shelf};
use corten_images::Auth;
use types::{ErrorKind, Reference};

const PASSWORD: &str = "s3cret-pass";
/// Base64 of `alice:s3cret-pass`.
const BASIC: &str = "Basic YWxpY2U6czNjcmV0LXBhc3M=";

fn alice() -> Option<Auth> {
    Some(Auth { username: Some("alice".into()), password: Some(PASSWORD.into()), ..Auth::default() })
}

fn shelf() -> Shelf {
    Shelf::default().with("v1", &Image::small("app"))
}

/// A registry that wants this `Authorization`, and else gives this challenge.
async fn guarded(wanted: &'static str, challenge: String) -> Server {
    Server::start(shelf(), move |seen| {
        if seen.authorization.as_deref() == Some(wanted) {
            return None;
        }
        Some(
            Reply::error(401, "UNAUTHORIZED", "authentication required")
                .with("www-authenticate", challenge.clone()),
        )
    })
    .await
}

/// A token server that gives `tok` to whom `accept` likes.
async fn token_server(accept: impl Fn(&Seen) -> bool + Send + Sync + 'static) -> Server {
    Server::start(Shelf::default(), move |seen| {
        Some(if accept(seen) {
            Reply::new(200, r#"{"token":"tok","expires_in":60}"#)
        } else {
            Reply::new(401, r#"{"details":"incorrect username or password"}"#)
        })
    })
    .await
}

fn bearer(realm: &Server) -> String {
    format!("Bearer realm=\"http://{}/token\",service=\"reg\",scope=\"repository:team/app:pull\"", realm.addr)
}

#[tokio::test(flavor = "multi_thread")]
async fn basic_credentials_go_to_the_registry_that_asks() {
    let (server, node) = (guarded(BASIC, "Basic realm=\"x\"".into()).await, Node::new());
    node.images.pull(&server.name("team/app:v1"), alice(), None).await.expect("pull");
    assert_eq!(server.seen()[0].authorization, None, "credentials were sent before they were asked for");
    let error = node.images.pull(&server.name("team/app:v2"), None, None).await.expect_err("none given");
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    assert!(error.chain().contains("authentication required"), "{}", error.chain());
    let wrong = Auth { password: Some("wrong-pass".into()), ..alice().expect("auth") };
    let error = node.images.pull(&server.name("team/app:v1"), Some(wrong), None).await.expect_err("wrong");
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    assert!(!error.chain().contains("wrong-pass"), "{}", error.chain());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_fetched_with_and_without_credentials() {
    let tokens =
        token_server(|seen| seen.path == "/token?service=reg&scope=repository%3Ateam%2Fapp%3Apull").await;
    let (server, node) = (guarded("Bearer tok", bearer(&tokens)).await, Node::new());
    node.images.pull(&server.name("team/app:v1"), None, None).await.expect("anonymous");
    assert_eq!(tokens.seen()[0].authorization, None);
    assert_eq!(tokens.seen().len(), 1, "the token was not used again");
    let tokens = token_server(|seen| seen.authorization.as_deref() == Some(BASIC)).await;
    let (server, node) = (guarded("Bearer tok", bearer(&tokens)).await, Node::new());
    node.images.pull(&server.name("team/app:v1"), alice(), None).await.expect("with credentials");
    assert!(
        server.seen().iter().all(|s| s.authorization.as_deref() != Some(BASIC)),
        "the password went to the registry"
    );
    let error = node.images.pull(&server.name("team/app:v2"), None, None).await.expect_err("anonymous");
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    assert!(error.chain().contains("incorrect username or password"), "{}", error.chain());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_identity_token_is_exchanged_by_post_and_a_registry_token_sent_as_it_is() {
    let tokens = token_server(|seen| {
        seen.method == "POST"
            && seen.body.contains("grant_type=refresh_token")
            && seen.body.contains("refresh_token=id%2Btok")
            && seen.body.contains("scope=repository%3Ateam%2Fapp%3Apull")
    })
    .await;
    let (server, node) = (guarded("Bearer tok", bearer(&tokens)).await, Node::new());
    let identity = Auth { identity_token: Some("id+tok".into()), ..Auth::default() };
    node.images.pull(&server.name("team/app:v1"), Some(identity), None).await.expect("identity");
    let (server, node) =
        (guarded("Bearer regtok", "Bearer realm=\"http://127.0.0.1:1/\"".into()).await, Node::new());
    let token = Auth { registry_token: Some("regtok".into()), ..Auth::default() };
    node.images.pull(&server.name("team/app:v1"), Some(token), None).await.expect("registry token");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirects_target_gets_no_credentials_and_its_words_are_not_repeated() {
    let storage = Server::start(shelf(), |_| None).await;
    let at = storage.addr;
    let server = Server::start(shelf(), move |seen| {
        if seen.authorization.as_deref() != Some(BASIC) {
            return Some(Reply::new(401, "").with("www-authenticate", "Basic"));
        }
        let location = format!("http://{at}{}", seen.path);
        seen.path.contains("/blobs/").then(|| Reply::new(302, "").with("location", location))
    })
    .await;
    let node = Node::new();
    node.images.pull(&server.name("team/app:v1"), alice(), None).await.expect("pull");
    assert!(!storage.seen().is_empty() && storage.seen().iter().all(|s| s.authorization.is_none()));
    // A registry must not be able to read what only this machine can reach, nor to ask it for a password.
    let inside = Server::start(Shelf::default(), |_| {
        Some(Reply::error(401, "X", "internal secret").with("www-authenticate", "Basic"))
    })
    .await;
    let at = inside.addr;
    let evil = Server::start(Shelf::default(), move |_| {
        Some(Reply::new(302, "").with("location", format!("http://{at}/latest/meta-data")))
    })
    .await;
    let error = node.images.pull(&evil.name("team/app:v1"), alice(), None).await.expect_err("evil");
    assert!(!error.chain().contains("internal secret"), "{}", error.chain());
    assert!(inside.seen().iter().all(|s| s.authorization.is_none()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_server_over_plain_http_elsewhere_gets_no_credentials() {
    // 192.0.2.1 is for documentation (RFC 5737): nothing may be sent there, so nothing answers.
    let challenge = "Bearer realm=\"http://192.0.2.1/token\",service=\"reg\"".to_owned();
    let (server, node) = (guarded("Bearer tok", challenge).await, Node::new());
    let error = node.images.pull(&server.name("team/app:v1"), alice(), None).await.expect_err("plain http");
    assert!(error.chain().contains("credentials are not sent"), "{}", error.chain());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_gets_no_credentials_but_its_own_header() {
    let mirror = Server::start(Shelf::default(), |seen| {
        (seen.marker.is_none()).then(|| Reply::new(401, "").with("www-authenticate", "Basic"))
    })
    .await;
    let asking =
        Server::start(Shelf::default(), |_| Some(Reply::new(401, "").with("www-authenticate", "Basic")))
            .await;
    let origin = Server::start(shelf(), |seen| {
        (seen.authorization.as_deref() != Some(BASIC))
            .then(|| Reply::new(401, "").with("www-authenticate", "Basic"))
    })
    .await;
    let hosts = format!(
        "[host.\"http://{}\"]\n[host.\"http://{}\"]\n[host.\"http://{}\".header]\nx-marker = \"m\"",
        asking.addr, mirror.addr, mirror.addr
    );
    let node = Node::with_hosts(&[(&origin.addr.to_string(), &hosts)]);
    node.images.pull(&origin.name("team/app:v1"), alice(), None).await.expect("pull");
    for seen in mirror.seen().iter().chain(&asking.seen()) {
        assert_eq!(seen.authorization, None, "{seen:?}");
    }
    assert!(!mirror.seen().is_empty() && !asking.seen().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_for_another_server_are_not_used() {
    let (server, node) = (guarded(BASIC, "Basic".into()).await, Node::new());
    let other = Auth { server_address: Some("https://quay.io".into()), ..alice().expect("auth") };
    node.images.pull(&server.name("team/app:v1"), Some(other), None).await.expect_err("not meant for it");
    assert!(server.seen().iter().all(|s| s.authorization.is_none()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_pull_is_not_joined_with_other_credentials() {
    let server = Server::start(shelf(), |seen| {
        if seen.authorization.as_deref() != Some(BASIC) {
            return Some(Reply::new(401, "").with("www-authenticate", "Basic"));
        }
        seen.path
            .contains("/blobs/")
            .then(|| Reply { delay: std::time::Duration::from_millis(200), ..Reply::new(500, "") })
            .filter(|_| false)
    })
    .await;
    let node = Node::new();
    let name: Reference = server.name("team/app:v1");
    let (with, without) =
        tokio::join!(node.images.pull(&name, alice(), None), node.images.pull(&name, None, None));
    with.expect("with credentials");
    assert_eq!(without.expect_err("without").kind(), ErrorKind::PermissionDenied);
    // Nor does an image that is here excuse from showing them.
    let error = node.images.pull(&name, None, None).await.expect_err("without");
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_registry_says_is_shown_without_what_was_sent() {
    let server = Server::start(Shelf::default(), |seen| match &seen.authorization {
        None => Some(Reply::new(401, "").with("www-authenticate", "Basic")),
        Some(sent) => Some(Reply::error(403, "DENIED", &format!("{sent} / {PASSWORD} may not"))),
    })
    .await;
    let error =
        Node::new().images.pull(&server.name("team/app:v1"), alice(), None).await.expect_err("denied");
    let text = error.chain();
    assert!(text.contains("DENIED") && text.contains("may not"), "{text}");
    assert!(!text.contains(PASSWORD) && !text.contains(&BASIC[6..]), "{text}");
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
}
