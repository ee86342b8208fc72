//! config.md, "Mounts": `idmap`, `ridmap`, `uidMappings` and `gidMappings` (mount_setattr(2), MOUNT_ATTR_IDMAP).

use oci_suite::{Case, Kind, lacks, needs};
use rustix::mount::{MountFlags, mount};
use serde_json::{Value, json};
use std::os::unix::fs::chown;
use std::path::PathBuf;

/// crun 1.8.1 knows `idmap` in a form of its own only, and runc 1.1.5 none.
fn unknown() -> bool {
    lacks(&[Kind::Runc, Kind::Crun], "mappings of mounts")
}

/// Folder with a file of user 1000 and one of user 0.
fn owned(case: &Case) -> PathBuf {
    let top = case.bundle.aside().join("owned");
    std::fs::create_dir(&top).unwrap();
    for (name, id) in [("zero", 0), ("thousand", 1000)] {
        std::fs::write(top.join(name), name).unwrap();
        chown(top.join(name), Some(id), Some(id)).unwrap();
    }
    top
}

fn mapped(case: &Case, source: &str, options: &[&str], map: &Value) {
    case.edit(|config| {
        let mount = json!({ "destination": "/mnt", "type": "bind", "source": source, "options": options,
            "uidMappings": map, "gidMappings": map });
        config["mounts"].as_array_mut().unwrap().push(mount);
    });
}

#[test]
fn a_mount_with_mappings_shows_mapped_owners() {
    let Some(case) = Case::new("idmap") else { return };
    if unknown() {
        return;
    }
    let top = owned(&case);
    // What is containerID on disk is hostID through the mount.
    let map = json!([{ "containerID": 0, "hostID": 5000, "size": 2000 }]);
    mapped(&case, top.to_str().unwrap(), &["bind", "idmap"], &map);
    assert_eq!(case.shell("stat -c '%u %g' /mnt/zero /mnt/thousand").good().out, "5000 5000\n6000 6000\n");
    case.assert_nothing_left();
}

#[test]
fn a_mount_with_mappings_and_no_option_is_mapped_too() {
    // config.md: "The runtime ... The format is the same as user namespace mappings"; idmap without the word is
    // what uidMappings alone ask for.
    let Some(case) = Case::new("idmap-bare") else { return };
    if unknown() {
        return;
    }
    let top = owned(&case);
    mapped(
        &case,
        top.to_str().unwrap(),
        &["bind"],
        &json!([{ "containerID": 0, "hostID": 5000, "size": 2000 }]),
    );
    assert_eq!(case.shell("stat -c '%u %g' /mnt/zero").good().out, "5000 5000\n");
}

#[test]
fn ids_outside_the_mapping_belong_to_nobody() {
    let Some(case) = Case::new("idmap-outside") else { return };
    if unknown() {
        return;
    }
    let top = owned(&case);
    mapped(
        &case,
        top.to_str().unwrap(),
        &["bind", "idmap"],
        &json!([{ "containerID": 0, "hostID": 5000, "size": 10 }]),
    );
    assert_eq!(case.shell("stat -c '%u %g' /mnt/thousand").good().out, "65534 65534\n");
}

#[test]
fn a_user_namespaces_mapping_is_used_where_the_mount_names_none() {
    let Some(case) = Case::new("idmap-userns") else { return };
    if unknown() {
        return;
    }
    let top = owned(&case);
    case.user_namespace(100_000, 65536);
    case.mount("/plain", "bind", top.to_str().unwrap(), &["bind"]);
    case.mount("/mnt", "bind", top.to_str().unwrap(), &["bind", "idmap"]);
    let said = case.shell("stat -c %u /plain/zero /mnt/zero /mnt/thousand").good();
    assert_eq!(said.out, "65534\n0\n1000\n");
}

#[test]
fn files_made_through_a_mapped_mount_belong_to_the_unmapped_owner() {
    use std::os::unix::fs::MetadataExt;
    let Some(case) = Case::new("idmap-write") else { return };
    if unknown() {
        return;
    }
    let top = owned(&case);
    case.user_namespace(100_000, 65536);
    case.mount("/mnt", "bind", top.to_str().unwrap(), &["bind", "idmap"]);
    let _ = case.shell("touch /mnt/new").good();
    assert_eq!(std::fs::metadata(top.join("new")).unwrap().uid(), 0);
}

#[test]
fn ridmap_is_for_the_mounts_below_too_and_idmap_is_not() {
    let Some(case) = Case::new("ridmap") else { return };
    if unknown() {
        return;
    }
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut parts = release.split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
    let version = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    if needs(version >= (6, 3), "tmpfs that can be idmapped (Linux 6.3)") {
        return;
    }
    let top = owned(&case);
    std::fs::create_dir(top.join("sub")).unwrap();
    mount("tmpfs", top.join("sub"), "tmpfs", MountFlags::empty(), None).unwrap();
    std::fs::write(top.join("sub/file"), "").unwrap();
    let map = json!([{ "containerID": 0, "hostID": 5000, "size": 2000 }]);
    mapped(&case, top.to_str().unwrap(), &["rbind", "ridmap"], &map);
    assert_eq!(case.shell("stat -c %u /mnt/zero /mnt/sub/file").good().out, "5000\n5000\n");
    case.edit(|config| {
        config["mounts"].as_array_mut().unwrap().last_mut().unwrap()["options"] = json!(["rbind", "idmap"])
    });
    assert_eq!(case.shell("stat -c %u /mnt/zero /mnt/sub/file").good().out, "5000\n0\n");
}

#[test]
fn half_a_mapping_is_an_error() {
    let Some(case) = Case::new("idmap-half") else { return };
    if unknown() {
        return;
    }
    let top = owned(&case);
    let map = json!([{ "containerID": 0, "hostID": 5000, "size": 2000 }]);
    mapped(&case, top.to_str().unwrap(), &["bind", "idmap"], &map);
    case.edit(|config| {
        drop(
            config["mounts"]
                .as_array_mut()
                .unwrap()
                .last_mut()
                .unwrap()
                .as_object_mut()
                .unwrap()
                .remove("gidMappings"),
        )
    });
    let _ = case.run().bad();
    case.assert_nothing_left();
}
