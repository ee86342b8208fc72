//! One connection to a shim: calls are matched with their replies by number, events come out on a channel.

use container::plan::ResolvedUser;
use container::{Failure, FailureKind};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use serde::Serialize;
use shim_protocol::exits::Exit;
use shim_protocol::{
    Call, Configure, Event, Exec, Known, MESSAGE_MAX, Message, Reply, Request, Start, VERSION, transport,
};
use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};
use types::{Error, ErrorKind, Result};

/// How long a shim may take for what needs no container's cooperation.
const CALL_LIMIT: Duration = Duration::from_secs(30);
/// How long the launch of a process may take; a mount of a dead server may hang for longer.
const LAUNCH_LIMIT: Duration = Duration::from_secs(120);

/// What a shim tells unasked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MonitorEvent {
    /// A container's first process ended.
    Exited(Exit),
    /// The shim is gone.
    Gone,
}

/// A process that was started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Started {
    /// Its process id on the node.
    pub pid: i32,
    /// Who it runs as.
    pub user: ResolvedUser,
    /// What could not be had and is not vital.
    pub warnings: Vec<String>,
}

/// A connected shim. Cheap to clone; the connection ends with the last clone.
#[derive(Debug, Clone)]
pub struct Monitor(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    socket: Arc<UnixStream>,
    next: AtomicU64,
    waiting: Arc<Mutex<Waiting>>,
    reader: Mutex<Option<mpsc::UnboundedReceiver<MonitorEvent>>>,
    task: tokio::task::JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Waiting {
    replies: HashMap<u64, oneshot::Sender<std::result::Result<Reply, Failure>>>,
    execs: HashMap<(String, u64), oneshot::Sender<i32>>,
    gone: bool,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Monitor {
    /// Takes a connected, non-blocking socket.
    pub(crate) fn new(socket: OwnedFd) -> Result<Self> {
        // tokio has no type for sequenced packets; a stream's readiness is the same, and only `transport`
        // reads and writes here.
        let socket = UnixStream::from_std(std::os::unix::net::UnixStream::from(socket))
            .map_err(|e| Error::with_source(ErrorKind::Internal, "cannot watch the shim's connection", e))?;
        let socket = Arc::new(socket);
        let waiting = Arc::new(Mutex::new(Waiting::default()));
        let (events, reader) = mpsc::unbounded_channel();
        let task = tokio::spawn(read_all(socket.clone(), waiting.clone(), events));
        Ok(Self(Arc::new(Inner {
            socket,
            next: AtomicU64::new(1),
            waiting,
            reader: Mutex::new(Some(reader)),
            task,
        })))
    }

    /// The events; whoever asks first has them.
    pub fn events(&self) -> Option<mpsc::UnboundedReceiver<MonitorEvent>> {
        lock(&self.0.reader).take()
    }

    /// What runs in the pod.
    pub async fn hello(&self) -> Result<(i32, Vec<Known>)> {
        let state = match self.call(Call::Hello { version: VERSION }, &[], CALL_LIMIT).await {
            // A shim of version 1 has all but the last field of a start, and passes over that.
            Err(error) if error.kind() == ErrorKind::InvalidArgument => {
                self.call(Call::Hello { version: 1 }, &[], CALL_LIMIT).await?
            }
            other => other?,
        };
        match state {
            Reply::State { pid, containers, .. } => Ok((pid, containers)),
            other => Err(unexpected(&other)),
        }
    }

    /// Makes the pod's namespaces.
    pub async fn configure(&self, wanted: Configure) -> Result<()> {
        self.done(Call::Configure(wanted), &[], CALL_LIMIT).await
    }

    /// Starts a container; `fds` as [`Call::Start`] says.
    pub async fn start(&self, start: Start, fds: &[BorrowedFd<'_>]) -> Result<Started> {
        started(self.call(Call::Start(start), fds, LAUNCH_LIMIT).await?)
    }

    /// Starts one more process; `fds` as [`Call::Exec`] says. The receiver gets its exit code.
    pub async fn exec(
        &self,
        exec: Exec,
        fds: &[BorrowedFd<'_>],
    ) -> Result<(Started, oneshot::Receiver<i32>)> {
        let (sender, receiver) = oneshot::channel();
        let key = (exec.container.clone(), exec.exec);
        lock(&self.0.waiting).execs.insert(key.clone(), sender);
        let mut expected = Expected { waiting: &self.0.waiting, key: Some(key) };
        let started = started(self.call(Call::Exec(exec), fds, LAUNCH_LIMIT).await?)?;
        // From here on the shim's word of its end takes the entry away.
        expected.key = None;
        Ok((started, receiver))
    }

    /// Sends a signal to a container's first process, or to an exec. One that ended is no error.
    pub async fn signal(&self, container: &str, exec: Option<u64>, signal: i32) -> Result<()> {
        self.done(Call::Signal { container: container.into(), exec, signal }, &[], CALL_LIMIT).await
    }

    /// Opens a container's log anew.
    pub async fn reopen(&self, container: &str) -> Result<()> {
        self.done(Call::Reopen { container: container.into() }, &[], CALL_LIMIT).await
    }

    /// Forgets an ended container.
    pub async fn forget(&self, container: &str) -> Result<()> {
        self.done(Call::Forget { container: container.into() }, &[], CALL_LIMIT).await
    }

    /// Ends the shim.
    pub async fn shutdown(&self) -> Result<()> {
        self.done(Call::Shutdown, &[], CALL_LIMIT).await
    }

    async fn done(&self, call: Call, fds: &[BorrowedFd<'_>], limit: Duration) -> Result<()> {
        match self.call(call, fds, limit).await? {
            Reply::Done => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    async fn call(&self, call: Call, fds: &[BorrowedFd<'_>], limit: Duration) -> Result<Reply> {
        let id = self.0.next.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = oneshot::channel();
        {
            let mut waiting = lock(&self.0.waiting);
            if waiting.gone {
                return Err(gone());
            }
            waiting.replies.insert(id, sender);
        }
        let outcome = tokio::time::timeout(limit, async {
            self.send(&Request { id, call }, fds).await?;
            receiver.await.map_err(|_| gone())
        })
        .await;
        lock(&self.0.waiting).replies.remove(&id);
        match outcome {
            Ok(Ok(Ok(reply))) => Ok(reply),
            Ok(Ok(Err(failure))) => Err(from_failure(failure)),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(Error::new(
                ErrorKind::DeadlineExceeded,
                format!("the pod's shim did not answer within {} s", limit.as_secs()),
            )),
        }
    }

    async fn send<T: Serialize>(&self, message: &T, fds: &[BorrowedFd<'_>]) -> Result<()> {
        let socket = &self.0.socket;
        let sent =
            socket.async_io(Interest::WRITABLE, || transport::send(socket.as_fd(), message, fds)).await;
        sent.map_err(|e| Error::with_source(ErrorKind::Unavailable, "the pod's shim cannot be reached", e))
    }
}

/// An exec whose end is waited for; forgotten where it never came to run, or its caller went away before.
struct Expected<'a> {
    waiting: &'a Mutex<Waiting>,
    key: Option<(String, u64)>,
}

impl Drop for Expected<'_> {
    fn drop(&mut self) {
        if let Some(key) = self.key.take() {
            lock(self.waiting).execs.remove(&key);
        }
    }
}

async fn read_all(
    socket: Arc<UnixStream>,
    waiting: Arc<Mutex<Waiting>>,
    events: mpsc::UnboundedSender<MonitorEvent>,
) {
    loop {
        let received = socket
            .async_io(Interest::READABLE, || {
                let mut buffer = [0; MESSAGE_MAX];
                transport::receive::<Message>(socket.as_fd(), &mut buffer)
            })
            .await;
        match received {
            Ok(Some((Message::Reply { id, result }, _))) => {
                if let Some(sender) = lock(&waiting).replies.remove(&id) {
                    let _ = sender.send(result);
                }
            }
            Ok(Some((Message::Event(Event::Exited(exit)), _))) => {
                let _ = events.send(MonitorEvent::Exited(exit));
            }
            Ok(Some((Message::Event(Event::ExecExited { container, exec, exit_code }), _))) => {
                if let Some(sender) = lock(&waiting).execs.remove(&(container, exec)) {
                    let _ = sender.send(exit_code);
                }
            }
            Ok(None) => break,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => {
                tracing::warn!(%error, "the connection to a shim broke");
                break;
            }
        }
    }
    {
        let mut waiting = lock(&waiting);
        waiting.gone = true;
        waiting.replies.clear();
        waiting.execs.clear();
    }
    let _ = events.send(MonitorEvent::Gone);
}

/// A poisoned lock means a panic elsewhere; the maps behind it are never left half changed.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn started(reply: Reply) -> Result<Started> {
    match reply {
        Reply::Started { pid, user, warnings } => Ok(Started { pid, user, warnings }),
        other => Err(unexpected(&other)),
    }
}

fn gone() -> Error {
    Error::new(ErrorKind::Unavailable, "the pod's shim is gone; stop and remove the pod")
}

fn unexpected(reply: &Reply) -> Error {
    Error::internal(format!("the pod's shim gave an answer of the wrong kind: {reply:?}"))
}

fn from_failure(failure: Failure) -> Error {
    let kind = match failure.kind {
        FailureKind::Request => ErrorKind::InvalidArgument,
        FailureKind::System => ErrorKind::Internal,
    };
    Error::new(kind, failure.message)
}
