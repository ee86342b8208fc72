//! A node of its own for a test: a thread in a fresh network namespace, with a tokio runtime whose
//! threads are all in it, a state folder, and pods' namespaces pinned to files. Nothing touches the
//! machine's real network. Everything goes away with it.

use corten_network::{Network, NetworkConfig, PodNetwork, netns};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where Debian's containernetworking-plugins installs its binaries.
pub const PLUGINS: &str = "/usr/lib/cni";

pub struct Node {
    pub dir: tempfile::TempDir,
}

/// Runs `test` on a node of its own. Prints that it skips where that needs root and is not.
pub fn on_a_node<F: Future<Output = ()>>(name: &str, test: impl FnOnce(Node) -> F + Send + 'static) {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED {name}: it needs root for network namespaces");
        return;
    }
    let thread = std::thread::Builder::new().name(name.to_owned());
    let body = move || {
        unshare_network();
        up("lo");
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            let dir = tempfile::tempdir().expect("a folder");
            std::fs::create_dir(dir.path().join("net.d")).expect("mkdir");
            std::fs::create_dir(dir.path().join("bin")).expect("mkdir");
            test(Node { dir }).await;
        });
    };
    let outcome = thread.spawn(body).expect("a thread").join();
    if let Err(panic) = outcome {
        std::panic::resume_unwind(panic);
    }
}

#[allow(deprecated)] // CLONE_NEWNET is safe for a thread: it has no memory effects
pub fn unshare_network() {
    rustix::thread::unshare(rustix::thread::UnshareFlags::NEWNET).expect("a network namespace");
}

/// Sets a link of the calling thread's namespace up.
pub fn up(name: &str) {
    let mut socket = corten_network::netlink::Socket::route().expect("a socket");
    let link = socket.link(name).expect("netlink").expect("the link");
    socket.apply(vec![corten_network::netlink::link::set_up(link.index, name)]).expect("up");
}

impl Node {
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn config(&self) -> NetworkConfig {
        NetworkConfig {
            conf_dir: self.path("net.d"),
            bin_dirs: vec![self.path("bin"), PLUGINS.into()],
            state: self.path("state/network"),
            subnet: "10.77.0.0/24".to_owned(),
            plugin_timeout: Duration::from_secs(20),
            ..NetworkConfig::default()
        }
    }

    pub fn network(&self) -> Network {
        Network::open(self.config()).expect("a network")
    }

    pub fn conf(&self, name: &str, conf: &serde_json::Value) {
        std::fs::write(self.path("net.d").join(name), conf.to_string()).expect("write");
    }

    /// A plugin that is a shell script.
    pub fn plugin(&self, name: &str, script: &str) {
        let path = self.path("bin").join(name);
        // Written under another name: a script that is open for writing cannot be executed.
        let draft = self.path("bin").join(format!(".{name}"));
        std::fs::write(&draft, format!("#!/bin/sh\n{script}\n")).expect("write");
        std::fs::set_permissions(&draft, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("chmod");
        std::fs::rename(draft, path).expect("rename");
    }

    /// A pod with a namespace of its own. It lives until [`Pod`] is dropped.
    pub fn pod(&self, name: &str) -> Pod {
        let path = self.path(&format!("netns-{name}"));
        let target = path.clone();
        let pin = move || {
            unshare_network();
            netns::pin(Path::new("/proc/thread-self/ns/net"), &target).expect("pin");
        };
        std::thread::spawn(pin).join().expect("pinned");
        let id = format!("{:x}", fnv(name));
        Pod {
            config: PodNetwork {
                id: id.repeat(64 / id.len() + 1)[..64].to_owned(),
                name: name.to_owned(),
                namespace: "test".to_owned(),
                uid: format!("uid-{name}"),
                netns: path,
                ..PodNetwork::default()
            },
        }
    }

    /// The addresses that host-local's files say are taken, with their owners.
    pub fn taken(&self, folder: &str) -> Vec<(String, String)> {
        let Ok(entries) = std::fs::read_dir(self.path(folder)) else { return Vec::new() };
        let mut taken: Vec<(String, String)> = entries
            .filter_map(|entry| {
                let entry = entry.expect("an entry");
                let name = entry.file_name().to_string_lossy().into_owned();
                name.parse::<std::net::IpAddr>().ok()?;
                let owner = std::fs::read_to_string(entry.path()).expect("read");
                Some((name, owner.split("\r\n").next().unwrap_or_default().to_owned()))
            })
            .collect();
        taken.sort();
        taken
    }
}

fn fnv(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3))
        | 1 << 63
}

/// A namespace that lives as long as this.
pub struct Namespace(pub netns::Netns);

impl Namespace {
    /// Runs `work` inside.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        netns::run_in(&self.0, || Ok::<T, netns::NetnsError>(work())).expect("inside")
    }
}

pub struct Pod {
    pub config: PodNetwork,
}

impl Drop for Pod {
    fn drop(&mut self) {
        netns::unpin(&self.config.netns).expect("unpin");
    }
}

impl Pod {
    /// Runs `work` inside the pod's namespace.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        Namespace(netns::Netns::open(&self.config.netns).expect("open").expect("there")).inside(work)
    }
}

/// What the kernel has in the calling thread's namespace: links, and `nft list ruleset`.
pub fn links() -> Vec<String> {
    let mut names: Vec<String> = corten_network::netlink::Socket::route()
        .and_then(|mut socket| socket.links())
        .expect("links")
        .into_iter()
        .map(|link| link.name)
        .collect();
    names.sort();
    names
}

/// The whole rule set as `nft` shows it; `None` where that is not installed.
pub fn rules() -> Option<String> {
    let output = std::process::Command::new("nft").args(["list", "ruleset"]).output().ok()?;
    assert!(output.status.success(), "nft: {}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}
