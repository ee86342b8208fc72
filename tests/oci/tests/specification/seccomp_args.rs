//! config-linux.md, "Seccomp", `args`: each operator, with values of 32 and 64 bits.

use oci_suite::{Case, Probe, needs};
use serde_json::{Value, json};

/// `getpriority(2)` reads only its first two arguments, so the third can be anything.
const GETPRIORITY: u64 = 140;
/// Values around the limits of 32 bits.
const VALUES: [u64; 9] = [0, 4, 5, 6, 0xffff_ffff, 0x1_0000_0000, 0x1_0000_0005, 0x2_0000_0005, u64::MAX];

/// Which of the values a rule on the third argument matches.
fn matched(case: &Case, args: &Value) -> Vec<u64> {
    case.edit(|config| {
        config["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"],
            "syscalls": [{ "names": ["getpriority"], "action": "SCMP_ACT_ERRNO", "errnoRet": 99, "args": args }],
        });
    });
    let probe = VALUES
        .iter()
        .fold(Probe::new(), |probe, value| probe.call(GETPRIORITY, &[0.into(), 0.into(), (*value).into()]));
    let results = case.probe(probe);
    assert!(results.iter().all(|result| *result == -99 || *result > 0), "{results:?}");
    VALUES.into_iter().zip(results).filter(|(_, result)| *result == -99).map(|(value, _)| value).collect()
}

fn operator(name: &str, op: &str, holds: impl Fn(u64, u64) -> bool) {
    let Some(case) = Case::new(name) else { return };
    if needs(cfg!(target_arch = "x86_64"), "x86-64") {
        return;
    }
    for bound in [5_u64, 0x1_0000_0005] {
        let expected: Vec<_> = VALUES.into_iter().filter(|value| holds(*value, bound)).collect();
        assert_eq!(
            matched(&case, &json!([{ "index": 2, "value": bound, "op": op }])),
            expected,
            "{op} {bound:#x}"
        );
    }
}

#[test]
fn not_equal() {
    operator("arg-ne", "SCMP_CMP_NE", |value, bound| value != bound);
}

#[test]
fn less_than() {
    operator("arg-lt", "SCMP_CMP_LT", |value, bound| value < bound);
}

#[test]
fn less_or_equal() {
    operator("arg-le", "SCMP_CMP_LE", |value, bound| value <= bound);
}

#[test]
fn equal() {
    operator("arg-eq", "SCMP_CMP_EQ", |value, bound| value == bound);
}

#[test]
fn greater_or_equal() {
    operator("arg-ge", "SCMP_CMP_GE", |value, bound| value >= bound);
}

#[test]
fn greater_than() {
    operator("arg-gt", "SCMP_CMP_GT", |value, bound| value > bound);
}

#[test]
fn masked_equal() {
    let Some(case) = Case::new("arg-masked") else { return };
    if needs(cfg!(target_arch = "x86_64"), "x86-64") {
        return;
    }
    for (mask, wanted) in [(0xff_u64, 5_u64), (0x1_0000_0001, 0x1_0000_0001)] {
        let expected: Vec<_> = VALUES.into_iter().filter(|value| value & mask == wanted).collect();
        let args = json!([{ "index": 2, "value": mask, "valueTwo": wanted, "op": "SCMP_CMP_MASKED_EQ" }]);
        assert_eq!(matched(&case, &args), expected, "{mask:#x}");
    }
}

#[test]
fn all_arguments_of_a_rule_must_match() {
    let Some(case) = Case::new("arg-all") else { return };
    if needs(cfg!(target_arch = "x86_64"), "x86-64") {
        return;
    }
    let both = |first: u64| json!([{ "index": 0, "value": first, "op": "SCMP_CMP_EQ" }, { "index": 2, "value": 5, "op": "SCMP_CMP_LE" }]);
    assert_eq!(matched(&case, &both(0)), [0, 4, 5]);
    assert_eq!(matched(&case, &both(1)), Vec::<u64>::new());
}
