//! For any profile and any call, the program returns what the profile says.

use crate::machine::{Data, check, run};
use crate::reading::read;
use crate::{ALLOW, KILL_PROCESS, arg, errno, profile, rule};
use oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction as Action, LinuxSeccompArg, LinuxSeccompOperator as Operator,
    LinuxSyscall,
};
use proptest::prelude::*;
use seccomp::{Abi, compile_for};
use types::ErrorKind;

const NAMES: [&str; 28] = [
    "read",
    "write",
    "open",
    "socket",
    "connect",
    "sendto",
    "shmget",
    "semop",
    "socketcall",
    "ipc",
    "clone",
    "clone3",
    "rt_sigaction",
    "execveat",
    "breakpoint",
    "set_tls",
    "openat",
    "openat2",
    "futex",
    "file_setattr",
    "close_range",
    "no_such_call",
    "umask",
    "umount2",
    "mmap2",
    "statx",
    "pwritev2",
    "io_uring_setup",
];
const OPERATORS: [Operator; 7] = [
    Operator::ScmpCmpNe,
    Operator::ScmpCmpLt,
    Operator::ScmpCmpLe,
    Operator::ScmpCmpEq,
    Operator::ScmpCmpGe,
    Operator::ScmpCmpGt,
    Operator::ScmpCmpMaskedEq,
];
const ACTIONS: [Action; 8] = [
    Action::ScmpActAllow,
    Action::ScmpActErrno,
    Action::ScmpActKill,
    Action::ScmpActKillProcess,
    Action::ScmpActTrap,
    Action::ScmpActTrace,
    Action::ScmpActLog,
    Action::ScmpActKillThread,
];

/// Values around the borders of 32 and 64 bits, so that conditions and arguments meet often.
fn value() -> impl Strategy<Value = u64> {
    prop_oneof![
        Just(0u64),
        Just(1),
        Just(3),
        Just(11),
        Just(23),
        Just(38),
        Just(0xffff),
        Just(0xffff_ffff),
        Just(0x1_0000_0000),
        Just(0x1_0000_0001),
        Just(0x1_0000_0026),
        Just(u64::MAX),
        Just(u64::MAX - 1),
        Just(0x7e02_0000),
        any::<u64>(),
    ]
}

fn argument() -> impl Strategy<Value = LinuxSeccompArg> {
    (0usize..3, proptest::sample::select(&OPERATORS[..]), value(), value())
        .prop_map(|(index, op, first, second)| arg(index, op, first, Some(second)))
}

fn one_rule() -> impl Strategy<Value = LinuxSyscall> {
    let names = proptest::collection::vec(proptest::sample::select(&NAMES[..]), 1..5);
    let args = prop_oneof![Just(Vec::new()), proptest::collection::vec(argument(), 1..4)];
    (names, proptest::sample::select(&ACTIONS[..]), proptest::option::of(0u32..4096), args).prop_map(
        |(names, action, errno, args)| {
            let takes = matches!(action, Action::ScmpActErrno | Action::ScmpActTrace);
            rule(&names, action, errno.filter(|_| takes), args)
        },
    )
}

fn any_profile() -> impl Strategy<Value = LinuxSeccomp> {
    let arches = proptest::sample::subsequence(
        vec![
            Arch::ScmpArchX86_64,
            Arch::ScmpArchX86,
            Arch::ScmpArchX32,
            Arch::ScmpArchArm,
            Arch::ScmpArchMips,
        ],
        0..=5,
    );
    (proptest::sample::select(&ACTIONS[..]), proptest::collection::vec(one_rule(), 0..12), arches).prop_map(
        |(default, rules, arches)| {
            let mut made = profile(default, rules);
            made.set_architectures(Some(arches));
            made
        },
    )
}

fn any_data() -> impl Strategy<Value = Data> {
    let abis = vec![Abi::X86_64, Abi::X32, Abi::I386, Abi::Arm64, Abi::Arm];
    let named = (proptest::sample::select(&NAMES[..]), proptest::sample::select(abis.clone()), -1i64..=1)
        .prop_map(|(name, abi, beside)| {
            abi.number(name).map_or(u32::MAX, |number| (i64::from(number) + beside) as u32)
        });
    let number = prop_oneof![4 => named, 1 => 0u32..600, 1 => (0u32..600).prop_map(|n| n | 1 << 30), 1 => any::<u32>(), 1 => Just(u32::MAX)];
    let architecture =
        prop_oneof![6 => proptest::sample::select(abis.clone()).prop_map(Abi::audit), 1 => any::<u32>()];
    (number, architecture, proptest::array::uniform6(value()))
        .prop_map(|(number, architecture, arguments)| Data { number, architecture, arguments })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(250))]
    #[test]
    fn the_program_says_what_the_profile_says(made in any_profile(), calls in proptest::collection::vec(any_data(), 40)) {
        for native in [Abi::X86_64, Abi::Arm64] {
            let filter = compile_for(native, &made).unwrap();
            check(&filter.program);
            for data in &calls {
                prop_assert_eq!(run(&filter.program, data), read(native, &made, data), "{:?} {:?}", native, data);
            }
        }
    }
}

fn answer(made: &LinuxSeccomp, abi: Abi, number: u32, first: u64) -> u32 {
    let filter = compile_for(Abi::X86_64, made).unwrap();
    check(&filter.program);
    run(&filter.program, &Data { number, architecture: abi.audit(), arguments: [first, 0, 0, 0, 0, 0] })
}

#[test]
fn calls_newer_than_the_profile_are_enosys_and_older_ones_the_default() {
    let made =
        profile(Action::ScmpActErrno, vec![rule(&["read", "openat2"], Action::ScmpActAllow, None, vec![])]);
    assert_eq!(answer(&made, Abi::X86_64, 0, 0), ALLOW);
    assert_eq!(answer(&made, Abi::X86_64, 436, 0), errno(1));
    assert_eq!(answer(&made, Abi::X86_64, 438, 0), errno(38));
    assert_eq!(answer(&made, Abi::X32, 438 | 1 << 30, 0), errno(38));
    assert_eq!(answer(&made, Abi::X86_64, u32::MAX, 0), errno(38));
    let open = profile(Action::ScmpActAllow, vec![rule(&["read"], Action::ScmpActErrno, None, vec![])]);
    assert_eq!(answer(&open, Abi::X86_64, 438, 0), ALLOW);
}

#[test]
fn an_architecture_that_is_not_listed_is_killed() {
    let mut made = profile(Action::ScmpActAllow, vec![]);
    made.set_architectures(None);
    assert_eq!(answer(&made, Abi::X86_64, 0, 0), ALLOW);
    assert_eq!(answer(&made, Abi::I386, 0, 0), KILL_PROCESS);
    assert_eq!(answer(&made, Abi::X32, 1 << 30, 0), KILL_PROCESS);
    assert_eq!(answer(&made, Abi::Arm64, 0, 0), KILL_PROCESS);
}

#[test]
fn a_denial_under_conditions_holds_beside_a_wider_permission() {
    let deny = rule(&["socket"], Action::ScmpActErrno, None, vec![arg(0, Operator::ScmpCmpEq, 38, None)]);
    let allow = rule(&["socket"], Action::ScmpActAllow, None, vec![]);
    for rules in [vec![deny.clone(), allow.clone()], vec![allow, deny]] {
        let made = profile(Action::ScmpActErrno, rules);
        assert_eq!(answer(&made, Abi::X86_64, 41, 38), errno(1));
        assert_eq!(answer(&made, Abi::X86_64, 41, 2), ALLOW);
    }
}

#[test]
fn what_is_denied_cannot_be_reached_through_socketcall() {
    let made = profile(
        Action::ScmpActAllow,
        vec![rule(&["socket"], Action::ScmpActErrno, None, vec![arg(0, Operator::ScmpCmpEq, 38, None)])],
    );
    assert_eq!(answer(&made, Abi::I386, 102, 1), errno(1));
    assert_eq!(answer(&made, Abi::I386, 102, 2), ALLOW);
    let made = profile(
        Action::ScmpActErrno,
        vec![rule(&["socket"], Action::ScmpActAllow, None, vec![arg(0, Operator::ScmpCmpEq, 2, None)])],
    );
    assert_eq!(answer(&made, Abi::I386, 102, 1), errno(1));
    let made = profile(Action::ScmpActErrno, vec![rule(&["socket"], Action::ScmpActAllow, None, vec![])]);
    assert_eq!(answer(&made, Abi::I386, 102, 1), ALLOW);
}

#[test]
fn rules_that_cannot_be_are_refused_with_their_names() {
    let cases = [
        (rule(&["read"], Action::ScmpActErrno, Some(5000), vec![]), "5000"),
        (
            rule(&["read"], Action::ScmpActErrno, None, vec![arg(6, Operator::ScmpCmpEq, 0, None)]),
            "argument 6",
        ),
        (rule(&["read"], Action::ScmpActAllow, Some(1), vec![]), "errnoRet"),
    ];
    for (bad, why) in cases {
        let error = compile_for(Abi::X86_64, &profile(Action::ScmpActAllow, vec![bad])).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        assert!(error.message().contains(why) && error.message().contains("read"), "{error}");
    }
}

#[test]
fn a_program_that_the_kernel_would_refuse_is_refused_here() {
    let rules = (0..1500)
        .map(|n| rule(&["read"], Action::ScmpActAllow, None, vec![arg(0, Operator::ScmpCmpEq, n, None)]))
        .collect();
    let error = compile_for(Abi::X86_64, &profile(Action::ScmpActErrno, rules)).unwrap_err();
    assert!(error.message().contains("4096"), "{error}");
    let rules = (0..30_000).map(|_| rule(&["read"], Action::ScmpActAllow, None, vec![])).collect();
    assert!(compile_for(Abi::X86_64, &profile(Action::ScmpActErrno, rules)).is_err());
}
