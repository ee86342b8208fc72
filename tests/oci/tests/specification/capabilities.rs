//! config.md, "Linux Process": `capabilities`. The kernel's rules are those of capabilities(7).

use oci_suite::{Case, Kind, differs};
use serde_json::{Value, json};

const CHOWN: u64 = 1;
const KILL: u64 = 1 << 5;
const NET_RAW: u64 = 1 << 13;

fn set(case: &Case, capabilities: Value) -> &Case {
    case.edit(|config| config["process"]["capabilities"] = capabilities)
}

#[test]
fn the_bounding_set_is_the_configured_one() {
    let Some(case) = Case::new("cap-bounding") else { return };
    let names = json!(["CAP_CHOWN", "CAP_KILL", "CAP_NET_RAW"]);
    set(&case, json!({ "bounding": names, "effective": names, "permitted": names }));
    let process = case.sleeps().run_detached();
    assert_eq!(process.capabilities("CapBnd"), CHOWN | KILL | NET_RAW);
    // Root gets what the bounding set allows at execve.
    assert_eq!(process.capabilities("CapPrm"), CHOWN | KILL | NET_RAW);
    assert_eq!(process.capabilities("CapEff"), CHOWN | KILL | NET_RAW);
    case.delete_force();
}

#[test]
fn the_inheritable_and_ambient_sets_are_empty_unless_asked_for() {
    let Some(case) = Case::new("cap-none") else { return };
    let process = case.sleeps().run_detached();
    assert_eq!(process.capabilities("CapInh"), 0);
    assert_eq!(process.capabilities("CapAmb"), 0);
}

#[test]
fn without_capabilities_the_program_has_none() {
    let Some(case) = Case::new("cap-empty") else { return };
    set(&case, json!({}));
    let process = case.sleeps().run_detached();
    for name in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(process.capabilities(name), 0, "{name}");
    }
}

#[test]
fn the_inheritable_set_is_the_configured_one() {
    let Some(case) = Case::new("cap-inheritable") else { return };
    let names = json!(["CAP_CHOWN", "CAP_KILL"]);
    set(
        &case,
        json!({ "bounding": names, "effective": names, "permitted": names, "inheritable": ["CAP_KILL"] }),
    );
    let process = case.sleeps().run_detached();
    assert_eq!(process.capabilities("CapInh"), KILL);
    assert_eq!(process.capabilities("CapBnd"), CHOWN | KILL);
}

#[test]
fn ambient_capabilities_are_those_of_a_program_of_another_user() {
    let Some(case) = Case::new("cap-ambient") else { return };
    let both = json!(["CAP_CHOWN", "CAP_KILL"]);
    set(
        &case,
        json!({ "bounding": both, "effective": both, "permitted": both, "inheritable": both, "ambient": ["CAP_KILL"] }),
    );
    case.edit(|config| config["process"]["user"] = json!({ "uid": 1000, "gid": 1000 }));
    let process = case.sleeps().run_detached();
    assert_eq!(process.capabilities("CapAmb"), KILL);
    assert_eq!(process.capabilities("CapPrm"), KILL);
    assert_eq!(process.capabilities("CapEff"), KILL);
    assert_eq!(process.capabilities("CapInh"), CHOWN | KILL);
}

#[test]
fn another_user_has_no_capability_without_ambient_ones() {
    let Some(case) = Case::new("cap-user") else { return };
    case.edit(|config| config["process"]["user"] = json!({ "uid": 1000, "gid": 1000 }));
    let process = case.sleeps().run_detached();
    assert_eq!(process.capabilities("CapPrm"), 0);
    assert_eq!(process.capabilities("CapEff"), 0);
    assert_ne!(process.capabilities("CapBnd"), 0);
}

/// The kernel grants an ambient capability only to who has it permitted and inheritable.
#[test]
fn an_ambient_capability_that_is_not_permitted_or_not_inheritable_is_not_granted() {
    let Some(case) = Case::new("cap-ambient-rule") else { return };
    let bounding = json!(["CAP_CHOWN", "CAP_KILL"]);
    case.edit(|config| config["process"]["user"] = json!({ "uid": 1000, "gid": 1000 }));
    for (permitted, inheritable) in [(json!(["CAP_KILL"]), json!([])), (json!([]), json!(["CAP_KILL"]))] {
        set(
            &case,
            json!({ "bounding": bounding, "effective": permitted, "permitted": permitted,
                "inheritable": inheritable, "ambient": ["CAP_KILL"] }),
        );
        // It may be refused with a sentence, too: then no program runs with more than it should.
        let said = case.shell("grep CapAmb /proc/self/status");
        assert!(said.code != 0 || said.out == "CapAmb:\t0000000000000000\n", "{said:?}");
        case.assert_nothing_left();
    }
}

#[test]
fn a_capability_that_nobody_knows_is_a_warning_and_no_failure() {
    let Some(case) = Case::new("cap-unknown") else { return };
    let names = json!(["CAP_KILL", "CAP_NONE_SUCH"]);
    set(&case, json!({ "bounding": names, "effective": names, "permitted": names }));
    let words = "config.md, Linux Process, capabilities: \"Runtimes SHOULD NOT fail if the container configuration \
        requests capabilities that cannot be granted\", and each such value \"MUST be logged as a warning\"";
    differs(&[Kind::Crun], words, || {
        let said = case.shell("grep CapEff /proc/self/status").good();
        assert_eq!(said.out, "CapEff:\t0000000000000020\n");
        assert!(said.err.contains("CAP_NONE_SUCH"), "no warning: {}", said.err);
    });
}

#[test]
fn a_capability_that_the_runtime_itself_has_not_is_a_warning_and_no_failure() {
    let Some(case) = Case::new("cap-ungrantable") else { return };
    let names = json!(["CAP_KILL", "CAP_SYS_TIME"]);
    set(&case, json!({ "bounding": names, "effective": names, "permitted": names }));
    let words = "config.md, Linux Process, capabilities: \"Runtimes SHOULD NOT fail if the container configuration \
        requests capabilities that cannot be granted\"";
    differs(&[Kind::Runc, Kind::Crun], words, || {
        let mut command = std::process::Command::new("/usr/sbin/capsh");
        let inner = case.script("grep CapEff /proc/self/status").command(&["run", &case.id]);
        command.args(["--drop=cap_sys_time", "--", "-c", "exec \"$0\" \"$@\""]);
        command.arg(inner.get_program()).args(inner.get_args()).current_dir(case.bundle.path());
        assert_eq!(case.finish(&mut command).good().out, "CapEff:\t0000000000000020\n");
    });
}
