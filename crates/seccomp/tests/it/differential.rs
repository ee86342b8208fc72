//! Our compiler against libseccomp, which runc and crun use: random profiles, every call number of every architecture.
//!
//! Where the two differ it is on purpose ([`crate::model`]); there the test holds what libseccomp says as well as what we
//! say. Everywhere else they must agree.

use crate::libseccomp::{ask, available, bytes};
use crate::machine::{Data, Program, check};
use crate::model::{ABIS, Names, Pair, Reason, X32, all_names, further, index, question};
use crate::random::{Random, arguments, profile};
use oci_spec::runtime::{Arch, LinuxSeccomp};
use seccomp::{Abi, compile_for};
use std::collections::{BTreeMap, BTreeSet};

const PROFILES: usize = 200;

#[test]
fn call_numbers_are_those_of_libseccomp() {
    let Some(program) = available() else { return };
    let names = Names::ask(program);
    let mut compared = 0;
    for (name, numbers) in &names.0 {
        for ((abi, _), theirs) in ABIS.iter().zip(numbers) {
            let ours = abi.number(name).map(|number| number as i32);
            match (ours, theirs) {
                (Some(ours), theirs @ 0..) => {
                    assert_eq!(ours, *theirs, "{abi:?} {name}");
                    compared += 1;
                }
                // Not known, or not as a number: newer than this libseccomp, or multiplexed there.
                (_, ..0) => {}
                (None, theirs) => panic!("{abi:?} {name} is missing, libseccomp says {theirs}"),
            }
        }
    }
    assert!(compared > 1500, "only {compared} numbers were compared");
}

/// Call numbers worth a look: all of the tables and beyond them, and odd ones. Of an architecture that is not in the filter, few.
fn numbers(pair: &Pair<'_>, architecture: u32) -> Vec<u32> {
    let known = |number| pair.abi(&Data { number, architecture, arguments: [0; 6] }).is_ok();
    let mut numbers =
        vec![0, 1, X32, X32 - 1, X32 + 1, 0x7fff_ffff, 0x8000_0000, u32::MAX, u32::MAX - 1, 100_000];
    numbers.extend(0x000e_ffff..0x000f_0008);
    if known(0) {
        numbers.extend(2..600);
    }
    if known(X32) && architecture == Abi::X32.audit() {
        numbers.extend((X32 | 2)..(X32 | 600));
    }
    numbers
}

/// What came out of a comparison of many profiles.
#[derive(Debug, Default)]
struct Compared {
    /// Calls on which both sides agreed.
    agreed: usize,
    /// Calls on which they differ by design.
    reasons: BTreeMap<Reason, usize>,
    /// Profiles that libseccomp never was done with.
    endless: usize,
}

/// Names that both sides know; what only one knows cannot be compared.
fn known_to_both(names: &Names, name: &str) -> bool {
    names.0.get(name).is_some_and(|numbers| {
        let pairs = ABIS.iter().zip(numbers);
        pairs
            .into_iter()
            .all(|((abi, _), n)| abi.number(name).is_none() || *n >= 0 || (-299..-100).contains(n))
    })
}

fn compare_all(
    program: &std::path::Path,
    names: &Names,
    profiles: &[(Abi, LinuxSeccomp)],
    random: &mut Random,
) -> Compared {
    let questions: Vec<String> = profiles.iter().map(|(native, made)| question(*native, made)).collect();
    let answers = ask(program, questions.concat());
    let mut answers = answers.iter();
    let mut compared = Compared::default();
    for ((native, made), question) in profiles.iter().zip(&questions) {
        let mut refused = BTreeSet::new();
        let theirs = loop {
            let line = answers.next().unwrap_or_else(|| panic!("no answer to {question}"));
            match line.split(' ').collect::<Vec<_>>()[..] {
                ["ok", digits] => break Some(bytes(digits)),
                // EEXIST: it contradicts an earlier rule.
                ["rule", at, "17"] => {
                    let mut rules = question.lines().filter(|line| line.starts_with("rule"));
                    refused.insert(rules.nth(at.parse().unwrap()).unwrap().split(' ').nth(2).unwrap());
                }
                ["no", "end", _] => break None,
                _ => panic!("{line}: {question}"),
            }
        };
        let ours = compile_for(*native, made).unwrap();
        check(&ours.program);
        let Some(theirs) = theirs else {
            compared.endless += 1;
            continue;
        };
        let (about, newest) = index(made);
        let pair = Pair {
            native: *native,
            about,
            newest,
            profile: made,
            names,
            refused,
            ours: Program::new(&ours.program),
            theirs: Program::new(&theirs),
        };
        for architecture in [0xc000_003e, 0x4000_0003, 0xc000_00b7, 0x4000_0028, 0, 0xc000_0015] {
            for number in numbers(&pair, architecture) {
                one(&pair, random, architecture, number, &mut compared);
            }
        }
    }
    compared
}

#[test]
fn programs_decide_as_libseccomps_do() {
    let Some(program) = available() else { return };
    let mut random = Random::new("programs_decide_as_libseccomps_do");
    let names = Names::ask(program);
    let both: Vec<&str> = all_names().into_iter().filter(|name| known_to_both(&names, name)).collect();
    assert!(both.len() > 400, "only {} names are known to both", both.len());
    let profiles: Vec<(Abi, LinuxSeccomp)> = (0..PROFILES)
        .map(|at| {
            let native = if at % 4 == 3 { Abi::Arm64 } else { Abi::X86_64 };
            let others: Vec<Arch> = further(native).into_iter().map(|(arch, _)| arch).collect();
            (native, profile(&mut random, &both, &others))
        })
        .collect();
    let compared = compare_all(program, &names, &profiles, &mut random);
    eprintln!("{compared:?}");
    assert!(compared.agreed > 150_000, "{compared:?}");
    assert!(compared.endless * 20 < PROFILES, "{compared:?}");
    let shown = compared.reasons.len();
    assert_eq!(shown, 9, "a difference that never shows need not be in the model: {compared:?}");
}

#[test]
fn the_default_profiles_decide_as_through_libseccomp() {
    let Some(program) = available() else { return };
    let mut random = Random::new("the_default_profiles_decide_as_through_libseccomp");
    let names = Names::ask(program);
    let capabilities = ["CAP_SYS_ADMIN", "CAP_BPF", "CAP_SYS_PTRACE", "CAP_SYS_TIME"].map(str::to_owned);
    let mut profiles = vec![seccomp::runtime_default(&[]), seccomp::runtime_default(&capabilities)];
    let podmans = "/usr/share/containers/seccomp.json";
    match std::fs::read(podmans) {
        Ok(json) => {
            let load = |capabilities: &[String]| seccomp::load_profile_for(&json, capabilities).unwrap();
            profiles.extend([load(&[]), load(&capabilities)]);
        }
        Err(why) => eprintln!("skipped: podman's own profile, {podmans}: {why}"),
    }
    for made in &mut profiles {
        let mut rules = made.syscalls().clone().unwrap_or_default();
        for rule in &mut rules {
            let kept = rule.names().iter().filter(|name| known_to_both(&names, name)).cloned().collect();
            rule.set_names(kept);
        }
        made.set_syscalls(Some(rules));
    }
    let profiles: Vec<_> = profiles.into_iter().map(|made| (Abi::X86_64, made)).collect();
    let compared = compare_all(program, &names, &profiles, &mut random);
    eprintln!("{compared:?}");
    assert!(compared.endless == 0 && compared.agreed > 4_000, "{compared:?}");
}

/// Compares the two for one call, with several lists of arguments if a rule looks at them.
fn one(pair: &Pair<'_>, random: &mut Random, architecture: u32, number: u32, compared: &mut Compared) {
    let mut data = Data { number, architecture, arguments: [0; 6] };
    let Ok(abi) = pair.abi(&data) else {
        return compare(pair, &data, compared);
    };
    let conditions = pair.conditions(abi, number);
    let sub_calls = abi == Abi::I386 && matches!(number, 102 | 117);
    let times = if sub_calls {
        30
    } else if conditions.is_empty() {
        1
    } else {
        24
    };
    for time in 0..times {
        data.arguments = arguments(random, &conditions);
        if sub_calls {
            data.arguments[0] = time;
        }
        if matches!(abi, Abi::I386 | Abi::Arm) {
            data.arguments = data.arguments.map(|argument| argument & 0xffff_ffff);
        }
        compare(pair, &data, compared);
    }
}

fn compare(pair: &Pair<'_>, data: &Data, compared: &mut Compared) {
    let (ours, theirs) = (pair.ours.run(data).0, pair.theirs.run(data).0);
    let context = || format!("{data:x?}{}", pair.shown(data));
    match pair.difference(data) {
        None => {
            assert_eq!(ours, theirs, "ours {ours:#x}, libseccomp's {theirs:#x}: {}", context());
            compared.agreed += 1;
        }
        Some((reason, may, must)) => {
            assert_eq!(ours, must, "{reason:?}: ours {ours:#x}, must be {must:#x}: {}", context());
            assert!(
                may.is_empty() || may.contains(&theirs),
                "{reason:?}: libseccomp's {theirs:#x}: {}",
                context()
            );
            *compared.reasons.entry(reason).or_default() += 1;
        }
    }
}
