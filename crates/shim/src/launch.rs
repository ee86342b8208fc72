//! Starting containers and execs: the shim forks at once and goes on; the child's reports come through the
//! event loop, so that a launch that hangs (a mount of a dead server) holds up nobody else in the pod.

use crate::container::{Container, Exec, SIGKILL};
use crate::supervisor::{Supervisor, Token};
use ::container::failure::{Failure, Tried};
use ::container::init::Inherited;
use ::container::plan::ResolvedUser;
use ::container::report::{Receiver, Report};
use ::container::spawn::{self, ForkInto};
use ::container::stdio::Stdio;
use ::container::warm::Warmer;
use cri_log::Writer;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::pipe::{PipeFlags, pipe_with};
use shim_protocol::{Message, PidNamespace, Reply, Start};
use std::path::Path;
use sys::process::{Child, namespace};

/// What is being launched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// The container at this index.
    Container(u32),
    /// An exec of the container at this index.
    Exec(u32, u64),
}

/// A launch whose child has not said its last word.
pub struct Launch {
    pub child: ChildKey,
    report: Receiver,
    target: Target,
    peer: u32,
    request: u64,
    user: Option<ResolvedUser>,
    failure: Option<Failure>,
    warnings: Vec<String>,
}

/// The child's id; the descriptor is with the container.
pub struct ChildKey {
    pub pid: i32,
}

/// Descriptors of a request, taken in the order of the protocol.
struct Descriptors(std::vec::IntoIter<OwnedFd>);

impl Descriptors {
    fn next(&mut self, what: &str) -> Result<OwnedFd, Failure> {
        self.0.next().ok_or_else(|| shim_protocol::request(format!("the descriptor for {what} is missing")))
    }

    fn next_if(&mut self, wanted: bool, what: &str) -> Result<Option<OwnedFd>, Failure> {
        if wanted { self.next(what).map(Some) } else { Ok(None) }
    }

    fn take(&mut self, count: u8, what: &str) -> Result<Vec<OwnedFd>, Failure> {
        (0..count).map(|_| self.next(what)).collect()
    }
}

impl Supervisor {
    /// Forks a container's first process; the reply follows with its last report.
    pub fn start(&mut self, peer: u32, request: u64, start: Start, fds: Vec<OwnedFd>) -> Result<(), Failure> {
        if self.find(&start.container).is_ok() {
            return Err(shim_protocol::request(format!("container {} was started already", start.container)));
        }
        let mut fds = Descriptors(fds.into_iter());
        let plan = fds.next("the plan")?;
        let oom = fds.next_if(start.has_oom_file, "the OOM file")?;
        let cgroup = fds.next_if(start.has_cgroup, "the cgroup")?;
        let tasks = fds.take(start.tasks, "a cgroup")?;
        let log = if start.log_directory.is_empty() || start.log_path.is_empty() {
            None
        } else {
            let opened = Writer::open(Path::new(&start.log_directory), Path::new(&start.log_path));
            Some(opened.map_err(|e| {
                shim_protocol::request(format!("the container's log: {}", types::error::chain(&e)))
            })?)
        };
        let mut streams = Streams::default();
        let mut stdio = Stdio::default();
        if !start.terminal {
            (streams.stdout, stdio.stdout) = output_pipe()?;
            (streams.stderr, stdio.stderr) = output_pipe()?;
            if start.stdin {
                let (read, write) = pipe_with(PipeFlags::CLOEXEC).tried(|| "cannot make a pipe".into())?;
                (stdio.stdin, streams.stdin) = (Some(read), Some(write));
            }
        }
        let mut into = ForkInto { new: start.namespaces & !namespace::PID, pid: None, cgroup };
        match &start.pid {
            PidNamespace::Own => into.new |= namespace::PID,
            PidNamespace::Node => {}
            PidNamespace::Pod => into.pid = Some(self.shared_pid_namespace()?),
            PidNamespace::Container(other) => {
                let other = other.clone();
                let (_, other) = self.find(&other)?;
                into.pid = Some(pid_namespace(other.running_pid())?);
            }
        }
        let warmer = warmer(start.little_memory);
        let inherited = Inherited { cgroup_tasks: tasks, stdio, warmer, ..Inherited::default() };
        let launched = spawn::launch(&plan, &into, inherited)?;
        let container = Container {
            id: start.container,
            pid: launched.child.pid,
            pidfd: Some(launched.child.pidfd),
            log,
            stdout: streams.stdout,
            stderr: streams.stderr,
            stdin: streams.stdin,
            oom,
            execs: Vec::new(),
            own_pid_namespace: start.pid != PidNamespace::Node,
        };
        let pid = container.pid;
        let index = slot(&mut self.containers);
        for (fd, token) in
            [(&container.stdout, Token::Stdout(index)), (&container.stderr, Token::Stderr(index))]
        {
            if let Some(fd) = fd {
                self.watch(fd.as_fd(), token).tried(|| "cannot watch the container's output".into())?;
            }
        }
        self.containers[index as usize] = Some(container);
        self.expect(pid, launched.report, Target::Container(index), peer, request)
    }

    /// Forks one more process into a running container; the reply follows with its last report.
    pub fn exec(
        &mut self,
        peer: u32,
        request: u64,
        exec: shim_protocol::Exec,
        fds: Vec<OwnedFd>,
    ) -> Result<(), Failure> {
        let mut fds = Descriptors(fds.into_iter());
        let plan = fds.next("the plan")?;
        let stdio = Stdio {
            stdin: fds.next_if(exec.stdio.stdin, "standard input")?,
            stdout: fds.next_if(exec.stdio.stdout, "standard output")?,
            stderr: fds.next_if(exec.stdio.stderr, "standard error")?,
        };
        let cgroup = fds.next_if(exec.has_cgroup, "the cgroup")?;
        let cgroup_tasks = fds.take(exec.tasks, "a cgroup")?;
        let (index, container) = self.find(&exec.container)?;
        let Some(target) = &container.pidfd else {
            return Err(shim_protocol::request(format!("container {} does not run", exec.container)));
        };
        if container.execs.iter().any(|e| e.id == exec.exec) {
            return Err(shim_protocol::request(format!(
                "exec {} of container {} runs already",
                exec.exec, exec.container
            )));
        }
        let pid = if container.own_pid_namespace { Some(pid_namespace(container.pid)?) } else { None };
        let into = ForkInto { new: 0, pid, cgroup };
        let warmer = warmer(exec.little_memory);
        let inherited = Inherited { cgroup_tasks, stdio, warmer, ..Inherited::default() };
        let launched = spawn::join(&plan, target.as_fd(), &into, &inherited)?;
        let child: Child = launched.child;
        let pid = child.pid;
        container.execs.push(Exec { id: exec.exec, process: child });
        self.expect(pid, launched.report, Target::Exec(index, exec.exec), peer, request)
    }

    fn expect(
        &mut self,
        pid: i32,
        report: Receiver,
        target: Target,
        peer: u32,
        request: u64,
    ) -> Result<(), Failure> {
        let index = slot(&mut self.launches);
        self.watch(report.as_fd(), Token::Report(index))
            .tried(|| "cannot watch the child's report".into())?;
        let launch = Launch {
            child: ChildKey { pid },
            report,
            target,
            peer,
            request,
            user: None,
            failure: None,
            warnings: Vec::new(),
        };
        self.launches[index as usize] = Some(launch);
        Ok(())
    }

    /// A launching child said something.
    pub fn report(&mut self, index: u32) {
        // The slot may be another launch's than the event was for, so nothing here may wait.
        if self.read_report(index, false) {
            self.conclude(index);
        }
    }

    /// Reads all that an ended child said, and concludes.
    pub fn finish_launch(&mut self, index: u32) {
        while !self.read_report(index, true) {}
        self.conclude(index);
    }

    /// Takes one report; answers whether it was the last.
    fn read_report(&mut self, index: u32, wait: bool) -> bool {
        let Some(Some(launch)) = self.launches.get_mut(index as usize) else { return true };
        let received = if wait {
            launch.report.receive()
        } else {
            match launch.report.try_receive() {
                Ok(None) => return false,
                Ok(Some(received)) => Ok(received),
                Err(failure) => Err(failure),
            }
        };
        match received {
            Ok(Some((Report::Ready(user), terminal))) => {
                launch.user = Some(user);
                if let (Some(master), Target::Container(container)) = (terminal, launch.target) {
                    self.take_terminal(container, master);
                }
                false
            }
            Ok(Some((Report::Warning(warning), _))) => {
                launch.warnings.push(warning);
                false
            }
            // No plan of the daemon asks for one.
            Ok(Some((Report::Listener(_) | Report::Mounted, _))) => false,
            Ok(Some((Report::Failed(failure), _))) => {
                launch.failure = Some(failure);
                true
            }
            Ok(None) => true,
            Err(failure) => {
                launch.failure = Some(failure);
                true
            }
        }
    }

    fn take_terminal(&mut self, index: u32, master: OwnedFd) {
        // A terminal that would make this one thread wait is not read at all; its program sees a hang-up.
        if rustix::fs::fcntl_setfl(&master, OFlags::NONBLOCK | OFlags::RDWR).is_ok()
            && self.watch(master.as_fd(), Token::Stdout(index)).is_ok()
            && let Some(Some(container)) = self.containers.get_mut(index as usize)
        {
            container.stdout = Some(master);
        }
    }

    fn conclude(&mut self, index: u32) {
        let Some(launch) = self.launches.get_mut(index as usize).and_then(Option::take) else { return };
        let result = match (launch.failure, launch.user) {
            (None, Some(user)) => {
                Ok(Reply::Started { pid: launch.child.pid, user, warnings: launch.warnings })
            }
            (Some(failure), _) => Err(failure),
            (None, None) if self.ran_out_of_memory(launch.target) => Err(shim_protocol::request(
                "the container's memory limit is too small to start its program in; raise the limit",
            )),
            (None, None) => {
                Err(shim_protocol::system("the container's process ended before it could say why"))
            }
        };
        if result.is_err() {
            self.abandon(launch.target);
        }
        sys::memory::trim_heap();
        self.peers.send(launch.peer, &Message::Reply { id: launch.request, result });
    }

    fn ran_out_of_memory(&self, target: Target) -> bool {
        let (Target::Container(index) | Target::Exec(index, _)) = target;
        self.containers.get(index as usize).and_then(Option::as_ref).is_some_and(Container::killed_for_memory)
    }

    /// Forgets a process that never came to run. Its child ends by itself after its last report, and is killed all
    /// the same, for the report may be what failed; the kernel hands it over with the next SIGCHLD, where nobody
    /// knows it any more.
    fn abandon(&mut self, target: Target) {
        match target {
            Target::Container(index) => {
                if let Some(container) = self.containers.get_mut(index as usize).and_then(Option::take) {
                    // Already ended: nothing to kill.
                    let _ = container.signal(None, SIGKILL);
                }
            }
            Target::Exec(index, id) => {
                if let Some(Some(container)) = self.containers.get_mut(index as usize) {
                    let _ = container.signal(Some(id), SIGKILL);
                    container.execs.retain(|e| e.id != id);
                }
            }
        }
    }

    fn shared_pid_namespace(&self) -> Result<OwnedFd, Failure> {
        match &self.pause {
            Some(pause) => pid_namespace(pause.pid),
            None => Err(shim_protocol::request("this pod has no shared PID namespace")),
        }
    }
}

/// Our ends of a container's pipes.
#[derive(Default)]
struct Streams {
    stdin: Option<OwnedFd>,
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
}

/// A container may do without.
fn warmer(wanted: bool) -> Option<Warmer> {
    if wanted { Warmer::start().ok() } else { None }
}

/// A pipe for output: our reading end does not block, and both ends close on exec.
fn output_pipe() -> Result<(Option<OwnedFd>, Option<OwnedFd>), Failure> {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC).tried(|| "cannot make a pipe".into())?;
    rustix::fs::fcntl_setfl(&read, OFlags::NONBLOCK).tried(|| "cannot set up a pipe".into())?;
    Ok((Some(read), Some(write)))
}

/// The PID namespace of a process that is our child and not reaped, so that its number cannot be another's.
fn pid_namespace(pid: i32) -> Result<OwnedFd, Failure> {
    if pid == 0 {
        return Err(shim_protocol::request("the container whose PID namespace is wanted does not run"));
    }
    rustix::fs::open(format!("/proc/{pid}/ns/pid"), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .tried(|| "cannot open the PID namespace".into())
}

/// A free slot of a list.
fn slot<T>(list: &mut Vec<Option<T>>) -> u32 {
    let index = list.iter().position(Option::is_none).unwrap_or(list.len());
    if index == list.len() {
        list.push(None);
    }
    index as u32
}
