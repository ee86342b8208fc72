//! The mounts of a container: the kernel's file systems, the pod's files, what the caller mounts, the image's
//! volumes. Whether a source is there is the launcher's to find out: nothing is made on the node for a missing
//! one (containerd makes a folder, `spec_linux_opts.go`, `withMounts`; that hides mistakes).

use crate::inputs::{Inputs, SharedMemory};
use crate::limits;
use crate::oci::options::{attr, ms};
use container::plan::{IdMap, Idmap, Mount, MountSource};
use std::collections::HashSet;
use types::container::Propagation;
use types::pod::{IdMapping, NamespaceMode};
use types::reference::shorten;
use types::{Error, Result};

/// What was decided.
pub(crate) struct Mounts {
    /// In the order in which they are made.
    pub(crate) list: Vec<Mount>,
    /// Propagation of `/`.
    pub(crate) propagation: u32,
    /// The caller mounts something at `/dev`.
    pub(crate) dev_is_mounted: bool,
}

/// What may be mounted over below `/proc` without breaking what the process file system promises to its
/// readers (runc `libcontainer/rootfs_linux.go`, `checkProcMount`; CVE-2019-16884, CVE-2023-27561).
pub(crate) const BELOW_PROC: [&str; 10] = [
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/loadavg",
    "/proc/meminfo",
    "/proc/slabinfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/sys/crypto/fips_enabled",
    "/proc/sys/kernel/ns_last_pid",
    "/proc/uptime",
];

pub(crate) fn decide(inputs: &Inputs<'_>) -> Result<Mounts> {
    limits::count("mounts", inputs.container.mounts.len() + inputs.volumes.len())?;
    let mut propagation = 0;
    let mut asked = Vec::new();
    for mount in &inputs.container.mounts {
        match mount.propagation {
            Propagation::Bidirectional => propagation = ms::SHARED | ms::REC,
            Propagation::HostToContainer if propagation == 0 => propagation = ms::SLAVE | ms::REC,
            _ => {}
        }
        asked.push(match &mount.image {
            Some(image) => of_image(mount, image, inputs)?,
            None => of_caller(mount, inputs.facts.rro)?,
        });
    }
    let targets: HashSet<String> = asked.iter().map(|mount| mount.target.clone()).collect();
    for extra in of_pod(inputs)? {
        if !targets.contains(&extra.target) {
            asked.push(extra);
        }
    }
    // Fewer parts first, so that no mount hides one that was made below it; what has equally many keeps its
    // order (containerd `spec_opts.go`, `orderedMounts`).
    asked.sort_by_key(|mount| mount.target.bytes().filter(|b| *b == b'/').count());
    let all: HashSet<&str> = asked.iter().map(|mount| mount.target.as_str()).collect();
    let dev_is_mounted = all.contains("/dev");
    let mut list = of_kernel(inputs);
    let theirs = |target: &str| all.contains(target) || (dev_is_mounted && target.starts_with("/dev/"));
    list.retain(|mount| !theirs(&mount.target));
    list.extend(asked);
    Ok(Mounts { list, propagation, dev_is_mounted })
}

/// containerd's default mounts (`pkg/oci/mounts.go`), without `/run`, which its CRI leaves out, and with cgroups.
fn of_kernel(inputs: &Inputs<'_>) -> Vec<Mount> {
    const QUIET: u64 = attr::NOSUID | attr::NOEXEC | attr::NODEV;
    let readonly = if inputs.container.security.privileged { 0 } else { attr::RDONLY };
    let mut list = vec![
        filesystem("/proc", "proc", "proc", QUIET, &[]),
        filesystem("/dev", "tmpfs", "tmpfs", attr::NOSUID | attr::STRICTATIME, &["mode=755", "size=65536k"]),
        filesystem(
            "/dev/pts",
            "devpts",
            "devpts",
            attr::NOSUID | attr::NOEXEC,
            &["newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
    ];
    if let SharedMemory::Own(bytes) = &inputs.shm {
        list.push(filesystem("/dev/shm", "tmpfs", "shm", QUIET, &["mode=1777", &format!("size={bytes}")]));
    }
    list.push(filesystem("/dev/mqueue", "mqueue", "mqueue", QUIET, &[]));
    list.push(filesystem("/sys", "sysfs", "sysfs", QUIET | readonly, &[]));
    if inputs.facts.cgroup_mount {
        list.push(Mount {
            set: QUIET | readonly,
            source: MountSource::Cgroup,
            ..bind("/sys/fs/cgroup", "", false)
        });
    }
    list
}

/// The pod's files, its shared memory and the image's volumes.
fn of_pod(inputs: &Inputs<'_>) -> Result<Vec<Mount>> {
    let mut list = Vec::new();
    let readonly = if inputs.container.security.readonly_rootfs { attr::RDONLY } else { 0 };
    for (target, file) in [
        ("/etc/hostname", &inputs.files.hostname),
        ("/etc/hosts", &inputs.files.hosts),
        ("/etc/resolv.conf", &inputs.files.resolv_conf),
    ] {
        if let Some(file) = file {
            limits::path("file of the pod", file)?;
            list.push(Mount { set: readonly, ..bind(target, file, true) });
        }
    }
    if inputs.pod.security.namespaces.ipc == NamespaceMode::Node {
        list.push(bind("/dev/shm", "/dev/shm", true));
    } else if let SharedMemory::Shared(folder) = &inputs.shm {
        limits::path("shared memory of the pod", folder)?;
        list.push(bind("/dev/shm", folder, true));
    }
    for (target, folder) in &inputs.volumes {
        // Image builders allow relative volumes and mean them from the root, as containerd takes them.
        let target = if target.starts_with('/') { target.clone() } else { format!("/{target}") };
        limits::path("volume of the image", &target)?;
        limits::path("volume of the image", folder)?;
        let target = limits::clean(&target);
        allowed(&target, folder)?;
        list.push(bind(&target, folder, true));
    }
    Ok(list)
}

fn of_caller(mount: &types::container::Mount, rro: bool) -> Result<Mount> {
    let refuse = |why: &str| {
        Err(Error::invalid(format!(
            "mount of {:?} at {:?}: {why}",
            shorten(&mount.host_path),
            shorten(&mount.container_path)
        )))
    };
    limits::path("mount target", &mount.container_path)?;
    limits::path("mount source", &mount.host_path)?;
    let target = limits::clean(&mount.container_path);
    allowed(&target, &mount.host_path)?;
    let mut out = bind(&target, &mount.host_path, true);
    match (mount.readonly, mount.recursive_read_only) {
        (false, false) => {}
        (true, false) => out.set = attr::RDONLY,
        (false, true) => return refuse("recursive read-only and writable exclude each other"),
        (true, true) if mount.propagation != Propagation::Private => {
            return refuse("recursive read-only needs private propagation");
        }
        (true, true) if !rro => {
            return refuse("the node's kernel has no recursive read-only mounts (Linux 5.12)");
        }
        (true, true) => out.set_recursive = attr::RDONLY,
    }
    let kind = match mount.propagation {
        Propagation::Private => ms::PRIVATE,
        Propagation::HostToContainer => ms::SLAVE,
        Propagation::Bidirectional => ms::SHARED,
    };
    out.propagation = vec![ms::REC | kind];
    if mount.uid_mappings.is_empty() != mount.gid_mappings.is_empty() {
        return refuse("an idmapped mount needs both user and group mappings");
    }
    out.uid_mappings = id_maps(&mount.uid_mappings)?;
    out.gid_mappings = id_maps(&mount.gid_mappings)?;
    if !out.uid_mappings.is_empty() {
        out.idmap = Idmap::Single;
    }
    Ok(out)
}

/// The content of an image. No program in it can be started and no device in it opened, as the Kubernetes enhancement
/// has it (KEP-4639, "Container Runtimes": `ro` and `noexec`); it is read-only whatever the caller says.
fn of_image(mount: &types::container::Mount, image: &str, inputs: &Inputs<'_>) -> Result<Mount> {
    let refuse = |why: String| {
        Err(Error::invalid(format!(
            "mount of the image {:?} at {:?}: {why}",
            shorten(image),
            shorten(&mount.container_path)
        )))
    };
    limits::path("mount target", &mount.container_path)?;
    let target = limits::clean(&mount.container_path);
    allowed(&target, "")?;
    let folder = mount.image_sub_path.trim_matches('/');
    if folder.len() > 4095 || folder.split('/').any(|part| part == "..") || folder.contains('\0') {
        return refuse("its folder is no path below the image's root".to_owned());
    }
    if mount.propagation != Propagation::Private {
        return refuse(
            "nothing is ever mounted below it on the node; propagation has to be private".to_owned(),
        );
    }
    let Some(source) = inputs.image_mounts.get(image) else {
        return refuse("the image is not on this node; pull it first".to_owned());
    };
    if mount.uid_mappings.is_empty() != mount.gid_mappings.is_empty() {
        return refuse("an idmapped mount needs both user and group mappings".to_owned());
    }
    let (folder, image) = (folder.to_owned(), image.to_owned());
    Ok(Mount {
        source: MountSource::Image { source: source.clone(), folder, image },
        set: attr::RDONLY | attr::NOEXEC | attr::NOSUID | attr::NODEV,
        propagation: Vec::new(),
        uid_mappings: id_maps(&mount.uid_mappings)?,
        gid_mappings: id_maps(&mount.gid_mappings)?,
        ..bind(&target, "", false)
    })
}

/// Targets that would take the container apart. By text only: links are the launcher's to resolve and to check.
fn allowed(target: &str, source: &str) -> Result<()> {
    if target == "/" {
        return Err(Error::invalid("a mount at / would hide the whole image"));
    }
    let below_proc = target.starts_with("/proc/") && !BELOW_PROC.contains(&target);
    let over_proc = target == "/proc" && limits::clean(source) != "/proc";
    if below_proc || over_proc {
        return Err(Error::invalid(format!(
            "a mount at {:?} would replace parts of /proc that protect the container; only {} can be mounted over",
            shorten(target),
            BELOW_PROC.join(", ")
        )));
    }
    Ok(())
}

/// Linux takes 340 lines in one map (user_namespaces(7)).
const ID_MAPS: usize = 340;

pub(crate) fn id_maps(mappings: &[IdMapping]) -> Result<Vec<IdMap>> {
    if mappings.len() > ID_MAPS {
        return Err(Error::invalid(format!("{} id mappings: {ID_MAPS} are the most", mappings.len())));
    }
    mappings
        .iter()
        .map(|m| {
            let fits = |first: u32| first.checked_add(m.length).is_some();
            if m.length == 0 || !fits(m.host_id) || !fits(m.container_id) {
                return Err(Error::invalid(format!(
                    "id mapping of {} ids from {} (inside) to {} (outside): it is empty, or ends above 4294967295",
                    m.length, m.container_id, m.host_id
                )));
            }
            Ok(IdMap { inside: m.container_id, outside: m.host_id, length: m.length })
        })
        .collect()
}

fn bind(target: &str, path: &str, recursive: bool) -> Mount {
    Mount {
        target: target.to_owned(),
        source: MountSource::Bind { path: path.to_owned(), recursive },
        set: 0,
        clear: 0,
        set_recursive: 0,
        clear_recursive: 0,
        propagation: if recursive { vec![ms::PRIVATE | ms::REC] } else { Vec::new() },
        tmpcopyup: false,
        idmap: Idmap::Off,
        uid_mappings: Vec::new(),
        gid_mappings: Vec::new(),
    }
}

fn filesystem(target: &str, kind: &str, source: &str, set: u64, options: &[&str]) -> Mount {
    Mount {
        source: MountSource::Filesystem {
            kind: kind.to_owned(),
            source: source.to_owned(),
            options: options.iter().map(|o| (*o).to_owned()).collect(),
        },
        set,
        // mount_setattr(2): an access time mode is set by clearing the whole field.
        clear: if set & attr::ATIME != 0 { attr::ATIME } else { 0 },
        ..bind(target, "", false)
    }
}
