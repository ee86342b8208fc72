//! Compiled filters against an interpreter, a direct reading of the profile, and the kernel itself.

mod cost;
mod defaults;
mod differential;
mod equivalence;
mod kernel;
mod libseccomp;
mod listener;
mod machine;
mod model;
mod random;
mod reading;

use oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction as Action, LinuxSeccompArg, LinuxSeccompArgBuilder,
    LinuxSeccompOperator as Operator, LinuxSyscall,
};

const ALLOW: u32 = 0x7fff_0000;
const KILL_PROCESS: u32 = 0x8000_0000;

/// What a filter returns for an error number.
fn errno(number: u32) -> u32 {
    0x0005_0000 | number
}

fn profile(default: Action, rules: Vec<LinuxSyscall>) -> LinuxSeccomp {
    let mut profile = LinuxSeccomp::default();
    profile.set_default_action(default).set_syscalls(Some(rules));
    profile.set_architectures(Some(vec![
        Arch::ScmpArchX86_64,
        Arch::ScmpArchX86,
        Arch::ScmpArchX32,
        Arch::ScmpArchArm,
    ]));
    profile
}

fn rule(names: &[&str], action: Action, errno: Option<u32>, args: Vec<LinuxSeccompArg>) -> LinuxSyscall {
    let mut rule = LinuxSyscall::default();
    rule.set_names(names.iter().map(|name| (*name).to_owned()).collect());
    rule.set_action(action).set_errno_ret(errno).set_args((!args.is_empty()).then_some(args));
    rule
}

fn arg(index: usize, op: Operator, value: u64, second: Option<u64>) -> LinuxSeccompArg {
    let arg = LinuxSeccompArgBuilder::default().index(index).op(op).value(value);
    match second {
        Some(second) => arg.value_two(second).build().unwrap(),
        None => arg.build().unwrap(),
    }
}
