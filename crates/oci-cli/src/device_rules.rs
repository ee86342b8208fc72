//! `linux.resources.devices` as rules of the device controller, between the denial of everything and the
//! devices that every container has. No I/O.

use cgroups::{DeviceKind, DeviceRule};
use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType};
use types::reference::shorten;
use types::{Error, Result};

/// Most rules that are taken.
const MOST: usize = 4096;

/// The rules in order: everything is denied at first, as it is by runc (`libcontainer/cgroups/devices`, whose
/// emulation starts from an empty list of what is allowed), and later rules win.
pub fn of(list: Option<&[LinuxDeviceCgroup]>) -> Result<Vec<DeviceRule>> {
    let list = list.unwrap_or_default();
    if list.len() > MOST {
        return Err(Error::invalid(format!(
            "linux.resources.devices has {} rules; {MOST} are the most",
            list.len()
        )));
    }
    let mut rules = vec![rule(false, DeviceKind::All, None, None, "rwm")];
    for asked in list {
        rules.push(one(asked)?);
    }
    // The nodes that every container gets would be of no use without these (runc `specconv`, `AllowedDevices`).
    rules.extend([
        rule(true, DeviceKind::Char, None, None, "m"),
        rule(true, DeviceKind::Block, None, None, "m"),
        rule(true, DeviceKind::Char, Some(1), Some(3), "rwm"),
        rule(true, DeviceKind::Char, Some(1), Some(5), "rwm"),
        rule(true, DeviceKind::Char, Some(1), Some(7), "rwm"),
        rule(true, DeviceKind::Char, Some(1), Some(8), "rwm"),
        rule(true, DeviceKind::Char, Some(1), Some(9), "rwm"),
        rule(true, DeviceKind::Char, Some(5), Some(0), "rwm"),
        // /dev/console, /dev/ptmx and /dev/pts/N.
        rule(true, DeviceKind::Char, Some(5), Some(1), "rwm"),
        rule(true, DeviceKind::Char, Some(5), Some(2), "rwm"),
        rule(true, DeviceKind::Char, Some(136), None, "rwm"),
    ]);
    Ok(rules)
}

fn rule(allow: bool, kind: DeviceKind, major: Option<u32>, minor: Option<u32>, access: &str) -> DeviceRule {
    let has = |letter| access.contains(letter);
    DeviceRule { allow, kind, major, minor, read: has('r'), write: has('w'), mknod: has('m') }
}

fn one(asked: &LinuxDeviceCgroup) -> Result<DeviceRule> {
    let kind = match asked.typ().unwrap_or(LinuxDeviceType::A) {
        LinuxDeviceType::A => DeviceKind::All,
        LinuxDeviceType::B => DeviceKind::Block,
        LinuxDeviceType::C | LinuxDeviceType::U => DeviceKind::Char,
        LinuxDeviceType::P => {
            return Err(Error::invalid(
                "linux.resources.devices: a pipe (type p) needs no rule; take it out",
            ));
        }
    };
    // -1 is what runc's own types write for "every one".
    let number = |value: Option<i64>| match value {
        None | Some(-1) => Ok(None),
        Some(value) => u32::try_from(value)
            .map(Some)
            .map_err(|_| Error::invalid(format!("linux.resources.devices: number {value} is out of range"))),
    };
    let access = asked.access().as_deref().unwrap_or("rwm");
    // An empty one would allow and deny nothing; runc refuses it as well.
    if !(1..=3).contains(&access.len()) || !access.bytes().all(|b| matches!(b, b'r' | b'w' | b'm')) {
        return Err(Error::invalid(format!(
            "linux.resources.devices: access {:?}: letters of rwm are expected",
            shorten(access)
        )));
    }
    let (major, minor) = (number(asked.major())?, number(asked.minor())?);
    Ok(rule(asked.allow(), kind, major, minor, access))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: serde_json::Value) -> Result<Vec<DeviceRule>> {
        let list: Vec<LinuxDeviceCgroup> = serde_json::from_value(json).expect("rules");
        of(Some(&list))
    }

    #[test]
    fn everything_is_denied_first_and_the_specification_decides_next() {
        let rules = parse(serde_json::json!([
            { "allow": false, "access": "rwm" },
            { "allow": true, "type": "c", "major": 10, "minor": -1, "access": "rw" },
        ]))
        .expect("good");
        assert_eq!(rules[0], rule(false, DeviceKind::All, None, None, "rwm"));
        assert_eq!(rules[2], rule(true, DeviceKind::Char, Some(10), None, "rw"));
        assert!(of(None).expect("good").len() > 8);
    }

    #[test]
    fn rules_that_mean_nothing_are_refused() {
        for bad in [
            serde_json::json!([{ "allow": true, "access": "rx" }]),
            serde_json::json!([{ "allow": false, "access": "" }]),
            serde_json::json!([{ "allow": true, "major": -2 }]),
            serde_json::json!([{ "allow": true, "major": 1_i64 << 40 }]),
            serde_json::json!([{ "allow": true, "type": "p" }]),
        ] {
            assert!(parse(bad.clone()).is_err(), "{bad}");
        }
    }
}
