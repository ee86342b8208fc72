//! config-linux.md, "Allowed Device list": rules tried for real, by what the kernel says to an open and a mknod.
//!
//! All runtimes let any node be made, which opens nothing (runc, specconv's AllowedDevices: `c *:* m`, `b *:* m`),
//! so that images can be unpacked inside; the list is about what such a node may be used for.

use oci_suite::Case;
use serde_json::{Value, json};

/// Opens the node `c 1:77`, which no driver serves: what is allowed ends with ENXIO, what is not with EPERM.
const SCRIPT: &str = "try() { case \"$(\"$@\" 2>&1)\" in *'not permitted'*) printf -- -;; *) printf +;; esac; }; \
    try head -c 1 /dev/tested; try sh -c 'echo x > /dev/tested'; try mknod /tmp/node c 1 77; rm -f /tmp/node; \
    head -c 1 /dev/zero | wc -c | grep -q 1 && echo x > /dev/null && printf d";

fn with_rules(name: &str, rules: &Value, expected: &str) {
    let Some(case) = Case::new(name) else { return };
    case.capabilities(&["CAP_MKNOD"]);
    case.edit(|config| {
        config["linux"]["devices"] =
            json!([{ "path": "/dev/tested", "type": "c", "major": 1, "minor": 77, "fileMode": 0o666 }]);
        config["linux"]["resources"]["devices"] = rules.clone();
    });
    // Read, write, mknod, and whether the default devices work.
    assert_eq!(case.shell(SCRIPT).good().out, expected, "{rules}");
    case.assert_nothing_left();
}

fn allow(access: &str) -> Value {
    json!([{ "allow": false, "access": "rwm" }, { "allow": true, "type": "c", "major": 1, "minor": 77, "access": access }])
}

#[test]
fn what_is_not_allowed_is_refused_and_the_default_devices_work() {
    with_rules("rule-none", &json!([{ "allow": false, "access": "rwm" }]), "--+d");
}

#[test]
fn reading_alone_can_be_allowed() {
    with_rules("rule-r", &allow("r"), "+-+d");
}

#[test]
fn writing_alone_can_be_allowed() {
    with_rules("rule-w", &allow("w"), "-++d");
}

#[test]
fn leave_to_make_nodes_is_no_leave_to_open_them() {
    with_rules("rule-m", &allow("m"), "--+d");
}

#[test]
fn everything_can_be_allowed_for_one_device() {
    with_rules("rule-rwm", &allow("rwm"), "+++d");
}

#[test]
fn a_rule_without_a_minor_number_is_for_all_of_the_major_number() {
    let rules = json!([{ "allow": false, "access": "rwm" }, { "allow": true, "type": "c", "major": 1, "access": "rwm" }]);
    with_rules("rule-major", &rules, "+++d");
    let other = json!([{ "allow": false, "access": "rwm" }, { "allow": true, "type": "c", "major": 2, "access": "rwm" }]);
    with_rules("rule-other-major", &other, "--+d");
}

#[test]
fn a_rule_for_blocks_is_not_for_characters() {
    let rules = json!([{ "allow": false, "access": "rwm" }, { "allow": true, "type": "b", "major": 1, "minor": 77, "access": "rwm" }]);
    with_rules("rule-block", &rules, "--+d");
}

#[test]
fn everything_can_be_allowed() {
    with_rules("rule-all", &json!([{ "allow": true, "access": "rwm" }]), "+++d");
}

#[test]
fn later_rules_take_back_what_earlier_ones_gave() {
    let rules = json!([
        { "allow": false, "access": "rwm" },
        { "allow": true, "type": "c", "major": 1, "minor": 77, "access": "rwm" },
        { "allow": false, "type": "c", "major": 1, "minor": 77, "access": "w" },
    ]);
    with_rules("rule-back", &rules, "+-+d");
}
