//! Who keeps layers besides the daemon: a containerd, and a thin pool on loop devices.

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use test_support::{Supervised, TempRoot};

/// Debian's containerd, without anything but its snapshots service.
pub struct Containerd {
    // Before the folder.
    _process: Supervised,
    root: TempRoot,
}

impl Containerd {
    /// None where it is not installed, which is said.
    pub fn start() -> Option<Containerd> {
        let program = Path::new("/usr/bin/containerd");
        if !program.exists() {
            println!("skipped: there is no containerd here");
            return None;
        }
        let root = TempRoot::new().expect("a folder");
        let dir = root.path().display();
        let off: Vec<String> = [
            "grpc.v1.cri",
            "snapshotter.v1.devmapper",
            "snapshotter.v1.btrfs",
            "snapshotter.v1.zfs",
            "snapshotter.v1.aufs",
            "internal.v1.tracing",
        ]
        .map(|name| format!("\"io.containerd.{name}\""))
        .to_vec();
        let text = format!(
            "version = 2\nroot = \"{dir}/c\"\nstate = \"{dir}/d\"\ndisabled_plugins = [{}]\n[grpc]\naddress = \"{dir}/s\"\n\
             [ttrpc]\naddress = \"{dir}/s.ttrpc\"\n[plugins.\"io.containerd.internal.v1.opt\"]\npath = \"{dir}/opt\"\n",
            off.join(", ")
        );
        let (config, log) = (root.path().join("config.toml"), root.path().join("log"));
        std::fs::write(&config, text).expect("written");
        let arguments = ["--config".as_ref(), config.as_os_str()];
        let process = Supervised::start(program, &arguments, &log).expect("started");
        let end = Instant::now() + Duration::from_secs(120);
        while UnixStream::connect(root.path().join("s")).is_err() {
            let said = || std::fs::read_to_string(&log).unwrap_or_default();
            assert!(Instant::now() < end, "containerd does not answer: {}", said());
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(Containerd { _process: process, root })
    }

    /// The part of the daemon's configuration that names it.
    pub fn config(&self) -> String {
        let address = self.root.path().join("s");
        format!("[snapshots.proxy]\naddress = {address:?}\nsnapshotter = \"overlayfs\"\n")
    }

    /// Where it keeps what we gave it.
    pub fn snapshots(&self) -> PathBuf {
        self.root.path().join("c/io.containerd.snapshotter.v1.overlayfs/snapshots")
    }
}

/// A thin pool. Its devices go before it.
pub struct Pool {
    name: String,
    loops: Vec<String>,
    _folder: TempRoot,
}

/// How large the file system of a container is.
pub const BASE: u64 = 64 << 20;
const DATA: u64 = 1 << 30;

impl Pool {
    /// None where this kernel has no device-mapper, which is said.
    pub fn new() -> Option<Pool> {
        let there = Path::new("/dev/mapper/control").exists() && run("dmsetup", &["targets"]).is_ok();
        if !there {
            println!("skipped: there is no device-mapper here");
            return None;
        }
        let folder = TempRoot::new().expect("a folder");
        let mut pool =
            Pool { name: format!("e2e-{}", std::process::id()), loops: Vec::new(), _folder: folder };
        for (name, bytes) in [("metadata", 16 << 20), ("data", DATA)] {
            let path = pool._folder.path().join(name);
            std::fs::File::create(&path).and_then(|file| file.set_len(bytes)).expect("a file");
            let path = path.to_str().expect("UTF-8");
            pool.loops.push(run("losetup", &["--find", "--show", path]).expect("a loop device"));
        }
        let (sectors, disks) = (DATA / 512, pool.loops.join(" "));
        let table = format!("0 {sectors} thin-pool {disks} 128 0 1 error_if_no_space");
        run("dmsetup", &["create", &pool.name, "--table", &table]).expect("a thin pool");
        Some(pool)
    }

    /// The part of the daemon's configuration that names it.
    pub fn config(&self) -> String {
        format!("[snapshots.devmapper]\npool = {:?}\nbase_size = \"{BASE}\"\n", self.name)
    }

    /// Devices that are made of it and active.
    pub fn active(&self) -> Vec<String> {
        let prefix = format!("corten-{}-", self.name);
        let names = std::fs::read_dir("/dev/mapper").expect("/dev/mapper").flatten();
        let names = names.map(|entry| entry.file_name().to_string_lossy().into_owned());
        names.filter(|name| name.starts_with(&prefix)).collect()
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // What was mounted in a namespace goes a little after it.
        let mut gone = false;
        for _ in 0..100 {
            for device in self.active() {
                let _ = run("dmsetup", &["remove", &device]);
            }
            gone = run("dmsetup", &["remove", &self.name]).is_ok();
            if gone {
                break;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        if !gone {
            eprintln!("the thin pool {} is left behind", self.name);
        }
        for device in &self.loops {
            let _ = run("losetup", &["--detach", device]);
        }
    }
}

fn run(program: &str, words: &[&str]) -> Result<String, String> {
    let output = Command::new(program).args(words).output().map_err(|error| error.to_string())?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned()),
        false => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
    }
}
