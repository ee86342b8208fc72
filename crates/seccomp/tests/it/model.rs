//! What libseccomp is asked, and where it and our compiler differ on purpose: each such difference is a [`Reason`].

use crate::libseccomp::ask;
use crate::machine::{Data, Program};
use crate::reading::{holds, read, value};
use crate::{KILL_PROCESS, errno};
use oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction as Action, LinuxSeccompArg, LinuxSeccompOperator as Operator,
    LinuxSyscall,
};
use seccomp::Abi;
use std::collections::{BTreeSet, HashMap};
use std::fmt::Write;

pub const X32: u32 = 1 << 30;
const KILL_THREAD: u32 = 0;
pub const ABIS: [(Abi, &str); 5] = [
    (Abi::X86_64, "x86_64"),
    (Abi::X32, "x32"),
    (Abi::I386, "x86"),
    (Abi::Arm64, "aarch64"),
    (Abi::Arm, "arm"),
];

/// Why our answer is another than libseccomp's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// An architecture that is not listed: libseccomp ends the thread and leaves half a process, we end the process.
    Architecture,
    /// x32 calls where x32 is not listed: the same.
    NoX32,
    /// x86-64 numbers 512 to 547 were a second door to x32's calls before Linux 5.4: no such call, whatever the default.
    X32WithoutBit,
    /// Newer than the newest call that the profile names: ENOSYS, as runc patches in front of libseccomp's program.
    Newer,
    /// A 32-bit architecture's argument never has upper bits, so a value that has them is never equal. libseccomp cuts
    /// the value and compares the rest.
    WideValue,
    /// x32 passes whole registers, and the kernel uses them whole; libseccomp looks at their lower half.
    WideArgument,
    /// socketcall(2) and ipc(2) on 32-bit x86 ([`seccomp`]'s `mux.rs`): rules with conditions do not open them.
    Multiplexed,
    /// Several rules with conditions for one call. libseccomp makes a tree of them that does not go back from a branch that
    /// failed to the next one, so that a rule is not seen; and before 2.6.1 it joins comparisons wrongly and lets calls
    /// through that no rule allows (GHSA-4q85-33p6-j5g6).
    Joined,
    /// Rules with different actions hold for the same call: conditions come first here, in the profile's order.
    /// libseccomp has an unconditional rule first, and among others the order of its tree; runc leaves rules out that
    /// say what the default says.
    Contradiction,
}

/// What libseccomp knows of names: per name the numbers in the order of [`ABIS`].
pub struct Names(pub HashMap<String, [i32; 5]>);

impl Names {
    /// Asks for all names in our tables.
    pub fn ask(program: &std::path::Path) -> Self {
        let text = format!("names\n{}\nend\n", all_names().join("\n"));
        let lines = ask(program, text);
        Names(
            lines
                .iter()
                .map(|line| {
                    let mut words = line.split(' ');
                    let name = words.next().unwrap().to_owned();
                    let numbers: Vec<i32> = words.map(|word| word.parse().unwrap()).collect();
                    (name, numbers.try_into().unwrap())
                })
                .collect(),
        )
    }

    /// 32-bit x86's other way to a call: the multiplexer's number and the sub-call's.
    fn through(&self, name: &str) -> Option<(u32, u64)> {
        match self.0.get(name)?[2] {
            code @ -199..=-101 => Some((102, (-100 - code) as u64)),
            code @ -299..=-201 => Some((117, (-200 - code) as u64)),
            _ => None,
        }
    }
}

/// Every name in our tables.
pub fn all_names() -> Vec<&'static str> {
    let tables = [
        include_str!("../../tables/x86_64.txt"),
        include_str!("../../tables/x32.txt"),
        include_str!("../../tables/i386.txt"),
        include_str!("../../tables/arm64.txt"),
        include_str!("../../tables/arm.txt"),
    ];
    let lines = tables.iter().flat_map(|text| text.lines()).filter(|line| !line.starts_with('#'));
    let words = lines.flat_map(str::split_whitespace).filter(|word| word.parse::<u32>().is_err());
    words.flat_map(|word| word.split('/')).collect::<BTreeSet<_>>().into_iter().collect()
}

/// The rules about each call.
pub type ByCall<'a> = HashMap<(Abi, u32), Vec<&'a LinuxSyscall>>;

/// One profile on both sides.
pub struct Pair<'a> {
    pub native: Abi,
    pub profile: &'a LinuxSeccomp,
    pub names: &'a Names,
    /// Names of the rules that libseccomp did not take, as they contradict others.
    pub refused: BTreeSet<&'a str>,
    /// The rules about each call, and the newest call of each architecture that is named.
    pub about: ByCall<'a>,
    pub newest: HashMap<Abi, u32>,
    pub ours: Program,
    pub theirs: Program,
}

/// The rules as runc gives them to libseccomp (libcontainer/seccomp/seccomp_linux.go, `matchCall`).
pub fn question(native: Abi, profile: &LinuxSeccomp) -> String {
    let default = value(profile.default_action(), profile.default_errno_ret());
    let word = |abi: Abi| ABIS.iter().find(|(known, _)| *known == abi).unwrap().1;
    // 2 is libseccomp's binary tree. Its list is wrong in 2.5.4: where a rule with conditions comes first in an architecture, it
    // compares the architecture's number instead of the call's.
    let mut text = format!("filter {} 2 {default:x}\n", word(native));
    for (listed, abi) in further(native) {
        if lists(profile, listed) {
            writeln!(text, "arch {}", word(abi)).unwrap();
        }
    }
    for rule in profile.syscalls().iter().flatten() {
        let action = value(rule.action(), rule.errno_ret());
        if action == default {
            continue;
        }
        let args = rule.args().as_deref().unwrap_or_default();
        let alternatives = split(args);
        for (name, conditions) in
            rule.names().iter().flat_map(|name| alternatives.iter().map(move |args| (name, args)))
        {
            write!(text, "rule {action:x} {name}").unwrap();
            for arg in conditions.iter() {
                let (first, second) = (arg.value(), arg.value_two().unwrap_or(0));
                write!(text, " {} {} {first:x} {second:x}", arg.index(), operator(arg.op())).unwrap();
            }
            text.push('\n');
        }
    }
    text + "end\n"
}

/// runc makes a rule of each condition when two are about one argument, for libseccomp refuses that.
fn split(args: &[LinuxSeccompArg]) -> Vec<&[LinuxSeccompArg]> {
    let twice = (0..6).any(|index| args.iter().filter(|arg| arg.index() == index).count() > 1);
    if twice { args.chunks(1).collect() } else { vec![args] }
}

fn operator(op: Operator) -> &'static str {
    match op {
        Operator::ScmpCmpNe => "ne",
        Operator::ScmpCmpLt => "lt",
        Operator::ScmpCmpLe => "le",
        Operator::ScmpCmpEq => "eq",
        Operator::ScmpCmpGe => "ge",
        Operator::ScmpCmpGt => "gt",
        Operator::ScmpCmpMaskedEq => "masked",
    }
}

pub fn further(native: Abi) -> Vec<(Arch, Abi)> {
    match native {
        Abi::X86_64 => vec![(Arch::ScmpArchX86, Abi::I386), (Arch::ScmpArchX32, Abi::X32)],
        _ => vec![(Arch::ScmpArchArm, Abi::Arm)],
    }
}

fn lists(profile: &LinuxSeccomp, arch: Arch) -> bool {
    profile.architectures().iter().flatten().any(|listed| *listed == arch)
}

impl Pair<'_> {
    /// Whose call it is, if it is of an architecture that is in the filter.
    pub fn abi(&self, data: &Data) -> Result<Abi, Reason> {
        let known = |abi: Abi| match abi {
            Abi::X86_64 | Abi::Arm64 => abi == self.native,
            abi => further(self.native).iter().any(|(arch, a)| *a == abi && lists(self.profile, *arch)),
        };
        let abi = match data.architecture {
            0xc000_003e if data.number >= X32 && data.number != u32::MAX => Abi::X32,
            audit => match ABIS.iter().find(|(abi, _)| abi.audit() == audit) {
                Some((abi, _)) => *abi,
                None => return Err(Reason::Architecture),
            },
        };
        match known(abi) {
            true => Ok(abi),
            false if abi == Abi::X32 && known(Abi::X86_64) => Err(Reason::NoX32),
            false => Err(Reason::Architecture),
        }
    }

    /// The rules about a call.
    fn about(&self, abi: Abi, number: u32) -> &[&LinuxSyscall] {
        self.about.get(&(abi, number)).map_or(&[], Vec::as_slice)
    }

    /// The conditions of all rules about this call.
    pub fn conditions(&self, abi: Abi, number: u32) -> Vec<&LinuxSeccompArg> {
        self.about(abi, number).iter().flat_map(|rule| rule.args().iter().flatten()).collect()
    }

    /// The same, by rule as libseccomp gets them.
    fn alternatives(&self, abi: Abi, number: u32) -> Vec<&[LinuxSeccompArg]> {
        let rules = self.about(abi, number).iter();
        let split = rules.flat_map(|rule| split(rule.args().as_deref().unwrap_or_default()));
        split.filter(|conditions| !conditions.is_empty()).collect()
    }

    /// What the rules say that hold for this call: none, one or several things.
    fn voices(&self, abi: Abi, data: &Data) -> BTreeSet<u32> {
        let mut voices = BTreeSet::new();
        for rule in self.about(abi, data.number) {
            let args = rule.args().as_deref().unwrap_or_default();
            if args.is_empty() || holds(args, data) {
                voices.insert(value(rule.action(), rule.errno_ret()));
            }
        }
        if abi == Abi::I386 && matches!(data.number, 102 | 117) {
            let way = (data.number, data.arguments[0]);
            let rules = self.profile.syscalls().iter().flatten().filter(|rule| rule.args().is_none());
            let through = |name: &String| self.names.through(name) == Some(way);
            let rules = rules.filter(|rule| rule.names().iter().any(through));
            voices.extend(rules.map(|rule| value(rule.action(), rule.errno_ret())));
        }
        voices
    }

    /// socketcall and ipc where a rule speaks of a sub-call under conditions, or of the multiplexer too.
    fn multiplexed(&self, abi: Abi, data: &Data) -> bool {
        if abi != Abi::I386 || !matches!(data.number, 102 | 117) {
            return false;
        }
        let named = !self.about(abi, data.number).is_empty();
        self.profile.syscalls().iter().flatten().any(|rule| {
            let through = |name: &String| self.names.through(name).is_some_and(|(way, _)| way == data.number);
            (named || rule.args().is_some()) && rule.names().iter().any(through)
        })
    }

    /// The rules about a call, for messages.
    pub fn shown(&self, data: &Data) -> String {
        let mut text = format!(", default {:?}", self.profile.default_action());
        for rule in self.profile.syscalls().iter().flatten() {
            let about = |name: &String| ABIS.iter().any(|(abi, _)| abi.number(name) == Some(data.number));
            if rule.names().iter().any(about) {
                write!(text, "\n  {:?} {:?}", rule.action(), rule.errno_ret()).unwrap();
                for arg in rule.args().iter().flatten() {
                    let (first, second) = (arg.value(), arg.value_two().unwrap_or(0));
                    write!(text, ", {} {} {first:x} {second:x}", arg.index(), operator(arg.op())).unwrap();
                }
            }
        }
        text
    }

    /// Why the answers may differ, what libseccomp's must then be one of (nothing: anything), and what ours must be.
    pub fn difference(&self, data: &Data) -> Option<(Reason, Vec<u32>, u32)> {
        let default = value(self.profile.default_action(), self.profile.default_errno_ret());
        let permits = matches!(
            self.profile.default_action(),
            Action::ScmpActAllow | Action::ScmpActLog | Action::ScmpActTrace
        );
        let newer = if permits { default } else { errno(38) };
        let abi = match self.abi(data) {
            Ok(abi) => abi,
            Err(reason) => return Some((reason, vec![KILL_THREAD], KILL_PROCESS)),
        };
        if abi == Abi::X86_64 && (512..548).contains(&data.number) {
            return Some((Reason::X32WithoutBit, vec![default], errno(38)));
        }
        if abi == Abi::X86_64 && data.number == u32::MAX {
            return Some((Reason::Newer, vec![default], newer));
        }
        let said = || read(self.native, self.profile, data);
        if self.multiplexed(abi, data) {
            return Some((Reason::Multiplexed, vec![], said()));
        }
        let conditions = self.conditions(abi, data.number);
        let wide = |arg: &&&LinuxSeccompArg| arg.value().max(arg.value_two().unwrap_or(0)) >> 32 != 0;
        if matches!(abi, Abi::I386 | Abi::Arm | Abi::X32) && conditions.iter().any(|arg| wide(&arg)) {
            return Some((Reason::WideValue, vec![], said()));
        }
        if abi == Abi::X32 && conditions.iter().any(|arg| data.arguments[arg.index()] >> 32 != 0) {
            return Some((Reason::WideArgument, vec![], said()));
        }
        if joined(&self.alternatives(abi, data.number)) {
            return Some((Reason::Joined, vec![], said()));
        }
        let way = |name: &str| self.names.through(name) == Some((data.number, data.arguments[0]));
        if self
            .refused
            .iter()
            .any(|name| abi.number(name) == Some(data.number) || abi == Abi::I386 && way(name))
        {
            return Some((Reason::Contradiction, vec![], said()));
        }
        let voices = self.voices(abi, data);
        if voices.len() > 1 {
            return Some((Reason::Contradiction, voices.into_iter().chain([default]).collect(), said()));
        }
        let above = self.newest.get(&abi).is_some_and(|newest| data.number > *newest);
        if above && self.about(abi, data.number).is_empty() && voices.is_empty() && newer != default {
            return Some((Reason::Newer, vec![default], newer));
        }
        None
    }
}

/// The rules about each call of each architecture, and the newest of the calls that count as common.
pub fn index(profile: &LinuxSeccomp) -> (ByCall<'_>, HashMap<Abi, u32>) {
    let (mut about, mut newest) = (HashMap::<_, Vec<_>>::new(), HashMap::new());
    for rule in profile.syscalls().iter().flatten() {
        for (abi, _) in ABIS {
            let numbers: BTreeSet<u32> = rule.names().iter().filter_map(|name| abi.number(name)).collect();
            for number in numbers {
                about.entry((abi, number)).or_default().push(rule);
                let end = match abi {
                    Abi::X32 => X32 | 512,
                    Abi::Arm => 0x000f_0000,
                    _ => u32::MAX,
                };
                if number < end {
                    let known = newest.entry(abi).or_insert(number);
                    *known = number.max(*known);
                }
            }
        }
    }
    (about, newest)
}

/// Whether the conditions of a call are more than libseccomp's tree holds: several rules, of which one has several
/// conditions, or tests that are not all of one argument for one value each.
fn joined(rules: &[&[LinuxSeccompArg]]) -> bool {
    let equal = |rule: &&[LinuxSeccompArg]| {
        rule.len() == 1 && rule[0].op() == Operator::ScmpCmpEq && rule[0].index() == rules[0][0].index()
    };
    rules.len() > 1 && !rules.iter().all(equal)
}
