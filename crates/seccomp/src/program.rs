//! From rules to a program: one binary search over call numbers for each architecture that the kernel tells apart.
//!
//! Only instructions that the kernel can run in its head at load time come before the arguments are read, so that
//! calls which are always allowed cost no filter run at all (kernel/seccomp.c, `seccomp_is_const_allow`, since Linux 5.11).

use crate::action;
use crate::bpf::{Instruction, Test, and, jump, load, ret, test};
use crate::rules::{Call, Compare, Condition, Rules};
use crate::tables::{Abi, X32_BIT};

/// Offsets in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

/// What happens from one number up to the next segment's.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Segment {
    start: u32,
    leaf: Leaf,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Leaf {
    Return(u32),
    Check(Call),
}

/// What calls that no rule names get.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Defaults {
    /// Within what the profile knows.
    pub value: u32,
    /// Calls newer than the newest that the profile names: ENOSYS lets programs fall back where EPERM makes them fail
    /// (runc, libcontainer/seccomp/patchbpf). The same as `value` under a default that permits.
    pub newer: u32,
}

/// The whole filter; native ABI first.
pub(crate) fn program(abis: &[(Abi, Rules)], defaults: Defaults) -> Vec<Instruction> {
    let mut program = vec![load(ARCHITECTURE)];
    for (abi, rules) in abis.iter().filter(|(abi, _)| *abi != Abi::X32) {
        let x32 =
            abis.iter().find(|(other, _)| *abi == Abi::X86_64 && *other == Abi::X32).map(|(_, rules)| rules);
        let mut block = vec![load(NUMBER)];
        block.extend(search(&segments(*abi, rules, x32, defaults)));
        program.push(test(Test::Equal, abi.audit(), 1, 0));
        program.push(jump(block.len() as u32));
        program.extend(block);
    }
    // An architecture that the profile does not name. libseccomp kills the thread; killing the process leaves no half.
    program.push(ret(action::KILL_PROCESS));
    program
}

fn segments(abi: Abi, rules: &Rules, x32: Option<&Rules>, defaults: Defaults) -> Vec<Segment> {
    let mut line = Line { segments: Vec::new() };
    line.put(rules, 0, defaults);
    if abi == Abi::X86_64 {
        // Before Linux 5.4 these numbers reached x32's calls without bit 30, past every rule; nothing else uses them.
        line.cut(512, 548, Leaf::Return(action::ENOSYS));
        match x32 {
            Some(rules) => line.put(rules, X32_BIT, defaults),
            None => line.segments.push(Segment { start: X32_BIT, leaf: Leaf::Return(action::KILL_PROCESS) }),
        }
        // −1 is no x32 call: programs use it to ask whether there is a kernel filter, and tracers to skip a call.
        line.cut(u32::MAX, u32::MAX, Leaf::Return(defaults.newer));
    }
    line.segments
        .dedup_by(|next, previous| next.leaf == previous.leaf && matches!(next.leaf, Leaf::Return(_)));
    line.segments
}

/// Segments in rising order that cover all numbers from the first one's start.
struct Line {
    segments: Vec<Segment>,
}

impl Line {
    /// Adds an ABI's numbers, from `first` on.
    fn put(&mut self, rules: &Rules, first: u32, defaults: Defaults) {
        self.push(first, Leaf::Return(defaults.value));
        for (number, call) in &rules.calls {
            let unlisted = if rules.is_unknown(*number) { defaults.newer } else { defaults.value };
            let leaf = match (call.checks.is_empty(), call.otherwise.unwrap_or(unlisted)) {
                (true, value) => Leaf::Return(value),
                (false, value) => Leaf::Check(Call { checks: call.checks.clone(), otherwise: Some(value) }),
            };
            self.push(*number, leaf);
            let newer = rules.newest.is_some_and(|newest| *number >= newest);
            self.push(number + 1, Leaf::Return(if newer { defaults.newer } else { defaults.value }));
        }
    }

    /// From `start` on; replaces a segment that starts there.
    fn push(&mut self, start: u32, leaf: Leaf) {
        while self.segments.last().is_some_and(|last| last.start >= start) {
            self.segments.pop();
        }
        self.segments.push(Segment { start, leaf });
    }

    /// Puts `leaf` on the numbers from `start` to before `end` (to the last number when both are the same).
    fn cut(&mut self, start: u32, end: u32, leaf: Leaf) {
        let rest = self
            .segments
            .iter()
            .rev()
            .find(|segment| segment.start <= end)
            .map(|segment| segment.leaf.clone());
        let at = self.segments.partition_point(|segment| segment.start < start);
        let mut upper = self.segments.split_off(at);
        self.segments.push(Segment { start, leaf });
        if end > start
            && let Some(rest) = rest
        {
            upper.retain(|segment| segment.start > end);
            self.segments.push(Segment { start: end, leaf: rest });
            self.segments.extend(upper);
        }
    }
}

/// A tree of comparisons over segments in rising order. The accumulator holds the number.
fn search(segments: &[Segment]) -> Vec<Instruction> {
    match segments {
        [] => vec![ret(action::KILL_PROCESS)],
        [one] => match &one.leaf {
            Leaf::Return(value) => vec![ret(*value)],
            Leaf::Check(call) => check(call),
        },
        _ => {
            let (lower, upper) = segments.split_at(segments.len() / 2);
            let (first, second) = (search(lower), search(upper));
            let start = upper[0].start;
            let mut code = match u8::try_from(first.len()) {
                Ok(distance) => vec![test(Test::GreaterOrEqual, start, distance, 0)],
                // Conditional jumps reach 255 instructions; `ja` reaches all.
                Err(_) => vec![test(Test::GreaterOrEqual, start, 0, 1), jump(first.len() as u32)],
            };
            code.extend(first);
            code.extend(second);
            code
        }
    }
}

/// The conditions of one call, one after the other.
fn check(call: &Call) -> Vec<Instruction> {
    let mut code = Vec::new();
    for (conditions, value) in &call.checks {
        let tests: Vec<Vec<Instruction>> = conditions.iter().map(compare).collect();
        // A rule has at most six conditions of at most six instructions, so all of its jumps are short.
        let mut left: usize = tests.iter().map(Vec::len).sum::<usize>() + 1;
        for test in tests {
            for mut instruction in test {
                left -= 1;
                if instruction.yes == FAIL {
                    instruction.yes = left as u8;
                }
                if instruction.no == FAIL {
                    instruction.no = left as u8;
                }
                code.push(instruction);
            }
        }
        code.push(ret(*value));
    }
    code.push(ret(call.otherwise.unwrap_or(action::KILL_PROCESS)));
    code
}

/// Stands for "to behind this rule's return" until the distance is known.
const FAIL: u8 = u8::MAX;

/// Falls through when the condition holds. An argument has 64 bits and is read in halves, lower half first in
/// memory (all machines here are little-endian).
fn compare(condition: &Condition) -> Vec<Instruction> {
    let low = ARGUMENTS + 8 * condition.argument;
    let high = low + 4;
    let halves = |value: u64| ((value >> 32) as u32, value as u32);
    // Compared from the upper half on: (a, b) says where to go when the upper half is greater, and when it is less.
    let ordered = |value, greater: u8, less: u8, last: Instruction| {
        let (upper, _) = halves(value);
        vec![
            load(high),
            test(Test::Greater, upper, greater, 0),
            test(Test::Equal, upper, 0, less),
            load(low),
            last,
        ]
    };
    match condition.compare {
        Compare::Equal(value) => {
            let (upper, lower) = halves(value);
            vec![load(high), test(Test::Equal, upper, 0, FAIL), load(low), test(Test::Equal, lower, 0, FAIL)]
        }
        Compare::NotEqual(value) => {
            let (upper, lower) = halves(value);
            vec![load(high), test(Test::Equal, upper, 0, 2), load(low), test(Test::Equal, lower, FAIL, 0)]
        }
        Compare::GreaterOrEqual(value) => {
            ordered(value, 3, FAIL, test(Test::GreaterOrEqual, value as u32, 0, FAIL))
        }
        Compare::Greater(value) => ordered(value, 3, FAIL, test(Test::Greater, value as u32, 0, FAIL)),
        Compare::Less(value) => ordered(value, FAIL, 2, test(Test::GreaterOrEqual, value as u32, FAIL, 0)),
        Compare::LessOrEqual(value) => ordered(value, FAIL, 2, test(Test::Greater, value as u32, FAIL, 0)),
        Compare::Masked { mask, value } => {
            let ((mask_upper, mask_lower), (upper, lower)) = (halves(mask), halves(value));
            vec![
                load(high),
                and(mask_upper),
                test(Test::Equal, upper, 0, FAIL),
                load(low),
                and(mask_lower),
                test(Test::Equal, lower, 0, FAIL),
            ]
        }
    }
}
