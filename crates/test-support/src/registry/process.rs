//! Debian's docker-registry (distribution 2.8) as a process of a test.
//!
//! Where clients must use TLS or a password, a second process without either fills the same storage, so
//! that pushing needs no client that knows them.

use super::options::{Options, write_config};
use super::push;
use crate::supervised::Supervised;
use crate::{Image, Problem, Result, Tried, http};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Where Debian puts it.
const PROGRAM: &str = "/usr/bin/docker-registry";
/// How often another port is tried after losing one to somebody else.
const ATTEMPTS: usize = 5;
/// How long one start may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// Ends with its storage when dropped, or when the test's process ends in any other way.
#[derive(Debug)]
pub struct Registry {
    front: SocketAddr,
    fill: SocketAddr,
    // Processes end before their storage goes: fields drop in order.
    _processes: Vec<Supervised>,
    dir: tempfile::TempDir,
}

impl Registry {
    /// Whether docker-registry is installed; a test that skips without it says so.
    pub fn available() -> bool {
        Path::new(PROGRAM).is_file()
    }

    /// A registry over plain HTTP that asks for nothing.
    pub fn start() -> Result<Self> {
        Self::start_with(&Options::default())
    }

    /// A registry that asks its clients for what `options` say.
    pub fn start_with(options: &Options) -> Result<Self> {
        if !Self::available() {
            return Err(Problem(format!(
                "{PROGRAM} is not there: install docker-registry (`cargo xtask test` does)"
            )));
        }
        let dir = tempfile::Builder::new()
            .prefix("registry-")
            .tempdir_in("/var/tmp")
            .tried("make a folder for a registry in /var/tmp")?;
        let (process, front) = launch(dir.path(), "front", options)?;
        let mut processes = vec![process];
        let mut fill = front;
        if options.basic_auth || options.tls.is_some() {
            let (process, address) = launch(dir.path(), "fill", &Options::default())?;
            processes.push(process);
            fill = address;
        }
        Ok(Self { front, fill, _processes: processes, dir })
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.front
    }

    /// `127.0.0.1:PORT`, what an image reference begins with.
    pub fn host(&self) -> String {
        self.front.to_string()
    }

    /// `127.0.0.1:PORT/repo:tag`
    pub fn reference(&self, repo: &str, tag: &str) -> String {
        format!("{}/{repo}:{tag}", self.front)
    }

    /// Puts an image under a tag and returns its full reference.
    pub fn push(&self, repo: &str, tag: &str, image: &Image) -> Result<String> {
        push::push(self.fill, repo, tag, image)?;
        Ok(self.reference(repo, tag))
    }

    /// Where the registry keeps its files, for tests that damage them.
    pub fn storage(&self) -> PathBuf {
        self.dir.path().join("storage")
    }
}

/// Starts one process on a free port. A port may be lost between probing and binding: then another.
fn launch(dir: &Path, name: &str, options: &Options) -> Result<(Supervised, SocketAddr)> {
    let mut last = Problem("no port was tried".to_owned());
    for _ in 0..ATTEMPTS {
        let address = free_port()?;
        let mark = unique();
        let config = write_config(dir, &format!("{name}.yml"), address, &mark, options)?;
        let log = dir.join(format!("{name}.log"));
        let process = Supervised::start(Path::new(PROGRAM), &["serve".as_ref(), config.as_os_str()], &log)?;
        match wait_until_ready(address, &mark, options.tls.is_some(), &log) {
            Ok(()) => return Ok((process, address)),
            Err(problem) => last = problem,
        }
    }
    Err(last)
}

fn wait_until_ready(address: SocketAddr, mark: &str, tls: bool, log: &Path) -> Result<()> {
    let end = Instant::now() + PATIENCE;
    loop {
        if tls {
            // Its answers cannot be read here, so a connection has to do.
            if TcpStream::connect(address).is_ok() {
                return Ok(());
            }
        } else if let Ok(answer) = http::get(address, "/v2/")
            && matches!(answer.status, 200 | 401)
            && answer.header("x-test-registry") == Some(mark)
        {
            return Ok(());
        }
        let said = std::fs::read_to_string(log).unwrap_or_default();
        if said.contains("level=fatal") || said.contains("configuration error") || Instant::now() > end {
            return Err(Problem::new(
                format_args!("docker-registry does not serve on {address}"),
                said.trim(),
            ));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The kernel picks a port that nobody has; it is ours only once the registry binds it.
fn free_port() -> Result<SocketAddr> {
    let probe = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).tried("find a free port")?;
    probe.local_addr().tried("read a port")
}

fn unique() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}
