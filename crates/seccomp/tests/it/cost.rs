//! What a system call costs under a filter: instructions until the answer.

use crate::machine::{Data, Program, check};
use crate::random::Random;
use crate::{ALLOW, errno, profile, rule};
use oci_spec::runtime::{LinuxSeccompAction as Action, LinuxSyscall};
use seccomp::{Abi, compile_for, runtime_default};

/// Most instructions for any number.
fn worst(program: &Program, abi: Abi) -> usize {
    let numbers = (0..600).map(|n| if abi == Abi::X32 { n | 1 << 30 } else { n }).chain([u32::MAX, 1 << 30]);
    let data = |number| Data { number, architecture: abi.audit(), arguments: [0; 6] };
    numbers.map(|number| program.run(&data(number)).1).max().unwrap()
}

#[test]
fn a_calls_cost_is_logarithmic_in_the_number_of_calls_named() {
    // Every second number up to 2^n of them, so that nothing can be joined.
    let table: Vec<(String, u32)> = names_by_number();
    let mut costs = Vec::new();
    for named in [2usize, 4, 8, 16, 32, 64, 128] {
        let rules: Vec<LinuxSyscall> = table
            .iter()
            .step_by(2)
            .take(named)
            .map(|(name, _)| rule(&[name.as_str()], Action::ScmpActAllow, None, vec![]))
            .collect();
        assert_eq!(rules.len(), named);
        let mut made = profile(Action::ScmpActErrno, rules);
        made.set_architectures(None);
        let filter = compile_for(Abi::X86_64, &made).unwrap();
        check(&filter.program);
        let program = Program::new(&filter.program);
        for (at, (name, number)) in table.iter().take(2 * named).enumerate() {
            let data = Data { number: *number, architecture: Abi::X86_64.audit(), arguments: [0; 6] };
            let want = if at % 2 == 0 {
                ALLOW
            } else if at == 2 * named - 1 {
                errno(38)
            } else {
                errno(1)
            };
            assert_eq!(program.run(&data).0, want, "{name} of {named}");
        }
        costs.push((named, worst(&program, Abi::X86_64)));
    }
    eprintln!("calls named and the dearest call's instructions: {costs:?}");
    // Twice as many calls: one more step, two where the jump is a long one. Architecture, number, two tests, return: six.
    for (named, cost) in &costs {
        let segments = (2 * named + 5) as f64;
        assert!(*cost <= 6 + 2 * segments.log2().ceil() as usize, "{cost} instructions for {named} calls");
    }
    for pair in costs.windows(2) {
        assert!(pair[1].1 <= pair[0].1 + 3, "{costs:?}");
    }
    assert!(costs.last().unwrap().1 < 20, "{costs:?}");
}

#[test]
fn the_default_profile_costs_every_call_few_instructions() {
    let filter = compile_for(Abi::X86_64, &runtime_default(&[])).unwrap();
    let program = Program::new(&filter.program);
    let worst: Vec<usize> =
        [Abi::X86_64, Abi::X32, Abi::I386].iter().map(|abi| worst(&program, *abi)).collect();
    eprintln!("{} instructions, at most {worst:?} for a call", program.len());
    // socket(2) has sixteen tests of its own; all others end with the search.
    assert!(worst.iter().all(|cost| *cost < 60), "{worst:?}");
}

#[test]
fn programs_with_far_jumps_say_what_short_ones_say() {
    let mut random = Random::new("programs_with_far_jumps_say_what_short_ones_say");
    let table = names_by_number();
    // So many conditions on each call that every branch of the search reaches over 255 instructions.
    let conditions = |random: &mut Random| (0..12).map(|_| random.value()).collect::<Vec<u64>>();
    let wanted: Vec<(u32, Vec<u64>)> =
        table.iter().step_by(7).take(50).map(|(_, number)| (*number, conditions(&mut random))).collect();
    let mut rules = Vec::new();
    for ((_, values), (name, _)) in wanted.iter().zip(table.iter().step_by(7)) {
        for value in values {
            let condition = crate::arg(2, oci_spec::runtime::LinuxSeccompOperator::ScmpCmpEq, *value, None);
            rules.push(rule(&[name.as_str()], Action::ScmpActAllow, None, vec![condition]));
        }
    }
    let mut made = profile(Action::ScmpActErrno, rules);
    made.set_architectures(None);
    let filter = compile_for(Abi::X86_64, &made).unwrap();
    check(&filter.program);
    let program = Program::new(&filter.program);
    assert!(program.len() > 2500, "{} instructions", program.len());
    for (number, values) in &wanted {
        for value in values {
            for (third, want) in [(*value, ALLOW), (value ^ (1 << 40), errno(1))] {
                let data = Data {
                    number: *number,
                    architecture: Abi::X86_64.audit(),
                    arguments: [0, 0, third, 0, 0, 0],
                };
                let want = if values.contains(&third) { ALLOW } else { want };
                assert_eq!(program.run(&data).0, want, "{data:x?}");
            }
        }
    }
}

/// Calls of x86-64 in the order of their numbers.
fn names_by_number() -> Vec<(String, u32)> {
    let text = include_str!("../../tables/x86_64.txt");
    let words = text.lines().filter(|line| !line.starts_with('#')).flat_map(str::split_whitespace);
    let names = words.filter(|word| word.parse::<u32>().is_err()).flat_map(|word| word.split('/'));
    let mut table: Vec<(String, u32)> =
        names.filter_map(|name| Some((name.to_owned(), Abi::X86_64.number(name)?))).collect();
    table.sort_by_key(|(_, number)| *number);
    table.dedup_by_key(|(_, number)| *number);
    table
}
