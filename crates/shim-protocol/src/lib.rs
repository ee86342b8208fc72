//! The messages between the daemon and the native shim: small postcard records on a `SOCK_SEQPACKET` socket,
//! with descriptors beside them. No JSON, no paths that the other side would have to trust, and every record
//! bounded. Plans travel as sealed memory files, so that the shim never holds one.

pub mod exits;
pub mod transport;

use container::plan::ResolvedUser;
use container::{Failure, FailureKind};
use serde::{Deserialize, Serialize};

/// Raised whenever a message changes; both sides refuse another version.
pub const VERSION: u32 = 2;
/// The largest message in bytes.
pub const MESSAGE_MAX: usize = 64 << 10;
/// The most descriptors beside one message.
pub const DESCRIPTORS_MAX: usize = 48;
/// The shim's socket in the pod's state folder.
pub const SOCKET: &str = "shim.sock";
/// Where the shim finds its listening socket when it starts.
pub const LISTENER: i32 = 0;

/// One call of the daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Chosen by the caller; the reply repeats it.
    pub id: u64,
    /// What is asked.
    pub call: Call,
}

/// What the daemon can ask.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Call {
    /// Who are you and what runs? → [`Reply::State`].
    Hello {
        /// The caller's [`VERSION`].
        version: u32,
    },
    /// First call after the start: makes the pod's namespaces. → [`Reply::Done`].
    Configure(Configure),
    /// Starts a container. Descriptors: plan, then `oom` if `has_oom_file`, the cgroup directory if
    /// `has_cgroup`, then `tasks` files. → [`Reply::Started`].
    Start(Start),
    /// Starts one more process. Descriptors: plan, stdin, stdout, stderr as `stdio` says, then `tasks` files.
    /// → [`Reply::Started`], and later [`Event::ExecExited`].
    Exec(Exec),
    /// Sends a signal to a container's first process, or to an exec. → [`Reply::Done`], also where it ended.
    Signal {
        /// Container.
        container: String,
        /// The exec, else the first process.
        exec: Option<u64>,
        /// Signal number.
        signal: i32,
    },
    /// Opens the container's log anew. → [`Reply::Done`].
    Reopen {
        /// Container.
        container: String,
    },
    /// Forgets an ended container. → [`Reply::Done`].
    Forget {
        /// Container.
        container: String,
    },
    /// Ends the shim; refused while a container runs. → [`Reply::Done`].
    Shutdown,
}

/// The pod's namespaces, made by the shim for itself so that its children inherit them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Configure {
    /// `CLONE_NEW*` bits to leave the node's by.
    pub namespaces: u64,
    /// Host name of a new UTS namespace; empty leaves it.
    pub hostname: String,
    /// Kernel parameters of the new namespaces.
    pub sysctls: Vec<(String, String)>,
    /// Fork a process that holds a PID namespace for all containers.
    pub share_pid: bool,
}

/// Where a container's process ids live.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum PidNamespace {
    /// A new one.
    Own,
    /// The node's.
    Node,
    /// The pod's shared one.
    Pod,
    /// That of another container of the pod.
    Container(String),
}

/// Starting a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start {
    /// Its id.
    pub container: String,
    /// `CLONE_NEW*` bits for the fork, without the PID bit.
    pub namespaces: u64,
    /// Its process ids.
    pub pid: PidNamespace,
    /// The folder of the node that its log lies in; empty writes none.
    pub log_directory: String,
    /// The log below that folder.
    pub log_path: String,
    /// Whether it gets a terminal.
    pub terminal: bool,
    /// Whether its standard input stays open.
    pub stdin: bool,
    /// A file with an `oom_kill` line comes along.
    pub has_oom_file: bool,
    /// A cgroup v2 directory comes along.
    pub has_cgroup: bool,
    /// How many `tasks` files come along.
    pub tasks: u8,
    /// The container has so little memory that somebody else has to read its program first (`container::warm`).
    pub little_memory: bool,
}

/// Which standard descriptors come along with an exec.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecStdio {
    /// 0.
    pub stdin: bool,
    /// 1.
    pub stdout: bool,
    /// 2.
    pub stderr: bool,
}

/// Starting one more process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exec {
    /// The container.
    pub container: String,
    /// Chosen by the caller, unique in the container.
    pub exec: u64,
    /// Descriptors that come along.
    pub stdio: ExecStdio,
    /// A cgroup v2 directory comes along.
    pub has_cgroup: bool,
    /// How many `tasks` files come along.
    pub tasks: u8,
    /// The container has so little memory that somebody else has to read its program first (`container::warm`).
    pub little_memory: bool,
}

/// A shim's answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message {
    /// To the request of that id.
    Reply {
        /// The request's id.
        id: u64,
        /// What came of it.
        result: Result<Reply, Failure>,
    },
    /// Something happened.
    Event(Event),
}

/// What a call brings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// It is done.
    Done,
    /// A process runs.
    Started {
        /// Its process id on the node.
        pid: i32,
        /// Who it runs as.
        user: ResolvedUser,
        /// What could not be had and is not vital.
        warnings: Vec<String>,
    },
    /// Who the shim is and what runs.
    State {
        /// The shim's [`VERSION`].
        version: u32,
        /// The shim's process id.
        pid: i32,
        /// Containers that it knows.
        containers: Vec<Known>,
    },
}

/// One container that a shim knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    /// Its id.
    pub container: String,
    /// Its first process; 0 once it ended.
    pub pid: i32,
}

/// Something that happened in the pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// A container's first process ended; the record is on disk already.
    Exited(exits::Exit),
    /// An exec ended.
    ExecExited {
        /// Container.
        container: String,
        /// Which exec.
        exec: u64,
        /// Exit code; 128 + signal where a signal ended it.
        exit_code: i32,
    },
}

/// A failure that is the system's, in the words of the protocol.
pub fn system(message: impl Into<String>) -> Failure {
    Failure { kind: FailureKind::System, message: message.into() }
}

/// A failure that is the caller's.
pub fn request(message: impl Into<String>) -> Failure {
    Failure { kind: FailureKind::Request, message: message.into() }
}
