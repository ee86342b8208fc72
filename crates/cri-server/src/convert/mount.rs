//! Mounts and devices of a container. Whether a source exists is not looked at here.

use super::security::{mappings, mappings_to_wire};
use crate::check::{self, refuse};
use cri_api::v1;
use types::Result;
use types::container::{Device, Mount, Propagation};
use types::reference::shorten;

/// Mounts from the wire, in their order.
pub fn mounts(field: &str, wire: Vec<v1::Mount>) -> Result<Vec<Mount>> {
    check::count(field, wire.len(), check::ENTRIES_MAX)?;
    wire.into_iter().enumerate().map(|(n, mount)| from_wire(&format!("{field}[{n}]"), mount)).collect()
}

fn from_wire(field: &str, wire: v1::Mount) -> Result<Mount> {
    let at = |name: &str| format!("{field}.{name}");
    check::absolute(&at("container_path"), &wire.container_path)?;
    let image = source(field, &wire)?;
    let propagation = match check::one_of(&at("propagation"), wire.propagation)? {
        v1::MountPropagation::PropagationPrivate => Propagation::Private,
        v1::MountPropagation::PropagationHostToContainer => Propagation::HostToContainer,
        v1::MountPropagation::PropagationBidirectional => Propagation::Bidirectional,
    };
    if wire.recursive_read_only && (!wire.readonly || propagation != Propagation::Private) {
        return refuse(
            &at("recursive_read_only"),
            "it needs readonly, and private propagation, for a mount made later would not be read-only",
        );
    }
    if !wire.mount_options.is_empty() {
        return refuse(
            &at("mount_options"),
            "this version takes no mount options, as Status says; leave it empty",
        );
    }
    let uid_mappings = mappings(&at("uidMappings"), wire.uid_mappings)?;
    let gid_mappings = mappings(&at("gidMappings"), wire.gid_mappings)?;
    if uid_mappings.is_empty() != gid_mappings.is_empty() {
        return refuse(&at("uidMappings"), "an idmapped mount needs both uidMappings and gidMappings");
    }
    Ok(Mount {
        container_path: wire.container_path,
        host_path: wire.host_path,
        readonly: wire.readonly,
        selinux_relabel: wire.selinux_relabel,
        propagation,
        uid_mappings,
        gid_mappings,
        recursive_read_only: wire.recursive_read_only,
        image,
        image_sub_path: wire.image_sub_path,
    })
}

/// A mount has one source: a path of the node, or an image.
fn source(field: &str, wire: &v1::Mount) -> Result<Option<String>> {
    let image = wire.image.as_ref().map(|image| image.image.clone()).filter(|image| !image.is_empty());
    match &image {
        None => {
            check::absolute(&format!("{field}.host_path"), &wire.host_path)?;
            if !wire.image_sub_path.is_empty() {
                return refuse(
                    &format!("{field}.image_sub_path"),
                    "it is a folder of an image, and there is no image",
                );
            }
        }
        Some(image) => {
            check::word(&format!("{field}.image"), image, super::image::NAME_MAX)?;
            if !wire.host_path.is_empty() {
                return refuse(field, "it has both an image and a host_path; one of them is the source");
            }
            check::relative_below(&format!("{field}.image_sub_path"), &wire.image_sub_path)?;
            if !wire.readonly {
                return refuse(
                    &format!("{field}.readonly"),
                    "an image is mounted read-only; it has to be set",
                );
            }
        }
    }
    Ok(image)
}

/// A mount for the wire.
pub fn to_wire(mount: &Mount) -> v1::Mount {
    v1::Mount {
        container_path: mount.container_path.clone(),
        host_path: mount.host_path.clone(),
        readonly: mount.readonly,
        selinux_relabel: mount.selinux_relabel,
        propagation: match mount.propagation {
            Propagation::Private => v1::MountPropagation::PropagationPrivate,
            Propagation::HostToContainer => v1::MountPropagation::PropagationHostToContainer,
            Propagation::Bidirectional => v1::MountPropagation::PropagationBidirectional,
        }
        .into(),
        uid_mappings: mappings_to_wire(&mount.uid_mappings),
        gid_mappings: mappings_to_wire(&mount.gid_mappings),
        recursive_read_only: mount.recursive_read_only,
        image: mount.image.as_ref().map(|image| v1::ImageSpec { image: image.clone(), ..Default::default() }),
        image_sub_path: mount.image_sub_path.clone(),
        mount_options: Vec::new(),
    }
}

/// Devices from the wire.
pub fn devices(field: &str, wire: Vec<v1::Device>) -> Result<Vec<Device>> {
    check::count(field, wire.len(), check::ENTRIES_MAX)?;
    wire.into_iter()
        .enumerate()
        .map(|(n, device)| {
            let at = |name: &str| format!("{field}[{n}].{name}");
            check::absolute(&at("container_path"), &device.container_path)?;
            check::absolute(&at("host_path"), &device.host_path)?;
            if device.permissions.len() > 3 || !device.permissions.bytes().all(|b| b"rwm".contains(&b)) {
                return refuse(
                    &at("permissions"),
                    format_args!("{:?} has other letters than r, w and m", shorten(&device.permissions)),
                );
            }
            Ok(Device {
                container_path: device.container_path,
                host_path: device.host_path,
                permissions: device.permissions,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::convert::testing::refused;

    fn bind() -> v1::Mount {
        v1::Mount { container_path: "/data".into(), host_path: "/srv/data".into(), ..Default::default() }
    }

    fn image_mount() -> v1::Mount {
        v1::Mount {
            container_path: "/models".into(),
            image: Some(v1::ImageSpec { image: "registry.example/models:1".into(), ..Default::default() }),
            image_sub_path: "small/v2".into(),
            readonly: true,
            ..Default::default()
        }
    }

    #[test]
    fn mounts_survive_a_round_trip() {
        let range = vec![v1::IdMapping { host_id: 65_536, container_id: 0, length: 65_536 }];
        let wire = vec![
            bind(),
            v1::Mount { readonly: true, recursive_read_only: true, selinux_relabel: true, ..bind() },
            v1::Mount { propagation: v1::MountPropagation::PropagationBidirectional.into(), ..bind() },
            v1::Mount { propagation: v1::MountPropagation::PropagationHostToContainer.into(), ..bind() },
            v1::Mount { uid_mappings: range.clone(), gid_mappings: range, ..bind() },
            image_mount(),
        ];
        let mounts = mounts("m", wire.clone()).expect("sound");
        assert_eq!(mounts.iter().map(to_wire).collect::<Vec<_>>(), wire);
    }

    #[test]
    fn mounts_without_one_sound_source_and_target_are_refused() {
        let bad = |mount: v1::Mount, field: &str, part: &str| {
            refused(mounts("m", vec![bind(), mount]), &format!("m[1]{field}"), part);
        };
        bad(v1::Mount { container_path: String::new(), ..bind() }, ".container_path", "empty");
        bad(v1::Mount { container_path: "data".into(), ..bind() }, ".container_path", "relative");
        bad(v1::Mount { container_path: "/a\0".into(), ..bind() }, ".container_path", "NUL");
        bad(v1::Mount { host_path: String::new(), ..bind() }, ".host_path", "empty");
        bad(v1::Mount { host_path: "srv".into(), ..bind() }, ".host_path", "relative");
        bad(v1::Mount { host_path: "/srv".into(), ..image_mount() }, "", "both an image and a host_path");
        bad(v1::Mount { image_sub_path: "x".into(), ..bind() }, ".image_sub_path", "there is no image");
        bad(v1::Mount { image_sub_path: "../x".into(), ..image_mount() }, ".image_sub_path", "goes up");
        bad(v1::Mount { image_sub_path: "/x".into(), ..image_mount() }, ".image_sub_path", "absolute");
        refused(mounts("m", vec![bind(); check::ENTRIES_MAX + 1]), "m", "too many");
    }

    #[test]
    fn flags_that_contradict_each_other_are_refused() {
        let bad = |mount: v1::Mount, field: &str, part: &str| {
            refused(mounts("m", vec![mount]), &format!("m[0].{field}"), part);
        };
        let range = vec![v1::IdMapping { host_id: 0, container_id: 0, length: 1 }];
        bad(v1::Mount { recursive_read_only: true, ..bind() }, "recursive_read_only", "needs readonly");
        bad(
            v1::Mount { recursive_read_only: true, readonly: true, propagation: 1, ..bind() },
            "recursive_read_only",
            "private propagation",
        );
        bad(v1::Mount { propagation: 3, ..bind() }, "propagation", "CRI v1");
        bad(
            v1::Mount { mount_options: vec!["noexec".into()], ..bind() },
            "mount_options",
            "no mount options",
        );
        bad(v1::Mount { uid_mappings: range, ..bind() }, "uidMappings", "needs both");
    }

    #[test]
    fn devices_have_two_paths_and_known_letters() {
        let device = |container: &str, host: &str, permissions: &str| {
            devices(
                "d",
                vec![v1::Device {
                    container_path: container.into(),
                    host_path: host.into(),
                    permissions: permissions.into(),
                }],
            )
        };
        assert_eq!(device("/dev/a", "/dev/b", "mrw").expect("sound")[0].permissions, "mrw");
        refused(device("dev/a", "/dev/b", "r"), "d[0].container_path", "relative");
        refused(device("/dev/a", "", "r"), "d[0].host_path", "empty");
        refused(device("/dev/a", "/dev/b", "rx"), "d[0].permissions", "other letters");
        refused(devices("d", vec![v1::Device::default(); check::ENTRIES_MAX + 1]), "d", "too many");
    }
}
