//! From an OCI profile to the rules of each ABI: names become numbers, actions become return values.
//!
//! What is meant by several rules for one call:
//! - a rule's conditions must all hold; but when two of them are about the same argument, each stands alone
//!   (runc, `matchCall` in libcontainer/seccomp/seccomp_linux.go: libseccomp once could not do it, and profiles rely on it);
//! - rules with conditions are tried first, in the profile's order; then the first one without conditions; then the default.
//!   runc leaves out rules whose action is the default one, so that an explicit denial before a wider permission
//!   is lost there; here it holds.
//!
//! Names that this ABI does not know are passed over, as runc does: profiles name the calls of all machines and kernels.

use crate::action;
use crate::error::Error;
use crate::mux;
use crate::tables::Abi;
use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompArg, LinuxSeccompOperator as Operator, LinuxSyscall};
use std::collections::BTreeMap;

/// Most (rule, call) pairs that a profile may have. Docker's default has about 500.
const MAX_RULES: usize = 20_000;

/// One test of an argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Condition {
    /// 0–5.
    pub argument: u32,
    pub compare: Compare,
}

/// How an argument is compared, unsigned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compare {
    NotEqual(u64),
    Less(u64),
    LessOrEqual(u64),
    Equal(u64),
    GreaterOrEqual(u64),
    Greater(u64),
    /// `argument & mask == value`.
    Masked {
        mask: u64,
        value: u64,
    },
}

/// What is done with one call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Call {
    /// Conditions that must all hold, and what is returned then; tried in order.
    pub checks: Vec<(Vec<Condition>, u32)>,
    /// What is returned when none held; `None` is the default.
    pub otherwise: Option<u32>,
}

/// The rules of one ABI.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rules {
    pub calls: BTreeMap<u32, Call>,
    /// The highest number below [`Abi::end_of_common`] that the profile names.
    pub newest: Option<u32>,
    /// [`Abi::end_of_common`].
    pub end_of_common: u32,
}

/// The rules of `profile` for one ABI.
pub(crate) fn lower(profile: &LinuxSeccomp, abi: Abi) -> Result<Rules, Error> {
    let mut rules = Rules { calls: BTreeMap::new(), newest: None, end_of_common: abi.end_of_common() };
    let listed = profile.syscalls().as_deref().unwrap_or_default();
    let explicit = |name: &str| listed.iter().any(|rule| rule.names().iter().any(|n| n == name));
    let mut count = 0;
    for rule in listed {
        let refuse = |why| Error::Rule { names: shown(rule), why };
        let value = action::value(rule.action(), rule.errno_ret()).map_err(refuse)?;
        let checks = checks(rule.args().as_deref().unwrap_or_default()).map_err(refuse)?;
        for name in rule.names() {
            count += checks.len().max(1);
            if count > MAX_RULES {
                return Err(Error::Profile(format!("it has more than {MAX_RULES} rules")));
            }
            if let Some(number) = abi.number(name) {
                rules.add(number, &checks, value);
                if number < abi.end_of_common() {
                    rules.newest = rules.newest.max(Some(number));
                }
            }
            if let Some((through, condition)) = mux::companion(abi, name)
                && !explicit(through)
                && (checks.is_empty() || !action::grants(rule.action()))
                && let Some(number) = abi.number(through)
            {
                rules.add(number, &[vec![condition]], value);
            }
        }
    }
    Ok(rules)
}

impl Rules {
    /// A call that is here for what can be reached through it alone, and newer than all that the profile names.
    pub(crate) fn is_unknown(&self, number: u32) -> bool {
        number < self.end_of_common && self.newest.is_some_and(|newest| number > newest)
    }

    fn add(&mut self, number: u32, checks: &[Vec<Condition>], value: u32) {
        let call = self.calls.entry(number).or_insert(Call { checks: Vec::new(), otherwise: None });
        if checks.is_empty() {
            call.otherwise.get_or_insert(value);
        }
        call.checks.extend(checks.iter().map(|conditions| (conditions.clone(), value)));
    }
}

/// The conditions of a rule: alternatives, each of which is a list that must hold as a whole. Empty: no conditions.
fn checks(args: &[LinuxSeccompArg]) -> Result<Vec<Vec<Condition>>, String> {
    let conditions = args.iter().map(condition).collect::<Result<Vec<_>, _>>()?;
    let twice = conditions
        .iter()
        .enumerate()
        .any(|(at, c)| conditions[..at].iter().any(|earlier| earlier.argument == c.argument));
    Ok(match (conditions.is_empty(), twice) {
        (true, _) => Vec::new(),
        (false, true) => conditions.into_iter().map(|condition| vec![condition]).collect(),
        (false, false) => vec![conditions],
    })
}

fn condition(arg: &LinuxSeccompArg) -> Result<Condition, String> {
    let argument = match u32::try_from(arg.index()) {
        Ok(argument @ 0..=5) => argument,
        _ => return Err(format!("argument {} does not exist, they are 0 to 5", arg.index())),
    };
    let value = arg.value();
    let compare = match arg.op() {
        Operator::ScmpCmpNe => Compare::NotEqual(value),
        Operator::ScmpCmpLt => Compare::Less(value),
        Operator::ScmpCmpLe => Compare::LessOrEqual(value),
        Operator::ScmpCmpEq => Compare::Equal(value),
        Operator::ScmpCmpGe => Compare::GreaterOrEqual(value),
        Operator::ScmpCmpGt => Compare::Greater(value),
        // OCI: `value` is the mask here and `valueTwo` what must be left. It is masked too: "Matches when the masked argument
        // value is equal to the masked datum value" (seccomp_rule_add(3), from where OCI has the operators).
        Operator::ScmpCmpMaskedEq => {
            Compare::Masked { mask: value, value: arg.value_two().unwrap_or(0) & value }
        }
    };
    Ok(Condition { argument, compare })
}

/// The first names of a rule, for messages.
pub(crate) fn shown(rule: &LinuxSyscall) -> String {
    let mut names: Vec<String> =
        rule.names().iter().take(3).map(|name| name.chars().take(40).collect()).collect();
    if rule.names().len() > 3 {
        names.push("…".to_owned());
    }
    names.join(", ")
}
