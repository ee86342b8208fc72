//! Filters in this machine's kernel. A filter belongs to the thread that loads it and to what that thread
//! starts, so each test has a thread of its own, and Perl makes the calls.

use crate::libseccomp::compile as compile_c;
use crate::{arg, profile, rule};
use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompAction as Action, LinuxSeccompOperator as Operator};
use seccomp::{Abi, compile, runtime_default};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output};
use std::sync::OnceLock;

fn native() -> Abi {
    if cfg!(target_arch = "aarch64") { Abi::Arm64 } else { Abi::X86_64 }
}

/// Runs a command in a thread under the profile.
fn under(profile: &LinuxSeccomp, program: impl Into<PathBuf>, args: Vec<String>) -> Output {
    let program = program.into();
    let filter = compile(profile).unwrap();
    std::thread::spawn(move || {
        rustix::thread::set_no_new_privs(true).unwrap();
        sys::seccomp::load(&filter.program, filter.flags).unwrap();
        Command::new(program).args(args).output().unwrap()
    })
    .join()
    .unwrap()
}

/// The error number of each call, 0 for none; calls are numbers with their arguments. `None` without Perl.
fn calls(profile: &LinuxSeccomp, calls: &[(u32, Vec<u64>)]) -> Option<Vec<i32>> {
    if !Path::new("/usr/bin/perl").exists() {
        eprintln!("skipped: there is no Perl to make system calls with");
        return None;
    }
    let script = "foreach (@ARGV) { my @c = map { $_ + 0 } split /,/; $! = 0; my $r = syscall(shift @c, @c); print(($r == -1 ? $! + 0 : 0), \"\\n\"); }";
    let mut args = vec!["-e".to_owned(), script.to_owned()];
    for (number, arguments) in calls {
        let words: Vec<String> = std::iter::once(u64::from(*number))
            .chain(arguments.iter().copied())
            .map(|n| n.to_string())
            .collect();
        args.push(words.join(","));
    }
    let output = under(profile, "/usr/bin/perl", args);
    assert!(output.status.success(), "{output:?}");
    Some(String::from_utf8(output.stdout).unwrap().lines().map(|line| line.parse().unwrap()).collect())
}

#[test]
fn the_default_profile_does_in_the_kernel_what_it_says() {
    let number = |name: &str| native().number(name).unwrap();
    let cases = [
        (number("getpid"), vec![], 0),
        (number("io_uring_setup"), vec![1, 0], 1),
        (number("keyctl"), vec![0, 0], 1),
        (number("bpf"), vec![0, 0, 0], 1),
        (number("unshare"), vec![0x1000_0000], 1),
        (number("clone"), vec![0x1000_0000 | 17, 0, 0, 0, 0], 1),
        (number("clone3"), vec![0, 0], 38),
        (number("socket"), vec![38, 5, 0], 1),
        (number("socket"), vec![40, 1, 0], 1),
        (number("socket"), vec![2, 1, 0], 0),
        (number("socket"), vec![1, 1, 0], 0),
        (number("personality"), vec![0x0004_0000], 1),
        (number("personality"), vec![0xffff_ffff], 0),
        (number("mount"), vec![0, 0, 0, 0, 0], 1),
        (490, vec![], 38),
    ];
    let asked: Vec<_> = cases.iter().map(|(number, arguments, _)| (*number, arguments.clone())).collect();
    let Some(got) = calls(&runtime_default(&[]), &asked) else { return };
    for ((number, arguments, want), got) in cases.iter().zip(got) {
        assert_eq!(got, *want, "call {number} {arguments:?}");
    }
}

#[test]
fn ordinary_programs_run_under_the_default_profile() {
    let script = "set -e; d=$(mktemp -d); cd $d; echo a > a; ln -s a b; cp b c; ls -la | sort | wc -l; sleep 0.01 & wait; \
                  chmod 600 a; mv a e; find . -name e; rm -rf $d; date > /dev/null; echo fine";
    let output = under(&runtime_default(&[]), "/bin/sh", vec!["-c".to_owned(), script.to_owned()]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && text.ends_with("fine\n"), "{text} {output:?}");
}

#[test]
fn a_killing_rule_ends_the_process_with_sigsys() {
    for action in [Action::ScmpActKillProcess, Action::ScmpActTrap] {
        let made = profile(Action::ScmpActAllow, vec![rule(&["mkdir", "mkdirat"], action, None, vec![])]);
        let output = under(&made, "/bin/mkdir", vec!["/nonexistent/a".to_owned()]);
        assert_eq!(output.status.signal(), Some(31), "{action:?} {output:?}");
    }
}

#[test]
fn every_operator_compares_64_bits_in_the_kernel() {
    let border = 0x1_0000_0005u64;
    let values = [0, 4, 5, 6, border - 1, border, border + 1, 0x2_0000_0000, 0x2_0000_0005, u64::MAX >> 1];
    let lseek = native().number("lseek").unwrap();
    // On descriptor 9999 the kernel itself says EBADF (9); the rule says 99.
    let asked: Vec<_> = values.iter().map(|value| (lseek, vec![9999, *value, 0])).collect();
    type Holds = fn(u64, u64) -> bool;
    let operators: [(Operator, Holds); 7] = [
        (Operator::ScmpCmpNe, |a, b| a != b),
        (Operator::ScmpCmpLt, |a, b| a < b),
        (Operator::ScmpCmpLe, |a, b| a <= b),
        (Operator::ScmpCmpEq, |a, b| a == b),
        (Operator::ScmpCmpGe, |a, b| a >= b),
        (Operator::ScmpCmpGt, |a, b| a > b),
        (Operator::ScmpCmpMaskedEq, |a, b| a & b == 5),
    ];
    for (operator, holds) in operators {
        let conditions = vec![arg(0, Operator::ScmpCmpEq, 9999, None), arg(1, operator, border, Some(5))];
        let made =
            profile(Action::ScmpActAllow, vec![rule(&["lseek"], Action::ScmpActErrno, Some(99), conditions)]);
        let Some(got) = calls(&made, &asked) else { return };
        let want: Vec<i32> = values.iter().map(|value| if holds(*value, border) { 99 } else { 9 }).collect();
        assert_eq!(got, want, "{operator:?}");
    }
}

/// The program that makes calls, once.
fn caller() -> Option<&'static Path> {
    static BUILT: OnceLock<Option<PathBuf>> = OnceLock::new();
    BUILT.get_or_init(|| compile_c("calls", &[])).as_deref()
}

/// What each call returned, and how the program ended.
fn made(profile: &LinuxSeccomp, calls: &[String]) -> Option<(Vec<i64>, ExitStatus)> {
    let output = under(profile, caller()?, calls.to_vec());
    let text = String::from_utf8(output.stdout).unwrap();
    Some((text.lines().map(|line| line.parse().unwrap()).collect(), output.status))
}

#[test]
fn every_action_does_in_the_kernel_what_it_is_for() {
    let personality = native().number("personality").unwrap();
    let query = format!("{personality},0xffffffff");
    let getpid = native().number("getpid").unwrap().to_string();
    let acted = |action, number| {
        let rules = vec![rule(&["personality"], action, number, vec![])];
        made(&profile(Action::ScmpActAllow, rules), &[query.clone(), getpid.clone()])
    };
    for (action, number, want) in [
        (Action::ScmpActAllow, None, 0),
        (Action::ScmpActLog, None, 0),
        (Action::ScmpActErrno, Some(123), -123),
        (Action::ScmpActErrno, None, -1),
        (Action::ScmpActErrno, Some(0), 0),
        // There is no tracer to ask (seccomp(2)): ENOSYS.
        (Action::ScmpActTrace, Some(7), -38),
    ] {
        let Some((results, status)) = acted(action, number) else { return };
        assert!(status.success() && results.len() == 2, "{action:?} {status} {results:?}");
        assert_eq!(results[0], want, "{action:?}");
    }
    for action in
        [Action::ScmpActKill, Action::ScmpActKillThread, Action::ScmpActKillProcess, Action::ScmpActTrap]
    {
        let Some((results, status)) = acted(action, None) else { return };
        // SIGSYS; the program did not come to its second call.
        assert_eq!((status.signal(), results.len()), (Some(31), 0), "{action:?}");
    }
}

#[test]
#[cfg(target_arch = "x86_64")]
fn calls_of_32_bit_x86_have_rules_of_their_own() {
    // getppid is 64 there and 110 here; 110 there is iopl, 64 here is semget.
    let denied = rule(&["getppid"], Action::ScmpActErrno, Some(77), vec![]);
    let listed = profile(Action::ScmpActAllow, vec![denied.clone()]);
    let calls = ["110", "x86:64", "x86:20"].map(str::to_owned);
    let Some((results, status)) = made(&listed, &calls) else { return };
    assert!(status.success(), "{status}");
    assert_eq!(results[..2], [-77, -77]);
    assert!(results[2] > 1, "getpid by int 0x80 gave {}", results[2]);
    let mut native_only = profile(Action::ScmpActAllow, vec![denied]);
    native_only.set_architectures(None);
    let Some((results, status)) = made(&native_only, &calls) else { return };
    assert_eq!(
        (results, status.signal()),
        (vec![-77], Some(31)),
        "an architecture that is not listed is shut"
    );
}

#[test]
#[cfg(target_arch = "x86_64")]
fn a_socket_is_denied_through_32_bit_x86s_multiplexer_too() {
    let families = vec![arg(0, Operator::ScmpCmpEq, 38, None)];
    let made_by =
        profile(Action::ScmpActAllow, vec![rule(&["socket"], Action::ScmpActErrno, Some(97), families)]);
    // socketcall(SYS_SOCKET, …) with arguments at an address that is not there: EFAULT (14) where it is let through.
    let calls = ["x86:359,38,5,0", "x86:102,1,0", "x86:102,2,0"].map(str::to_owned);
    let Some((results, _)) = made(&made_by, &calls) else { return };
    assert_eq!(results, [-97, -97, -14]);
}

#[test]
#[cfg(target_arch = "x86_64")]
fn x32_calls_are_shut_when_x32_is_not_listed() {
    let mut native_only = profile(Action::ScmpActAllow, vec![]);
    native_only.set_architectures(None);
    let getpid = (0x4000_0000u32 | 39).to_string();
    let Some((results, status)) = made(&native_only, &[getpid]) else { return };
    assert_eq!((results, status.signal()), (vec![], Some(31)));
    // 515 to 547 are x32's calls without its bit.
    let Some((results, _)) = made(&native_only, &["520".to_owned()]) else { return };
    assert_eq!(results, [-38]);
}
