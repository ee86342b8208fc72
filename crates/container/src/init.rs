//! What the child does between its birth and the container's program. One list of steps, each of which
//! either succeeds or ends the launch with one sentence.

use crate::detached::Detached;
use crate::failure::{Failure, Step, Tried};
use crate::plan::{LaunchPlan, Namespace, PLAN_MAX, PLAN_VERSION};
use crate::report::{Report, Sender};
use crate::stdio::{self, Stdio};
use crate::{beneath, credentials, devices, masks, mounts, program, root, sysctl, user};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use sys::process::namespace;

/// What the supervisor hands to the child beside the plan.
#[derive(Debug, Default)]
pub struct Inherited {
    /// `tasks` files of v1 hierarchies; the child writes itself into each.
    pub cgroup_tasks: Vec<OwnedFd>,
    /// Standard descriptors, ignored with a terminal.
    pub stdio: Stdio,
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
        // The one that started it has left long ago; the container's own output is all that is left (runc's
        // init does the same).
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
) -> Step<std::convert::Infallible> {
    if detached.is_none() {
        sys::process::die_with_parent().tried(|| "cannot tie the container to its supervisor".into())?;
    }
    let plan: LaunchPlan = read_plan(plan)?;
    if plan.version != PLAN_VERSION {
        return Err(Failure::system(format!(
            "the launch plan is of version {}, this supervisor knows {PLAN_VERSION}",
            plan.version
        )));
    }
    join_cgroups(&inherited.cgroup_tasks)?;
    // Through the node's `/proc`, before any other can be in its place (CVE-2025-52881).
    credentials::set_oom_score(&plan.process, report)?;
    own_namespaces(&plan)?;
    rustix::process::setsid().tried(|| "cannot start a session".into())?;
    let null =
        rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty())
            .tried(|| "cannot open the node's /dev/null".into())?;
    let shared = mounts::open_shared(&plan.mounts)?;
    root::detach_from_node()?;
    let rootfs = root::mount(&plan.root)?;
    // The image's own passwd decides, before any volume can cover it.
    let who = user::resolve(&rootfs, &plan.process.user)?;
    mounts::make(rootfs.as_fd(), &plan.mounts, shared)?;
    devices::make(rootfs.as_fd(), &plan.devices)?;
    if plan.dev_links {
        devices::link(rootfs.as_fd())?;
    }
    make_working_directory(&rootfs, &plan, &who.user)?;
    if !plan.sysctls.is_empty() {
        let proc = beneath::open_path(&rootfs, "/proc").tried(|| "cannot open /proc for sysctls".into())?;
        sysctl::write(&proc, &plan.sysctls)?;
    }
    masks::freeze(rootfs.as_fd(), &plan.readonly_paths)?;
    masks::hide(rootfs.as_fd(), null.as_fd(), &plan.masked_paths)?;
    root::enter(&rootfs, &plan.root)?;
    // Only `/dev` mounts of ours get a console; an image's own `/dev` stays as it is.
    let console = plan.dev_links.then_some(rootfs);
    finish(&plan.process, &who, &inherited.stdio, &null, console, detached, report)
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
    postcard::from_bytes(&bytes).map_err(|e| Failure::system(format!("the plan cannot be read: {e}")))
}

/// Writing "0" moves the writer itself, which spares the machine-wide lock that moving another process
/// takes (kernel/cgroup/cgroup.c, `cgroup_procs_write_start`).
pub(crate) fn join_cgroups(tasks: &[OwnedFd]) -> Step {
    for file in tasks {
        rustix::io::write(file, b"0").tried(|| "cannot join the container's cgroup".into())?;
    }
    Ok(())
}

/// Namespaces that are joined by path or must be made after the cgroup is joined, and names that belong to
/// new ones. The PID namespace was joined before the fork; mount, user and time namespaces are never joined.
fn own_namespaces(plan: &LaunchPlan) -> Step {
    for (wanted, kind, name) in [
        (&plan.namespaces.ipc, namespace::IPC, "ipc"),
        (&plan.namespaces.uts, namespace::UTS, "uts"),
        (&plan.namespaces.network, namespace::NETWORK, "network"),
        (&plan.namespaces.cgroup, namespace::CGROUP, "cgroup"),
    ] {
        if let Namespace::Path(path) = wanted {
            let file = rustix::fs::open(path.as_str(), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
                .tried(|| format!("cannot open the {name} namespace {path:?}"))?;
            sys::process::setns(file.as_fd(), kind)
                .tried(|| format!("cannot join {path:?} as the {name} namespace"))?;
        }
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

/// The end that a first process and an exec share: terminal, limits, working directory, privileges, program.
pub(crate) fn finish(
    process: &crate::plan::Process,
    who: &user::Resolved,
    stdio: &Stdio,
    null: &OwnedFd,
    console: Option<OwnedFd>,
    detached: Option<&Detached>,
    report: &Sender,
) -> Step<std::convert::Infallible> {
    let terminal =
        if process.terminal { Some(stdio::open_terminal(process.console_size, who.user.uid)?) } else { None };
    if let (Some(_), Some(root)) = (&terminal, console) {
        stdio::bind_console(&root)?;
    }
    if terminal.is_none() {
        stdio::install(stdio, null)?;
        give_stdio(who.user.uid);
    }
    let program = program::prepare(process, &who.home)?;
    credentials::limits(process)?;
    let entered = change_directory(&process.cwd);
    sys::signal::restore_defaults().tried(|| "cannot reset signals".into())?;
    let passed_on = detached.map_or(0, |d| d.preserve_fds);
    let gate = detached.and_then(|d| d.gate.as_ref());
    if gate.is_some() {
        // Nobody hears the exec fail after the gate, so what can be known is said before.
        program.check()?;
    }
    report.send(&Report::Ready(who.user.clone()), terminal.as_ref().map(AsFd::as_fd))?;
    drop(terminal);
    if let Some(gate) = gate {
        crate::detached::wait(gate)?;
    }
    // Nothing of the node stays open when the program's path is resolved. From here on only the report is left.
    sys::process::close_others_and(3 + passed_on, report.as_fd(), || {
        let failure = match become_program(process, who, entered, &program, detached.is_some()) {
            Ok(never) => match never {},
            Err(failure) => failure,
        };
        last_word(failure, detached, report)
    })
    .tried(|| "cannot close descriptors".into())
}

/// Privileges, working directory, exec.
fn become_program(
    process: &crate::plan::Process,
    who: &user::Resolved,
    entered: Result<(), Errno>,
    program: &program::Program,
    detached: bool,
) -> Step<std::convert::Infallible> {
    credentials::drop_privileges(process, &who.user)?;
    if !detached {
        // Changing credentials cleared it (prctl(2), PR_SET_PDEATHSIG).
        sys::process::die_with_parent().tried(|| "cannot tie the container to its supervisor".into())?;
    }
    // A directory that only the user may enter (as on NFS with root squashed) is tried again as the user.
    if let Err(Errno::ACCESS) = entered {
        change_directory(&process.cwd).map_err(|e| no_directory(&process.cwd, e))?;
    } else {
        entered.map_err(|e| no_directory(&process.cwd, e))?;
    }
    Err(program.exec())
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
