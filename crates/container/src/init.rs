//! What the child does between its birth and the container's program. One list of steps, each of which
//! either succeeds or ends the launch with one sentence.

use crate::detached::{self, Detached};
use crate::failure::{Failure, Step, Tried};
use crate::plan::{Hooks, LaunchPlan, Namespace, PLAN_MAX, PLAN_VERSION, Process};
use crate::report::{Report, Sender};
use crate::stdio::{self, Stdio};
use crate::warm::Warmer;
use crate::{beneath, credentials, devices, hooks, keyring, masks, mounts, namespaces};
use crate::{program, root, scheduling, sysctl, user};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::convert::Infallible;
use sys::process::namespace;

/// What the supervisor hands to the child beside the plan.
#[derive(Debug, Default)]
pub struct Inherited {
    /// `tasks` files of v1 hierarchies; the child writes itself into each.
    pub cgroup_tasks: Vec<OwnedFd>,
    /// Standard descriptors, ignored with a terminal.
    pub stdio: Stdio,
    /// What [`mounts::prepare`] opened.
    pub sources: mounts::Sources,
    /// Of a container with very little memory: who reads its program before it does.
    pub warmer: Option<Warmer>,
}

/// Becomes the container's program or reports why not. Never returns. Without `detached` it dies with its parent.
pub fn run(plan: &OwnedFd, inherited: Inherited, detached: Option<&Detached>, report: &Sender) -> ! {
    let failure = match become_container(plan, inherited, detached, report) {
        Ok(never) => match never {},
        Err(failure) => failure,
    };
    last_word(failure, detached, report)
}

/// Reports a failure and ends the child.
pub(crate) fn last_word(failure: Failure, detached: Option<&Detached>, report: &Sender) -> ! {
    let message = detached.map(|_| format!("{failure}\n"));
    if report.send(&Report::Failed(failure), None).is_err()
        && let Some(message) = message
    {
        // The one that made it has left long ago. The one that started it may listen at the gate, and the
        // container's own output is where people look (runc's init writes there, too).
        if let Some(gate) = detached.and_then(|d| d.gate.as_ref()) {
            detached::complain(gate, &message);
        }
        let _ = rustix::io::write(rustix::stdio::stderr(), message.as_bytes());
    }
    // If even the report fails, the supervisor sees a child that ended without a word.
    sys::process::exit_now(1)
}

fn become_container(
    plan: &OwnedFd,
    inherited: Inherited,
    detached: Option<&Detached>,
    report: &Sender,
) -> Step<Infallible> {
    if detached.is_none() {
        sys::process::die_with_parent().tried(|| "cannot tie the container to its supervisor".into())?;
    }
    let plan: LaunchPlan = read_plan(plan)?;
    join_cgroups(&inherited.cgroup_tasks)?;
    // Through the node's `/proc`, before any other can be in its place (CVE-2025-52881).
    credentials::set_oom_score(&plan.process, report)?;
    let labels = credentials::open_labels(&plan.process)?;
    own_namespaces(&plan, detached.map_or(0, |d| d.joined))?;
    rustix::process::setsid().tried(|| "cannot start a session".into())?;
    let null =
        rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty())
            .tried(|| "cannot open the node's /dev/null".into())?;
    let mut sources = inherited.sources;
    sources.open_early(&plan)?;
    root::detach_from_node()?;
    let rootfs = root::mount(&plan.root, &mut sources)?;
    if plan.namespaces.user != Namespace::Inherit {
        // Not before: what is above a root or a volume may be closed to all but the node's root.
        namespaces::become_root()?;
    }
    // The image's own passwd decides, before any volume can cover it.
    let who = user::resolve(&rootfs, &plan.process.user)?;
    let late = mounts::make(rootfs.as_fd(), &plan, sources)?;
    devices::make(rootfs.as_fd(), &plan.devices)?;
    if plan.dev_links {
        devices::link(rootfs.as_fd(), plan.process.terminal)?;
    }
    make_working_directory(&rootfs, &plan, &who.user)?;
    late.finish()?;
    if let Some(paused) = detached.and_then(|d| d.mounted.as_ref()) {
        report.send(&Report::Mounted, None)?;
        crate::detached::wait(paused)?;
    }
    if !plan.sysctls.is_empty() {
        let proc = beneath::open_path(&rootfs, "/proc").tried(|| "cannot open /proc for sysctls".into())?;
        sysctl::write(&proc, &plan.sysctls)?;
    }
    hooks::run_inside(
        "createContainer",
        &plan.hooks.create_container,
        &plan.hooks.state,
        "creating",
        || Ok(()),
    )?;
    if let Some(warmer) = &inherited.warmer {
        warmer.ask(rootfs.as_fd(), &plan.process);
    }
    masks::freeze(rootfs.as_fd(), &plan.readonly_paths)?;
    masks::hide(rootfs.as_fd(), null.as_fd(), &plan.masked_paths)?;
    root::enter(&rootfs, &plan.root)?;
    // Only `/dev` mounts of ours get a console; an image's own `/dev` stays as it is.
    let console = plan.dev_links.then_some(rootfs);
    finish(Ending {
        process: &plan.process,
        who: &who,
        stdio: &inherited.stdio,
        null: &null,
        labels: &labels,
        console,
        hooks: Some(&plan.hooks),
        detached,
        report,
    })
}

/// Reads a plan from its memory file; the child does so, to keep the supervisor's heap small.
pub(crate) fn read_plan<T: serde::de::DeserializeOwned>(file: &OwnedFd) -> Step<T> {
    let size = rustix::fs::fstat(file).tried(|| "cannot examine the plan".into())?.st_size;
    let size = usize::try_from(size)
        .ok()
        .filter(|size| *size <= PLAN_MAX)
        .ok_or_else(|| Failure::request(format!("the plan has {size} bytes; {PLAN_MAX} are the most")))?;
    let mut bytes = vec![0; size];
    let mut read = 0;
    while read < size {
        let got = rustix::io::pread(file, &mut bytes[read..], read as u64)
            .tried(|| "cannot read the plan".into())?;
        if got == 0 {
            return Err(Failure::system("the plan ends early"));
        }
        read += got;
    }
    let unreadable = |e| Failure::system(format!("the plan cannot be read: {e}"));
    // First in every plan; the rest of another version means nothing here.
    let (version, _) = postcard::take_from_bytes::<u32>(&bytes).map_err(unreadable)?;
    if version != PLAN_VERSION {
        return Err(Failure::request(format!(
            "the plan is of version {version}, and this pod's monitor knows {PLAN_VERSION}: it was started by another \
             version of the program; start the pod anew"
        )));
    }
    postcard::from_bytes(&bytes).map_err(unreadable)
}

/// Whether [`mounts::prepare`] has something to do; a plan of another version is the child's to refuse.
pub(crate) fn wants_preparation(file: &OwnedFd) -> Step<bool> {
    // A number takes 5 bytes at the most (postcard's varint), a flag 1.
    let mut bytes = [0; 8];
    let got = rustix::io::pread(file, &mut bytes, 0).tried(|| "cannot read the plan".into())?;
    let head = postcard::take_from_bytes::<(u32, bool)>(&bytes[..got]);
    Ok(head.is_ok_and(|((version, prepare), _)| version == PLAN_VERSION && prepare))
}

/// Writing "0" moves the writer itself, which spares the machine-wide lock that moving another process
/// takes (kernel/cgroup/cgroup.c, `cgroup_procs_write_start`).
pub(crate) fn join_cgroups(tasks: &[OwnedFd]) -> Step {
    for file in tasks {
        rustix::io::write(file, b"0").tried(|| "cannot join the container's cgroup".into())?;
    }
    Ok(())
}

/// Namespaces that are joined by path and were not joined before the fork, that must be made after the cgroup is
/// joined, and names that belong to new ones.
fn own_namespaces(plan: &LaunchPlan, joined: u64) -> Step {
    let joins = namespaces::open(&plan.namespaces, !(joined | namespace::PID | namespace::USER))?;
    if !joins.is_empty() {
        namespaces::enter_all(&joins)?;
    }
    if plan.namespaces.cgroup == Namespace::New {
        sys::process::unshare(namespace::CGROUP).tried(|| "cannot make a cgroup namespace".into())?;
    }
    if let Some(name) = &plan.hostname {
        rustix::system::sethostname(name.as_bytes())
            .tried(|| format!("cannot set the host name {name:?}"))?;
    }
    if let Some(name) = &plan.domainname {
        rustix::system::setdomainname(name.as_bytes())
            .tried(|| format!("cannot set the domain name {name:?}"))?;
    }
    Ok(())
}

fn make_working_directory(rootfs: &OwnedFd, plan: &LaunchPlan, who: &crate::plan::ResolvedUser) -> Step {
    let cwd = &plan.process.cwd;
    if !plan.process.create_cwd || cwd == "/" || beneath::open_path(rootfs, cwd).is_ok() {
        return Ok(());
    }
    let made = beneath::make_directory(rootfs, cwd)
        .map_err(|f| Failure { message: format!("the working directory {cwd:?}: {f}"), ..f })?;
    // An O_PATH descriptor cannot be chowned itself; the empty path names what it refers to.
    rustix::fs::chownat(
        &made,
        "",
        Some(rustix::fs::Uid::from_raw(who.uid)),
        Some(rustix::fs::Gid::from_raw(who.gid)),
        rustix::fs::AtFlags::EMPTY_PATH,
    )
    .tried(|| format!("cannot give the working directory {cwd:?} to the user"))
}

/// What the end of a first process and of an exec has in common.
pub(crate) struct Ending<'a> {
    pub process: &'a Process,
    pub who: &'a user::Resolved,
    pub stdio: &'a Stdio,
    pub null: &'a OwnedFd,
    pub labels: &'a credentials::Labels,
    /// The root, where a terminal is shown at `/dev/console`.
    pub console: Option<OwnedFd>,
    /// A first process's.
    pub hooks: Option<&'a Hooks>,
    pub detached: Option<&'a Detached>,
    pub report: &'a Sender,
}

/// Terminal, limits, working directory, the wait for the start, privileges, program.
pub(crate) fn finish(ending: Ending<'_>) -> Step<Infallible> {
    let Ending { process, who, stdio, null, detached, report, .. } = ending;
    let terminal =
        if process.terminal { Some(stdio::open_terminal(process.console_size, who.user.uid)?) } else { None };
    if let (Some(_), Some(root)) = (&terminal, &ending.console) {
        stdio::bind_console(root)?;
    }
    if terminal.is_none() {
        stdio::install(stdio, null)?;
        give_stdio(who.user.uid);
    }
    let program = program::prepare(process, &who.home)?;
    credentials::set_labels(ending.labels)?;
    credentials::limits(process)?;
    scheduling::apply(process, ending.hooks.is_none())?;
    keyring::join(process)?;
    let entered = change_directory(&process.cwd);
    sys::signal::restore_defaults().tried(|| "cannot reset signals".into())?;
    let first = 3 + detached.map_or(0, |d| d.preserve_fds);
    let gate = detached.and_then(|d| d.gate.as_ref());
    if gate.is_some() {
        // Nobody hears the exec fail after the gate, so what can be known is said before.
        program.check()?;
    }
    // Who is detached told its ids itself, and there may be more groups than a report takes.
    let told = match detached {
        Some(_) => crate::plan::ResolvedUser { groups: Vec::new(), ..who.user.clone() },
        None => who.user.clone(),
    };
    report.send(&Report::Ready(told), terminal.as_ref().map(AsFd::as_fd))?;
    drop(terminal);
    let last = Last { process, who, entered, program: &program, hooks: ending.hooks, detached, report };
    // Whoever asks for a listener takes it before the start, so its filter is loaded before the gate, and with it
    // all that comes before a filter.
    let listens = process.seccomp.as_ref().is_some_and(|filter| filter.listener);
    // Nothing of the node stays open, neither while the process waits at the gate, as others of its PID namespace may
    // see it there, nor when the program's path is resolved. What is left are the report and the gate,
    // which close with the exec: the one that calls `start` waits for that.
    let kept = [Some(report.as_fd()), gate.map(AsFd::as_fd)];
    let kept: Vec<_> = kept.into_iter().flatten().collect();
    sys::process::close_others_and(first, &kept, || {
        let failure = match last.become_program(listens) {
            Ok(never) => match never {},
            Err(failure) => failure,
        };
        last_word(failure, detached, report)
    })
    .tried(|| "cannot close descriptors".into())
}

/// What is left to do when all that needs the node is done.
struct Last<'a> {
    process: &'a Process,
    who: &'a user::Resolved,
    entered: Result<(), Errno>,
    program: &'a program::Program,
    hooks: Option<&'a Hooks>,
    detached: Option<&'a Detached>,
    report: &'a Sender,
}

impl Last<'_> {
    /// The wait for the start, privileges, working directory, exec.
    fn become_program(&self, listens: bool) -> Step<Infallible> {
        if let (false, Some(gate)) = (listens, self.detached.and_then(|d| d.gate.as_ref())) {
            detached::wait(gate)?;
            self.start_hooks(true)?;
        }
        credentials::drop_privileges(self.process, &self.who.user, Some(self.report))?;
        if self.detached.is_none() {
            // Changing credentials cleared it (prctl(2), PR_SET_PDEATHSIG).
            sys::process::die_with_parent().tried(|| "cannot tie the container to its supervisor".into())?;
        }
        if listens && let Some(gate) = self.detached.and_then(|d| d.gate.as_ref()) {
            detached::wait(gate)?;
            self.start_hooks(false)?;
        }
        // A directory that only the user may enter (as on NFS with root squashed) is tried again as the user.
        match self.entered {
            Err(Errno::ACCESS) => change_directory(&self.process.cwd),
            other => other,
        }
        .map_err(|e| no_directory(&self.process.cwd, e))?;
        Err(self.program.exec())
    }

    /// The container's own programs, so with the container's privileges and no more (OCI config.md, "startContainer").
    fn start_hooks(&self, privileged: bool) -> Step {
        let Some(hooks) = self.hooks.filter(|hooks| !hooks.start_container.is_empty()) else { return Ok(()) };
        hooks::run_inside("startContainer", &hooks.start_container, &hooks.state, "created", || {
            if privileged { credentials::drop_privileges(self.process, &self.who.user, None) } else { Ok(()) }
        })
    }
}

/// Pipes belong to the supervisor's user; a program that opens `/dev/stdout` by name (as web servers do)
/// needs to own them. What cannot be given is not fatal.
fn give_stdio(uid: u32) {
    if uid == 0 {
        return;
    }
    for fd in [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()] {
        if beneath::kind(fd).is_ok_and(|kind| kind == rustix::fs::FileType::Fifo) {
            let _ = rustix::fs::fchown(fd, Some(rustix::fs::Uid::from_raw(uid)), None);
        }
    }
}

fn change_directory(path: &str) -> Result<(), Errno> {
    rustix::process::chdir(path)?;
    // A working directory outside the root has a path that does not begin with "/" (getcwd(2)): CVE-2024-21626.
    let now = rustix::process::getcwd(Vec::new())?;
    if now.as_bytes().starts_with(b"/") { Ok(()) } else { Err(Errno::XDEV) }
}

fn no_directory(path: &str, errno: Errno) -> Failure {
    Failure::request(format!("the working directory {path:?}: {}", crate::failure::describe(errno)))
}
