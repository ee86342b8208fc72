//! `linux.intelRdt`: a group of the resctrl file system (Linux Documentation/filesystems/resctrl.rst) that bounds the
//! cache and memory bandwidth of a container, and one that watches them. Mounts nothing.

use crate::record::Record;
use oci_spec::runtime::{LinuxIntelRdt, Spec};
use std::io::Write;
use std::path::{Path, PathBuf};
use types::reference::shorten;
use types::{Error, ErrorKind, Result};

const MOUNT: &str = "/sys/fs/resctrl";
/// `RDTGROUP_SUPER_MAGIC` of `linux/magic.h`.
const MAGIC: u64 = 0x0765_5821;

fn of(spec: &Spec) -> Option<&LinuxIntelRdt> {
    spec.linux().as_ref()?.intel_rdt().as_ref()
}

/// The names of the allocation group and the monitoring group below it: one word each, below the mount.
fn names(rdt: &LinuxIntelRdt, id: &str) -> Result<(Option<PathBuf>, String)> {
    let class = rdt.clos_id().as_deref().filter(|name| !name.is_empty()).unwrap_or(id);
    // "/" is the group that everything is in (OCI config-linux.md, "IntelRdt").
    let group = match class {
        "/" => None,
        ".." | "." | "info" | "mon_groups" | "mon_data" => {
            return Err(Error::invalid(format!("linux.intelRdt.closID {class:?} cannot be a group's name")));
        }
        name if name.contains('/') || name.contains('\0') => {
            return Err(Error::invalid(format!(
                "linux.intelRdt.closID {:?}: a name without slashes is expected",
                shorten(name)
            )));
        }
        name => Some(Path::new(MOUNT).join(name)),
    };
    Ok((group, id.to_owned()))
}

/// Whether the group is this container's own, and goes with it: one that `closID` names outlives it where it
/// was there before, and so it is never removed.
fn is_own(rdt: &LinuxIntelRdt) -> bool {
    rdt.clos_id().as_deref().unwrap_or_default().is_empty()
}

/// Puts the container's first process, which is held, into its groups.
pub fn apply(spec: &Spec, id: &str, pid: i32) -> Result<()> {
    let Some(rdt) = of(spec) else { return Ok(()) };
    let (group, monitor) = names(rdt, id)?;
    let mounted = rustix::fs::statfs(MOUNT).is_ok_and(|system| system.f_type as u64 == MAGIC);
    if !mounted {
        return Err(Error::precondition(format!(
            "linux.intelRdt needs the resctrl file system: mount it at {MOUNT} (a CPU with RDT and a kernel with CONFIG_X86_CPU_RESCTRL are needed), or take linux.intelRdt out"
        )));
    }
    let lines = schemata(rdt)?;
    let folder = group.clone().unwrap_or_else(|| PathBuf::from(MOUNT));
    if group.is_some() {
        match std::fs::create_dir(&folder) {
            Ok(()) => {}
            // Named by `closID`, it is shared: without limits of its own the container takes the group as it is. One of
            // the container's name that is there already is somebody else's, and would be removed with the container.
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists && !is_own(rdt) => {}
            Err(error) => return Err(failed("make", &folder, error)),
        }
    }
    if !lines.is_empty() {
        write(&folder.join("schemata"), &lines)?;
    }
    write(&folder.join("tasks"), &pid.to_string())?;
    if rdt.enable_monitoring().unwrap_or(false) {
        let watched = folder.join("mon_groups").join(monitor);
        match std::fs::create_dir(&watched) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(failed("make", &watched, error)),
        }
        write(&watched.join("tasks"), &pid.to_string())?;
    }
    Ok(())
}

/// Removes the groups that were made for the container; what is not there is fine.
pub fn remove(spec: &Spec, record: &Record) -> Result<()> {
    let Some(rdt) = of(spec) else { return Ok(()) };
    let Ok((group, monitor)) = names(rdt, &record.id) else { return Ok(()) };
    let folder = group.unwrap_or_else(|| PathBuf::from(MOUNT));
    gone(&folder.join("mon_groups").join(monitor))?;
    if is_own(rdt) { gone(&folder) } else { Ok(()) }
}

fn gone(folder: &Path) -> Result<()> {
    match std::fs::remove_dir(folder) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(failed("remove", folder, error)),
    }
}

/// One line for each resource: `l3CacheSchema` and `memBwSchema` first, for `schemata` may overrule them.
fn schemata(rdt: &LinuxIntelRdt) -> Result<String> {
    let mut out = String::new();
    let l3 = rdt.l3_cache_schema().iter().flat_map(|text| text.lines());
    // A line for memory bandwidth in the cache's schema is passed over (OCI config-linux.md, "IntelRdt").
    let l3 = l3.filter(|line| !line.trim_start().starts_with("MB:"));
    let bandwidth = rdt.mem_bw_schema().iter().flat_map(|text| text.lines());
    let more = rdt.schemata().iter().flatten().map(String::as_str);
    for line in l3.chain(bandwidth).chain(more).map(str::trim).filter(|line| !line.is_empty()) {
        if !line.contains(':') || line.contains(|c: char| c.is_control()) {
            return Err(Error::invalid(format!(
                "linux.intelRdt: {:?} is not a schema, as L3:0=f;1=f",
                shorten(line)
            )));
        }
        out.push_str(line);
        out.push('\n');
    }
    Ok(out)
}

fn write(path: &Path, text: &str) -> Result<()> {
    let written = std::fs::OpenOptions::new()
        .write(true)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|error| {
        let said = std::fs::read_to_string(Path::new(MOUNT).join("info/last_cmd_status")).unwrap_or_default();
        failed(&format!("write {:?} to", shorten(text)), path, error)
            .context(format!("resctrl: {}", said.trim()))
    })
}

fn failed(verb: &str, path: &Path, error: std::io::Error) -> Error {
    Error::with_source(ErrorKind::Internal, format!("cannot {verb} {}", path.display()), error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rdt(json: serde_json::Value) -> LinuxIntelRdt {
        serde_json::from_value(json).expect("read")
    }

    #[test]
    fn schemas_come_in_the_order_in_which_they_overrule_each_other() {
        let rdt = rdt(serde_json::json!({
            "l3CacheSchema": "L3:0=f0\nMB:0=10", "memBwSchema": "MB:0=20", "schemata": ["L3:0=f", "L2:0=1"]
        }));
        assert_eq!(schemata(&rdt).expect("good"), "L3:0=f0\nMB:0=20\nL3:0=f\nL2:0=1\n");
        assert!(schemata(&self::rdt(serde_json::json!({ "schemata": ["nothing"] }))).is_err());
    }

    #[test]
    fn a_group_is_a_name_below_the_mount() {
        let name = |class: &str| names(&rdt(serde_json::json!({ "closID": class })), "c1");
        assert_eq!(name("").expect("own").0, Some(PathBuf::from("/sys/fs/resctrl/c1")));
        assert_eq!(name("/").expect("all").0, None);
        for bad in ["..", ".", "info", "a/b", "../x"] {
            assert!(name(bad).is_err(), "{bad}");
        }
    }
}
