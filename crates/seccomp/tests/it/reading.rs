//! What a profile says about one call, read directly: slow, and written without a look at the compiler.

use crate::machine::Data;
use crate::{KILL_PROCESS, errno};
use oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction as Action, LinuxSeccompArg, LinuxSeccompOperator as Operator,
    LinuxSyscall,
};
use seccomp::Abi;

const X32: u32 = 1 << 30;

pub fn read(native: Abi, profile: &LinuxSeccomp, data: &Data) -> u32 {
    let default = value(profile.default_action(), profile.default_errno_ret());
    let newer = match profile.default_action() {
        Action::ScmpActAllow | Action::ScmpActLog | Action::ScmpActTrace => default,
        _ => errno(38),
    };
    let lists = |arch: Arch| profile.architectures().iter().flatten().any(|a| *a == arch);
    let abi = match (native, data.architecture) {
        (Abi::X86_64, 0xc000_003e) => {
            if data.number == u32::MAX {
                return newer;
            }
            if data.number >= X32 && !lists(Arch::ScmpArchX32) {
                return KILL_PROCESS;
            }
            if (512..548).contains(&data.number) {
                return errno(38);
            }
            if data.number >= X32 { Abi::X32 } else { Abi::X86_64 }
        }
        (Abi::X86_64, 0x4000_0003) if lists(Arch::ScmpArchX86) => Abi::I386,
        (Abi::Arm64, 0xc000_00b7) => Abi::Arm64,
        (Abi::Arm64, 0x4000_0028) if lists(Arch::ScmpArchArm) => Abi::Arm,
        _ => return KILL_PROCESS,
    };
    let rules: Vec<&LinuxSyscall> = profile.syscalls().iter().flatten().collect();
    let about = |rule: &&&LinuxSyscall| rule.names().iter().any(|name| abi.number(name) == Some(data.number));
    for rule in rules.iter().filter(about) {
        let args = rule.args().as_deref().unwrap_or_default();
        if !args.is_empty() && holds(args, data) {
            return value(rule.action(), rule.errno_ret());
        }
    }
    if let Some(answer) = through(abi, &rules, data) {
        return answer;
    }
    if let Some(rule) =
        rules.iter().filter(about).find(|rule| rule.args().as_ref().is_none_or(|args| args.is_empty()))
    {
        return value(rule.action(), rule.errno_ret());
    }
    // A call that the profile names is known to it, whatever its number.
    if rules.iter().any(|rule| about(&rule)) {
        return default;
    }
    let private = |number: u32| match abi {
        Abi::X32 => number >= X32 | 512,
        Abi::Arm => number >= 0x000f_0000,
        _ => false,
    };
    let named = rules.iter().flat_map(|rule| rule.names()).filter_map(|name| abi.number(name));
    match named.filter(|number| !private(*number)).max() {
        Some(newest) if data.number > newest => newer,
        _ => default,
    }
}

/// socketcall(2)'s sub-calls from 1 on.
const SOCKETCALL: &str = "socket bind connect listen accept getsockname getpeername socketpair send recv sendto recvfrom \
                          shutdown setsockopt getsockopt sendmsg recvmsg accept4 recvmmsg sendmmsg";
/// ipc(2)'s.
const IPC: [(u64, &str); 12] = [
    (1, "semop"),
    (2, "semget"),
    (3, "semctl"),
    (4, "semtimedop"),
    (11, "msgsnd"),
    (12, "msgrcv"),
    (13, "msgget"),
    (14, "msgctl"),
    (21, "shmat"),
    (22, "shmdt"),
    (23, "shmget"),
    (24, "shmctl"),
];

/// 32-bit x86's socketcall and ipc, when no rule names them.
fn through(abi: Abi, rules: &[&LinuxSyscall], data: &Data) -> Option<u32> {
    if abi != Abi::I386 {
        return None;
    }
    let (way, code) = match data.number {
        102 => ("socketcall", data.arguments[0]),
        117 => ("ipc", data.arguments[0] & 0xffff),
        _ => return None,
    };
    if rules.iter().any(|rule| rule.names().iter().any(|name| name == way)) {
        return None;
    }
    let name = match way {
        "socketcall" => SOCKETCALL.split(' ').nth(usize::try_from(code).ok()?.checked_sub(1)?)?,
        _ => IPC.iter().find(|(sub_call, _)| *sub_call == code)?.1,
    };
    let rule = rules.iter().find(|rule| {
        let grants = matches!(
            rule.action(),
            Action::ScmpActAllow | Action::ScmpActLog | Action::ScmpActTrace | Action::ScmpActNotify
        );
        rule.names().iter().any(|n| n == name)
            && (!grants || rule.args().as_ref().is_none_or(|args| args.is_empty()))
    })?;
    Some(value(rule.action(), rule.errno_ret()))
}

pub fn holds(args: &[LinuxSeccompArg], data: &Data) -> bool {
    let one = |arg: &LinuxSeccompArg| {
        let (is, said) = (data.arguments[arg.index()], arg.value());
        match arg.op() {
            Operator::ScmpCmpNe => is != said,
            Operator::ScmpCmpLt => is < said,
            Operator::ScmpCmpLe => is <= said,
            Operator::ScmpCmpEq => is == said,
            Operator::ScmpCmpGe => is >= said,
            Operator::ScmpCmpGt => is > said,
            Operator::ScmpCmpMaskedEq => (is ^ arg.value_two().unwrap_or(0)) & said == 0,
        }
    };
    let same = (0..6).any(|index| args.iter().filter(|arg| arg.index() == index).count() > 1);
    if same { args.iter().any(one) } else { args.iter().all(one) }
}

pub fn value(action: Action, number: Option<u32>) -> u32 {
    let number = number.unwrap_or(1);
    match action {
        Action::ScmpActKill | Action::ScmpActKillThread => 0,
        Action::ScmpActKillProcess => KILL_PROCESS,
        Action::ScmpActTrap => 0x0003_0000,
        Action::ScmpActErrno => errno(number),
        Action::ScmpActNotify => 0x7fc0_0000,
        Action::ScmpActTrace => 0x7ff0_0000 | number,
        Action::ScmpActLog => 0x7ffc_0000,
        Action::ScmpActAllow => 0x7fff_0000,
    }
}
