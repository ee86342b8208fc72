//! The listener of a seccomp filter: taken out of the container's process and sent to whoever is to answer for its
//! system calls (OCI config-linux.md, "Seccomp" and "The Container Process State"). Answers for nothing itself.

use crate::launch;
use crate::log::Log;
use crate::socket::Socket;
use ::container::report::{Receiver, Report};
use oci_spec::runtime::{SECCOMP_FD_NAME, Spec};
use rustix::fd::{AsFd, AsRawFd, OwnedFd};
use rustix::io::Errno;
use rustix::process::{PidfdGetfdFlags, pidfd_getfd};
use std::time::{Duration, Instant};
use sys::process::Child;
use types::{Error, ErrorKind, Result};

/// How long a child may take from its word to the loaded filter.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where a listener goes to, connected before anything is made.
#[derive(Debug)]
pub struct Agent {
    socket: Socket,
    metadata: String,
}

impl Agent {
    /// The one that a specification names, for a filter that `listens`.
    pub fn of(spec: &Spec, listens: bool) -> Result<Option<Self>> {
        let seccomp = spec.linux().as_ref().and_then(|linux| linux.seccomp().as_ref());
        let Some(seccomp) = seccomp.filter(|_| listens) else { return Ok(None) };
        let path = seccomp.listener_path().as_ref().ok_or_else(|| {
            Error::invalid(
                "linux.seccomp has the action SCMP_ACT_NOTIFY and no listenerPath: nobody would answer",
            )
        })?;
        let metadata = seccomp.listener_metadata().clone().unwrap_or_default();
        Ok(Some(Self { socket: Socket::connect(path, "seccomp listener")?, metadata }))
    }

    /// Waits until the child has loaded its filter, and sends the listener with the state of the container.
    pub fn serve(
        &self,
        child: &Child,
        report: &Receiver,
        state: &serde_json::Value,
        log: &Log,
    ) -> Result<()> {
        let listener = take(child, report, log)?;
        let message = serde_json::json!({
            "ociVersion": state["ociVersion"],
            "fds": [SECCOMP_FD_NAME],
            "pid": child.pid,
            "metadata": self.metadata,
            "state": state,
        });
        self.socket.send(listener.as_fd(), message.to_string().as_bytes())
    }
}

fn take(child: &Child, report: &Receiver, log: &Log) -> Result<OwnedFd> {
    let number = loop {
        match report.receive().map_err(launch::error)? {
            Some((Report::Listener(number), _)) => break number,
            Some((Report::Ready(_) | Report::Mounted, _)) => {}
            Some((Report::Warning(warning), _)) => log.warn(&warning),
            Some((Report::Failed(failure), _)) => return Err(launch::error(failure)),
            None => return Err(Error::internal("the container's process ended before it loaded its filter")),
        }
    };
    let start = Instant::now();
    loop {
        // It loads it now: the number means nothing before, and the child cannot tell us after.
        match pidfd_getfd(&child.pidfd, number, PidfdGetfdFlags::empty()) {
            Ok(fd) if is_listener(&fd) => return Ok(fd),
            Ok(_) | Err(Errno::BADF) => {}
            Err(errno) => {
                return Err(Error::with_source(
                    ErrorKind::Internal,
                    "cannot take the seccomp listener out of the container's process",
                    std::io::Error::from(errno),
                ));
            }
        }
        if let Some(said) = report.try_receive().map_err(launch::error)? {
            match said {
                Some((Report::Failed(failure), _)) => return Err(launch::error(failure)),
                Some(_) => {}
                None => {
                    return Err(Error::internal("the container's process ended while it loaded its filter"));
                }
            }
        }
        if start.elapsed() > PATIENCE {
            return Err(Error::new(
                ErrorKind::DeadlineExceeded,
                format!("the container's process did not load its filter in {} s", PATIENCE.as_secs()),
            ));
        }
        std::thread::sleep(Duration::from_micros(200));
    }
}

/// The kernel names it (kernel/seccomp.c, `init_listener`).
fn is_listener(fd: &OwnedFd) -> bool {
    std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd()))
        .is_ok_and(|name| name.as_os_str() == "anon_inode:seccomp notify")
}
