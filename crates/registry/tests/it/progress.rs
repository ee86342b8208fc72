//! Registries that are busy, silent, or so slow that nothing comes of it.

use crate::server::{Reply, Server, digest, noise};
use crate::{open, timeouts, transport};
use registry::{Session, Transport};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use types::{Error, ErrorKind};

/// As HTTP writes a date (RFC 9110 section 5.6.7), so many seconds from now.
fn date(from_now: i64) -> String {
    let seconds = types::time::now_nanos() / 1_000_000_000 + from_now;
    let output = std::process::Command::new("date")
        .args(["-u", "-d", &format!("@{seconds}"), "+%a, %d %b %Y %H:%M:%S GMT"])
        .env("LC_ALL", "C")
        .output();
    String::from_utf8(output.expect("date").stdout).expect("text").trim().to_owned()
}

#[tokio::test]
async fn retry_after_is_honoured_in_seconds_and_as_a_date() {
    let one = |status: u16, dated: bool| async move {
        let wait = if dated { date(2) } else { "1".to_owned() };
        let (calls, asked) = (AtomicUsize::new(0), wait.clone());
        let server = Server::start(move |_| match calls.fetch_add(1, Ordering::SeqCst) {
            0 => Reply::error(status, "TOOMANYREQUESTS", "slow down").with("retry-after", asked.clone()),
            _ => Reply::new(200, "{}"),
        })
        .await;
        let start = Instant::now();
        open(&server.name("app:1"), None).manifest("1").await.expect("in the end");
        // A date has whole seconds: up to one of the two is gone when it arrives.
        let waited = start.elapsed();
        assert!(
            waited >= Duration::from_millis(900) && waited < Duration::from_secs(5),
            "{wait}: {waited:?}"
        );
    };
    futures_util::future::join_all(
        [(429, false), (503, false), (429, true), (503, true)].map(|(s, d)| one(s, d)),
    )
    .await;
}

#[tokio::test]
async fn a_busy_token_server_is_waited_for() {
    let calls = Arc::new(AtomicUsize::new(0));
    let count = calls.clone();
    let tokens = Server::start(move |_| match count.fetch_add(1, Ordering::SeqCst) {
        0 => Reply::new(429, "").with("retry-after", "1"),
        _ => Reply::new(200, r#"{"token":"t"}"#),
    })
    .await;
    let realm = format!("http://{}/token", tokens.addr);
    let server = Server::start(move |seen| match seen.header("authorization") {
        None => Reply::bearer(&realm, ""),
        Some(_) => Reply::new(200, "{}"),
    })
    .await;
    open(&server.name("app:1"), None).manifest("1").await.expect("in the end");
    assert_eq!(calls.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_registry_that_stays_busy_ends_the_pull_with_its_name_status_and_words() {
    // No `Retry-After`: the waits grow until there was no progress for long enough.
    let server = Server::start(|_| Reply::error(429, "TOOMANYREQUESTS", "quota used up, buy more")).await;
    let (start, session) = (Instant::now(), open(&server.name("app:1"), None));
    let error: Error = session.manifest("1").await.expect_err("busy").into();
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
    let text = error.chain();
    for part in
        [&server.addr.to_string(), "429 Too Many Requests", "TOOMANYREQUESTS: quota used up, buy more"]
    {
        assert!(text.contains(part), "{text}");
    }
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    let server =
        Server::start(|_| Reply::error(503, "UNAVAILABLE", "closed").with("retry-after", date(3600))).await;
    let text =
        types::error::chain(&open(&server.name("app:1"), None).manifest("1").await.expect_err("an hour"));
    assert!(
        text.contains("503 Service Unavailable")
            && text.contains("closed")
            && text.contains("try again then"),
        "{text}"
    );
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn a_body_that_trickles_is_no_progress() {
    let blob = noise(1 << 20, 4);
    let content = blob.clone();
    let server = Server::start(move |_| Reply {
        trickle: Some((1, Duration::from_millis(100))),
        ..Reply::new(200, content.clone())
    })
    .await;
    let mut arriving = open(&server.name("app:1"), None).blob(&digest(&blob), 0).await.expect("begun");
    let start = Instant::now();
    let error = loop {
        match arriving.next().await {
            Ok(part) => assert!(part.is_some_and(|p| p.len() == 1)),
            Err(error) => break error,
        }
    };
    assert!(error.is_stalled());
    let waited = start.elapsed();
    assert!(waited >= Duration::from_millis(590) && waited < Duration::from_secs(2), "{waited:?}");
    let text = error.to_string();
    assert!(
        text.contains(&server.addr.to_string()) && text.contains("200 OK") && text.contains("no progress"),
        "{text}"
    );
    assert_eq!(error.kind(), ErrorKind::DeadlineExceeded);
}

#[tokio::test]
async fn a_slow_transfer_and_a_slow_reader_are_both_let_be() {
    let blob = noise(200 << 10, 4);
    let content = blob.clone();
    // 20 KiB each 300 ms: longer in all than the limit, and more than the least there has to be.
    let server = Server::start(move |_| Reply {
        trickle: Some((20 << 10, Duration::from_millis(300))),
        ..Reply::new(200, content.clone())
    })
    .await;
    let session = open(&server.name("app:1"), None);
    let mut arriving = session.blob(&digest(&blob), 0).await.expect("begun");
    let mut bytes = 0;
    while let Some(part) = arriving.next().await.expect("slow, and moving") {
        bytes += part.len();
    }
    assert_eq!(bytes, blob.len());
    let content = blob.clone();
    let server = Server::start(move |_| Reply {
        trickle: Some((1000, Duration::ZERO)),
        ..Reply::new(200, content.slice(..5000))
    })
    .await;
    let mut arriving = open(&server.name("app:1"), None).blob(&digest(&blob), 0).await.expect("begun");
    for _ in 0..4 {
        arriving.next().await.expect("it is there");
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}

#[tokio::test]
async fn an_error_whose_words_never_end_is_an_error_soon() {
    let server = Server::start(|_| Reply {
        trickle: Some((1, Duration::from_millis(50))),
        headers: vec![("content-type".into(), "text/plain".into())],
        ..Reply::new(403, "go away ".repeat(1000))
    })
    .await;
    let start = Instant::now();
    let error = open(&server.name("app:1"), None).manifest("1").await.expect_err("forbidden");
    assert!(error.to_string().contains("403 Forbidden: go a"), "{error}");
    assert!(start.elapsed() < Duration::from_secs(2));
}

#[tokio::test]
async fn a_lost_connection_is_tried_again_where_that_changes_nothing() {
    let calls = Arc::new(AtomicUsize::new(0));
    let count = calls.clone();
    let server = Server::start(move |_| match count.fetch_add(1, Ordering::SeqCst) {
        0 => Reply { hang_up: true, ..Reply::default() },
        _ => Reply::new(200, "{}"),
    })
    .await;
    open(&server.name("app:1"), None).manifest("1").await.expect("the second time");
    // The refusal itself is not repeated.
    for status in [400, 401, 403, 404, 405, 501] {
        let server = Server::start(move |_| Reply::error(status, "NO", "no")).await;
        open(&server.name("app:1"), None).manifest("1").await.expect_err("no");
        // What a server for TLS answers to plain HTTP is looked into once.
        assert_eq!(server.seen().len(), 1, "{status}");
    }
}

#[tokio::test]
async fn no_more_blobs_are_fetched_at_once_than_the_limit_says() {
    let transport = Arc::new(Transport::new(timeouts()).max_concurrent_downloads(2));
    let (running, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let one = || async {
        let _turn = transport.download_turn().await;
        most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(5)).await;
        running.fetch_sub(1, Ordering::SeqCst);
    };
    futures_util::future::join_all((0..20).map(|_| one())).await;
    assert_eq!(most.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_host_that_does_not_answer_is_left_for_the_next() {
    // Listens, and never accepts what it is sent.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
    let good = Server::start(|_| Reply::new(200, "{}")).await;
    let dir = tempfile::tempdir().expect("temp dir");
    std::fs::create_dir(dir.path().join("r.example")).expect("folder");
    let hosts = format!(
        "server = \"http://{}\"\n[host.\"http://{}\"]",
        good.addr,
        silent.local_addr().expect("address")
    );
    std::fs::write(dir.path().join("r.example/hosts.toml"), hosts).expect("write");
    let name = types::Reference::parse("r.example/app:1").expect("reference");
    let session = Session::open(transport(), Some(dir.path().to_owned()), &name, None).expect("session");
    let start = Instant::now();
    session.manifest("1").await.expect("from the other");
    let first = start.elapsed();
    assert!(first >= Duration::from_secs(3), "{first:?}");
    session.manifest("1").await.expect("from the other");
    assert!(start.elapsed() < first + Duration::from_secs(1), "the silent one was asked again");
}
