//! Random profiles and calls from a seed that can be given again (`CORTEN_SEED`).

use crate::{arg, rule};
use oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction as Action, LinuxSeccompArg, LinuxSeccompOperator as Operator,
};

/// SplitMix64: small, and the same everywhere.
pub struct Random(u64);

impl Random {
    /// From `CORTEN_SEED`, else from one that once found a sub-call of socketcall(2) that the profile was too old for;
    /// says which. Other seeds are for who changes the compiler: a build must not fail by chance.
    pub fn new(what: &str) -> Self {
        const FOUND: u64 = 1_795_363_807_866_344_156;
        let seed = std::env::var("CORTEN_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(FOUND);
        eprintln!("{what}: CORTEN_SEED={seed}");
        Random(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    pub fn one<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())].clone()
    }

    /// Once in `n` times.
    pub fn once_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    /// A number that tests and arguments are likely to meet at.
    pub fn value(&mut self) -> u64 {
        const NEAR: [u64; 14] = [
            0,
            1,
            2,
            5,
            0xff,
            0x8000,
            0x7e02_0000,
            0x7fff_ffff,
            0x8000_0000,
            0xffff_ffff,
            0x1_0000_0000,
            0x1_0000_0005,
            0x8000_0000_0000_0000,
            u64::MAX,
        ];
        match self.below(8) {
            0 => self.next(),
            1 => self.next() & 0xffff_ffff,
            2 => 1 << self.below(64),
            // Mostly what fits 32-bit architectures as well.
            3..6 => NEAR[self.below(10)],
            _ => self.one(&NEAR),
        }
    }
}

/// All actions but NOTIFY, which is tested apart.
const ACTIONS: [Action; 8] = [
    Action::ScmpActAllow,
    Action::ScmpActErrno,
    Action::ScmpActKill,
    Action::ScmpActKillProcess,
    Action::ScmpActKillThread,
    Action::ScmpActTrap,
    Action::ScmpActTrace,
    Action::ScmpActLog,
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

fn number_for(action: Action, random: &mut Random) -> Option<u32> {
    let takes = matches!(action, Action::ScmpActErrno | Action::ScmpActTrace);
    // libseccomp takes no 4095, the kernel does (MAX_ERRNO).
    (takes && !random.once_in(3)).then(|| random.below(4095) as u32)
}

fn condition(random: &mut Random, index: usize) -> LinuxSeccompArg {
    let op = random.one(&OPERATORS);
    let (first, second) = (random.value(), random.value());
    // A value with bits outside of its mask is never met; mostly it is a sensible one.
    let second = if random.once_in(8) { second } else { second & first };
    arg(index, op, first, (op == Operator::ScmpCmpMaskedEq).then_some(second))
}

fn conditions(random: &mut Random) -> Vec<LinuxSeccompArg> {
    if random.once_in(2) {
        return Vec::new();
    }
    let same = random.once_in(6);
    let first = random.below(6);
    (0..=random.below(3)).map(|at| condition(random, if same { first } else { (first + at) % 6 })).collect()
}

/// A profile over some of `names`, for a machine with these further architectures.
pub fn profile(random: &mut Random, names: &[&str], others: &[Arch]) -> LinuxSeccomp {
    let mut made = LinuxSeccomp::default();
    let default = random.one(&ACTIONS);
    made.set_default_action(default).set_default_errno_ret(number_for(default, random));
    made.set_architectures(Some(others.iter().filter(|_| !random.once_in(3)).copied().collect()));
    // Few actions and few names, so that rules meet each other; in every second profile each call has one rule.
    let actions = [random.one(&ACTIONS), random.one(&ACTIONS), Action::ScmpActAllow];
    let mut chosen: Vec<&str> = (0..3 + random.below(60)).map(|_| random.one(names)).collect();
    let (apart, one_action) = (random.once_in(2), random.once_in(2));
    chosen.sort_unstable();
    chosen.dedup();
    let mut rules = Vec::new();
    while rules.len() < 40 && !chosen.is_empty() && !random.once_in(30) {
        let action = if one_action { actions[0] } else { random.one(&actions) };
        let names: Vec<&str> = (0..=random.below(4))
            .filter_map(|_| {
                let at = random.below(chosen.len().max(1));
                if apart { (!chosen.is_empty()).then(|| chosen.swap_remove(at)) } else { Some(chosen[at]) }
            })
            .collect();
        let number = number_for(action, random);
        // As in Docker's rules for personality(2): one argument, some values.
        if random.once_in(8) {
            let index = random.below(6);
            for _ in 0..1 + random.below(4) {
                let equal = vec![arg(index, Operator::ScmpCmpEq, random.value(), None)];
                rules.push(rule(&names, action, number, equal));
            }
        } else {
            rules.push(rule(&names, action, number, conditions(random)));
        }
    }
    made.set_syscalls(Some(rules));
    made
}

/// Arguments around what `about` tests.
pub fn arguments(random: &mut Random, about: &[&LinuxSeccompArg]) -> [u64; 6] {
    std::array::from_fn(|index| {
        let tested: Vec<&&LinuxSeccompArg> = about.iter().filter(|arg| arg.index() == index).collect();
        if tested.is_empty() || random.once_in(8) {
            return random.value();
        }
        let arg = random.one(&tested);
        let value = match arg.op() {
            // What the mask leaves, with anything in the other bits.
            Operator::ScmpCmpMaskedEq => arg.value_two().unwrap_or(0) | (random.value() & !arg.value()),
            _ => arg.value(),
        };
        match random.below(8) {
            0 => value.wrapping_sub(1),
            1 => value.wrapping_add(1),
            2 => value ^ (1 << 32),
            3 => value | (random.next() << 32),
            4 => value ^ (1 << random.below(64)),
            _ => value,
        }
    })
}
