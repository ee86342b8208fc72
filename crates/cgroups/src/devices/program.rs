//! Device rules as an eBPF program: the device controller of cgroup v2. No I/O.
//!
//! The kernel runs the program with a `struct bpf_cgroup_dev_ctx` (linux/bpf.h): what is asked for and the kind of
//! device in one word, major, minor. Result 1 allows, 0 refuses with EPERM.
//!
//! Each asked kind of access is decided by the last rule that names the device and that access; without one it
//! is refused, and the request is allowed when all that it asks for is. So an allowing rule that stands alone must
//! have all that is asked for (runc's devicefilter.go, crun's ebpf.c), `r` and `w` of two rules add up and a denied `r`
//! refuses `rw` (v1's exceptions, security/device_cgroup.c; runc gets there by merging rules first). A
//! request for no access, which is faccessat(2) with F_OK, is decided by the last rule that names the device, save that
//! a denial of some kinds only says nothing about it.

use super::{DeviceKind, DeviceRule};
use sys::bpf::{Instruction, MAX_INSTRUCTIONS};

/// `BPF_DEVCG_DEV_*`.
const BLOCK: i32 = 1;
const CHAR: i32 = 2;
/// `BPF_DEVCG_ACC_*`.
const MKNOD: i32 = 1;
const READ: i32 = 2;
const WRITE: i32 = 4;
const ALL: i32 = MKNOD | READ | WRITE;

/// Registers: the result, also used in between, and what the program is asked.
const RESULT: u8 = 0;
const CONTEXT: u8 = 1;
const KIND: u8 = 2;
/// The asked access that no rule has allowed yet.
const ACCESS: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;

/// Operation codes (linux/bpf_common.h and bpf.h). All 32 bits wide: numbers of devices are unsigned, and 64-bit
/// operations take a constant from 2^31 on as negative. 32-bit jumps are from Linux 5.1.
const LOAD_WORD: u8 = 0x61;
const AND: u8 = 0x54;
const XOR: u8 = 0xa4;
const SHIFT_RIGHT: u8 = 0x74;
const COPY: u8 = 0xbc;
const SET: u8 = 0xb4;
const JUMP: u8 = 0x05;
const JUMP_UNEQUAL: u8 = 0x56;
const JUMP_ANY_BIT: u8 = 0x46;
const EXIT: u8 = 0x95;

/// The program, or `None` when it would be longer than [`MAX_INSTRUCTIONS`].
pub(super) fn compile(rules: &[DeviceRule]) -> Option<Vec<Instruction>> {
    let mut program = vec![
        op(LOAD_WORD, KIND, CONTEXT, 0),
        value(AND, KIND, 0xffff),
        op(LOAD_WORD, ACCESS, CONTEXT, 0),
        value(SHIFT_RIGHT, ACCESS, 16),
        op(LOAD_WORD, MAJOR, CONTEXT, 4),
        op(LOAD_WORD, MINOR, CONTEXT, 8),
    ];
    // The last rule wins, so it is asked first.
    for rule in rules.iter().rev() {
        if access(rule) == 0 {
            continue;
        }
        let whole = append(&mut program, rule);
        if program.len() + 2 > MAX_INSTRUCTIONS {
            return None;
        }
        if whole {
            // The rules before it are never reached, and the verifier refuses instructions that are not.
            return Some(program);
        }
    }
    program.extend(verdict(false));
    Some(program)
}

/// Adds the test of one rule; what it does not decide falls through. True when it decides everything.
fn append(program: &mut Vec<Instruction>, rule: &DeviceRule) -> bool {
    let kind = match rule.kind {
        DeviceKind::All => None,
        DeviceKind::Char => Some(CHAR),
        DeviceKind::Block => Some(BLOCK),
    };
    let number = |n: Option<u32>| n.map(u32::cast_signed);
    let tests: Vec<(u8, i32)> = [(KIND, kind), (MAJOR, number(rule.major)), (MINOR, number(rule.minor))]
        .into_iter()
        .filter_map(|(register, wanted)| Some((register, wanted?)))
        .collect();
    let access = access(rule);
    let mut decision = match (access == ALL, rule.allow) {
        (true, _) => Vec::new(),
        (false, true) => vec![value(AND, ACCESS, !access), jump(JUMP_UNEQUAL, ACCESS, 0, 2)],
        // Over the next jump, which leads out.
        (false, false) => vec![jump(JUMP_ANY_BIT, ACCESS, access, 1), jump(JUMP, 0, 0, 2)],
    };
    decision.extend(verdict(rule.allow));
    // Compared are changed copies. After a comparison of the register itself the verifier would go on with two different
    // states, also for all rules that follow: 500 rules would take it a second, and more would reach its limit.
    for (done, (register, wanted)) in tests.iter().enumerate() {
        let rest = (tests.len() - done - 1) * 3 + decision.len();
        program.push(op(COPY, RESULT, *register, 0));
        program.push(value(XOR, RESULT, *wanted));
        program.push(jump(JUMP_UNEQUAL, RESULT, 0, rest as i16));
    }
    program.append(&mut decision);
    tests.is_empty() && access == ALL
}

fn access(rule: &DeviceRule) -> i32 {
    let bit = |on: bool, bit: i32| if on { bit } else { 0 };
    bit(rule.read, READ) | bit(rule.write, WRITE) | bit(rule.mknod, MKNOD)
}

fn verdict(allow: bool) -> [Instruction; 2] {
    [value(SET, RESULT, i32::from(allow)), value(EXIT, 0, 0)]
}

fn op(code: u8, destination: u8, source: u8, offset: i16) -> Instruction {
    Instruction::new(code, destination, source, offset, 0)
}

fn value(code: u8, register: u8, immediate: i32) -> Instruction {
    Instruction::new(code, register, 0, 0, immediate)
}

fn jump(code: u8, register: u8, immediate: i32, offset: i16) -> Instruction {
    Instruction::new(code, register, 0, offset, immediate)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What a process asks for.
    #[derive(Debug, Clone, Copy)]
    struct Request {
        kind: i32,
        access: i32,
        major: u32,
        minor: u32,
    }

    /// Runs the few instructions that are used; panics on anything that the verifier would refuse.
    fn run(program: &[Instruction], request: Request) -> bool {
        let context = [(request.access as u32) << 16 | request.kind as u32, request.major, request.minor];
        let mut registers: [Option<u32>; 11] = [None; 11];
        let mut at = 0;
        loop {
            let one = program[at];
            at += 1;
            let register = one.destination() as usize;
            let constant = one.immediate.cast_unsigned();
            let taken = match one.code {
                LOAD_WORD => {
                    assert_eq!(one.source(), CONTEXT);
                    registers[register] = Some(context[one.offset as usize / 4]);
                    false
                }
                SET => {
                    registers[register] = Some(constant);
                    false
                }
                COPY => {
                    registers[register] = Some(registers[one.source() as usize].unwrap());
                    false
                }
                XOR => {
                    registers[register] = Some(registers[register].unwrap() ^ constant);
                    false
                }
                AND => {
                    registers[register] = Some(registers[register].unwrap() & constant);
                    false
                }
                SHIFT_RIGHT => {
                    registers[register] = Some(registers[register].unwrap() >> constant);
                    false
                }
                JUMP => true,
                JUMP_UNEQUAL => registers[register].unwrap() != constant,
                JUMP_ANY_BIT => registers[register].unwrap() & constant != 0,
                EXIT => return registers[0].unwrap() == 1,
                other => panic!("instruction {other:#x}"),
            };
            if taken {
                assert!(one.offset > 0, "only forward");
                at += one.offset as usize;
            }
        }
    }

    /// The promise itself, one kind of access at a time.
    fn evaluate(rules: &[DeviceRule], request: Request) -> bool {
        let names = |rule: &&DeviceRule| {
            let kind = match rule.kind {
                DeviceKind::All => true,
                DeviceKind::Char => request.kind == CHAR,
                DeviceKind::Block => request.kind == BLOCK,
            };
            let number = |wanted: Option<u32>, asked| wanted.is_none_or(|wanted| wanted == asked);
            kind && number(rule.major, request.major) && number(rule.minor, request.minor)
        };
        let has = |rule: &DeviceRule, bit| match bit {
            READ => rule.read,
            WRITE => rule.write,
            _ => rule.mknod,
        };
        let last = |decides: &dyn Fn(&DeviceRule) -> bool| {
            rules.iter().rev().filter(names).find(|rule| decides(rule)).is_some_and(|rule| rule.allow)
        };
        if request.access == 0 {
            return last(&|rule| match rule.allow {
                true => rule.read || rule.write || rule.mknod,
                false => rule.read && rule.write && rule.mknod,
            });
        }
        [READ, WRITE, MKNOD]
            .into_iter()
            .filter(|bit| request.access & bit != 0)
            .all(|bit| last(&|rule| has(rule, bit)))
    }

    fn rule(
        allow: bool,
        kind: DeviceKind,
        major: Option<u32>,
        minor: Option<u32>,
        access: &str,
    ) -> DeviceRule {
        let has = |c| access.contains(c);
        DeviceRule { allow, kind, major, minor, read: has('r'), write: has('w'), mknod: has('m') }
    }

    fn allowed(rules: &[DeviceRule], kind: i32, major: u32, minor: u32, access: i32) -> bool {
        run(&compile(rules).unwrap(), Request { kind, access, major, minor })
    }

    #[test]
    fn without_rules_everything_is_refused() {
        assert!(!allowed(&[], CHAR, 1, 3, READ));
        assert!(!allowed(&[], CHAR, 1, 3, 0));
    }

    #[test]
    fn the_usual_rules_of_a_container_hold() {
        let rules = [
            rule(false, DeviceKind::All, None, None, "rwm"),
            rule(true, DeviceKind::All, None, None, "m"),
            rule(true, DeviceKind::Char, Some(1), Some(3), "rwm"),
            rule(true, DeviceKind::Char, Some(136), None, "rwm"),
        ];
        assert!(allowed(&rules, CHAR, 1, 3, READ | WRITE));
        assert!(allowed(&rules, CHAR, 136, 7, READ | WRITE));
        assert!(allowed(&rules, BLOCK, 8, 0, MKNOD));
        assert!(!allowed(&rules, BLOCK, 8, 0, READ));
        assert!(!allowed(&rules, BLOCK, 1, 3, READ));
        assert!(!allowed(&rules, CHAR, 1, 5, READ));
    }

    #[test]
    fn one_denied_kind_of_access_refuses_a_request_for_two() {
        let rules = [
            rule(true, DeviceKind::All, None, None, "rwm"),
            rule(false, DeviceKind::Char, Some(1), Some(3), "w"),
        ];
        assert!(allowed(&rules, CHAR, 1, 3, READ));
        assert!(!allowed(&rules, CHAR, 1, 3, WRITE));
        assert!(!allowed(&rules, CHAR, 1, 3, READ | WRITE));
        assert!(allowed(&rules, BLOCK, 1, 3, READ | WRITE | MKNOD));
    }

    #[test]
    fn an_allowing_rule_must_have_all_that_is_asked_for() {
        let read = rule(true, DeviceKind::Block, Some(8), None, "r");
        assert!(!allowed(std::slice::from_ref(&read), BLOCK, 8, 1, READ | WRITE));
        let write = rule(true, DeviceKind::Block, Some(8), None, "w");
        assert!(allowed(&[read, write], BLOCK, 8, 1, READ | WRITE));
    }

    #[test]
    fn the_largest_numbers_are_not_taken_as_negative() {
        let rules = [rule(true, DeviceKind::Char, Some(u32::MAX), Some(1 << 31), "r")];
        assert!(allowed(&rules, CHAR, u32::MAX, 1 << 31, READ));
        assert!(!allowed(&rules, CHAR, u32::MAX, 0, READ));
    }

    #[test]
    fn a_program_has_a_longest() {
        let one = rule(false, DeviceKind::Char, Some(1), Some(3), "r");
        assert!(compile(&vec![one.clone(); 1000]).is_some());
        assert!(compile(&vec![one; 1300]).is_none());
    }

    fn kinds() -> impl Strategy<Value = DeviceKind> {
        prop_oneof![Just(DeviceKind::All), Just(DeviceKind::Char), Just(DeviceKind::Block)]
    }

    /// Few numbers, so that rules and requests meet.
    fn numbers() -> impl Strategy<Value = u32> {
        prop_oneof![4 => 0..3u32, 1 => Just(u32::MAX), 1 => any::<u32>()]
    }

    prop_compose! {
        fn rules()(
            allow in any::<bool>(), kind in kinds(),
            major in prop::option::of(numbers()), minor in prop::option::of(numbers()),
            access in 0..8i32,
        ) -> DeviceRule {
            let has = |bit| access & bit != 0;
            DeviceRule { allow, kind, major, minor, read: has(READ), write: has(WRITE), mknod: has(MKNOD) }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn the_program_decides_as_the_rules_do(
            rules in prop::collection::vec(rules(), 0..12),
            kind in prop_oneof![Just(BLOCK), Just(CHAR)],
            access in 0..8i32, major in numbers(), minor in numbers(),
        ) {
            let program = compile(&rules).unwrap();
            let request = Request { kind, access, major, minor };
            prop_assert_eq!(run(&program, request), evaluate(&rules, request));
            // Nothing after the last instruction that can be reached, as the verifier wants it.
            prop_assert_eq!(program.last().unwrap().code, EXIT);
        }

        /// What the program must never do, whatever the finer points: give what no rule allows.
        #[test]
        fn what_no_rule_allows_is_never_allowed(
            rules in prop::collection::vec(rules(), 0..12), access in 0..8i32, major in numbers(),
        ) {
            let request = Request { kind: CHAR, access, major, minor: 0 };
            let denied: Vec<DeviceRule> = rules.into_iter().map(|rule| DeviceRule { allow: false, ..rule }).collect();
            prop_assert!(!run(&compile(&denied).unwrap(), request));
        }
    }
}
