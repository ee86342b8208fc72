//! config.md, "POSIX process": `rlimits`.

use oci_suite::{Case, Kind, Process, differs};
use serde_json::{Value, json};

/// The specification's names, the kernel's words in /proc/PID/limits, and a soft and a hard value.
const LIMITS: [(&str, &str, u64, u64); 16] = [
    ("RLIMIT_AS", "Max address space", 4 << 30, 8 << 30),
    ("RLIMIT_CORE", "Max core file size", 0, 4096),
    ("RLIMIT_CPU", "Max cpu time", 1000, 2000),
    ("RLIMIT_DATA", "Max data size", 1 << 30, 2 << 30),
    ("RLIMIT_FSIZE", "Max file size", 1 << 20, 1 << 21),
    ("RLIMIT_LOCKS", "Max file locks", 100, 200),
    ("RLIMIT_MEMLOCK", "Max locked memory", 65536, 131_072),
    ("RLIMIT_MSGQUEUE", "Max msgqueue size", 4096, 8192),
    ("RLIMIT_NICE", "Max nice priority", 0, 0),
    ("RLIMIT_NOFILE", "Max open files", 64, 128),
    ("RLIMIT_NPROC", "Max processes", 500, 600),
    ("RLIMIT_RSS", "Max resident set", 1 << 30, 2 << 30),
    ("RLIMIT_RTPRIO", "Max realtime priority", 0, 0),
    ("RLIMIT_RTTIME", "Max realtime timeout", 5000, 6000),
    ("RLIMIT_SIGPENDING", "Max pending signals", 100, 200),
    ("RLIMIT_STACK", "Max stack size", 1 << 20, 2 << 20),
];

/// The machine may have started us with lower hard limits, above which nothing can be set.
fn possible(words: &str, value: u64) -> u64 {
    Process::own().limit(words).1.parse().map_or(value, |own: u64| value.min(own))
}

fn limit(name: &str, soft: impl Into<Value>, hard: impl Into<Value>) -> Value {
    json!({ "type": name, "soft": soft.into(), "hard": hard.into() })
}

#[test]
fn every_limit_is_set_soft_and_hard() {
    let Some(case) = Case::new("rlimits") else { return };
    let values =
        LIMITS.map(|(name, words, soft, hard)| (name, words, possible(words, soft), possible(words, hard)));
    case.edit(|config| {
        let all = values.iter().map(|(name, _, soft, hard)| limit(name, *soft, *hard));
        config["process"]["rlimits"] = all.collect();
    });
    let process = case.sleeps().run_detached();
    for (name, words, soft, hard) in values {
        assert_eq!(process.limit(words), (soft.to_string(), hard.to_string()), "{name}");
    }
    case.delete_force();
    case.assert_nothing_left();
}

#[test]
fn the_largest_value_is_no_limit() {
    let Some(case) = Case::new("rlimit-infinity") else { return };
    case.edit(|config| config["process"]["rlimits"] = json!([limit("RLIMIT_CORE", 0, u64::MAX)]));
    if Process::own().limit("Max core file size").1 != "unlimited" {
        eprintln!("skipped: this machine has a hard limit of core files");
        return;
    }
    let process = case.sleeps().run_detached();
    assert_eq!(process.limit("Max core file size"), ("0".to_owned(), "unlimited".to_owned()));
}

#[test]
fn limits_that_are_not_named_are_the_callers() {
    let Some(case) = Case::new("rlimit-others") else { return };
    case.script("ulimit -c; ulimit -s");
    let said = case.finish(&mut case.command_after("ulimit -c 11; ulimit -s 4000", &["run", &case.id]));
    // Blocks of 512 bytes and kilobytes in both shells.
    assert_eq!(said.good().out, "11\n4000\n");
}

#[test]
fn a_limit_given_twice_or_unknown_or_with_a_soft_above_the_hard_value_is_an_error() {
    let Some(case) = Case::new("rlimit-wrong") else { return };
    let bad = |limits: Value| {
        case.edit(|config| config["process"]["rlimits"] = limits);
        let said = case.run().bad();
        case.assert_nothing_left();
        said
    };
    let words = "config.md, POSIX process, rlimits: \"If rlimits contains duplicated entries with same type, the \
        runtime MUST generate an error.\"";
    differs(&[Kind::Runc, Kind::Crun], words, || {
        drop(bad(json!([limit("RLIMIT_CORE", 0, 10), limit("RLIMIT_CORE", 0, 10)])));
    });
    // "The runtime MUST generate an error for any values which cannot be mapped to a relevant kernel interface."
    let said = bad(json!([limit("RLIMIT_NONE_SUCH", 0, 10)]));
    assert!(said.contains("RLIMIT_NONE_SUCH"), "{said}");
    let _ = bad(json!([limit("RLIMIT_CORE", 20, 10)]));
}
