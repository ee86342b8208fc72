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
