//! config-linux.md, "Seccomp": actions, architectures, flags and the notify listener, by programs that make the calls.

use oci_suite::{Case, Console, Kind, Probe, differs, lacks, needs, output};
use serde_json::{Value, json};

/// Calls of x86-64 that need nothing and change nothing.
const GETPRIORITY: u64 = 140;
const GETPID: u64 = 39;

/// What a program needs before it makes its calls, and what the runtimes need between filter and program.
const NEEDED: &[&str] = &[
    "execve",
    "execveat",
    "write",
    "read",
    "exit",
    "exit_group",
    "futex",
    "close",
    "close_range",
    "openat",
    "openat2",
    "fstat",
    "fstatfs",
    "getcwd",
    "readlinkat",
    "getdents64",
    "lseek",
    "madvise",
    "newfstatat",
    "statx",
    "fcntl",
    "prctl",
    "capget",
    "capset",
    "setuid",
    "setgid",
    "setgroups",
    "getpid",
    "gettid",
    "tgkill",
    "rt_sigaction",
    "rt_sigprocmask",
    "rt_sigreturn",
    "sigaltstack",
    "epoll_ctl",
    "epoll_pwait",
    "nanosleep",
    "mmap",
    "munmap",
    "brk",
    "chdir",
    "fchdir",
    "sched_yield",
];

fn other_machine() -> bool {
    needs(cfg!(target_arch = "x86_64"), "x86-64")
}

fn filtered(case: &Case, seccomp: Value) -> &Case {
    case.edit(|config| config["linux"]["seccomp"] = seccomp)
}

/// All is allowed but getpriority, with this action.
fn but_getpriority(action: &str, errno: Option<u32>) -> Value {
    let mut rule = json!({ "names": ["getpriority"], "action": action });
    if let Some(errno) = errno {
        rule["errnoRet"] = json!(errno);
    }
    json!({ "defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"], "syscalls": [rule] })
}

fn getpriority() -> Probe {
    Probe::new().call(GETPRIORITY, &[0.into(), 0.into()])
}

#[test]
fn errno_returns_the_number_given_or_eperm() {
    let Some(case) = Case::new("sec-errno") else { return };
    if other_machine() {
        return;
    }
    assert_eq!(filtered(&case, but_getpriority("SCMP_ACT_ERRNO", None)).probe(getpriority()), [-1]);
    assert_eq!(filtered(&case, but_getpriority("SCMP_ACT_ERRNO", Some(99))).probe(getpriority()), [-99]);
    case.assert_nothing_left();
}

#[test]
fn allow_and_log_let_the_call_through() {
    let Some(case) = Case::new("sec-allow") else { return };
    if other_machine() {
        return;
    }
    for action in ["SCMP_ACT_ALLOW", "SCMP_ACT_LOG"] {
        assert_eq!(filtered(&case, but_getpriority(action, None)).probe(getpriority()), [20], "{action}");
    }
}

#[test]
fn trace_without_a_tracer_is_enosys() {
    let Some(case) = Case::new("sec-trace") else { return };
    if other_machine() {
        return;
    }
    assert_eq!(filtered(&case, but_getpriority("SCMP_ACT_TRACE", Some(5))).probe(getpriority()), [-38]);
}

#[test]
fn the_actions_that_kill_end_the_program_with_sigsys() {
    let Some(case) = Case::new("sec-kill") else { return };
    if other_machine() {
        return;
    }
    case.bundle.program("probe", &getpriority().program());
    for action in ["SCMP_ACT_KILL", "SCMP_ACT_KILL_THREAD", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_TRAP"] {
        let said = filtered(&case, but_getpriority(action, None)).args(&["probe"]).run();
        assert_eq!(said.code, 128 + 31, "{action}: {said:?}");
    }
    case.assert_nothing_left();
}

#[test]
fn the_default_action_and_its_errno_are_for_all_that_is_not_named() {
    let Some(case) = Case::new("sec-default") else { return };
    if other_machine() {
        return;
    }
    let profile = json!({
        "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 77, "architectures": ["SCMP_ARCH_X86_64"],
        "syscalls": [{ "names": NEEDED, "action": "SCMP_ACT_ALLOW" }],
    });
    let results = filtered(&case, profile).probe(getpriority().call(GETPID, &[]));
    assert_eq!(results, [-77, 1]);
}

#[test]
fn calls_newer_than_the_profile_are_enosys_so_that_programs_fall_back() {
    let Some(case) = Case::new("sec-new") else { return };
    if other_machine() {
        return;
    }
    let profile = json!({
        "defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_X86_64"],
        "syscalls": [{ "names": NEEDED, "action": "SCMP_ACT_ALLOW" }],
    });
    let words =
        "not of the specification: runc's libcontainer/seccomp/patchbpf, so that a C library can fall back";
    differs(&[Kind::Crun], words, || {
        assert_eq!(filtered(&case, profile).probe(Probe::new().call(1999, &[]).call(GETPID, &[])), [-38, 1]);
    });
}

#[test]
fn names_that_this_kernel_or_architecture_does_not_know_are_ignored() {
    let Some(case) = Case::new("sec-names") else { return };
    if other_machine() {
        return;
    }
    let mut profile = but_getpriority("SCMP_ACT_ERRNO", Some(99));
    profile["syscalls"][0]["names"] =
        json!(["no_such_call", "getpriority", "socketcall", "arm_fadvise64_64"]);
    assert_eq!(filtered(&case, profile).probe(getpriority()), [-99]);
}

#[test]
fn every_listed_architecture_is_filtered_by_its_own_numbers() {
    let Some(case) = Case::new("sec-arch") else { return };
    if other_machine() {
        return;
    }
    // 96 is getpriority of i386, 20 its getpid.
    let calls = || getpriority().call_32(96, &[0.into(), 0.into()]).call_32(20, &[]).call(GETPID, &[]);
    let plain = case.probe(calls());
    if needs(plain[2] == 1, "calls of 32 bits") {
        return;
    }
    let mut profile = but_getpriority("SCMP_ACT_ERRNO", Some(99));
    profile["architectures"] = json!(["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]);
    assert_eq!(filtered(&case, profile).probe(calls()), [-99, -99, 1, 1]);
}

#[test]
fn a_call_of_an_architecture_that_is_not_listed_does_not_pass() {
    let Some(case) = Case::new("sec-other-arch") else { return };
    if other_machine() {
        return;
    }
    let probe = Probe::new().call_32(20, &[]);
    if needs(case.probe(probe.clone()) == [1], "calls of 32 bits") {
        return;
    }
    case.bundle.program("probe", &probe.program());
    let said = filtered(&case, but_getpriority("SCMP_ACT_ERRNO", Some(99))).args(&["probe"]).run();
    assert_eq!(said.code, 128 + 31, "{said:?}");
}

#[test]
fn a_call_of_x32_does_not_pass_a_filter_of_x86_64() {
    let Some(case) = Case::new("sec-x32") else { return };
    if other_machine() {
        return;
    }
    let probe = Probe::new().call(oci_suite::probe::X32 | GETPRIORITY, &[0.into(), 0.into()]);
    case.bundle.program("probe", &probe.program());
    let said = filtered(&case, but_getpriority("SCMP_ACT_ERRNO", Some(99))).args(&["probe"]).run();
    let results = Probe::results(&std::fs::read(&said.out_file).unwrap());
    assert!(said.code != 0 || results.iter().all(|result| *result < 0), "{said:?} {results:?}");
}

#[test]
fn the_filter_holds_for_exec_too_and_with_and_without_new_privileges() {
    let Some(case) = Case::new("sec-exec") else { return };
    if other_machine() {
        return;
    }
    case.bundle.program("probe", &getpriority().program());
    for privileges in [true, false] {
        filtered(&case, but_getpriority("SCMP_ACT_ERRNO", Some(99)));
        case.edit(|config| config["process"]["noNewPrivileges"] = json!(privileges));
        let process = case.sleeps().run_detached();
        assert_eq!(process.status("Seccomp"), "2");
        let said = case.call(&["exec", &case.id, "probe"]).good();
        assert_eq!(Probe::results(&std::fs::read(said.out_file).unwrap()), [-99]);
        case.delete_force();
    }
}

#[test]
fn the_flags_are_taken_and_others_refused() {
    let Some(case) = Case::new("sec-flags") else { return };
    if other_machine() || lacks(&[Kind::Runc], "flags of filters") {
        return;
    }
    for flags in [
        json!(["SECCOMP_FILTER_FLAG_LOG"]),
        json!(["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW"]),
    ] {
        let mut profile = but_getpriority("SCMP_ACT_ERRNO", Some(99));
        profile["flags"] = flags;
        assert_eq!(filtered(&case, profile).probe(getpriority()), [-99]);
    }
    let mut profile = but_getpriority("SCMP_ACT_ERRNO", Some(99));
    profile["flags"] = json!(["SECCOMP_FILTER_FLAG_NONE_SUCH"]);
    let _ = filtered(&case, profile).run().bad();
}

#[test]
fn what_is_no_action_or_architecture_or_operator_is_an_error() {
    let Some(case) = Case::new("sec-wrong") else { return };
    let _ = filtered(&case, but_getpriority("SCMP_ACT_NONE_SUCH", None)).run().bad();
    let mut profile = but_getpriority("SCMP_ACT_ERRNO", None);
    profile["architectures"] = json!(["SCMP_ARCH_NONE_SUCH"]);
    let _ = filtered(&case, profile).run().bad();
    let mut profile = but_getpriority("SCMP_ACT_ERRNO", None);
    profile["syscalls"][0]["args"] = json!([{ "index": 0, "value": 1, "op": "SCMP_CMP_NONE_SUCH" }]);
    let _ = filtered(&case, profile).run().bad();
    let mut profile = but_getpriority("SCMP_ACT_ERRNO", None);
    profile["syscalls"][0]["args"] = json!([{ "index": 6, "value": 1, "op": "SCMP_CMP_EQ" }]);
    let _ = filtered(&case, profile).run().bad();
    case.assert_nothing_left();
}

#[test]
fn the_listener_gets_the_descriptor_and_the_state_and_the_call_waits_for_it() {
    let Some(case) = Case::new("sec-notify") else { return };
    if other_machine() || lacks(&[Kind::Crun], "a listener without its plug-ins here") {
        return;
    }
    let socket = Console::new(&case.bundle.aside());
    let mut profile = but_getpriority("SCMP_ACT_NOTIFY", None);
    profile["listenerPath"] = json!(socket.path());
    profile["listenerMetadata"] = json!("some metadata");
    case.bundle.program("probe", &getpriority().program());
    filtered(&case, profile).args(&["probe"]);
    let out = case.bundle.aside().join("results");
    let mut child =
        case.command(&["run", &case.id]).stdout(std::fs::File::create(&out).unwrap()).spawn().unwrap();
    let (text, fds) = socket.descriptors();
    // config-linux.md, "The Container Process State".
    let state: Value = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text}"));
    assert_eq!(state["fds"], json!(["seccompFd"]), "{state}");
    assert_eq!(state["metadata"], "some metadata");
    assert!(state["pid"].as_i64().is_some_and(|pid| pid > 0));
    assert_eq!(state["state"]["id"], json!(case.id));
    assert_eq!(fds.len(), 1);
    // A call is waiting once the descriptor can be read.
    let mut ready = [rustix::event::PollFd::new(&fds[0], rustix::event::PollFlags::IN)];
    let limit = rustix::event::Timespec { tv_sec: 30, tv_nsec: 0 };
    assert_eq!(rustix::event::poll(&mut ready, Some(&limit)), Ok(1));
    assert_eq!(std::fs::metadata(&out).unwrap().len(), 0);
    // Without a listener it is ENOSYS (seccomp_unotify(2)).
    drop(fds);
    assert!(output::wait(&mut child, output::PATIENCE).is_some_and(|status| status.success()));
    assert_eq!(Probe::results(&std::fs::read(&out).unwrap()), [-38]);
    case.assert_nothing_left();
}

#[test]
fn notify_needs_a_listener() {
    let Some(case) = Case::new("sec-no-listener") else { return };
    let words = "config-linux.md, Seccomp, SCMP_ACT_NOTIFY: it is for the listener; without one there is nobody to ask";
    differs(&[Kind::Crun], words, || {
        drop(filtered(&case, but_getpriority("SCMP_ACT_NOTIFY", None)).run().bad());
    });
    let mut profile = but_getpriority("SCMP_ACT_NOTIFY", None);
    profile["listenerPath"] = json!("/no/such/socket");
    let _ = filtered(&case, profile).run().bad();
    case.assert_nothing_left();
}
