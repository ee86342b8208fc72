//! config-linux.md, "User namespace mappings", and the user namespace by path.

use oci_suite::{Case, Kind, Process, differs, lacks};
use serde_json::json;
use std::os::unix::fs::MetadataExt;

#[test]
fn the_ids_are_mapped_as_configured() {
    let Some(case) = Case::new("userns") else { return };
    case.user_namespace(100_000, 65536);
    let process = case.sleeps().run_detached();
    assert_ne!(process.namespace("user"), Process::own().namespace("user"));
    for file in ["uid_map", "gid_map"] {
        let map: Vec<_> = process.read(file).split_whitespace().map(str::to_owned).collect();
        assert_eq!(map, ["0", "100000", "65536"], "{file}");
    }
    assert!(process.status("Uid").starts_with("100000\t"));
    assert_eq!(case.exec("id -u; touch /tmp/made").good().out, "0\n");
    assert_eq!(std::fs::metadata(case.bundle.root().join("tmp/made")).unwrap().uid(), 100_000);
    case.delete_force();
    case.assert_nothing_left();
}

#[test]
fn several_mappings_hold() {
    let Some(case) = Case::new("userns-two") else { return };
    case.user_namespace(100_000, 1000).edit(|config| {
        let maps = json!([
            { "containerID": 0, "hostID": 100_000, "size": 1000 },
            { "containerID": 1000, "hostID": 300_000, "size": 1 },
        ]);
        config["linux"]["uidMappings"] = maps.clone();
        config["linux"]["gidMappings"] = maps;
        config["process"]["user"] = json!({ "uid": 1000, "gid": 1000 });
    });
    let process = case.sleeps().run_detached();
    assert!(process.status("Uid").starts_with("300000\t"));
    assert!(process.status("Gid").starts_with("300000\t"));
}

#[test]
fn root_of_the_namespace_has_its_capabilities_there_and_none_on_the_host() {
    let Some(case) = Case::new("userns-caps") else { return };
    case.user_namespace(100_000, 65536).capabilities(&["CAP_SYS_ADMIN", "CAP_NET_ADMIN", "CAP_CHOWN"]);
    let said = case.shell("mount -t tmpfs tmpfs /mnt && echo mounted; ip link set lo down && echo down; chown 5 /tmp && echo owned");
    assert_eq!(said.good().out, "mounted\ndown\nowned\n");
}

#[test]
fn the_other_namespaces_belong_to_the_user_namespace() {
    let Some(case) = Case::new("userns-owner") else { return };
    case.user_namespace(100_000, 65536).capabilities(&["CAP_SYS_ADMIN"]);
    assert_eq!(case.shell("hostname other && hostname").good().out, "other\n");
}

#[test]
fn a_user_without_a_mapping_is_an_error() {
    let Some(case) = Case::new("userns-unmapped") else { return };
    case.user_namespace(100_000, 10);
    case.edit(|config| config["process"]["user"] = json!({ "uid": 1000, "gid": 1000 }));
    let _ = case.run().bad();
    case.assert_nothing_left();
}

#[test]
fn mappings_need_a_user_namespace() {
    let Some(case) = Case::new("userns-none") else { return };
    case.edit(|config| {
        config["linux"]["uidMappings"] = json!([{ "containerID": 0, "hostID": 1000, "size": 10 }])
    });
    let words = "config-linux.md, User namespace mappings: the mappings are those of a user namespace; without one there \
        is nothing to map";
    differs(&[Kind::Runc, Kind::Crun], words, || drop(case.run().bad()));
    case.assert_nothing_left();
}

#[test]
fn a_user_namespace_is_joined_by_its_path() {
    let (Some(first), Some(second)) = (Case::new("userns-first"), Case::new("userns-second")) else { return };
    if lacks(&[Kind::Runc, Kind::Crun], "joining a user namespace of another container") {
        return;
    }
    let process = first.user_namespace(100_000, 65536).sleeps().run_detached();
    second.user_namespace(100_000, 65536).edit(|config| {
        config["linux"].as_object_mut().unwrap().remove("uidMappings");
        config["linux"].as_object_mut().unwrap().remove("gidMappings");
    });
    second.namespace("user", Some(process.path("ns/user").to_str().unwrap()));
    let promise = || {
        let other = second.sleeps().run_detached();
        assert_eq!(other.namespace("user"), process.namespace("user"));
        assert!(other.status("Uid").starts_with("100000\t"));
        assert_eq!(second.exec("id -u").good().out, "0\n");
    };
    promise();
}

#[test]
fn setgroups_works_for_root_of_the_namespace() {
    let Some(case) = Case::new("userns-groups") else { return };
    case.user_namespace(100_000, 65536);
    case.edit(|config| config["process"]["user"]["additionalGids"] = json!([7, 8]));
    assert_eq!(case.shell("id -G").good().out, "0 7 8\n");
}
