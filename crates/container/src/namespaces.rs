//! Which namespaces a first process is born in, which it joins, and who joins them, so that each is owned by the
//! user namespace that it should belong to. Maps no ids ([`crate::idmap`]) and forks nothing ([`crate::spawn`]).

use crate::failure::{Failure, Step, Tried, describe};
use crate::plan::{Clock, Namespace, Namespaces, TimeOffset};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{Gid, Mode, OFlags, Uid};
use rustix::io::Errno;
use rustix::process::DumpableBehavior;
use std::io::Write;
use sys::process::namespace;

/// Every kind with its bit and its name below `/proc/PID/ns`. The mount namespace is last: with it the paths of the
/// others would mean something else.
fn kinds(wanted: &Namespaces) -> [(&Namespace, u64, &'static str); 8] {
    [
        (&wanted.user, namespace::USER, "user"),
        (&wanted.pid, namespace::PID, "pid"),
        (&wanted.ipc, namespace::IPC, "ipc"),
        (&wanted.uts, namespace::UTS, "uts"),
        (&wanted.network, namespace::NETWORK, "net"),
        (&wanted.cgroup, namespace::CGROUP, "cgroup"),
        (&wanted.time, namespace::TIME, "time"),
        (&wanted.mount, namespace::MOUNT, "mnt"),
    ]
}

/// The bits of namespaces that a plan wants new at the fork. The cgroup namespace is not among them: it has
/// to be made after the cgroup is joined. Nor is a time namespace with offsets, see [`has_offsets`].
pub fn new_bits(wanted: &Namespaces) -> u64 {
    let mut late = namespace::CGROUP;
    if has_offsets(wanted) {
        late |= namespace::TIME;
    }
    let new = kinds(wanted)
        .iter()
        .filter(|(wish, bit, _)| **wish == Namespace::New && late & bit == 0)
        .fold(0, |all, (_, bit, _)| all | bit);
    // A container without a mount namespace of its own would change the node's mounts.
    if matches!(wanted.mount, Namespace::Path(_)) { new } else { new | namespace::MOUNT }
}

/// Whether a new time namespace's clocks are moved: that has to be done before anybody is in it
/// (time_namespaces(7)), so whoever makes it cannot be the container.
pub fn has_offsets(wanted: &Namespaces) -> bool {
    wanted.time == Namespace::New && !wanted.time_offsets.is_empty()
}

/// A namespace that is joined by path.
#[derive(Debug)]
pub struct Join {
    file: OwnedFd,
    bit: u64,
    name: &'static str,
    path: String,
}

/// Opens what is to be joined of the kinds in `bits`; all are opened before any is joined.
pub fn open(wanted: &Namespaces, bits: u64) -> Step<Vec<Join>> {
    let mut joins = Vec::new();
    for (wish, bit, name) in kinds(wanted) {
        if let Namespace::Path(path) = wish
            && bits & bit != 0
        {
            let file = rustix::fs::open(path.as_str(), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
                .tried(|| format!("cannot open the {name} namespace {path:?}"))?;
            joins.push(Join { file, bit, name, path: path.clone() });
        }
    }
    Ok(joins)
}

impl Join {
    /// Its `CLONE_NEW*` bit.
    pub fn bit(&self) -> u64 {
        self.bit
    }

    fn enter(&self) -> Result<(), Failure> {
        sys::process::setns(self.file.as_fd(), self.bit)
            .tried(|| format!("cannot join {:?} as the {} namespace (did it end?)", self.path, self.name))
    }

    /// Whether this process is in it already. A user namespace cannot be joined twice (setns(2), EINVAL).
    fn is_own(&self) -> bool {
        let own = rustix::fs::stat(format!("/proc/self/ns/{}", self.name));
        let it = rustix::fs::fstat(&self.file);
        matches!((own, it), (Ok(own), Ok(it)) if (own.st_dev, own.st_ino) == (it.st_dev, it.st_ino))
    }
}

/// Joins by a process that stays in them. Answers the bits of what it joined.
///
/// What belongs to the user namespace of the caller can only be joined before another one is entered, and what belongs
/// to the one that is entered only after it; the kernel tells which is which by EPERM (setns(2)).
pub fn enter_all(joins: &[Join]) -> Step<u64> {
    let mut joined = 0;
    let user = joins.iter().find(|join| join.bit == namespace::USER);
    if let Some(join) = joins.iter().find(|join| join.bit == namespace::MOUNT)
        && join.is_own()
    {
        return Err(Failure::request(format!(
            "{:?} is the caller's own mount namespace; its mounts would be changed",
            join.path
        )));
    }
    let mut later = Vec::new();
    for join in joins.iter().filter(|join| join.bit != namespace::USER) {
        match join.enter() {
            Ok(()) => joined |= join.bit,
            Err(_) if user.is_some() => later.push(join),
            Err(failure) => return Err(failure),
        }
    }
    if let Some(user) = user {
        if !user.is_own() {
            user.enter()?;
        }
        joined |= namespace::USER;
    }
    for join in later {
        join.enter()?;
        joined |= join.bit;
    }
    Ok(joined)
}

/// Joins by a process that comes back out of them, so that a child is born in them.
#[derive(Debug)]
pub struct Visit {
    own: Vec<(OwnedFd, u64)>,
}

impl Visit {
    /// Joins; what was joined is left again where one fails. A PID namespace counts for children only (setns(2)).
    pub fn enter(joins: &[Join]) -> Step<Self> {
        let mut visit = Self { own: Vec::with_capacity(joins.len()) };
        for join in joins {
            let entered = own(join.name).and_then(|own| {
                join.enter()?;
                visit.own.push((own, join.bit));
                Ok(())
            });
            if let Err(failure) = entered {
                visit.leave();
                return Err(failure);
            }
        }
        Ok(visit)
    }

    /// As [`Visit::enter`] for a PID namespace that is open.
    pub fn enter_pid(file: &OwnedFd) -> Step<Self> {
        let own = own("pid")?;
        sys::process::setns(file.as_fd(), namespace::PID).map_err(|e| {
            Failure::request(format!("cannot join the container's PID namespace (did it end?): {e}"))
        })?;
        Ok(Self { own: vec![(own, namespace::PID)] })
    }

    /// Goes back to the namespaces that this process came from.
    pub fn leave(self) {
        for (own, bit) in self.own.iter().rev() {
            if sys::process::setns(own.as_fd(), *bit).is_err() {
                // Every later child would be born in this container. A pod that ends is seen; this would not be.
                eprintln!("cannot return to the supervisor's own namespaces; giving up");
                sys::process::exit_now(70);
            }
        }
    }
}

fn own(name: &str) -> Step<OwnedFd> {
    rustix::fs::open(format!("/proc/self/ns/{name}"), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .tried(|| format!("cannot open the supervisor's own {name} namespace"))
}

/// Opens the file that [`make_time`] writes; before another user namespace is joined, for whose processes this one must
/// never be dumpable. The rights over the clocks are those at the opening (kernel/time/namespace.c).
pub fn open_clocks() -> Step<OwnedFd> {
    let dumpable = |behavior| {
        rustix::process::set_dumpable_behavior(behavior)
            .tried(|| "cannot change whether this process may be looked at".into())
    };
    let open = || {
        rustix::fs::open("/proc/self/timens_offsets", OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())
            .tried(|| "cannot open the clocks of the time namespace".into())
    };
    if rustix::process::geteuid().is_root() {
        return open();
    }
    // The files of a process that is not dumpable are root's (proc(5)).
    dumpable(DumpableBehavior::Dumpable)?;
    let opened = open();
    dumpable(DumpableBehavior::NotDumpable)?;
    opened
}

/// Makes a time namespace for the children of this process and moves its clocks.
pub fn make_time(clocks: OwnedFd, offsets: &[TimeOffset]) -> Step {
    sys::process::unshare(namespace::TIME).tried(|| "cannot make a time namespace".into())?;
    let mut text = String::new();
    for offset in offsets {
        let clock = match offset.clock {
            Clock::Monotonic => "monotonic",
            Clock::Boottime => "boottime",
        };
        text.push_str(&format!("{clock} {} {}\n", offset.seconds, offset.nanoseconds));
    }
    // All at once: the kernel takes one write.
    std::fs::File::from(clocks).write_all(text.as_bytes()).map_err(|error| {
        let said = error.raw_os_error().map(Errno::from_raw_os_error);
        match said {
            // A clock would be negative or beyond 146 years (kernel/time/namespace.c, `proc_timens_set_offset`).
            Some(Errno::RANGE) => Failure::request(format!(
                "linux.timeOffsets {:?}: a clock would be out of its range",
                text.trim_end()
            )),
            errno => Failure::system(format!(
                "cannot set the clocks of the time namespace: {}",
                errno.map_or_else(|| error.to_string(), describe)
            )),
        }
    })
}

/// Becomes user and group 0 of the user namespace: files that are made from now on are its root's. The capabilities,
/// which are all those of the namespace, stay (user_namespaces(7)).
pub fn become_root() -> Step {
    let said = |what: &str, errno: Errno| match errno {
        Errno::INVAL => Failure::request(format!(
            "{what} 0 of the user namespace is mapped to nobody; map it in linux.uidMappings and linux.gidMappings"
        )),
        errno => {
            Failure::system(format!("cannot become {what} 0 of the user namespace: {}", describe(errno)))
        }
    };
    rustix::thread::set_thread_res_gid(Gid::ROOT, Gid::ROOT, Gid::ROOT).map_err(|e| said("group", e))?;
    rustix::thread::set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT).map_err(|e| said("user", e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_can_be_new_at_the_fork_is_made_there() {
        let mut wanted = Namespaces { cgroup: Namespace::New, time: Namespace::New, ..Namespaces::default() };
        assert_eq!(new_bits(&wanted), namespace::MOUNT | namespace::TIME);
        wanted.time_offsets.push(TimeOffset { clock: Clock::Boottime, seconds: 1, nanoseconds: 0 });
        wanted.user = Namespace::New;
        assert_eq!(new_bits(&wanted), namespace::MOUNT | namespace::USER);
        wanted.mount = Namespace::Path("/x".into());
        assert_eq!(new_bits(&wanted), namespace::USER);
    }

    #[test]
    fn a_namespace_that_is_not_there_is_named() {
        let wanted = Namespaces { ipc: Namespace::Path("/nonexistent/ipc".into()), ..Namespaces::default() };
        assert!(open(&wanted, namespace::UTS).expect("another kind").is_empty());
        let failure = open(&wanted, namespace::IPC).expect_err("missing");
        assert!(failure.message.contains("/nonexistent/ipc"), "{failure}");
    }
}
