//! Mount options by name, as fstab(5), runc and the OCI runtime specification ("Linux mount options") know
//! them, and the bits of mount_setattr(2) and mount(2) that they mean.

/// `MOUNT_ATTR_*` of `linux/mount.h`.
pub(crate) mod attr {
    pub(crate) const RDONLY: u64 = 0x1;
    pub(crate) const NOSUID: u64 = 0x2;
    pub(crate) const NODEV: u64 = 0x4;
    pub(crate) const NOEXEC: u64 = 0x8;
    /// The field of the access time modes; `relatime` is its zero.
    pub(crate) const ATIME: u64 = 0x70;
    pub(crate) const NOATIME: u64 = 0x10;
    pub(crate) const STRICTATIME: u64 = 0x20;
    pub(crate) const NODIRATIME: u64 = 0x80;
    pub(crate) const NOSYMFOLLOW: u64 = 0x20_0000;
}

/// Propagation bits of mount(2).
pub(crate) mod ms {
    pub(crate) const REC: u32 = 1 << 14;
    pub(crate) const UNBINDABLE: u32 = 1 << 17;
    pub(crate) const PRIVATE: u32 = 1 << 18;
    pub(crate) const SLAVE: u32 = 1 << 19;
    pub(crate) const SHARED: u32 = 1 << 20;
}

/// Set a bit, or clear it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    Set(u64),
    Clear(u64),
    /// A mode of access times: the whole field is cleared, then this is set.
    Atime(u64),
}

/// Options of one mount. With an `r` before them they concern every mount of a recursive bind.
const ATTRIBUTES: [(&str, Change); 18] = [
    ("ro", Change::Set(attr::RDONLY)),
    ("rw", Change::Clear(attr::RDONLY)),
    ("nosuid", Change::Set(attr::NOSUID)),
    ("suid", Change::Clear(attr::NOSUID)),
    ("nodev", Change::Set(attr::NODEV)),
    ("dev", Change::Clear(attr::NODEV)),
    ("noexec", Change::Set(attr::NOEXEC)),
    ("exec", Change::Clear(attr::NOEXEC)),
    ("nodiratime", Change::Set(attr::NODIRATIME)),
    ("diratime", Change::Clear(attr::NODIRATIME)),
    ("nosymfollow", Change::Set(attr::NOSYMFOLLOW)),
    ("symfollow", Change::Clear(attr::NOSYMFOLLOW)),
    ("noatime", Change::Atime(attr::NOATIME)),
    ("atime", Change::Atime(0)),
    ("relatime", Change::Atime(0)),
    ("norelatime", Change::Atime(0)),
    ("strictatime", Change::Atime(attr::STRICTATIME)),
    ("nostrictatime", Change::Atime(0)),
];

/// The attribute that an option names, and whether it is meant recursively.
pub(crate) fn attribute(option: &str) -> Option<(Change, bool)> {
    let find = |name: &str| ATTRIBUTES.iter().find(|(known, _)| *known == name).map(|(_, change)| *change);
    // No plain option is an `r` before another one: `relatime` and `ro`, `rw` are found first.
    find(option)
        .map(|change| (change, false))
        .or_else(|| find(option.strip_prefix('r')?).map(|change| (change, true)))
}

/// Applies a change to a pair of masks.
pub(crate) fn apply(change: Change, set: &mut u64, clear: &mut u64) {
    match change {
        Change::Set(bit) => {
            *set |= bit;
            *clear &= !bit;
        }
        Change::Clear(bit) => {
            *clear |= bit;
            *set &= !bit;
        }
        Change::Atime(mode) => {
            *clear |= attr::ATIME;
            *set = (*set & !attr::ATIME) | mode;
        }
    }
}

/// Options that belong to a file system as a whole; fsconfig(2) takes them as flags.
pub(crate) fn is_superblock(option: &str) -> bool {
    matches!(
        option,
        "sync"
            | "async"
            | "dirsync"
            | "lazytime"
            | "nolazytime"
            | "mand"
            | "nomand"
            | "iversion"
            | "noiversion"
            | "silent"
            | "loud"
    )
}

/// The propagation that an option names.
pub(crate) fn propagation(option: &str) -> Option<u32> {
    let one = |name: &str| match name {
        "private" => Some(ms::PRIVATE),
        "slave" => Some(ms::SLAVE),
        "shared" => Some(ms::SHARED),
        "unbindable" => Some(ms::UNBINDABLE),
        _ => None,
    };
    one(option).or_else(|| Some(one(option.strip_prefix('r')?)? | ms::REC))
}

/// The options that masks mean, for the specification; the inverse of [`attribute`] up to order.
pub(crate) fn names(set: u64, clear: u64, recursive: bool) -> Vec<String> {
    let named = |name: &str| if recursive { format!("r{name}") } else { name.to_owned() };
    let mut out = Vec::new();
    for (name, change) in ATTRIBUTES {
        match change {
            Change::Set(bit) if set & bit != 0 => out.push(named(name)),
            Change::Clear(bit) if clear & bit != 0 => out.push(named(name)),
            _ => {}
        }
    }
    if clear & attr::ATIME != 0 {
        let mode = match set & attr::ATIME {
            attr::NOATIME => "noatime",
            attr::STRICTATIME => "strictatime",
            _ => "relatime",
        };
        out.push(named(mode));
    }
    out
}

/// The option that a propagation means.
pub(crate) fn propagation_name(bits: u32) -> Option<&'static str> {
    let recursive = bits & ms::REC != 0;
    let pick = |plain, all| Some(if recursive { all } else { plain });
    match bits & !ms::REC {
        ms::PRIVATE => pick("private", "rprivate"),
        ms::SLAVE => pick("slave", "rslave"),
        ms::SHARED => pick("shared", "rshared"),
        ms::UNBINDABLE => pick("unbindable", "runbindable"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_option_of_runcs_table_is_known() {
        for option in
            "async atime defaults dev diratime dirsync exec iversion lazytime loud mand noatime nodev nodiratime \
             noexec noiversion nolazytime nomand norelatime nostrictatime nosuid nosymfollow relatime ro rw silent \
             strictatime suid sync symfollow rro rrw rnosuid rsuid rnodev rdev rnoexec rexec rnodiratime rdiratime \
             rrelatime rnorelatime rnoatime ratime rstrictatime rnostrictatime rnosymfollow rsymfollow"
                .split_whitespace()
        {
            assert!(option == "defaults" || attribute(option).is_some() || is_superblock(option), "{option}");
        }
        assert_eq!(attribute("ro"), Some((Change::Set(attr::RDONLY), false)));
        assert_eq!(attribute("rro"), Some((Change::Set(attr::RDONLY), true)));
        assert_eq!(attribute("relatime"), Some((Change::Atime(0), false)));
        assert_eq!(attribute("size=1"), None);
    }

    #[test]
    fn names_and_bits_are_inverse() {
        for recursive in [false, true] {
            for options in
                [&["ro", "nosuid"][..], &["rw", "dev", "noexec"], &["strictatime"], &["relatime"], &[]]
            {
                let (mut set, mut clear) = (0, 0);
                for option in options {
                    let option = if recursive { format!("r{option}") } else { (*option).to_owned() };
                    let (change, found) = attribute(&option).expect("known");
                    assert_eq!(found, recursive);
                    apply(change, &mut set, &mut clear);
                }
                let (mut set2, mut clear2) = (0, 0);
                for option in names(set, clear, recursive) {
                    apply(attribute(&option).expect("known").0, &mut set2, &mut clear2);
                }
                assert_eq!((set, clear), (set2, clear2), "{options:?}");
            }
        }
    }

    #[test]
    fn propagation_and_its_names_are_inverse() {
        for name in
            ["private", "rprivate", "slave", "rslave", "shared", "rshared", "unbindable", "runbindable"]
        {
            assert_eq!(propagation(name).and_then(propagation_name), Some(name));
        }
    }
}
