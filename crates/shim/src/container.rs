//! One container as the shim knows it: its process, its log and its execs.

use crate::output::{self, Read, Source};
use container::Failure;
use cri_log::Writer;
use rustix::fd::{AsFd, OwnedFd};
use shim_protocol::exits::Exit;
use std::io;
use types::time::now_nanos;

/// signal(7).
pub const SIGKILL: i32 = 9;

/// One more process in the container.
pub struct Exec {
    /// Chosen by the daemon.
    pub id: u64,
    /// On the node.
    pub process: sys::process::Child,
}

/// A container.
pub struct Container {
    pub id: String,
    /// On the node; stays after the end, until the container is forgotten.
    pub pid: i32,
    /// `None` once it ended.
    pub pidfd: Option<OwnedFd>,
    pub log: Option<Writer>,
    /// Standard output, or the terminal's master.
    pub stdout: Option<OwnedFd>,
    pub stderr: Option<OwnedFd>,
    /// Kept open for a container that reads its input.
    pub stdin: Option<OwnedFd>,
    /// A file with an `oom_kill` line.
    pub oom: Option<OwnedFd>,
    pub execs: Vec<Exec>,
    /// Whether it has a PID namespace that an exec has to join.
    pub own_pid_namespace: bool,
}

impl Container {
    /// Its process id while it runs, else 0.
    pub fn running_pid(&self) -> i32 {
        if self.pidfd.is_some() { self.pid } else { 0 }
    }

    /// Signals the first process or an exec; one that ended already is no error.
    pub fn signal(&self, exec: Option<u64>, signal: i32) -> Result<(), Failure> {
        let target = match exec {
            None => self.pidfd.as_ref(),
            Some(id) => self.execs.iter().find(|e| e.id == id).map(|e| &e.process.pidfd),
        };
        let Some(target) = target else { return Ok(()) };
        match sys::signal::send(target.as_fd(), signal) {
            Ok(()) => Ok(()),
            Err(error) if error.raw_os_error() == Some(3) => Ok(()), // ESRCH: it ended
            Err(error) => Err(shim_protocol::system(format!("cannot send signal {signal}: {error}"))),
        }
    }

    /// Takes one chunk of output. Write errors are counted by the log; the container is never held up.
    pub fn read(&mut self, source: Source, buffer: &mut [u8]) -> bool {
        let slot = match source {
            Source::Stdout => &mut self.stdout,
            Source::Stderr => &mut self.stderr,
        };
        let Some(fd) = slot else { return false };
        match output::read(fd, buffer) {
            Read::Empty => false,
            Read::Bytes(count) => {
                if let Some(log) = &mut self.log {
                    let _ = log.append(source.stream(), &buffer[..count], now_nanos());
                }
                true
            }
            Read::End => {
                *slot = None;
                if let Some(log) = &mut self.log {
                    let _ = log.finish(source.stream(), now_nanos());
                }
                false
            }
        }
    }

    /// Takes what is still in the pipes of a process that ended. A descendant outside its PID namespace may
    /// hold them open and keep writing, so this stops after as much as the pipes can have held.
    pub fn drain(&mut self, buffer: &mut [u8]) {
        const PIPE_READS_MAX: usize = 64;
        for source in [Source::Stdout, Source::Stderr] {
            for _ in 0..PIPE_READS_MAX {
                if !self.read(source, buffer) {
                    break;
                }
            }
        }
    }

    /// The first process ended: what the record says of it.
    pub fn ended(&mut self, exit_code: i32, signal: i32) -> Exit {
        self.pidfd = None;
        self.stdin = None;
        let oom_killed = self.killed_for_memory();
        self.oom = None;
        Exit { container: self.id.clone(), exit_code, signal, oom_killed, finished_at: now_nanos() }
    }

    /// Whether the kernel killed a process of it for want of memory.
    pub fn killed_for_memory(&self) -> bool {
        self.oom.as_ref().is_some_and(|file| oom_kills(file).unwrap_or(0) > 0)
    }

    /// Whether `pid` was an exec of this container, which is forgotten then.
    pub fn exec_ended(&mut self, pid: i32) -> Option<u64> {
        let index = self.execs.iter().position(|e| e.process.pid == pid)?;
        Some(self.execs.swap_remove(index).id)
    }
}

/// The number behind `oom_kill` in `memory.events` (v2) or `memory.oom_control` (v1).
fn oom_kills(file: &OwnedFd) -> io::Result<u64> {
    let mut buffer = [0; 512];
    let read = rustix::io::pread(file, &mut buffer, 0)?;
    let text = std::str::from_utf8(&buffer[..read]).unwrap_or_default();
    let number = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
    Ok(number.and_then(|n| n.trim().parse().ok()).unwrap_or(0))
}
