//! Mounts of a specification, with their options as runc reads them (`libcontainer/specconv/spec_linux.go`,
//! `parseMountOptions`). An option of a file system that runc would hand to a bind mount without effect is refused
//! here, as are targets that would take the container apart.

use super::options::{self, apply, attribute, is_superblock, ms};
use super::{absolute, id_maps, text};
use crate::limits;
use crate::mounts::BELOW_PROC;
use container::plan::{self, Idmap, MountSource, Namespace, Namespaces};
use oci_spec::runtime::Mount;
use types::reference::shorten;
use types::{Error, Result};

/// What the mounts of one specification have in common.
pub(super) struct Around<'a> {
    /// Sources that are relative start here.
    pub(super) bundle: &'a str,
    /// The container's.
    pub(super) namespaces: &'a Namespaces,
    /// `linux.mountLabel`.
    pub(super) label: Option<&'a str>,
}

pub(super) fn all(list: &[Mount], around: &Around<'_>) -> Result<Vec<plan::Mount>> {
    limits::count("mounts", list.len())?;
    if let Some(label) = around.label
        && (label.len() > 255 || label.contains(|c: char| c.is_control() || c == '"'))
    {
        return Err(Error::invalid(format!("linux.mountLabel {:?} is no SELinux label", shorten(label))));
    }
    list.iter().map(|mount| one(mount, around)).collect()
}

fn one(mount: &Mount, around: &Around<'_>) -> Result<plan::Mount> {
    let target = text("mount destination", mount.destination())?;
    // runc takes relative destinations with a warning, and means them from the root.
    let target = if target.starts_with('/') { target.to_owned() } else { format!("/{target}") };
    limits::path("mount destination", &target)?;
    let target = limits::clean(&target);
    let refuse = |why: String| Err(Error::invalid(format!("mount at {:?}: {why}", shorten(&target))));
    let list = mount.options().as_deref().unwrap_or_default();
    limits::count("mount options", list.len())?;
    let kind = mount.typ().as_deref().unwrap_or("");
    let mut parsed = Parsed { bind: (kind == "bind").then_some(false), ..Parsed::default() };
    for option in list {
        if option.len() > 4096 || option.contains('\0') {
            return refuse(format!("option {:?} is too long or has a NUL byte", shorten(option)));
        }
        parsed.option(option);
    }
    let source = source(mount, kind, &parsed, &target, around)?;
    allowed(&target, &source)?;
    let is_bind = matches!(source, MountSource::Bind { .. });
    if parsed.tmpcopyup && !matches!(&source, MountSource::Filesystem { kind, .. } if kind == "tmpfs") {
        return refuse("tmpcopyup is for tmpfs".into());
    }
    let uid_mappings = id_maps(mount.uid_mappings().as_deref().unwrap_or_default())?;
    let gid_mappings = id_maps(mount.gid_mappings().as_deref().unwrap_or_default())?;
    if uid_mappings.is_empty() != gid_mappings.is_empty() {
        return refuse("an idmapped mount needs both uidMappings and gidMappings".into());
    }
    // Mappings without the option mean it, too (runc `configs/validate`, `checkIDMapMounts`).
    let idmap = if uid_mappings.is_empty() { parsed.idmap } else { parsed.idmap.or(Some(Idmap::Single)) };
    let idmap = idmap.unwrap_or_default();
    if idmap != Idmap::Off && !is_bind {
        return refuse("only bind mounts can be idmapped".into());
    }
    if idmap != Idmap::Off && uid_mappings.is_empty() && around.namespaces.user == Namespace::Inherit {
        return refuse(
            "idmap needs uidMappings and gidMappings, or those of a user namespace of the container".into(),
        );
    }
    let [set, clear, set_recursive, clear_recursive] = if is_bind || parsed.remount {
        [parsed.set, parsed.clear, parsed.set_recursive, parsed.clear_recursive]
    } else {
        [parsed.set_merged, parsed.clear_merged, 0, 0]
    };
    Ok(plan::Mount {
        target,
        source,
        set,
        clear,
        set_recursive,
        clear_recursive,
        propagation: parsed.propagation,
        tmpcopyup: parsed.tmpcopyup,
        idmap,
        uid_mappings,
        gid_mappings,
    })
}

fn source(
    mount: &Mount,
    kind: &str,
    parsed: &Parsed,
    target: &str,
    around: &Around<'_>,
) -> Result<MountSource> {
    let refuse = |why: String| Err(Error::invalid(format!("mount at {:?}: {why}", shorten(target))));
    let source = mount.source().as_deref();
    match (parsed.bind, kind) {
        _ if parsed.remount => {
            let mut options = parsed.superblock.clone();
            options.extend(parsed.data.iter().cloned());
            Ok(MountSource::Remount { bind: parsed.bind.is_some(), options })
        }
        (Some(recursive), _) => {
            // The flags in `superblock` are the node's to say; they are dropped, as mount(2) does for binds. An option
            // that only a file system knows is a mistake.
            if let Some(option) = parsed.data.first() {
                return refuse(format!("a bind mount cannot have the option {:?}", shorten(option)));
            }
            let Some(path) = source else { return refuse("a bind mount needs a source".into()) };
            Ok(MountSource::Bind { path: absolute("mount source", path, around.bundle)?, recursive })
        }
        (None, "") => refuse("neither a type nor the option bind or rbind is given".into()),
        (None, "cgroup" | "cgroup2") => {
            if let Some(option) = parsed.data.first() {
                return refuse(format!("the cgroup mount cannot have the option {:?}", shorten(option)));
            }
            Ok(if kind == "cgroup" {
                MountSource::Cgroup
            } else {
                let options = Vec::new();
                MountSource::Filesystem { kind: kind.to_owned(), source: kind.to_owned(), options }
            })
        }
        (None, kind) => {
            if kind.len() > 64 || kind.contains(|c: char| c.is_control()) {
                return refuse(format!("{:?} is not the type of a file system", shorten(kind)));
            }
            let source = source.map(|path| text("mount source", path)).transpose()?.unwrap_or(kind);
            if source.len() > 4095 || source.contains('\0') {
                return refuse("the source is too long or has a NUL byte".into());
            }
            let mut options = parsed.superblock.clone();
            options.extend(parsed.data.iter().cloned());
            // SELinux labels neither of these two (runc `rootfs_linux.go`, `mountToRootfs`).
            let labelled = options.iter().any(|option| option.starts_with("context="));
            if let (Some(label), false) = (around.label, labelled || matches!(kind, "proc" | "sysfs")) {
                options.push(format!("context={label}"));
            }
            Ok(MountSource::Filesystem { kind: kind.to_owned(), source: source.to_owned(), options })
        }
    }
}

/// Targets that would take the container apart, by text: links are the launcher's to resolve and to check
/// (runc `rootfs_linux.go`, `checkProcMount`; CVE-2019-16884, CVE-2023-27561).
fn allowed(target: &str, source: &MountSource) -> Result<()> {
    let (proc, again) = match source {
        MountSource::Bind { path, .. } => (limits::clean(path) == "/proc", false),
        MountSource::Filesystem { kind, .. } => (kind == "proc", false),
        MountSource::Cgroup | MountSource::Image { .. } => (false, false),
        // It hides nothing.
        MountSource::Remount { .. } => (true, true),
    };
    let refuse = |why: &str| Err(Error::invalid(format!("mount at {:?}: {why}", shorten(target))));
    if target == "/" && !again {
        return refuse("it would hide the whole root");
    }
    if target == "/proc" && !proc {
        return refuse("only a proc file system can be there");
    }
    if target.starts_with("/proc/") && !again && !BELOW_PROC.contains(&target) {
        return refuse("it would replace a part of /proc that protects the container");
    }
    Ok(())
}

#[derive(Default)]
struct Parsed {
    /// Bind, and whether recursively.
    bind: Option<bool>,
    remount: bool,
    set: u64,
    clear: u64,
    set_recursive: u64,
    clear_recursive: u64,
    /// Both, for what is a single mount; the later counts.
    set_merged: u64,
    clear_merged: u64,
    propagation: Vec<u32>,
    tmpcopyup: bool,
    idmap: Option<Idmap>,
    /// Flags of the file system that the VFS knows.
    superblock: Vec<String>,
    /// For the file system itself.
    data: Vec<String>,
}

impl Parsed {
    fn option(&mut self, option: &str) {
        match option {
            "" | "defaults" => {}
            // The later of the two counts, and `rbind` is never taken back (the bits add up in runc).
            "bind" => self.bind = Some(self.bind.unwrap_or(false)),
            "rbind" => self.bind = Some(true),
            "remount" => self.remount = true,
            "tmpcopyup" => self.tmpcopyup = true,
            "idmap" => self.idmap = Some(Idmap::Single),
            "ridmap" => self.idmap = Some(Idmap::Recursive),
            _ => {
                if let Some((change, recursive)) = attribute(option) {
                    if recursive {
                        apply(change, &mut self.set_recursive, &mut self.clear_recursive);
                    } else {
                        apply(change, &mut self.set, &mut self.clear);
                    }
                    apply(change, &mut self.set_merged, &mut self.clear_merged);
                } else if let Some(bits) = options::propagation(option) {
                    self.propagate(bits);
                } else if is_superblock(option) {
                    self.superblock(option);
                } else {
                    self.data.push(option.to_owned());
                }
            }
        }
    }

    /// They are done one after the other (runc `mountPropagate`), so one that reaches as far takes those before it
    /// back, but for a slave that is shared: it is both.
    fn propagate(&mut self, bits: u32) {
        let covers = |old: &u32| {
            let reaches = bits & ms::REC != 0 || old & ms::REC == 0;
            reaches && !(bits & ms::SHARED != 0 && old & ms::SLAVE != 0)
        };
        self.propagation.retain(|old| !covers(old));
        self.propagation.push(bits);
    }

    /// `async` takes `sync` back; what takes back a default says nothing, and neither do those that fsconfig(2) has
    /// no words for: `silent` is about the kernel's log, and file systems that have `iversion` always do.
    fn superblock(&mut self, option: &str) {
        let back = match option {
            "async" => Some("sync"),
            "nolazytime" => Some("lazytime"),
            "nomand" => Some("mand"),
            "noiversion" | "iversion" | "loud" | "silent" => return,
            _ => None,
        };
        match back {
            Some(other) => self.superblock.retain(|known| known != other),
            None if self.superblock.iter().any(|known| known == option) => {}
            None => self.superblock.push(option.to_owned()),
        }
    }
}
