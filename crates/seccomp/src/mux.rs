//! 32-bit x86 has two ways to most socket and System V IPC calls: a number of their own, and as a sub-call of
//! socketcall(2) or ipc(2). A rule for the call must hold on both ways, or 32-bit code walks around it.
//!
//! The sub-call's number is argument 0 and can be seen; the call's own arguments lie in memory and cannot. So, unless
//! the profile names `socketcall` or `ipc` itself:
//! - a rule without conditions holds for the sub-call too;
//! - a rule that grants the call under conditions does not open the sub-call. (libseccomp opens it: that
//!   is how AF_ALG stayed reachable in CVE-2026-31431, containerd#13330.)
//! - a rule that denies the call under conditions closes the sub-call altogether.

use crate::rules::{Compare, Condition};
use crate::tables::Abi;

/// Sub-calls of socketcall(2) from 1 on (linux/net.h, `SYS_SOCKET` …).
const SOCKET: [&str; 20] = [
    "socket",
    "bind",
    "connect",
    "listen",
    "accept",
    "getsockname",
    "getpeername",
    "socketpair",
    "send",
    "recv",
    "sendto",
    "recvfrom",
    "shutdown",
    "setsockopt",
    "getsockopt",
    "sendmsg",
    "recvmsg",
    "accept4",
    "recvmmsg",
    "sendmmsg",
];
/// Sub-calls of ipc(2) (linux/ipc.h, `SEMOP` …).
const IPC: [(&str, u64); 12] = [
    ("semop", 1),
    ("semget", 2),
    ("semctl", 3),
    ("semtimedop", 4),
    ("msgsnd", 11),
    ("msgrcv", 12),
    ("msgget", 13),
    ("msgctl", 14),
    ("shmat", 21),
    ("shmdt", 22),
    ("shmget", 23),
    ("shmctl", 24),
];

/// The call through which `name` can be reached too, and what its first argument is then.
pub(crate) fn companion(abi: Abi, name: &str) -> Option<(&'static str, Condition)> {
    if abi != Abi::I386 {
        return None;
    }
    if let Some(at) = SOCKET.iter().position(|socket| *socket == name) {
        return Some(("socketcall", Condition { argument: 0, compare: Compare::Equal(at as u64 + 1) }));
    }
    let (_, code) = IPC.iter().find(|(ipc, _)| *ipc == name)?;
    // The upper half is a version number (ipc/syscall.c).
    Some(("ipc", Condition { argument: 0, compare: Compare::Masked { mask: 0xffff, value: *code } }))
}
