//! Starting a shim for a new pod, and finding the shim of a pod that is there already.

use crate::connection::Monitor;
use crate::program::ShimProgram;
use rustix::fd::{AsRawFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect as connect_socket, listen,
    socket_with,
};
use shim_protocol::SOCKET;
use std::io;
use std::path::Path;
use std::process::Stdio;
use tokio::process::{Child, Command};
use types::{Error, ErrorKind, Result};

/// A shim that was started by this daemon.
#[derive(Debug)]
pub struct Spawned {
    /// The connection.
    pub monitor: Monitor,
    /// Its process id.
    pub pid: i32,
}

/// Starts a shim in the pod's state folder, which becomes its working directory.
///
/// The listening socket is made here and inherited, so the first connection needs no waiting: the calls
/// that are sent at once are answered as soon as the shim runs.
pub async fn spawn(program: &ShimProgram, folder: &Path, pod: &str) -> Result<Spawned> {
    let fail = |e: io::Error| {
        Error::with_source(ErrorKind::Internal, format!("cannot start the shim of pod {pod}"), e)
    };
    let (listener, ours) = sockets(folder).map_err(fail)?;
    let log = log_file(folder).map_err(fail)?;
    let mut command = Command::new(program.exec_path());
    command
        .arg0("corten-shim")
        .arg(pod)
        .current_dir(folder)
        .env_clear()
        .stdin(Stdio::from(listener))
        .stdout(Stdio::from(log.try_clone().map_err(fail)?))
        .stderr(Stdio::from(log));
    // posix_spawn (vfork) inside: a few hundred microseconds, whatever the daemon's size.
    let child = command.spawn().map_err(fail)?;
    let pid = child.id().map_or(0, u32::cast_signed);
    reap(child);
    Ok(Spawned { monitor: Monitor::new(ours)?, pid })
}

/// Connects to the shim of a pod that is there already.
///
/// # Errors
/// `NotFound` where no shim answers: it ended.
pub fn connect(folder: &Path) -> Result<Monitor> {
    let dir = open_folder(folder).map_err(|e| {
        Error::with_source(
            ErrorKind::NotFound,
            format!("the pod's state folder {} cannot be opened", folder.display()),
            e,
        )
    })?;
    let socket = client(&dir).map_err(|e| {
        Error::with_source(ErrorKind::NotFound, format!("no shim answers in {}", folder.display()), e)
    })?;
    Monitor::new(socket)
}

fn open_folder(folder: &Path) -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(folder, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

/// A socket address holds 108 bytes (unix(7)); by the folder's descriptor any path fits.
fn address(dir: &OwnedFd) -> io::Result<SocketAddrUnix> {
    Ok(SocketAddrUnix::new(format!("/proc/self/fd/{}/{SOCKET}", dir.as_raw_fd()))?)
}

fn client(dir: &OwnedFd) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    connect_socket(&socket, &address(dir)?)?;
    Ok(socket)
}

/// The shim's listener and our first connection to it.
fn sockets(folder: &Path) -> io::Result<(OwnedFd, OwnedFd)> {
    let dir = open_folder(folder)?;
    let listener = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    bind(&listener, &address(&dir)?)?;
    listen(&listener, 8)?;
    let ours = client(&dir)?;
    Ok((listener, ours))
}

fn log_file(folder: &Path) -> io::Result<std::fs::File> {
    use std::os::unix::fs::OpenOptionsExt;
    std::fs::OpenOptions::new().create(true).append(true).mode(0o600).open(folder.join("shim.log"))
}

/// Waits for the child's end in the background, so that it leaves no zombie. A shim that outlives this daemon
/// is reaped by the machine's init.
fn reap(mut child: Child) {
    tokio::spawn(async move {
        let _ = child.wait().await;
    });
}
