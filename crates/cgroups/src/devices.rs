//! Which device nodes the processes of a group may use.
//!
//! v1 has a controller with files for that, and where it is mounted it is used: on hybrid machines too. v2 has
//! none; there an eBPF program of the `cgroup_device` kind decides ([`program`] builds it, [`attach`] puts it on
//! the group). A machine that can do neither gets an error: rules are never weaker than asked for in silence.

mod attach;
mod program;

use crate::error::Error;
use crate::files::write_once;
use crate::layout::Version;
use crate::{Group, Result};
use rustix::fs::OFlags;

/// What kind of device a rule is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum DeviceKind {
    /// Both kinds.
    All,
    /// Character devices.
    Char,
    /// Block devices.
    Block,
}

/// One rule (OCI `linux.resources.devices`); later rules win over earlier ones.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct DeviceRule {
    /// Allow, or deny.
    pub allow: bool,
    /// Kind of device.
    pub kind: DeviceKind,
    /// Major number; `None` is every one.
    pub major: Option<u32>,
    /// Minor number; `None` is every one.
    pub minor: Option<u32>,
    /// Reading.
    pub read: bool,
    /// Writing.
    pub write: bool,
    /// Making nodes with mknod(2).
    pub mknod: bool,
}

impl DeviceRule {
    /// The line that v1's `devices.allow` and `devices.deny` take; `None` for a rule that grants nothing.
    ///
    /// The kernel reads `a` as "every device and every access", whatever follows
    /// (admin-guide/cgroup-v1/devices.rst), so a rule for both kinds that is narrower becomes two lines.
    fn lines(&self) -> Vec<String> {
        let access: String = [(self.read, 'r'), (self.write, 'w'), (self.mknod, 'm')]
            .iter()
            .filter(|(on, _)| *on)
            .map(|(_, c)| *c)
            .collect();
        if access.is_empty() {
            return Vec::new();
        }
        let number = |n: Option<u32>| n.map_or_else(|| "*".to_owned(), |n| n.to_string());
        let line = |kind| format!("{kind} {}:{} {access}", number(self.major), number(self.minor));
        match self.kind {
            DeviceKind::Char => vec![line('c')],
            DeviceKind::Block => vec![line('b')],
            DeviceKind::All if self.major.is_none() && self.minor.is_none() && access == "rwm" => {
                vec!["a".to_owned()]
            }
            DeviceKind::All => vec![line('c'), line('b')],
        }
    }
}

impl Group {
    /// Applies device rules in their order, the last one that names an access wins, and gives back what this machine
    /// cannot do, one sentence each. No rules change nothing.
    ///
    /// On v1 they change what the group has, which at first is what the group above has. On v2 they are the whole
    /// truth, in place of those of an earlier call: what no rule allows is denied.
    ///
    /// # Errors
    /// `PermissionDenied` when a rule allows what the group above does not have (v1), or when bpf(2) is not
    /// permitted (v2); `FailedPrecondition` where the kernel cannot enforce rules; `InvalidArgument` for more
    /// rules than fit (at least 1000 do).
    pub fn devices(&self, rules: &[DeviceRule]) -> Result<Vec<String>> {
        if rules.is_empty() {
            return Ok(Vec::new());
        }
        let Some(hierarchy) = self.layout.with("devices").filter(|h| h.version == Version::V1) else {
            let unified = self.layout.unified().ok_or(Error::NoController("devices"))?;
            attach::apply(unified, self.relative(), rules)?;
            return Ok(Vec::new());
        };
        let open = |file: &str| {
            hierarchy
                .open(self.relative(), file, OFlags::WRONLY)
                .map_err(|errno| Error::io("open", hierarchy.shown(self.relative(), file), errno))
        };
        let (allow, deny) = (open("devices.allow")?, open("devices.deny")?);
        for rule in rules {
            let (fd, file) = if rule.allow { (&allow, "devices.allow") } else { (&deny, "devices.deny") };
            for line in rule.lines() {
                write_once(fd, &line)
                    .map_err(|errno| hierarchy.refused(self.relative(), file, &line, errno))?;
            }
        }
        Ok(Vec::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(kind: DeviceKind, major: Option<u32>, minor: Option<u32>, access: &str) -> DeviceRule {
        let has = |c| access.contains(c);
        DeviceRule { allow: true, kind, major, minor, read: has('r'), write: has('w'), mknod: has('m') }
    }

    #[test]
    fn rules_become_the_kernels_lines() {
        assert_eq!(rule(DeviceKind::Char, Some(1), Some(3), "rwm").lines(), ["c 1:3 rwm"]);
        assert_eq!(rule(DeviceKind::Block, None, None, "m").lines(), ["b *:* m"]);
        assert_eq!(rule(DeviceKind::All, None, None, "rwm").lines(), ["a"]);
    }

    #[test]
    fn a_narrow_rule_for_both_kinds_does_not_become_everything() {
        assert_eq!(rule(DeviceKind::All, None, None, "m").lines(), ["c *:* m", "b *:* m"]);
        assert!(rule(DeviceKind::All, None, None, "").lines().is_empty());
    }
}
