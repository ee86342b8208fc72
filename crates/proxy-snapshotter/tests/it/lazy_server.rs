//! The stargz snapshotter of Debian's Go packages as a process, and its converter of layers. Tests of the whole
//! daemon have this file, too.

use std::fs::File;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use test_support::Supervised;
use test_support::image::Blob;

/// Builds the program beside this file, once for all tests and runs; `None`, said, where Go or its packages are missing.
pub fn program() -> Option<PathBuf> {
    const SOURCE: &str = include_str!("stargz.go");
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    if !folder.is_dir() {
        println!("SKIPPED: the stargz snapshotter is built and run only where the tests are built");
        return None;
    }
    let lock = File::create(folder.join("stargz.lock")).expect("a lock");
    lock.lock().expect("locked");
    let (program, built_from) = (folder.join("stargz"), folder.join("stargz-built-from.go"));
    if program.exists() && std::fs::read_to_string(&built_from).is_ok_and(|text| text == SOURCE) {
        return Some(program);
    }
    if !Path::new("/usr/share/gocode/src/github.com/containerd/stargz-snapshotter").exists() {
        println!("SKIPPED: Debian's Go packages of the stargz snapshotter are not installed");
        return None;
    }
    let (new, source) = (folder.join("stargz.new"), folder.join("stargz-new.go"));
    std::fs::write(&source, SOURCE).expect("write");
    let built = Command::new("go")
        .args(["build", "-o"])
        .args([&new, &source])
        .env("GOPATH", "/usr/share/gocode")
        .env("GO111MODULE", "off")
        .env("GOCACHE", folder.join("go"))
        .output()
        .expect("go");
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    std::fs::rename(&new, &program).expect("rename");
    std::fs::rename(&source, &built_from).expect("rename");
    Some(program)
}

/// A running snapshotter, and all that it keeps.
pub struct Server {
    folder: PathBuf,
    process: Option<Supervised>,
}

impl Server {
    /// Starts it in a folder that is there.
    pub fn start(program: &Path, folder: &Path) -> Server {
        let (root, socket, log) = (folder.join("r"), folder.join("s"), folder.join("log"));
        let arguments = ["serve".as_ref(), root.as_os_str(), socket.as_os_str()];
        let process = Supervised::start(program, &arguments, &log).expect("start");
        let server = Server { folder: folder.to_owned(), process: Some(process) };
        let end = Instant::now() + Duration::from_secs(60);
        while UnixStream::connect(server.socket()).is_err() {
            assert!(Instant::now() < end, "stargz does not answer: {}", server.log());
            std::thread::sleep(Duration::from_millis(20));
        }
        server
    }

    /// Where it answers.
    pub fn socket(&self) -> PathBuf {
        self.folder.join("s")
    }

    /// What it said.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// Bytes of what it fetched.
    #[allow(dead_code)]
    pub fn fetched(&self) -> u64 {
        let du = Command::new("du")
            .args(["-s", "-x", "--block-size=1"])
            .arg(self.folder.join("r/stargz"))
            .output();
        let du = String::from_utf8(du.expect("du").stdout).expect("UTF-8");
        du.split_whitespace().next().and_then(|bytes| bytes.parse().ok()).unwrap_or_default()
    }

    /// The places of its file systems.
    pub fn mounts(&self) -> Vec<String> {
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let ours = self.folder.to_string_lossy().into_owned();
        let places = mounts.lines().filter_map(|line| line.split(' ').nth(1));
        places.filter(|place| place.starts_with(&ours)).map(str::to_owned).collect()
    }

    /// Ends it as a crash does, and leaves its folder.
    #[allow(dead_code)]
    pub fn vanish(&mut self) {
        if let Some(process) = self.process.take() {
            let _ = process.end();
            let _ = std::fs::remove_file(self.socket());
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.process.take());
        // Its file systems outlive it.
        for place in self.mounts() {
            let _ = rustix::mount::unmount(place, rustix::mount::UnmountFlags::DETACH);
        }
    }
}

/// A layer of stargz's form.
pub struct Converted {
    pub blob: Blob,
    /// The digest of its table of contents, which is known by [`Converted::ANNOTATION`].
    pub toc: String,
    /// The digest of what it unpacks to.
    #[allow(dead_code)]
    pub diff_id: String,
}

impl Converted {
    pub const ANNOTATION: &'static str = "containerd.io/snapshot/stargz/toc.digest";

    /// Makes one of an archive, with files in a folder.
    pub fn new(program: &Path, folder: &Path, archive: &[u8]) -> Converted {
        let (from, to) = (folder.join("from"), folder.join("to"));
        std::fs::write(&from, archive).expect("write");
        let output = Command::new(program).arg("convert").args([&from, &to]).output().expect("convert");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let words = String::from_utf8(output.stdout).expect("UTF-8");
        let mut words = words.split_whitespace().map(str::to_owned);
        let (toc, diff_id) = (words.next().expect("a digest"), words.next().expect("another"));
        let data = std::fs::read(&to).expect("read");
        Converted { blob: Blob::new("application/vnd.oci.image.layer.v1.tar+gzip", data), toc, diff_id }
    }
}

/// Bytes that do not compress.
pub fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 0x1234_5678_9abc_def1_u64;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    })
    .take(bytes)
    .collect()
}
