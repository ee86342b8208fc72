//! Mounts of a specification, with their options as runc reads them (`libcontainer/specconv/spec_linux.go`,
//! `parseMountOptions`). An option that runc would hand to a bind mount without effect is refused here.

use super::options::{self, apply, attribute, is_superblock};
use super::{absolute, id_maps, text, unimplemented};
use crate::limits;
use container::plan::{self, Idmap, MountSource};
use oci_spec::runtime::Mount;
use types::reference::shorten;
use types::{Error, Result};

pub(super) fn all(list: &[Mount], bundle: &str) -> Result<Vec<plan::Mount>> {
    limits::count("mounts", list.len())?;
    list.iter().map(|mount| one(mount, bundle)).collect()
}

fn one(mount: &Mount, bundle: &str) -> Result<plan::Mount> {
    let target = text("mount destination", mount.destination())?;
    // runc takes relative destinations with a warning, and means them from the root.
    let target = if target.starts_with('/') { target.to_owned() } else { format!("/{target}") };
    limits::path("mount destination", &target)?;
    let refuse = |why: String| Err(Error::invalid(format!("mount at {:?}: {why}", shorten(&target))));
    let list = mount.options().as_deref().unwrap_or_default();
    limits::count("mount options", list.len())?;
    let kind = mount.typ().as_deref().unwrap_or("");
    let mut parsed = Parsed { bind: (kind == "bind").then_some(false), ..Parsed::default() };
    for option in list {
        if option.len() > 4096 || option.contains('\0') {
            return refuse(format!("option {:?} is too long or has a NUL byte", shorten(option)));
        }
        parsed
            .option(option)
            .map_err(|e| e.context(format!("mount at {:?} is not possible", shorten(&target))))?;
    }
    let uid_mappings = id_maps(mount.uid_mappings().as_deref().unwrap_or_default())?;
    let gid_mappings = id_maps(mount.gid_mappings().as_deref().unwrap_or_default())?;
    if parsed.idmap && (uid_mappings.is_empty() || gid_mappings.is_empty()) {
        return unimplemented("mounts[].options idmap without uidMappings and gidMappings of its own");
    }
    let mapped = !uid_mappings.is_empty() || !gid_mappings.is_empty();
    let idmap = if parsed.idmap || mapped { Idmap::Single } else { Idmap::Off };
    let source = mount.source().as_deref();
    let source = match (parsed.bind, kind) {
        (Some(recursive), _) => {
            if let Some(option) = parsed.data.first() {
                return refuse(format!("a bind mount cannot have the option {:?}", shorten(option)));
            }
            let Some(path) = source else { return refuse("a bind mount needs a source".into()) };
            MountSource::Bind { path: absolute("mount source", path, bundle)?, recursive }
        }
        (None, "") => return refuse("neither a type nor the option bind or rbind is given".into()),
        (None, "cgroup" | "cgroup2") => {
            if let Some(option) = parsed.data.first() {
                return refuse(format!("the cgroup mount cannot have the option {:?}", shorten(option)));
            }
            MountSource::Cgroup
        }
        (None, kind) => {
            if kind.len() > 64 || kind.contains(|c: char| c.is_control()) {
                return refuse(format!("{:?} is not the type of a file system", shorten(kind)));
            }
            let source = source.map(|path| text("mount source", path)).transpose()?.unwrap_or(kind);
            if source.len() > 4095 || source.contains('\0') {
                return refuse("the source is too long or has a NUL byte".into());
            }
            MountSource::Filesystem { kind: kind.to_owned(), source: source.to_owned(), options: parsed.data }
        }
    };
    if parsed.tmpcopyup && !matches!(&source, MountSource::Filesystem { kind, .. } if kind == "tmpfs") {
        return refuse("tmpcopyup is for tmpfs".into());
    }
    Ok(plan::Mount {
        target,
        source,
        set: parsed.set,
        clear: parsed.clear,
        set_recursive: parsed.set_recursive,
        clear_recursive: parsed.clear_recursive,
        propagation: parsed.propagation,
        tmpcopyup: parsed.tmpcopyup,
        idmap,
        uid_mappings,
        gid_mappings,
    })
}

#[derive(Default)]
struct Parsed {
    /// Bind, and whether recursively.
    bind: Option<bool>,
    set: u64,
    clear: u64,
    set_recursive: u64,
    clear_recursive: u64,
    propagation: u32,
    tmpcopyup: bool,
    idmap: bool,
    /// For the file system itself.
    data: Vec<String>,
}

impl Parsed {
    fn option(&mut self, option: &str) -> Result<()> {
        match option {
            "" | "defaults" => {}
            // The later of the two counts, and `rbind` is never taken back (the bits add up in runc).
            "bind" => self.bind = Some(self.bind.unwrap_or(false)),
            "rbind" => self.bind = Some(true),
            "tmpcopyup" => self.tmpcopyup = true,
            "idmap" => self.idmap = true,
            "ridmap" | "remount" => return unimplemented(&format!("mounts[].options {option}")),
            _ => {
                if let Some((change, recursive)) = attribute(option) {
                    if recursive {
                        apply(change, &mut self.set_recursive, &mut self.clear_recursive);
                    } else {
                        apply(change, &mut self.set, &mut self.clear);
                    }
                } else if let Some(bits) = options::propagation(option) {
                    if self.propagation != 0 && self.propagation != bits {
                        return unimplemented(&format!(
                            "mounts[].options {option} after another propagation"
                        ));
                    }
                    self.propagation = bits;
                } else if is_superblock(option) {
                    self.superblock(option);
                } else {
                    self.data.push(option.to_owned());
                }
            }
        }
        Ok(())
    }

    /// `async` takes `sync` back; what takes back a default says nothing.
    fn superblock(&mut self, option: &str) {
        let back = match option {
            "async" => Some("sync"),
            "nolazytime" => Some("lazytime"),
            "nomand" => Some("mand"),
            "noiversion" => Some("iversion"),
            "loud" => Some("silent"),
            _ => None,
        };
        match back {
            Some(other) => self.data.retain(|known| known != other),
            None => self.data.push(option.to_owned()),
        }
    }
}
