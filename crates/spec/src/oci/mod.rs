//! From an OCI runtime specification to a launch plan, for the command line that stands in for runc.
//!
//! What the plan cannot say is refused by its name in the specification, never dropped. Limits, cgroups and
//! annotations are the caller's, who reads them from the specification itself.

mod hooks;
mod mounts;
pub(crate) mod options;
pub(crate) mod process;
mod scheduling;

pub use hooks::hook;

use crate::{devices, limits, sysctls};
use container::plan::{
    Clock, Device, IdMap, LaunchPlan, Namespace, Namespaces, PLAN_VERSION, Root, RootIds, RootSource,
    TimeOffset,
};
use oci_spec::runtime::{Linux, LinuxDeviceType, LinuxIdMapping, LinuxNamespaceType, Spec};
use std::path::Path;
use types::reference::shorten;
use types::{Error, ErrorKind, Result};

/// What the caller of [`plan_from_oci`] decides or does itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PlanOptions {
    /// `--no-pivot`.
    pub no_pivot: bool,
    /// The caller runs the hooks that belong to the runtime's own namespaces: `prestart`, `createRuntime`,
    /// `poststart` and `poststop`. Without it they are refused.
    pub runs_hooks: bool,
    /// `--no-new-keyring`.
    pub no_new_keyring: bool,
}

/// The plan of a specification. `bundle` is the absolute path that relative ones are relative to.
pub fn plan_from_oci(id: &str, spec: &Spec, bundle: &Path, options: &PlanOptions) -> Result<LaunchPlan> {
    let bundle = text("bundle", bundle)?;
    limits::path("bundle", bundle)?;
    let linux =
        spec.linux().as_ref().ok_or_else(|| Error::invalid("the specification has no `linux` section"))?;
    refuse_sections(spec, options)?;
    let namespaces = namespaces(linux)?;
    let label = linux.mount_label().as_deref().filter(|label| !label.is_empty());
    let around = mounts::Around { bundle, namespaces: &namespaces, label };
    let mounts = mounts::all(spec.mounts().as_deref().unwrap_or_default(), &around)?;
    // runc leaves /dev alone where the caller binds something there (`rootfs_linux.go`, `needsSetupDev`).
    let dev_is_bound = mounts.iter().any(|mount| {
        mount.target == "/dev" && matches!(mount.source, container::plan::MountSource::Bind { .. })
    });
    let process = process::of(id, spec, linux, options)?;
    for (what, name, namespace) in
        [("hostname", spec.hostname(), &namespaces.uts), ("domainname", spec.domainname(), &namespaces.uts)]
    {
        if name.as_ref().is_some_and(|n| !n.is_empty()) && *namespace == Namespace::Inherit {
            return Err(Error::invalid(format!(
                "`{what}` needs a `uts` namespace; the caller's own would be renamed"
            )));
        }
    }
    Ok(LaunchPlan {
        version: PLAN_VERSION,
        prepare: false,
        id: id.to_owned(),
        root: root(spec, linux, bundle, options)?,
        hostname: name("hostname", spec.hostname())?,
        domainname: name("domainname", spec.domainname())?,
        mounts,
        devices: if dev_is_bound { Vec::new() } else { nodes(linux)? },
        dev_links: !dev_is_bound,
        masked_paths: paths("linux.maskedPaths", linux.masked_paths())?,
        readonly_paths: paths("linux.readonlyPaths", linux.readonly_paths())?,
        sysctls: kernel_parameters(linux, &namespaces)?,
        namespaces,
        hooks: hooks::inside(spec)?,
        process,
    })
}

/// The answer for everything that is in the standard and not in the plan.
fn unimplemented<T>(field: &str) -> Result<T> {
    Err(Error::new(
        ErrorKind::Unimplemented,
        format!("`{field}` of the specification is not built yet; take it out"),
    ))
}

fn refuse_sections(spec: &Spec, options: &PlanOptions) -> Result<()> {
    for (field, there) in [
        ("vm", spec.vm().is_some()),
        ("windows", spec.windows().is_some()),
        ("solaris", spec.solaris().is_some()),
        ("zos", spec.zos().is_some()),
    ] {
        if there {
            return unimplemented(field);
        }
    }
    if let Some(hooks) = spec.hooks() {
        let some = |list: &Option<Vec<_>>| list.as_ref().is_some_and(|list| !list.is_empty());
        #[allow(deprecated)] // Deprecated by the standard, and Docker still writes it.
        let prestart = some(hooks.prestart());
        for (field, there) in [
            ("hooks.prestart", !options.runs_hooks && prestart),
            ("hooks.createRuntime", !options.runs_hooks && some(hooks.create_runtime())),
            ("hooks.poststart", !options.runs_hooks && some(hooks.poststart())),
            ("hooks.poststop", !options.runs_hooks && some(hooks.poststop())),
        ] {
            if there {
                return unimplemented(field);
            }
        }
    }
    Ok(())
}

fn root(spec: &Spec, linux: &Linux, bundle: &str, options: &PlanOptions) -> Result<Root> {
    let root = spec.root().as_ref().ok_or_else(|| Error::invalid("the specification has no `root`"))?;
    let path = absolute("root.path", root.path(), bundle)?;
    let propagation = match linux.rootfs_propagation().as_deref() {
        None | Some("") => 0,
        Some(name) => options::propagation(name).ok_or_else(|| {
            Error::invalid(format!("linux.rootfsPropagation {:?} is not a propagation", shorten(name)))
        })?,
    };
    // pivot_root detaches the old root; chroot leaves it, and a private root would still reach it (runc
    // `specconv`, "not safe without pivot_root").
    if options.no_pivot && propagation & options::ms::PRIVATE != 0 {
        return Err(Error::invalid("linux.rootfsPropagation private is not safe without pivot_root"));
    }
    Ok(Root {
        source: RootSource::Directory(path),
        ids: RootIds::default(),
        readonly: root.readonly().unwrap_or(false),
        propagation,
        no_pivot: options.no_pivot,
    })
}

fn namespaces(linux: &Linux) -> Result<Namespaces> {
    use LinuxNamespaceType as Kind;
    let mut out = Namespaces::default();
    let mut seen = Vec::new();
    for namespace in linux.namespaces().as_deref().unwrap_or_default() {
        let kind = namespace.typ();
        if seen.contains(&kind) {
            return Err(Error::invalid(format!("linux.namespaces has {kind} twice")));
        }
        seen.push(kind);
        let value = match namespace.path() {
            Some(path) if !path.as_os_str().is_empty() => {
                let path = text("namespace path", path)?;
                limits::path("namespace path", path)?;
                Namespace::Path(path.to_owned())
            }
            _ => Namespace::New,
        };
        let place = match kind {
            Kind::Mount => &mut out.mount,
            Kind::Pid => &mut out.pid,
            Kind::Ipc => &mut out.ipc,
            Kind::Uts => &mut out.uts,
            Kind::Network => &mut out.network,
            Kind::Cgroup => &mut out.cgroup,
            Kind::User => &mut out.user,
            Kind::Time => &mut out.time,
        };
        *place = value;
    }
    if out.mount == Namespace::Inherit {
        return Err(Error::invalid(
            "linux.namespaces has no `mount`: the caller's own mounts would be changed",
        ));
    }
    let maps = |list: &Option<Vec<LinuxIdMapping>>| id_maps(list.as_deref().unwrap_or_default());
    out.uid_mappings = maps(linux.uid_mappings())?;
    out.gid_mappings = maps(linux.gid_mappings())?;
    out.time_offsets = time_offsets(linux, &out.time)?;
    let mapped = !out.uid_mappings.is_empty() || !out.gid_mappings.is_empty();
    match out.user {
        Namespace::New if out.uid_mappings.is_empty() || out.gid_mappings.is_empty() => {
            Err(Error::invalid("a new `user` namespace needs linux.uidMappings and linux.gidMappings"))
        }
        Namespace::Inherit if mapped => {
            Err(Error::invalid("linux.uidMappings and linux.gidMappings need a `user` namespace"))
        }
        // containerd and CRI-O write the mapping of a namespace that is joined, too; it is the namespace's own
        // that counts (runc `setupUserNamespace`).
        Namespace::Path(_) if mapped => {
            out.uid_mappings.clear();
            out.gid_mappings.clear();
            Ok(out)
        }
        _ => Ok(out),
    }
}

/// The clocks of a new time namespace, in the order of their names.
fn time_offsets(linux: &Linux, time: &Namespace) -> Result<Vec<TimeOffset>> {
    let mut out = Vec::new();
    for (name, offset) in linux.time_offsets().iter().flatten() {
        let clock = match name.as_str() {
            "monotonic" => Clock::Monotonic,
            "boottime" => Clock::Boottime,
            other => {
                return Err(Error::invalid(format!(
                    "linux.timeOffsets {:?}: monotonic and boottime are the clocks that can be moved",
                    shorten(other)
                )));
            }
        };
        let nanoseconds = offset.nanosecs().unwrap_or(0);
        if nanoseconds > 999_999_999 {
            return Err(Error::invalid(format!(
                "linux.timeOffsets {name}: nanosecs {nanoseconds} is not below one second"
            )));
        }
        out.push(TimeOffset { clock, seconds: offset.secs().unwrap_or(0), nanoseconds });
    }
    if !out.is_empty() && *time != Namespace::New {
        return Err(Error::invalid(
            "linux.timeOffsets need a new `time` namespace; add one to linux.namespaces",
        ));
    }
    out.sort_by_key(|offset| offset.clock as u8);
    Ok(out)
}

pub(crate) fn id_maps(list: &[LinuxIdMapping]) -> Result<Vec<IdMap>> {
    let own: Vec<types::pod::IdMapping> = list
        .iter()
        .map(|m| types::pod::IdMapping {
            host_id: m.host_id(),
            container_id: m.container_id(),
            length: m.size(),
        })
        .collect();
    crate::mounts::id_maps(&own)
}

/// The default nodes and the listed ones; a listed one replaces a default one at the same path.
fn nodes(linux: &Linux) -> Result<Vec<Device>> {
    let list = linux.devices().as_deref().unwrap_or_default();
    limits::count("devices", list.len())?;
    let mut nodes = devices::defaults();
    for device in list {
        let path = text("device path", device.path())?;
        limits::path("device path", path)?;
        let number = |number: i64| {
            u32::try_from(number).map_err(|_| {
                Error::invalid(format!("device {:?}: number {number} is out of range", shorten(path)))
            })
        };
        let kind = match device.typ() {
            LinuxDeviceType::B => 'b',
            LinuxDeviceType::C | LinuxDeviceType::U => 'c',
            LinuxDeviceType::P => 'p',
            LinuxDeviceType::A => {
                return Err(Error::invalid(format!("device {:?}: type a is for rules only", shorten(path))));
            }
        };
        devices::place(
            &mut nodes,
            Device {
                path: path.to_owned(),
                kind,
                major: number(device.major())?,
                minor: number(device.minor())?,
                mode: device.file_mode().unwrap_or(0o666) & 0o777,
                uid: device.uid().unwrap_or(0),
                gid: device.gid().unwrap_or(0),
            },
        );
    }
    Ok(nodes)
}

fn kernel_parameters(linux: &Linux, namespaces: &Namespaces) -> Result<Vec<(String, String)>> {
    let mut out = Vec::new();
    for (name, value) in linux.sysctl().iter().flatten() {
        out.push((sysctls::of_namespaces(name, value, namespaces)?, value.clone()));
    }
    limits::count("sysctls", out.len())?;
    out.sort();
    Ok(out)
}

/// `HOST_NAME_MAX` is 64 (sethostname(2)).
fn name(what: &str, name: &Option<String>) -> Result<Option<String>> {
    match name.as_deref() {
        None | Some("") => Ok(None),
        Some(name) if name.len() <= 64 && !name.contains(|c: char| c.is_control()) => {
            Ok(Some(name.to_owned()))
        }
        Some(name) => {
            Err(Error::invalid(format!("{what} {:?}: 64 bytes at most are expected", shorten(name))))
        }
    }
}

fn paths(what: &str, list: &Option<Vec<String>>) -> Result<Vec<String>> {
    let list = list.as_deref().unwrap_or_default();
    limits::count(what, list.len())?;
    for path in list {
        limits::path(what, path)?;
    }
    Ok(list.to_vec())
}

/// A path as text. JSON has no other, so this fails for hand-made specifications only.
pub(crate) fn text<'a>(what: &str, path: &'a Path) -> Result<&'a str> {
    path.to_str().ok_or_else(|| Error::invalid(format!("{what} is not UTF-8")))
}

pub(crate) fn absolute(what: &str, path: &Path, bundle: &str) -> Result<String> {
    let path = text(what, path)?;
    if path.is_empty() {
        return Err(Error::invalid(format!("{what} is empty")));
    }
    let path = if path.starts_with('/') { path.to_owned() } else { format!("{bundle}/{path}") };
    limits::path(what, &path)?;
    Ok(path)
}
