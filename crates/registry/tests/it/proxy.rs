//! Proxies: one of ours that keeps what it was asked, and Debian's tinyproxy.

use crate::server::{Reply, Server, digest, noise};
use crate::{alice, timeouts};
use registry::{Proxies, Session, Transport};
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use types::Reference;

/// Base64 of `ann:pr0xy!`.
const PROXY_AUTH: &str = "Proxy-Authorization: Basic YW5uOnByMHh5IQ==";

/// A proxy that connects everything to one address, and keeps the heads of requests.
struct Proxy {
    addr: std::net::SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn proxy(to: std::net::SocketAddr, refuse: Option<&'static str>) -> Proxy {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let addr = listener.local_addr().expect("address");
    let heads = Arc::new(Mutex::new(Vec::new()));
    let log = heads.clone();
    let task = tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let log = log.clone();
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    match client.read_u8().await {
                        Ok(byte) => head.push(byte),
                        Err(_) => return,
                    }
                }
                let text = String::from_utf8_lossy(&head).into_owned();
                log.lock().expect("log").push(text.clone());
                if let Some(refusal) = refuse {
                    let _ = client.write_all(refusal.as_bytes()).await;
                    return;
                }
                let mut server = TcpStream::connect(to).await.expect("connect");
                if text.starts_with("CONNECT ") {
                    client
                        .write_all(b"HTTP/1.0 200 Connection established\r\nVia: x\r\n\r\n")
                        .await
                        .expect("answer");
                } else {
                    server.write_all(&head).await.expect("pass on");
                }
                let _ = copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    Proxy { addr, heads, task }
}

fn through(variables: &[(&str, String)]) -> Arc<Transport> {
    let proxies = Proxies::read(&|name| variables.iter().find(|(n, _)| *n == name).map(|(_, v)| v.clone()));
    Arc::new(Transport::new(timeouts()).proxies(proxies.expect("proxies")))
}

/// A tree in which `r.example` is reached by this URL.
fn hosts(server: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("temp dir");
    std::fs::create_dir(dir.path().join("r.example")).expect("folder");
    std::fs::write(dir.path().join("r.example/hosts.toml"), server).expect("write");
    dir
}

fn open(transport: &Arc<Transport>, hosts: &tempfile::TempDir) -> Session {
    let name = Reference::parse("r.example/app:1").expect("reference");
    Session::open(transport.clone(), Some(hosts.path().to_owned()), &name, Some(&alice())).expect("session")
}

#[tokio::test]
async fn plain_http_goes_through_the_proxy_by_full_urls_with_the_proxys_credentials() {
    let server = Server::start(|_| Reply::new(200, "{}")).await;
    let proxy = proxy(server.addr, None).await;
    let transport = through(&[("http_proxy", format!("http://ann:pr0xy!@{}", proxy.addr))]);
    // The name exists nowhere: only the proxy can reach it.
    let hosts = hosts("server = \"http://r.example:5000\"");
    open(&transport, &hosts).manifest("1").await.expect("by proxy");
    let head = proxy.heads.lock().expect("log")[0].clone();
    assert!(
        head.starts_with("GET http://r.example:5000/v2/app/manifests/1?ns=r.example HTTP/1.1\r\n"),
        "{head}"
    );
    assert!(head.to_lowercase().contains(&PROXY_AUTH.to_lowercase()), "{head}");
}

#[tokio::test]
async fn https_goes_through_a_tunnel_whose_end_is_the_registrys_certificate() {
    let key = rcgen::generate_simple_self_signed(vec!["r.example".to_owned()]).expect("certificate");
    let private = rustls::pki_types::PrivateKeyDer::try_from(key.signing_key.serialize_der()).expect("key");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![key.cert.der().clone()], private)
        .expect("config");
    let server = Server::start_tls(Arc::new(config), |_| Reply::new(200, "{}")).await;
    let proxy = proxy(server.addr, None).await;
    let transport = through(&[("HTTPS_PROXY", format!("http://ann:pr0xy!@{}", proxy.addr))]);
    let hosts = hosts("server = \"https://r.example\"\nca = \"ca.pem\"");
    std::fs::write(hosts.path().join("r.example/ca.pem"), key.cert.pem()).expect("write");
    open(&transport, &hosts).manifest("1").await.expect("by tunnel");
    let head = proxy.heads.lock().expect("log")[0].clone();
    assert!(head.starts_with("CONNECT r.example:443 HTTP/1.1\r\nHost: r.example:443\r\n"), "{head}");
    assert!(head.contains(PROXY_AUTH), "{head}");
    // The registry sees nothing of the proxy's credentials.
    assert!(server.seen().iter().all(|s| s.header("proxy-authorization").is_none()));
}

#[tokio::test]
async fn a_proxy_that_refuses_is_named_without_its_credentials() {
    for (refusal, words) in [
        (
            "HTTP/1.1 407 Proxy Authentication Required\r\n\r\n",
            "it answered 407 Proxy Authentication Required",
        ),
        ("HTTP/1.1 403 Filtered\r\n\r\n", "it answered 403 Filtered"),
        ("SSH-2.0-x\r\n\r\n", "does not answer as HTTP does"),
        ("", "closed the connection"),
    ] {
        let proxy = proxy("127.0.0.1:1".parse().expect("address"), Some(refusal)).await;
        let transport = through(&[("https_proxy", format!("http://ann:pr0xy!@{}", proxy.addr))]);
        let error =
            open(&transport, &hosts("server = \"https://r.example\"")).manifest("1").await.expect_err(words);
        let text = types::error::chain(&error);
        assert!(text.contains(words) && text.contains(&format!("http://{}", proxy.addr)), "{text}");
        assert!(!text.contains("pr0xy!") && !text.contains("YW5u") && !text.contains("ann"), "{text}");
    }
    let transport = through(&[("https_proxy", "http://127.0.0.1:1".to_owned())]);
    let error =
        open(&transport, &hosts("server = \"https://r.example\"")).manifest("1").await.expect_err("nobody");
    assert!(types::error::chain(&error).contains("proxy http://127.0.0.1:1 cannot be reached"));
}

#[tokio::test]
async fn no_proxy_and_this_machine_are_reached_straight() {
    let server = Server::start(|_| Reply::new(200, "{}")).await;
    let dead = "http://127.0.0.1:1".to_owned();
    let transport =
        through(&[("HTTP_PROXY", dead.clone()), ("HTTPS_PROXY", dead), ("NO_PROXY", "0.0.0.0/8".to_owned())]);
    for host in ["127.0.0.1", "localhost", "0.0.0.0"] {
        let hosts = hosts(&format!("server = \"http://{host}:{}\"", server.addr.port()));
        open(&transport, &hosts).manifest("1").await.unwrap_or_else(|e| panic!("{host}: {e}"));
    }
}

#[tokio::test]
async fn a_socks_proxy_is_asked_for_the_name_with_its_credentials() {
    let server = Server::start(|_| Reply::new(200, "{}")).await;
    let to = server.addr;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let addr = listener.local_addr().expect("address");
    let task = tokio::spawn(async move {
        let (mut client, _) = listener.accept().await.expect("accept");
        let mut hello = [0; 3];
        client.read_exact(&mut hello).await.expect("hello");
        assert_eq!(hello, [5, 1, 2]);
        client.write_all(&[5, 2]).await.expect("method");
        let mut user = [0; 12];
        client.read_exact(&mut user).await.expect("user");
        assert_eq!(&user, b"\x01\x03ann\x06pr0xy!");
        client.write_all(&[1, 0]).await.expect("accepted");
        let mut ask = [0; 16];
        client.read_exact(&mut ask).await.expect("ask");
        assert_eq!(&ask, b"\x05\x01\x00\x03\x09r.example\x13\x88");
        client.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).await.expect("connected");
        let mut server = TcpStream::connect(to).await.expect("connect");
        let _ = copy_bidirectional(&mut client, &mut server).await;
    });
    let transport = through(&[("ALL_PROXY", format!("socks5://ann:pr0xy!@{addr}"))]);
    open(&transport, &hosts("server = \"http://r.example:5000\"")).manifest("1").await.expect("by SOCKS");
    assert!(server.seen()[0].path.starts_with("/v2/"), "not by a full URL");
    task.abort();
}

/// Debian's tinyproxy, in the foreground, as this test's child.
struct Tinyproxy(std::process::Child, std::net::SocketAddr, tempfile::TempDir);

impl Drop for Tinyproxy {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn tinyproxy() -> Option<Tinyproxy> {
    if !std::path::Path::new("/usr/bin/tinyproxy").is_file() {
        return None;
    }
    let dir = tempfile::tempdir().expect("temp dir");
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("bind").local_addr().expect("address");
    let path = dir.path().join("tinyproxy.conf");
    let mut file = std::fs::File::create(&path).expect("config");
    writeln!(
        file,
        "Port {}\nListen 127.0.0.1\nTimeout 30\nMaxClients 20\nLogFile \"{}\"\nLogLevel Info\nPidFile \"{}\"\nBasicAuth ann pr0xy",
        free.port(),
        dir.path().join("log").display(),
        dir.path().join("pid").display()
    )
    .expect("config");
    let child = Command::new("/usr/bin/tinyproxy")
        .args(["-d", "-c"])
        .arg(&path)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("start");
    let started = Tinyproxy(child, free, dir);
    let end = Instant::now() + Duration::from_secs(10);
    while std::net::TcpStream::connect(free).is_err() {
        assert!(Instant::now() < end, "tinyproxy does not start");
        std::thread::sleep(Duration::from_millis(20));
    }
    Some(started)
}

#[tokio::test]
async fn debians_tinyproxy_carries_a_pull_by_http_and_by_tunnel() {
    let Some(proxy) = tinyproxy() else {
        println!("skipped: tinyproxy is not installed");
        return;
    };
    let blob = noise(300_000, 12);
    let content = blob.clone();
    let answer = move |seen: &crate::server::Seen| match seen.path.contains("/blobs/") {
        true => Reply::ranged(seen, &content),
        false => Reply::new(200, "{}"),
    };
    let plain = Server::start(answer.clone()).await;
    let key = rcgen::generate_simple_self_signed(vec!["0.0.0.0".to_owned()]).expect("certificate");
    let private = rustls::pki_types::PrivateKeyDer::try_from(key.signing_key.serialize_der()).expect("key");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![key.cert.der().clone()], private)
        .expect("config");
    let secure = Server::start_tls(Arc::new(config), answer).await;
    let by = |user: &str| {
        let url = format!("http://{user}@{}", proxy.1);
        through(&[("HTTP_PROXY", url.clone()), ("HTTPS_PROXY", url)])
    };
    // By its name 0.0.0.0 is not this machine, so it is reached through the proxy.
    for (scheme, server) in [("http", &plain), ("https", &secure)] {
        let hosts =
            hosts(&format!("server = \"{scheme}://0.0.0.0:{}\"\nskip_verify = true", server.addr.port()));
        let session = open(&by("ann:pr0xy"), &hosts);
        session.manifest("1").await.unwrap_or_else(|e| panic!("{scheme}: {}", types::error::chain(&e)));
        let mut arriving = session.blob_range(&digest(&blob), 100_000, 300_000).await.expect("blob");
        let mut bytes = Vec::new();
        while let Some(part) = arriving.next().await.expect("part") {
            bytes.extend_from_slice(&part);
        }
        assert_eq!(bytes, blob[100_000..]);
        let error = open(&by("ann:wr0ng"), &hosts).manifest("1").await.expect_err("a wrong password");
        let text = types::error::chain(&error);
        // It answers as if it were the registry where it passes requests on.
        assert!(text.contains("401") || text.contains("asks for credentials"), "{text}");
        assert!(!text.contains("wr0ng"), "{text}");
    }
    let log = std::fs::read_to_string(proxy.2.path().join("log")).expect("log");
    assert!(log.contains("CONNECT 0.0.0.0"), "{log}");
}
