//! Capabilities by name and number, and which a container gets. Never inheritable ones (CVE-2022-24769,
//! CVE-2022-29162), except those that were asked for as ambient, which the kernel ties to inheritable ones.

use container::plan::Capabilities;
use types::container::ContainerSecurity;
use types::reference::shorten;
use types::{Error, Result};

/// Names without `CAP_`, in the order of their numbers (`linux/capability.h`, up to Linux 6.18).
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// Every capability that has a name.
pub(crate) const ALL: u64 = (1 << NAMES.len()) - 1;

/// What a container gets when nothing is said: the set that Docker chose and the CRI runtimes kept.
const DEFAULT: [&str; 14] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FSETID",
    "FOWNER",
    "MKNOD",
    "NET_RAW",
    "SETGID",
    "SETUID",
    "SETFCAP",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "SYS_CHROOT",
    "KILL",
    "AUDIT_WRITE",
];

/// The number of a capability; the name may have `CAP_` before it and may be in lower case.
pub fn capability_number(name: &str) -> Option<u32> {
    if name.len() > 64 {
        return None;
    }
    let upper = name.to_ascii_uppercase();
    let plain = upper.strip_prefix("CAP_").unwrap_or(&upper);
    NAMES.iter().position(|known| *known == plain).and_then(|at| u32::try_from(at).ok())
}

/// `CAP_…` names of a mask, in the order of their numbers.
pub fn capability_names(mask: u64) -> Vec<String> {
    NAMES
        .iter()
        .enumerate()
        .filter(|(at, _)| mask & (1 << at) != 0)
        .map(|(_, n)| format!("CAP_{n}"))
        .collect()
}

/// The five sets for a container.
///
/// Order as in containerd (`internal/cri/opts/spec_opts.go`, `WithCapabilities`): add `ALL`, drop `ALL`, add
/// the named ones, drop the named ones. What the node lacks is left out with a warning when it comes from
/// the default set, from `ALL` or from `privileged`; when it was asked for by name the request is refused,
/// because the program would fail later with less to say about why.
pub(crate) fn decide(
    security: &ContainerSecurity,
    bounding: u64,
    warnings: &mut Vec<String>,
) -> Result<Capabilities> {
    let add = names(&security.add_capabilities, "added")?;
    let drop = names(&security.drop_capabilities, "dropped")?;
    let ambient = names(&security.add_ambient_capabilities, "added as ambient")?;
    let named = add.mask | ambient.mask;
    let missing = named & !bounding;
    if missing != 0 {
        return Err(Error::precondition(format!(
            "capability {} was asked for, and the node cannot give it: it is not in the daemon's bounding set; \
             take it out of the request, or start the daemon with it",
            capability_names(missing).join(", ")
        )));
    }
    let mut mask = DEFAULT.iter().filter_map(|n| capability_number(n)).fold(0, |m, n| m | 1 << n);
    if security.privileged || add.all || ambient.all {
        mask = ALL;
    }
    if drop.all && !security.privileged {
        mask = 0;
    }
    mask |= named;
    if !security.privileged {
        mask &= !drop.mask;
    }
    let lacking = mask & !bounding;
    if lacking != 0 {
        warnings.push(format!(
            "the node lacks {}; the container runs without",
            capability_names(lacking).join(", ")
        ));
        mask &= bounding;
    }
    let ambient = if ambient.all { mask } else { ambient.mask & mask };
    Ok(Capabilities { bounding: mask, effective: mask, permitted: mask, inheritable: ambient, ambient })
}

#[derive(Default)]
struct Named {
    all: bool,
    mask: u64,
}

fn names(list: &[String], verb: &str) -> Result<Named> {
    let mut out = Named::default();
    for name in list {
        if name.eq_ignore_ascii_case("ALL") || name.eq_ignore_ascii_case("CAP_ALL") {
            out.all = true;
        } else {
            let number = capability_number(name).ok_or_else(|| {
                Error::invalid(format!(
                    "capability {:?} cannot be {verb}: there is none of that name",
                    shorten(name)
                ))
            })?;
            out.mask |= 1 << number;
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decide_for(add: &[&str], drop: &[&str], bounding: u64) -> Result<(Capabilities, Vec<String>)> {
        let own = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect();
        let security = ContainerSecurity {
            add_capabilities: own(add),
            drop_capabilities: own(drop),
            ..ContainerSecurity::default()
        };
        let mut warnings = Vec::new();
        decide(&security, bounding, &mut warnings).map(|caps| (caps, warnings))
    }

    #[test]
    fn numbers_are_the_kernels() {
        for (name, number) in [("CAP_CHOWN", 0), ("sys_admin", 21), ("SYS_RESOURCE", 24), ("cap_bpf", 39)] {
            assert_eq!(capability_number(name), Some(number), "{name}");
        }
        assert_eq!(capability_number("CAP_CAP_CHOWN"), None);
    }

    #[test]
    fn add_and_drop_follow_containerds_order() {
        let names = |add: &[&str], drop: &[&str]| {
            capability_names(decide_for(add, drop, ALL).expect("known names").0.bounding)
        };
        assert_eq!(names(&[], &[]).len(), 14);
        assert_eq!(names(&["NET_BIND_SERVICE"], &["ALL"]), ["CAP_NET_BIND_SERVICE"]);
        assert_eq!(names(&["ALL"], &["CHOWN"]).len(), 40);
        assert_eq!(names(&["ALL"], &["ALL"]), Vec::<String>::new());
        assert_eq!(names(&["CAP_SYS_TIME"], &["SYS_TIME"]).len(), 14);
    }

    #[test]
    fn nothing_is_inheritable_or_ambient_unless_it_was_asked_for() {
        let (caps, _) = decide_for(&["ALL"], &[], ALL).expect("all");
        assert_eq!((caps.inheritable, caps.ambient), (0, 0));
        let security = ContainerSecurity {
            add_ambient_capabilities: vec!["NET_ADMIN".into()],
            ..ContainerSecurity::default()
        };
        let caps = decide(&security, ALL, &mut Vec::new()).expect("ambient");
        assert_eq!(capability_names(caps.ambient), ["CAP_NET_ADMIN"]);
        assert_eq!(caps.inheritable, caps.ambient);
        assert_ne!(caps.permitted & caps.ambient, 0);
    }

    #[test]
    fn what_the_node_lacks_is_refused_by_name_and_left_out_of_all() {
        let without = ALL & !(1 << 24);
        let error = decide_for(&["SYS_RESOURCE"], &[], without).expect_err("lacking").to_string();
        assert!(error.contains("CAP_SYS_RESOURCE"), "{error}");
        let (caps, warnings) = decide_for(&["ALL"], &[], without).expect("left out");
        assert_eq!(caps.permitted, without);
        assert_eq!(warnings.len(), 1);
    }

    #[test]
    fn unknown_names_are_refused() {
        assert!(decide_for(&["NET_ADMIM"], &[], ALL).is_err());
        assert!(decide_for(&[], &["x"], ALL).is_err());
    }
}
