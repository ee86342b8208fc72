//! Device rules as properties, for v1 only: there systemd opens every device to a unit that has no rules of its own, each time
//! that it looks at its units again. Reads `/proc/devices`.
//!
//! Systemd knows allowing rules only, for one device or for all of a driver, so this is a little more or less than the rules
//! themselves; those are written to the group's files in any case. On v2 our program stays on the group, whatever systemd does.

use crate::properties::Properties;
use cgroups::{DeviceKind, DeviceRule, Mode};
use zbus::zvariant::Value;

/// Most bytes of `/proc/devices` that are read.
const MAX_TEXT: u64 = 1 << 20;

impl Properties {
    /// `DevicePolicy` and `DeviceAllow` for rules in their order, the last one wins; none on v2, and none for no rules.
    pub fn of_devices(rules: &[DeviceRule], mode: Mode) -> Properties {
        if mode == Mode::V2 || rules.is_empty() {
            return Properties::default();
        }
        let drivers = std::fs::File::open("/proc/devices").and_then(|file| {
            use std::io::Read;
            let mut text = String::new();
            file.take(MAX_TEXT).read_to_string(&mut text).map(|_| text)
        });
        let mut all = Properties::default();
        all.add("DevicePolicy", "strict".to_owned());
        all.add("DeviceAllow", Value::from(allowed(rules, &drivers.unwrap_or_default())));
        all
    }
}

fn allowed(rules: &[DeviceRule], drivers: &str) -> Vec<(String, String)> {
    let mut list: Vec<(String, String)> = Vec::new();
    for rule in rules {
        let access: String = [(rule.read, 'r'), (rule.write, 'w'), (rule.mknod, 'm')]
            .into_iter()
            .filter_map(|(on, letter)| on.then_some(letter))
            .collect();
        let kinds: &[&str] = match rule.kind {
            DeviceKind::All => &["char", "block"],
            DeviceKind::Char => &["char"],
            DeviceKind::Block => &["block"],
        };
        let everything = rule.kind == DeviceKind::All && rule.major.is_none() && rule.minor.is_none();
        if !rule.allow && everything && access == "rwm" {
            list.clear();
            continue;
        }
        for kind in kinds {
            let name = match (rule.major, rule.minor) {
                (None, None) => format!("{kind}-*"),
                (Some(major), Some(minor)) => format!("/dev/{kind}/{major}:{minor}"),
                (Some(major), None) => match driver(drivers, kind, major) {
                    Some(driver) => format!("{kind}-{driver}"),
                    None => continue,
                },
                // Systemd has no word for it.
                (None, Some(_)) => continue,
            };
            match rule.allow {
                true if !access.is_empty() => list.push((name, access.clone())),
                true => {}
                // Taken back as a whole: what remains of it is in the group's own rules.
                false => list.retain(|(allowed, _)| *allowed != name),
            }
        }
    }
    list
}

/// The name of a major number in `/proc/devices` (proc(5)): `136 pts` below `Character devices:`.
fn driver<'a>(text: &'a str, kind: &str, major: u32) -> Option<&'a str> {
    let heading = if kind == "char" { "Character devices:" } else { "Block devices:" };
    let lines = text.lines().skip_while(|line| *line != heading).skip(1).take_while(|line| !line.is_empty());
    let mut found = lines.filter_map(|line| line.trim().split_once(' '));
    found.find(|(number, _)| number.parse() == Ok(major)).map(|(_, name)| name.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    const DRIVERS: &str = "Character devices:\n  1 mem\n136 pts\n\nBlock devices:\n  8 sd\n136 other\n";

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

    #[test]
    fn rules_become_the_words_of_systemd() {
        let list = allowed(
            &[
                rule(true, DeviceKind::Char, Some(9), Some(9), "rwm"),
                rule(false, DeviceKind::All, None, None, "rwm"),
                rule(true, DeviceKind::Char, None, None, "m"),
                rule(true, DeviceKind::Char, Some(1), Some(3), "rwm"),
                rule(true, DeviceKind::Char, Some(136), None, "rw"),
                rule(true, DeviceKind::Block, Some(8), None, "r"),
                rule(true, DeviceKind::Char, Some(77), None, "r"),
                rule(true, DeviceKind::Char, Some(5), Some(0), "rw"),
                rule(false, DeviceKind::Char, Some(5), Some(0), "w"),
                rule(true, DeviceKind::Char, Some(5), Some(1), ""),
            ],
            DRIVERS,
        );
        let want = [("char-*", "m"), ("/dev/char/1:3", "rwm"), ("char-pts", "rw"), ("block-sd", "r")];
        assert_eq!(list, want.map(|(name, access)| (name.to_owned(), access.to_owned())));
        assert!(Properties::of_devices(&[rule(true, DeviceKind::All, None, None, "m")], Mode::V2).is_empty());
    }
}
