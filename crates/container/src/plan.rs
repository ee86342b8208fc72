//! The launch plan: everything that has to be done to start one process in a container, already decided.
//!
//! The daemon makes it (`spec`), the child that becomes the container reads it. It is a binary message
//! (postcard), never JSON, so that the supervisor that forwards it needs no parser and no heap.

mod source;

pub use source::{ErofsImage, Filesystem, Layer, RootIds, RootSource};

use serde::{Deserialize, Serialize};

/// Raised whenever the layout changes; a supervisor refuses a plan of another version.
pub const PLAN_VERSION: u32 = 3;

/// The largest plan that is accepted, in bytes.
pub const PLAN_MAX: usize = 8 << 20;

/// How one namespace of the container is had.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Namespace {
    /// The creating process's own: the pod's under the shim, the caller's under `corten-oci`.
    #[default]
    Inherit,
    /// A new one.
    New,
    /// The one that this file names (`/proc/PID/ns/…` or a bind mount of it).
    Path(String),
}

/// The namespaces of a container. The mount namespace is always new unless it is joined by path.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Namespaces {
    /// Mounts.
    pub mount: Namespace,
    /// Process ids.
    pub pid: Namespace,
    /// IPC.
    pub ipc: Namespace,
    /// Host and domain name.
    pub uts: Namespace,
    /// Network.
    pub network: Namespace,
    /// cgroup root.
    pub cgroup: Namespace,
    /// Users and groups.
    pub user: Namespace,
    /// Clocks.
    pub time: Namespace,
    /// Mapping of a new user namespace.
    pub uid_mappings: Vec<IdMap>,
    /// Mapping of a new user namespace.
    pub gid_mappings: Vec<IdMap>,
    /// Clocks of a new time namespace, set before anything runs in it.
    pub time_offsets: Vec<TimeOffset>,
}

/// How far a clock of a new time namespace is moved (time_namespaces(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimeOffset {
    /// Which clock.
    pub clock: Clock,
    /// Whole seconds.
    pub seconds: i64,
    /// Nanoseconds, below one second.
    pub nanoseconds: u32,
}

/// A clock that a time namespace can move.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Clock {
    /// `CLOCK_MONOTONIC`.
    Monotonic,
    /// `CLOCK_BOOTTIME`.
    Boottime,
}

/// One line of `uid_map` (user_namespaces(7)).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdMap {
    /// First id inside.
    pub inside: u32,
    /// First id outside.
    pub outside: u32,
    /// How many.
    pub length: u32,
}

/// The root of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Root {
    /// Where it comes from.
    pub source: RootSource,
    /// Whose the files of it are.
    pub ids: RootIds,
    /// Made read-only once everything is mounted in it.
    pub readonly: bool,
    /// Propagation of `/` inside (`MS_PRIVATE`, `MS_SLAVE`, `MS_SHARED`, `MS_UNBINDABLE`, with `MS_REC`); 0 is rprivate.
    pub propagation: u32,
    /// `chroot` in place of `pivot_root`, for a root on an initramfs (runc's `--no-pivot`).
    pub no_pivot: bool,
}

/// One mount. They are made in order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Absolute path inside the container; it is resolved within the root, whatever links the image has.
    pub target: String,
    /// What is mounted.
    pub source: MountSource,
    /// `MOUNT_ATTR_*` bits to set (mount_setattr(2)); for a recursive bind they concern the top mount only.
    pub set: u64,
    /// `MOUNT_ATTR_*` bits to clear.
    pub clear: u64,
    /// `MOUNT_ATTR_*` bits to set on every mount of a recursive bind (`rro` and its kin).
    pub set_recursive: u64,
    /// `MOUNT_ATTR_*` bits to clear on every mount of a recursive bind.
    pub clear_recursive: u64,
    /// Propagations, one after the other: a slave that is made shared is both (`MS_PRIVATE`, `MS_SLAVE`,
    /// `MS_SHARED`, `MS_UNBINDABLE`, with `MS_REC`); none leaves it.
    pub propagation: Vec<u32>,
    /// Copy what the image has at the target into a new tmpfs.
    pub tmpcopyup: bool,
    /// Whether it is an idmapped mount (mount_setattr(2), `MOUNT_ATTR_IDMAP`).
    pub idmap: Idmap,
    /// Mapping of an idmapped mount; empty means that of the container's own user namespace.
    pub uid_mappings: Vec<IdMap>,
    /// Mapping of an idmapped mount; empty means that of the container's own user namespace.
    pub gid_mappings: Vec<IdMap>,
}

/// Whether a mount is idmapped.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Idmap {
    /// It is not.
    #[default]
    Off,
    /// The mount itself (`idmap`).
    Single,
    /// With all mounts below it (`ridmap`).
    Recursive,
}

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum MountSource {
    /// A file or directory of the node.
    Bind {
        /// Absolute path on the node.
        path: String,
        /// With what is mounted below it.
        recursive: bool,
    },
    /// A new file system.
    Filesystem {
        /// For example `proc`, `tmpfs`.
        kind: String,
        /// Shown in mountinfo.
        source: String,
        /// `key=value` or bare flags for `fsconfig`.
        options: Vec<String>,
    },
    /// The cgroup file systems as this machine has them.
    Cgroup,
    /// What is mounted at the target already, with other attributes (`remount`).
    Remount {
        /// Of the mount alone, not of its file system (`bind`).
        bind: bool,
        /// `key=value` or bare flags for the file system.
        options: Vec<String>,
    },
    /// The content of an image, which is mounted for this container alone. The mappings of the mount say whose its
    /// files are.
    Image {
        /// Where the content is.
        source: RootSource,
        /// The folder of it that is mounted, relative; empty for all of it.
        folder: String,
        /// What the image is called in messages.
        image: String,
    },
}

/// A device node made in the container's `/dev`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Absolute path inside.
    pub path: String,
    /// `c`, `b` or `p`.
    pub kind: char,
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// The five sets of capabilities as bit masks (`1 << CAP_…`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities {
    /// Bounding set.
    pub bounding: u64,
    /// Effective set.
    pub effective: u64,
    /// Inheritable set.
    pub inheritable: u64,
    /// Permitted set.
    pub permitted: u64,
    /// Ambient set.
    pub ambient: u64,
}

/// Who the process runs as.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum User {
    /// Numbers that are final.
    Ids {
        /// User.
        uid: u32,
        /// Group.
        gid: u32,
        /// More groups, exactly these.
        groups: Vec<u32>,
    },
    /// Looked up in the image's `/etc/passwd` and `/etc/group`, in the root, before anything is mounted over it.
    Lookup {
        /// `""`, `user`, `uid`, `user:group`, `uid:gid` and mixtures, as an image's `User` is written.
        /// A name that is not found fails the launch; a number need not be found.
        user: String,
        /// Overrides the primary group.
        gid: Option<u32>,
        /// Added to the groups.
        groups: Vec<u32>,
        /// Leave out the groups that the image's `/etc/group` lists for the user.
        strict: bool,
    },
}

/// One resource limit (getrlimit(2)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rlimit {
    /// `RLIMIT_*`.
    pub resource: u32,
    /// Soft limit.
    pub soft: u64,
    /// Hard limit.
    pub hard: u64,
}

/// A compiled seccomp filter.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seccomp {
    /// `SECCOMP_FILTER_FLAG_*`.
    pub flags: u32,
    /// `struct sock_filter` records of 8 bytes, native byte order.
    pub program: Vec<u8>,
    /// Whether a listener is made that hears of `SECCOMP_RET_USER_NOTIF`; its descriptor goes to the supervisor.
    pub listener: bool,
}

/// How the kernel schedules a process.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scheduling {
    /// Policy and its numbers (sched_setattr(2)).
    pub policy: Option<SchedulingPolicy>,
    /// Class (`IOPRIO_CLASS_*`) and priority in it, of ioprio_set(2).
    pub io_priority: Option<(u16, u16)>,
    /// CPUs that an exec may run on while it joins the container; empty leaves them.
    pub initial_cpus: Vec<u32>,
    /// CPUs that an exec's program may run on; empty leaves them.
    pub final_cpus: Vec<u32>,
}

/// The fields of `struct sched_attr` (sched_setattr(2)).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SchedulingPolicy {
    /// `SCHED_*`.
    pub policy: u32,
    /// `SCHED_FLAG_*`.
    pub flags: u64,
    /// Nice value.
    pub nice: i32,
    /// Priority of the real-time policies.
    pub priority: u32,
    /// Of `SCHED_DEADLINE`, nanoseconds.
    pub runtime: u64,
    /// Of `SCHED_DEADLINE`, nanoseconds.
    pub deadline: u64,
    /// Of `SCHED_DEADLINE`, nanoseconds.
    pub period: u64,
}

/// Where a process's memory comes from (set_mempolicy(2)).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryPolicy {
    /// `MPOL_*` with `MPOL_F_*`.
    pub mode: u32,
    /// NUMA nodes.
    pub nodes: Vec<u32>,
}

/// A program that runs at a point of the container's life, inside of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hook {
    /// Absolute: in the runtime's mount namespace for `createContainer`, in the container for `startContainer`.
    pub path: String,
    /// Its arguments, the name first.
    pub args: Vec<String>,
    /// Exactly its environment.
    pub env: Vec<String>,
    /// Killed after so many seconds; `None` waits.
    pub timeout: Option<u32>,
}

/// Hooks that run in the container's namespaces (OCI runtime specification, "POSIX-platform Hooks").
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hooks {
    /// After the mounts, before the root is entered.
    pub create_container: Vec<Hook>,
    /// In the root, after `start`, before the program.
    pub start_container: Vec<Hook>,
    /// The container's state as a JSON object without its closing brace and without `status` and `pid`, which
    /// differ from hook to hook.
    pub state: String,
}

/// The process that the container's program is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Program and arguments; the program is searched in the environment's `PATH` where it has no slash.
    pub args: Vec<Vec<u8>>,
    /// `NAME=value` records.
    pub env: Vec<Vec<u8>>,
    /// Working directory, absolute; made with mode 0755 where it is missing and `create_cwd` is set.
    pub cwd: String,
    /// Whether a missing working directory is made, as CRI callers expect of an image's `WorkingDir`.
    pub create_cwd: bool,
    /// Who it runs as.
    pub user: User,
    /// Whether `HOME` is set from the image's passwd where the environment has none.
    pub set_home: bool,
    /// Limits.
    pub rlimits: Vec<Rlimit>,
    /// Capabilities; `None` leaves the creating process's.
    pub capabilities: Option<Capabilities>,
    /// `PR_SET_NO_NEW_PRIVS`.
    pub no_new_privileges: bool,
    /// `/proc/self/oom_score_adj`, clamped to what is allowed.
    pub oom_score_adj: Option<i32>,
    /// File mode creation mask.
    pub umask: Option<u32>,
    /// A terminal on `/dev/console`.
    pub terminal: bool,
    /// Rows and columns of the terminal.
    pub console_size: Option<(u16, u16)>,
    /// AppArmor profile for exec.
    pub apparmor: Option<String>,
    /// SELinux label for exec.
    pub selinux: Option<String>,
    /// Seccomp filter, loaded last.
    pub seccomp: Option<Seccomp>,
    /// Scheduler, I/O priority, CPUs.
    pub scheduling: Scheduling,
    /// Name of a new session keyring (keyrings(7)); `None` leaves the creating process's.
    pub keyring: Option<String>,
    /// Execution domain (personality(2)).
    pub personality: Option<u32>,
    /// NUMA policy.
    pub memory_policy: Option<MemoryPolicy>,
}

/// Everything to start a container's first process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaunchPlan {
    /// [`PLAN_VERSION`].
    pub version: u32,
    /// Whether the supervisor has to open things before it forks ([`crate::mounts::prepare`]). It is second, so that a
    /// supervisor need not read the rest of a plan to know ([`RootSource::needs_devices`]).
    pub prepare: bool,
    /// For messages only.
    pub id: String,
    /// Namespaces.
    pub namespaces: Namespaces,
    /// Host name for a new UTS namespace.
    pub hostname: Option<String>,
    /// Domain name for a new UTS namespace.
    pub domainname: Option<String>,
    /// Root file system.
    pub root: Root,
    /// Mounts in order, `/proc`, `/dev` and the others included.
    pub mounts: Vec<Mount>,
    /// Device nodes, after the mounts.
    pub devices: Vec<Device>,
    /// Make `/dev/fd`, `/dev/stdin`, `/dev/stdout`, `/dev/stderr`, `/dev/ptmx` where `/dev` is a mount of ours.
    pub dev_links: bool,
    /// Paths hidden: a directory under an empty read-only tmpfs, a file under `/dev/null`.
    pub masked_paths: Vec<String>,
    /// Paths made read-only.
    pub readonly_paths: Vec<String>,
    /// Kernel parameters, `net.ipv4.ip_forward` and its value; written before `/proc/sys` turns read-only.
    pub sysctls: Vec<(String, String)>,
    /// Hooks inside the container.
    pub hooks: Hooks,
    /// The process.
    pub process: Process,
}

/// Everything to start one more process in a running container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecPlan {
    /// [`PLAN_VERSION`].
    pub version: u32,
    /// The container, for messages only.
    pub id: String,
    /// The process.
    pub process: Process,
}

/// Who a process came to run as, after the look-up in the image.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResolvedUser {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// More groups.
    pub groups: Vec<u32>,
}

impl LaunchPlan {
    /// The plan as bytes.
    pub fn encode(&self) -> Result<Vec<u8>, postcard::Error> {
        postcard::to_allocvec(self)
    }

    /// The plan from its bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, postcard::Error> {
        postcard::from_bytes(bytes)
    }
}

impl ExecPlan {
    /// The plan as bytes.
    pub fn encode(&self) -> Result<Vec<u8>, postcard::Error> {
        postcard::to_allocvec(self)
    }
}
