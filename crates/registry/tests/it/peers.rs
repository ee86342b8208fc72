//! The same configuration, read by us and by those whose form it is: Debian's containerd for `hosts.toml`, its skopeo
//! (containers/image, which CRI-O is built on) for `registries.conf`. What each asks of which server is compared.

use crate::server::{Reply, Server};
use crate::{timeouts, transport};
use registry::{Proxies, RegistriesConf, Session, Transport};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use types::Reference;

/// Three servers that have nothing.
async fn servers() -> Vec<Server> {
    let mut all = Vec::new();
    for _ in 0..3 {
        all.push(
            Server::start(|seen| match seen.path.trim_end_matches('/') {
                "/v2" => Reply::new(200, "{}"),
                _ => Reply::error(404, "MANIFEST_UNKNOWN", "nothing here"),
            })
            .await,
        );
    }
    all
}

/// `{0}`, `{1}`, `{2}` stand for the servers.
fn filled(text: &str, servers: &[Server]) -> String {
    (0..3).fold(text.to_owned(), |text, n| text.replace(&format!("{{{n}}}"), &servers[n].addr.to_string()))
}

/// Which manifests each server was asked for since `from`, in order of the servers; nobody asks two at once.
fn asked(servers: &[Server], from: &[usize]) -> Vec<Vec<String>> {
    let paths = |(server, from): (&Server, &usize)| {
        let mut paths: Vec<String> = server.seen()[*from..]
            .iter()
            .filter(|seen| seen.path.contains("/manifests/"))
            .map(|seen| seen.path.split('?').next().unwrap_or_default().to_owned())
            .collect();
        paths.dedup();
        paths
    };
    servers.iter().zip(from).map(paths).collect()
}

fn counts(servers: &[Server]) -> Vec<usize> {
    servers.iter().map(|server| server.seen().len()).collect()
}

async fn ours(session: types::Result<Session>, target: &str) -> bool {
    match session {
        Ok(session) => session.manifest(target).await.is_ok(),
        Err(_) => false,
    }
}

async fn run(program: &str, args: &[&str]) {
    let output =
        tokio::process::Command::new(program).args(args).stdin(Stdio::null()).kill_on_drop(true).output();
    tokio::time::timeout(Duration::from_secs(30), output).await.expect("in time").expect(program);
}

#[tokio::test(flavor = "multi_thread")]
async fn skopeo_asks_the_same_servers_by_the_same_registries_conf() {
    if !Path::new("/usr/bin/skopeo").is_file() {
        println!("skipped: skopeo is not installed");
        return;
    }
    let dir = tempfile::tempdir().expect("temp dir");
    let conf = dir.path().join("registries.conf");
    let by_digest = format!("a.example/team/app@sha256:{}", "ab".repeat(32));
    let mirrors = "[[registry.mirror]]\nlocation = \"{1}/m\"\ninsecure = true\n[[registry.mirror]]\nlocation = \"{2}\"\ninsecure = true\n";
    let home = "location = \"{0}/moved\"\ninsecure = true\n";
    for (name, text) in [
        ("a.example/team/app:1", format!("[[registry]]\nprefix = \"a.example/team\"\n{home}{mirrors}")),
        (
            "a.example/team/app:1",
            format!(
                "[[registry]]\nprefix = \"a.example\"\n{home}[[registry]]\nprefix = \"a.example/team\"\nlocation = \"{{1}}/x\"\ninsecure = true"
            ),
        ),
        (
            "a.example/team/app:1",
            format!(
                "[[registry]]\nprefix = \"a.example/team\"\nmirror-by-digest-only = true\n{home}{mirrors}"
            ),
        ),
        (
            &by_digest,
            format!(
                "[[registry]]\nprefix = \"a.example/team\"\nmirror-by-digest-only = true\n{home}{mirrors}"
            ),
        ),
        (
            "a.example/team/app:1",
            format!(
                "[[registry]]\nprefix = \"a.example\"\n{home}{}",
                mirrors.replacen("insecure", "pull-from-mirror = \"digest-only\"\ninsecure", 1)
            ),
        ),
        (
            &by_digest,
            format!(
                "[[registry]]\nprefix = \"a.example\"\n{home}{}",
                mirrors.replacen("insecure", "pull-from-mirror = \"tag-only\"\ninsecure", 1)
            ),
        ),
        ("deep.a.example/team/app:1", format!("[[registry]]\nprefix = \"*.a.example\"\n{home}{mirrors}")),
        (
            "deep.a.example/team/app:1",
            format!(
                "[[registry]]\nprefix = \"*.example\"\nlocation = \"{{2}}\"\ninsecure = true\n[[registry]]\nprefix = \"*.a.example\"\n{home}"
            ),
        ),
        (
            "a.example/team/app:1",
            format!("[[registry]]\nprefix = \"a.example/team/app\"\nblocked = true\n{home}{mirrors}"),
        ),
        ("{2}/app:1", "[[registry]]\nlocation = \"{2}\"\ninsecure = true\n".to_owned()),
    ] {
        let servers = servers().await;
        let (text, name) = (filled(&text, &servers), filled(name, &servers));
        std::fs::write(&conf, &text).expect("write");
        let start = counts(&servers);
        let source = format!("docker://{name}");
        let file = conf.display().to_string();
        run("skopeo", &["--registries-conf", &file, "inspect", "--raw", "--no-creds", &source]).await;
        let theirs = asked(&servers, &start);
        let start = counts(&servers);
        let transport = Transport::new(timeouts()).proxies(Proxies::default());
        let transport = Arc::new(transport.registries_conf(Some(Arc::new(RegistriesConf::new(&conf)))));
        let reference = Reference::parse(&name).expect("reference");
        let target = reference.digest().map_or("1".to_owned(), ToString::to_string);
        ours(Session::open(transport, None, &reference, None), &target).await;
        assert_eq!(asked(&servers, &start), theirs, "{name}\n{text}");
        let blocked = text.contains("blocked");
        assert_eq!(theirs.iter().all(Vec::is_empty), blocked, "{name}\n{text}\n{theirs:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn skopeo_takes_version_1_of_registries_conf_for_the_same() {
    if !Path::new("/usr/bin/skopeo").is_file() {
        println!("skipped: skopeo is not installed");
        return;
    }
    let dir = tempfile::tempdir().expect("temp dir");
    let conf = dir.path().join("registries.conf");
    let file = conf.display().to_string();
    for (text, refused) in [
        ("[registries.insecure]\nregistries = [\"{0}\"]", false),
        (
            "[registries.insecure]\nregistries = [\"{0}/\", \"{1}\"]\n[registries.block]\nregistries = [\"{1}\"]",
            false,
        ),
        ("[registries.insecure]\nregistries = [\"{0}\"]\n[registries.block]\nregistries = [\"{0}\"]", true),
        (
            "[registries.insecure]\nregistries = [\"{0}\"]\n[registries.block]\nregistries = [\"{0}/team/app\"]",
            true,
        ),
        (
            "[registries.insecure]\nregistries = [\"{0}\"]\n[registries.block]\nregistries = [\"{0}/team/ap\"]",
            false,
        ),
        (
            "[registries.search]\nregistries = [\"a.example\"]\n[registries.insecure]\nregistries = [\"{0}\"]",
            false,
        ),
        ("[registries.search]\n[[registry]]\nlocation = \"{0}\"\ninsecure = true", false),
        ("[registries.search]\nregistries = []\n[[registry]]\nlocation = \"{0}\"\ninsecure = true", false),
        ("unqualified-search-registries = []\n[registries.insecure]\nregistries = [\"{0}\"]", false),
        (
            "unqualified-search-registries = [\"a.example\"]\n[registries.insecure]\nregistries = [\"{0}\"]",
            true,
        ),
        ("short-name-mode = \"permissive\"\n[registries.insecure]\nregistries = [\"{0}\"]", true),
        ("credential-helpers = []\n[registries.insecure]\nregistries = [\"{0}\"]", false),
        ("credential-helpers = [\"pass\"]\n[registries.insecure]\nregistries = [\"{0}\"]", true),
        ("[aliases]\nx = \"a.example/x\"\n[registries.insecure]\nregistries = [\"{0}\"]", true),
        ("[registries.block]\nregistries = [\"\"]\n[registries.insecure]\nregistries = [\"{0}\"]", true),
        (
            "[registries.block]\nregistries = [\"https://a.example\"]\n[registries.insecure]\nregistries = [\"{0}\"]",
            true,
        ),
        ("[registries.insecure]\nregistries = \"{0}\"", true),
    ] {
        let servers = servers().await;
        // By its name 0.0.0.0 is not this machine, so that plain HTTP has to be allowed.
        let here = servers[0].addr.to_string().replace("127.0.0.1", "0.0.0.0");
        let text = filled(&text.replace("{0}", &here), &servers);
        std::fs::write(&conf, &text).expect("write");
        let start = counts(&servers);
        let source = format!("docker://{here}/team/app:1");
        run("skopeo", &["--registries-conf", &file, "inspect", "--raw", "--no-creds", &source]).await;
        let theirs = asked(&servers, &start);
        let start = counts(&servers);
        let transport = Transport::new(timeouts()).proxies(Proxies::default());
        let transport = Arc::new(transport.registries_conf(Some(Arc::new(RegistriesConf::new(&conf)))));
        let reference = Reference::parse(&format!("{here}/team/app:1")).expect("reference");
        ours(Session::open(transport, None, &reference, None), "1").await;
        assert_eq!(asked(&servers, &start), theirs, "{text}");
        assert_eq!(theirs.iter().all(Vec::is_empty), refused, "{text}\n{theirs:?}");
    }
}

struct Containerd(Child);

impl Drop for Containerd {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A containerd that has nothing but a content store, in a folder of the test's.
fn containerd(dir: &Path) -> Containerd {
    let config = dir.join("config.toml");
    let show = |name: &str| dir.join(name).display().to_string();
    let text = format!(
        "version = 2\nroot = {:?}\nstate = {:?}\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\", \"io.containerd.internal.v1.opt\", \"io.containerd.snapshotter.v1.btrfs\", \"io.containerd.snapshotter.v1.zfs\", \"io.containerd.snapshotter.v1.aufs\", \"io.containerd.snapshotter.v1.devmapper\"]\n[grpc]\naddress = {:?}\n[ttrpc]\naddress = {:?}\n[debug]\nlevel = \"error\"\n",
        show("root"),
        show("state"),
        show("sock"),
        show("sock.ttrpc")
    );
    std::fs::write(&config, text).expect("write");
    let child = Command::new("/usr/bin/containerd")
        .arg("--config")
        .arg(&config)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("start");
    let started = Containerd(child);
    let end = Instant::now() + Duration::from_secs(30);
    while std::os::unix::net::UnixStream::connect(dir.join("sock")).is_err() {
        assert!(Instant::now() < end, "containerd does not start");
        std::thread::sleep(Duration::from_millis(50));
    }
    started
}

#[tokio::test(flavor = "multi_thread")]
async fn containerd_asks_the_same_servers_by_the_same_hosts_toml() {
    if !Path::new("/usr/bin/containerd").is_file() || !Path::new("/usr/bin/ctr").is_file() {
        println!("skipped: containerd is not installed");
        return;
    }
    let dir = tempfile::tempdir().expect("temp dir");
    let _containerd = containerd(dir.path());
    for (folder, text) in [
        ("r.example", "server = \"http://{0}\"\n[host.\"http://{2}\"]\n[host.\"http://{1}\"]\n"),
        (
            "r.example",
            "server = \"http://{0}/own/path\"\n[host.\"http://{1}/mirror\"]\n[host.\"http://{2}/a/v2\"]\n",
        ),
        (
            "r.example",
            "server = \"http://{0}\"\n[host.\"http://{1}/mirror\"]\noverride_path = true\n[host.\"http://{2}/\"]\n",
        ),
        (
            "r.example",
            "server = \"http://{0}\"\n[host.\"http://{1}\"]\ncapabilities = [\"pull\"]\n[host.\"http://{2}\"]\ncapabilities = [\"resolve\", \"push\"]\n",
        ),
        (
            "r.example",
            "server = \"http://{0}\"\ncapabilities = [\"PULL\", \"push\"]\n[host.\"http://{1}\"]\ncapabilities = []\n",
        ),
        ("r.example", "server = \"http://{0}\"\n[host.\"http://{1}/a//b/../c/\"]\nskip_verify = true\n"),
        (
            "_default",
            "server = \"http://{0}\"\n[host.\"http://{2}\"]\n[host.\"http://{2}\".header]\nx-marker = [\"1\", \"2\"]\n",
        ),
    ] {
        let (servers, hosts) = (servers().await, tempfile::tempdir().expect("temp dir"));
        let text = filled(text, &servers);
        std::fs::create_dir(hosts.path().join(folder)).expect("folder");
        std::fs::write(hosts.path().join(folder).join("hosts.toml"), &text).expect("write");
        let start = counts(&servers);
        let (socket, tree) =
            (dir.path().join("sock").display().to_string(), hosts.path().display().to_string());
        run("ctr", &["--address", &socket, "images", "pull", "--hosts-dir", &tree, "r.example/team/app:1"])
            .await;
        let theirs = asked(&servers, &start);
        assert!(theirs.iter().any(|paths| !paths.is_empty()), "containerd asked nobody\n{text}");
        let start = counts(&servers);
        let reference = Reference::parse("r.example/team/app:1").expect("reference");
        ours(Session::open(transport(), Some(hosts.path().to_owned()), &reference, None), "1").await;
        assert_eq!(asked(&servers, &start), theirs, "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn containerd_pushes_to_the_same_server_by_the_same_hosts_toml() {
    if !Path::new("/usr/bin/containerd").is_file() || !Path::new("/usr/bin/ctr").is_file() {
        println!("skipped: containerd is not installed");
        return;
    }
    let dir = tempfile::tempdir().expect("temp dir");
    let _containerd = containerd(dir.path());
    let socket = dir.path().join("sock").display().to_string();
    let image = test_support::Image::builder().layer(test_support::image::Layer::new().file("f", 0o644, "x"));
    let source =
        test_support::registry::serve_oci(&[("app", "1", &image.build().expect("image"))]).expect("registry");
    let source = source.reference("app", "1");
    run("ctr", &["--address", &socket, "content", "fetch", "--plain-http", &source]).await;
    let mut some = 0;
    for text in [
        "server = \"http://{0}\"\n[host.\"http://{2}\"]\n[host.\"http://{1}\"]\n",
        "server = \"http://{0}\"\n[host.\"http://{1}\"]\ncapabilities = [\"pull\", \"resolve\"]\n",
        "server = \"http://{0}\"\n[host.\"http://{1}\"]\ncapabilities = [\"pull\"]\n[host.\"http://{2}\"]\ncapabilities = [\"push\"]\n",
        "server = \"http://{0}\"\n[host.\"http://{1}\"]\ncapabilities = []\n",
        "server = \"http://{0}\"\ncapabilities = [\"pull\"]\n[host.\"http://{1}\"]\ncapabilities = [\"resolve\"]\n",
        "server = \"http://{0}\"\n[host.\"http://{1}/mirror\"]\n",
    ] {
        let (servers, hosts) = (servers().await, tempfile::tempdir().expect("temp dir"));
        let text = filled(text, &servers);
        std::fs::create_dir(hosts.path().join("r.example")).expect("folder");
        std::fs::write(hosts.path().join("r.example/hosts.toml"), &text).expect("write");
        let tree = hosts.path().display().to_string();
        let start = counts(&servers);
        let target = "r.example/team/app:1";
        run("ctr", &["--address", &socket, "images", "push", "--hosts-dir", &tree, target, &source]).await;
        let theirs = asked_for_blobs(&servers, &start);
        let start = counts(&servers);
        let reference = Reference::parse(target).expect("reference");
        if let Ok(session) = Session::open_push(transport(), Some(hosts.path().to_owned()), &reference, None)
        {
            let blob = bytes::Bytes::from_static(b"x");
            let digest = crate::server::digest(&blob);
            assert!(!session.blob_exists(&digest).await.expect("asked"));
            let pushed = session.push_blob(&digest, 1, &crate::source(blob), &|_| ()).await;
            pushed.expect_err("there is no upload");
        }
        assert_eq!(asked_for_blobs(&servers, &start), theirs, "{text}");
        some += usize::from(theirs.iter().any(Option::is_some));
    }
    assert_eq!(some, 5, "containerd pushed nowhere");
}

/// Below which path each server was asked to begin an upload, or for a blob.
fn asked_for_blobs(servers: &[Server], from: &[usize]) -> Vec<Option<String>> {
    let path = |(server, from): (&Server, &usize)| {
        let seen = server.seen().into_iter().skip(*from).find(|seen| seen.path.contains("/blobs/"))?;
        seen.path.split("/blobs/").next().map(str::to_owned)
    };
    servers.iter().zip(from).map(path).collect()
}
