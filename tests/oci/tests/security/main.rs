//! Attacks on the runtime under test: what broke other runtimes, one test for each entry of the list of known
//! holes, as an attacker would do it; what a failed start leaves behind; and attacks that nobody made yet.
//!
//! `OCI_RUNTIME` names another runtime, as in the other tests of this package. Where a peer of Debian 12 falls, the
//! test says so by [`oci_suite::differs`], which also shows that the test can fail. No test harms the machine when
//! it fails: what an attacker aims at are files, processes and copies of programs that the test has made.

mod beyond;
mod capabilities;
mod cgroups;
mod descriptors;
mod devices;
mod entering;
mod failures;
mod links;
mod masks;
mod program;
mod races;
mod sizes;
mod users;
mod writes;

use oci_suite::Case;
use std::path::PathBuf;
use std::process::Command;

/// The hostile program that goes into containers.
fn attacker() -> PathBuf {
    std::env::var_os("OCI_ATTACKER")
        .map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_oci-attacker")), PathBuf::from)
}

/// A command of the case with a copy of the runtime's program in place of the program itself.
fn with_program(case: &Case, copy: &std::path::Path, args: &[&str]) -> Command {
    let original = case.command(args);
    let swap = |word: &std::ffi::OsStr| {
        if word == case.runtime.program().as_os_str() { copy.as_os_str().to_owned() } else { word.to_owned() }
    };
    let mut command = Command::new(swap(original.get_program()));
    command
        .args(original.get_args().map(swap))
        .current_dir(case.bundle.path())
        .stdin(std::process::Stdio::null());
    command
}

/// Runs a command without keeping what it says; whether it succeeded.
fn quietly(command: &mut Command) -> bool {
    let null = std::process::Stdio::null;
    command.stdin(null()).stdout(null()).stderr(null()).status().is_ok_and(|status| status.success())
}

/// The same call without `CAP_SYS_PTRACE`. The kernel lets nobody look at a process that has a capability which the onlooker
/// lacks (security/commoncap.c, `cap_ptrace_access_check`), and one with this capability may look at all. So an attacker with
/// all others and a runtime without this one is the case in which only the runtime's own care counts.
fn without_ptrace(command: &Command) -> Command {
    let mut wrapped = Command::new("setpriv");
    wrapped.args(["--bounding-set=-sys_ptrace", "--inh-caps=-sys_ptrace"]);
    wrapped.arg(command.get_program()).args(command.get_args());
    if let Some(folder) = command.get_current_dir() {
        wrapped.current_dir(folder);
    }
    wrapped.stdin(std::process::Stdio::null());
    wrapped
}

/// Every capability that this machine gives but `CAP_SYS_PTRACE`.
fn all_but_ptrace() -> Vec<String> {
    const NAMES: &str = "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE \
        NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE \
        SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL \
        SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE";
    let had = oci_suite::Process::own().capabilities("CapBnd");
    let numbered = NAMES.split_whitespace().enumerate();
    let given = numbered.filter(|(number, name)| had & 1 << number != 0 && *name != "SYS_PTRACE");
    given.map(|(_, name)| format!("CAP_{name}")).collect()
}

/// The container's process, where it is still there: a program may have ended at once.
fn living(case: &Case) -> Option<oci_suite::Process> {
    let state = case.call(&["state", &case.id]).good().out;
    let state: serde_json::Value = serde_json::from_str(&state).unwrap();
    let pid = state["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok()).filter(|pid| *pid > 0)?;
    (state["status"] != "stopped").then(|| oci_suite::Process::new(pid))
}

/// As [`oci_suite::differs`] for a race that one of `peers` loses at times: whether it did is told, and either is fine for it. Every other
/// runtime must keep the promise each time.
fn loses_at_times(peers: &[oci_suite::Kind], words: &str, promise: impl FnOnce()) {
    let runtime = oci_suite::Runtime::under_test();
    if !peers.contains(&runtime.kind) {
        return promise();
    }
    let kept = std::panic::catch_unwind(std::panic::AssertUnwindSafe(promise)).is_ok();
    println!("{}: {words}: {}", runtime.version, if kept { "not lost this time" } else { "lost" });
}
