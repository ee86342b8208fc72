//! The event loop and what belongs to the pod as a whole.
//!
//! ```text
//!  listener ─ accept ─▶ peer ─ request ─▶ launch ─ report ─▶ container ─ SIGCHLD ─▶ exit record, event
//!                                                            └ stdout, stderr ─▶ log
//! ```

use crate::container::Container;
use crate::launch::Launch;
use crate::output::Source;
use crate::peers::Peers;
use crate::{configure, output, pause};
use ::container::Failure;
use rustix::event::epoll;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::process::{WaitOptions, wait};
use shim_protocol::exits::Exit;
use shim_protocol::{Call, Event, Known, Message, Reply, Request, VERSION};
use std::io;

/// What an epoll event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Token {
    /// A new connection.
    Listener,
    /// A child ended.
    Children,
    /// A connected daemon.
    Peer(u32),
    /// A container's stdout (or terminal).
    Stdout(u32),
    /// A container's stderr.
    Stderr(u32),
    /// A launching child's report.
    Report(u32),
}

impl Token {
    fn encode(self) -> u64 {
        let (kind, index) = match self {
            Self::Listener => (0, 0),
            Self::Children => (1, 0),
            Self::Peer(i) => (2, i),
            Self::Stdout(i) => (3, i),
            Self::Stderr(i) => (4, i),
            Self::Report(i) => (5, i),
        };
        kind << 32 | u64::from(index)
    }

    fn decode(data: u64) -> Option<Self> {
        let index = data as u32;
        Some(match data >> 32 {
            0 => Self::Listener,
            1 => Self::Children,
            2 => Self::Peer(index),
            3 => Self::Stdout(index),
            4 => Self::Stderr(index),
            5 => Self::Report(index),
            _ => return None,
        })
    }
}

/// The pod.
pub struct Supervisor {
    epoll: OwnedFd,
    /// The pod's state folder: the working directory that the daemon started the shim in.
    pub folder: OwnedFd,
    pub peers: Peers,
    pub containers: Vec<Option<Container>>,
    pub launches: Vec<Option<Launch>>,
    configured: bool,
    /// The process that holds a shared PID namespace.
    pub pause: Option<sys::process::Child>,
    buffer: Box<[u8]>,
    ended: bool,
}

/// Serves until the daemon says shutdown, or goes away before it configured anything.
pub fn run() -> io::Result<()> {
    // Nothing in a container may trace a child that has joined it and still holds our descriptors
    // (CVE-2016-9962).
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)?;
    let _ = rustix::thread::set_name(c"corten-shim");
    let _ = rustix::process::setsid();
    rustix::process::umask(Mode::from_raw_mode(0o022));
    // Orphans of containers without a PID namespace come here, to be reaped.
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    sys::signal::block_all()?;
    let children = sys::signal::child_exits()?;
    let listener = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?;
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    sys::process::set_stdio(null.as_fd(), shim_protocol::LISTENER)?;
    let folder = rustix::fs::open(".", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let mut supervisor = Supervisor {
        epoll,
        folder,
        peers: Peers::default(),
        containers: Vec::new(),
        launches: Vec::new(),
        configured: false,
        pause: None,
        buffer: vec![0; output::CHUNK].into_boxed_slice(),
        ended: false,
    };
    supervisor.watch(listener.as_fd(), Token::Listener)?;
    supervisor.watch(children.as_fd(), Token::Children)?;
    let mut events =
        [epoll::Event { flags: epoll::EventFlags::empty(), data: epoll::EventData::new_u64(0) }; 16];
    while !supervisor.ended {
        let ready = match epoll::wait(&supervisor.epoll, &mut events[..], None) {
            Ok(ready) => ready,
            Err(rustix::io::Errno::INTR) => continue,
            Err(errno) => return Err(errno.into()),
        };
        for event in &events[..ready] {
            match Token::decode(event.data.u64()) {
                Some(Token::Listener) => supervisor.accept(&listener),
                Some(Token::Children) => supervisor.reap(&children),
                Some(Token::Peer(peer)) => supervisor.serve(peer),
                Some(Token::Stdout(index)) => supervisor.read(index, Source::Stdout),
                Some(Token::Stderr(index)) => supervisor.read(index, Source::Stderr),
                Some(Token::Report(index)) => supervisor.report(index),
                None => {}
            }
        }
    }
    Ok(())
}

impl Supervisor {
    /// Watches a descriptor for reading; closing it ends the watch.
    pub fn watch(&self, fd: BorrowedFd<'_>, token: Token) -> io::Result<()> {
        epoll::add(&self.epoll, fd, epoll::EventData::new_u64(token.encode()), epoll::EventFlags::IN)?;
        Ok(())
    }

    fn accept(&mut self, listener: &OwnedFd) {
        use rustix::net::{SocketFlags, accept_with};
        // The listener blocks, so exactly one connection is taken per event; the event comes again for more.
        if let Ok(socket) = accept_with(listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
            let index = self.peers.free();
            if self.watch(socket.as_fd(), Token::Peer(index)).is_ok() {
                self.peers.add(index, socket);
            }
        }
    }

    fn serve(&mut self, peer: u32) {
        match self.peers.receive(peer) {
            Ok(Some((request, fds))) => self.call(peer, request, fds),
            Ok(None) => {}
            Err(gone) => {
                if let Some(error) = gone {
                    eprintln!("corten-shim: a connection is closed: {error}");
                }
                self.peers.remove(peer);
                // A daemon that died before it configured the pod recorded nothing that needs us.
                self.ended |= !self.configured && self.peers.is_empty();
            }
        }
    }

    fn call(&mut self, peer: u32, request: Request, fds: Vec<OwnedFd>) {
        let id = request.id;
        let result = match request.call {
            Call::Hello { version } => self.hello(version),
            Call::Configure(wanted) => self.configure(&wanted),
            Call::Start(start) => match self.start(peer, id, start, fds) {
                Ok(()) => return,
                Err(failure) => Err(failure),
            },
            Call::Exec(exec) => match self.exec(peer, id, exec, fds) {
                Ok(()) => return,
                Err(failure) => Err(failure),
            },
            Call::Signal { container, exec, signal } => self.signal(&container, exec, signal),
            Call::Reopen { container } => self.reopen(&container),
            Call::Forget { container } => self.forget(&container),
            Call::Shutdown => self.shutdown(),
        };
        self.peers.send(peer, &Message::Reply { id, result });
    }

    fn hello(&self, version: u32) -> Result<Reply, Failure> {
        if version != VERSION {
            return Err(shim_protocol::request(format!(
                "the daemon speaks version {version} of the shim's protocol, this shim {VERSION}; stop the pod, and let it be made anew"
            )));
        }
        let known = |c: &Container| Known { container: c.id.clone(), pid: c.running_pid() };
        Ok(Reply::State {
            version: VERSION,
            pid: rustix::process::getpid().as_raw_nonzero().get(),
            containers: self.containers.iter().flatten().map(known).collect(),
        })
    }

    fn configure(&mut self, wanted: &shim_protocol::Configure) -> Result<Reply, Failure> {
        if self.configured {
            return Err(shim_protocol::request("the pod is configured already"));
        }
        configure::apply(wanted)?;
        if wanted.share_pid {
            self.pause = Some(pause::start()?);
        }
        self.configured = true;
        Ok(Reply::Done)
    }

    fn signal(&mut self, container: &str, exec: Option<u64>, signal: i32) -> Result<Reply, Failure> {
        let (_, container) = self.find(container)?;
        container.signal(exec, signal)?;
        Ok(Reply::Done)
    }

    fn reopen(&mut self, container: &str) -> Result<Reply, Failure> {
        let (_, container) = self.find(container)?;
        if let Some(log) = &mut container.log {
            log.reopen().map_err(|e| shim_protocol::system(format!("cannot reopen the log: {e}")))?;
        }
        Ok(Reply::Done)
    }

    fn forget(&mut self, id: &str) -> Result<Reply, Failure> {
        let Ok((index, container)) = self.find(id) else { return Ok(Reply::Done) };
        if container.running_pid() != 0 {
            return Err(shim_protocol::request(format!("container {id} still runs")));
        }
        self.containers[index as usize] = None;
        sys::memory::trim_heap();
        Ok(Reply::Done)
    }

    fn shutdown(&mut self) -> Result<Reply, Failure> {
        if let Some(running) = self.containers.iter().flatten().find(|c| c.running_pid() != 0) {
            return Err(shim_protocol::request(format!("container {} still runs", running.id)));
        }
        self.ended = true;
        Ok(Reply::Done)
    }

    /// The container of that id and its index.
    pub fn find(&mut self, id: &str) -> Result<(u32, &mut Container), Failure> {
        self.containers
            .iter_mut()
            .enumerate()
            .find_map(|(index, slot)| slot.as_mut().filter(|c| c.id == id).map(|c| (index as u32, c)))
            .ok_or_else(|| shim_protocol::request(format!("container {id} is not known to this pod's shim")))
    }

    fn read(&mut self, index: u32, source: Source) {
        if let Some(Some(container)) = self.containers.get_mut(index as usize) {
            container.read(source, &mut self.buffer);
        }
    }

    fn reap(&mut self, children: &OwnedFd) {
        let mut pending = [0; 128];
        while rustix::io::read(children, &mut pending).is_ok() {}
        // One signal may stand for many children (signal(7)).
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            let pid = pid.as_raw_nonzero().get();
            let signal = status.terminating_signal().unwrap_or(0);
            let code = status.exit_status().unwrap_or(128 + signal);
            self.child_ended(pid, code, signal);
        }
    }

    fn child_ended(&mut self, pid: i32, exit_code: i32, signal: i32) {
        if self.pause.as_ref().is_some_and(|pause| pause.pid == pid) {
            self.pause = None;
            return;
        }
        let is_launching = |l: &Launch| l.child.pid == pid;
        if let Some(index) = self.launches.iter().position(|slot| slot.as_ref().is_some_and(is_launching)) {
            // The child is gone, so its reports are all there: this cannot block.
            self.finish_launch(index as u32);
        }
        for index in 0..self.containers.len() {
            let Some(container) = &mut self.containers[index] else { continue };
            // The number of one that ended may be another's by now.
            if container.running_pid() == pid {
                container.drain(&mut self.buffer);
                let exit = container.ended(exit_code, signal);
                self.announce(exit);
                return;
            }
            if let Some(exec) = container.exec_ended(pid) {
                let container = container.id.clone();
                self.peers.broadcast(&Message::Event(Event::ExecExited { container, exec, exit_code }));
                return;
            }
        }
    }

    fn announce(&mut self, exit: Exit) {
        if let Err(error) = shim_protocol::exits::write(&self.folder, &exit) {
            eprintln!("corten-shim: the exit of {} is not on disk: {error}", exit.container);
        }
        self.peers.broadcast(&Message::Event(Event::Exited(exit)));
    }
}
