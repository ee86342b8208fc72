//! The runtime's own profile: what a container may call unless it is told otherwise. The rules are data, in
//! `profile/default.txt`, with their reasons; this reads them for a set of capabilities.

use crate::profile::native;
use oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction as Action, LinuxSeccompArg, LinuxSeccompArgBuilder,
    LinuxSeccompOperator as Operator, LinuxSyscall,
};

const TEXT: &str = include_str!("../profile/default.txt");

/// The runtime's own profile for a process with these effective capabilities (`CAP_…`).
///
/// Everything that is not listed fails with EPERM, and what is newer than the profile with ENOSYS.
pub fn runtime_default(capabilities: &[String]) -> LinuxSeccomp {
    let mut profile = LinuxSeccomp::default();
    profile.set_default_action(Action::ScmpActErrno).set_default_errno_ret(Some(1));
    let others: &[Arch] = match native() {
        Arch::ScmpArchX86_64 => &[Arch::ScmpArchX86, Arch::ScmpArchX32],
        _ => &[Arch::ScmpArchArm],
    };
    profile.set_architectures(Some([&[native()], others].concat()));
    profile.set_syscalls(Some(
        TEXT.lines()
            .filter_map(Line::parse)
            .filter(|line| line.applies(capabilities))
            .map(Line::rule)
            .collect(),
    ));
    profile
}

/// `[with CAP…|without CAP…] allow|errno N names… [if ARG OP VALUE [VALUE]]`.
struct Line<'a> {
    with: Option<&'a str>,
    without: Option<&'a str>,
    errno: Option<u32>,
    names: Vec<&'a str>,
    condition: Option<LinuxSeccompArg>,
}

impl<'a> Line<'a> {
    /// `None` for comments and empty lines; for one with a mistake too, which the tests do not let pass.
    fn parse(text: &'a str) -> Option<Self> {
        let text = text.split('#').next()?.trim();
        let (text, condition) = match text.split_once(" if ") {
            Some((text, condition)) => (text, Some(condition_of(condition)?)),
            None => (text, None),
        };
        let mut words = text.split_whitespace();
        let (mut with, mut without) = (None, None);
        let mut verb = words.next()?;
        if verb == "with" || verb == "without" {
            let capability = words.next()?;
            if verb == "with" {
                with = Some(capability)
            } else {
                without = Some(capability)
            }
            verb = words.next()?;
        }
        let errno = match verb {
            "allow" => None,
            "errno" => Some(words.next()?.parse().ok()?),
            _ => return None,
        };
        Some(Line { with, without, errno, names: words.collect(), condition })
    }

    fn applies(&self, capabilities: &[String]) -> bool {
        let has = |wanted: &str| capabilities.iter().any(|have| have == wanted);
        self.with.is_none_or(has) && !self.without.is_some_and(has)
    }

    fn rule(self) -> LinuxSyscall {
        let mut rule = LinuxSyscall::default();
        rule.set_names(self.names.iter().map(|name| (*name).to_owned()).collect());
        rule.set_action(if self.errno.is_some() { Action::ScmpActErrno } else { Action::ScmpActAllow });
        rule.set_errno_ret(self.errno);
        rule.set_args(self.condition.map(|condition| vec![condition]));
        rule
    }
}

/// `0 == 8`, `0 < 12`, `0 & 0xff == 1`.
fn condition_of(text: &str) -> Option<LinuxSeccompArg> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let number = |word: &str| match word.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => word.parse().ok(),
    };
    let (op, first, second) = match words[..] {
        [_, "==", value] => (Operator::ScmpCmpEq, number(value)?, None),
        [_, "!=", value] => (Operator::ScmpCmpNe, number(value)?, None),
        [_, "<", value] => (Operator::ScmpCmpLt, number(value)?, None),
        [_, ">", value] => (Operator::ScmpCmpGt, number(value)?, None),
        [_, "&", mask, "==", value] => (Operator::ScmpCmpMaskedEq, number(mask)?, Some(number(value)?)),
        _ => return None,
    };
    let arg = LinuxSeccompArgBuilder::default().index(words[0].parse::<usize>().ok()?).op(op).value(first);
    match second {
        Some(second) => arg.value_two(second).build().ok(),
        None => arg.build().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tables::Abi;

    const ALL: [Abi; 5] = [Abi::X86_64, Abi::X32, Abi::I386, Abi::Arm64, Abi::Arm];

    #[test]
    fn every_line_says_something_and_every_name_is_a_call() {
        for line in TEXT.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
            let parsed = Line::parse(line).unwrap_or_else(|| panic!("{line:?} is not understood"));
            assert!(!parsed.names.is_empty(), "{line:?}");
            for name in parsed.names {
                assert!(ALL.iter().any(|abi| abi.number(name).is_some()), "{name} is no system call");
            }
            for capability in parsed.with.into_iter().chain(parsed.without) {
                assert!(capability.starts_with("CAP_"), "{line:?}");
            }
        }
    }

    #[test]
    fn no_call_is_listed_twice_with_the_same_condition() {
        let mut seen = std::collections::HashSet::new();
        for line in TEXT.lines().filter_map(Line::parse) {
            for name in line.names {
                assert!(
                    seen.insert((name, line.with, line.without, format!("{:?}", line.condition))),
                    "{name} is listed twice"
                );
            }
        }
    }

    #[test]
    fn io_uring_is_never_allowed() {
        let everything: Vec<String> =
            TEXT.lines().filter_map(Line::parse).filter_map(|line| line.with).map(str::to_owned).collect();
        for capabilities in [&[][..], &everything] {
            let profile = runtime_default(capabilities);
            let named: Vec<&String> =
                profile.syscalls().iter().flatten().flat_map(|rule| rule.names()).collect();
            assert!(named.len() > 300);
            assert!(!named.iter().any(|name| name.starts_with("io_uring")));
        }
    }
}
