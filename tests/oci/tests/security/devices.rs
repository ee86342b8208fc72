//! `/dev` as an image has it (CVE-2026-41579, crun's CVE-2026-47766).

use crate::{loses_at_times, quietly};
use oci_suite::attack::{Exchange, Witness};
use oci_suite::{Case, Console, Kind, differs};
use serde_json::json;
use std::os::unix::fs::symlink;

/// `/dev` of the image is a link to a folder of the node, which has files of the names that a runtime removes, makes or links
/// there. runc until 1.3.5 removed `ptmx` and made links; crun until 1.27 made device nodes. With and without a mount at `/dev`.
fn dev_is_a_link(case: &Case, terminal: bool) {
    let node = case.bundle.aside().join("node");
    std::fs::create_dir(&node).unwrap();
    for name in ["ptmx", "fd", "console", "core"] {
        std::fs::write(node.join(name), "untouched").unwrap();
    }
    let before = Witness::of(&node);
    let console = Console::new(&case.bundle.aside());
    let place = case.bundle.root().join("dev");
    let plain = case.bundle.config()["mounts"].clone();
    let up = format!("../../../../../../../..{}", node.display());
    for target in [node.to_str().unwrap(), &up, "../aside/node"] {
        let _ = std::fs::remove_dir(&place);
        let _ = std::fs::remove_file(&place);
        symlink(target, &place).unwrap();
        for without in [&["/dev"][..], &["/dev", "/dev/pts", "/dev/shm", "/dev/mqueue"], &[]] {
            let mut mounts = plain.clone();
            mounts
                .as_array_mut()
                .unwrap()
                .retain(|mount| !without.iter().any(|path| mount["destination"] == *path));
            case.edit(|config| {
                config["mounts"] = mounts;
                config["process"]["terminal"] = terminal.into();
                config["linux"]["devices"] = json!([
                    { "path": "/dev/corten-test", "type": "c", "major": 1, "minor": 3, "fileMode": 0o666, "uid": 0, "gid": 0 },
                ]);
            });
            if terminal {
                quietly(&mut case.command(&["create", "--console-socket", console.path(), &case.id]));
            } else {
                quietly(&mut case.command(&["create", &case.id]));
            }
            case.delete_force();
            before.assert_untouched(&format!("/dev is a link to {target}, without mounts at {without:?}"));
        }
    }
}

/// What runc did: links, and the removal of `ptmx`.
#[test]
fn cve_2026_41579_a_dev_that_is_a_link_leads_to_no_file_of_the_node() {
    let Some(case) = Case::new("41579") else { return };
    differs(&[Kind::Runc, Kind::Crun], "an image changes nothing outside of its own root", || {
        dev_is_a_link(&case, false)
    });
    case.delete_force();
    case.assert_nothing_left();
}

/// What crun did: nodes, and with a terminal the console.
#[test]
fn cve_2026_47766_no_device_and_no_console_is_made_on_the_node() {
    let Some(case) = Case::new("47766") else { return };
    differs(&[Kind::Runc, Kind::Crun], "an image changes nothing outside of its own root", || {
        dev_is_a_link(&case, true)
    });
    case.delete_force();
    case.assert_nothing_left();
}

/// Device nodes in a volume that another container changes: while they get their mode and owner, each name changes places with
/// a link to a file of the node. 1,000 nodes in 50 starts.
#[test]
fn no_mode_or_owner_of_a_device_ends_up_on_a_file_of_the_node() {
    let Some(case) = Case::new("device-race") else { return };
    let (volume, node) = (case.bundle.aside().join("volume"), case.bundle.aside().join("node"));
    for folder in [&volume, &node] {
        std::fs::create_dir(folder).unwrap();
    }
    std::fs::write(node.join("secret"), "secret").unwrap();
    std::fs::set_permissions(node.join("secret"), std::os::unix::fs::PermissionsExt::from_mode(0o600))
        .unwrap();
    let before = Witness::of(&node);
    // The whole folder of nodes changes places with one in which each name is a link.
    for folder in ["real", "links"] {
        std::fs::create_dir(volume.join(folder)).unwrap();
    }
    let names: Vec<String> = (0..20).map(|number| format!("node-{number}")).collect();
    case.mount("/vol", "bind", volume.to_str().unwrap(), &["bind"]).edit(|config| {
        let devices = names.iter().map(|name| {
            json!({ "path": format!("/vol/{name}"), "type": "c", "major": 1, "minor": 3, "fileMode": 0o666, "uid": 1000, "gid": 1000 })
        });
        config["linux"]["devices"] = devices.collect();
    });
    let (mut exchanged, mut up) = (0, 0);
    let promise = || {
        for _ in 0..50 {
            for name in &names {
                let _ = std::fs::remove_file(volume.join(name));
                let _ = std::fs::remove_file(volume.join("links").join(name));
                symlink(node.join("secret"), volume.join("links").join(name)).unwrap();
            }
            // A name can only be exchanged once it is there, so the attacker waits for each.
            let exchanges: Vec<_> = names
                .iter()
                .step_by(7)
                .map(|name| Exchange::start(volume.join(name), volume.join("links").join(name)))
                .collect();
            up += usize::from(quietly(&mut case.command(&["run", &case.id])));
            exchanged += exchanges.iter().map(Exchange::count).sum::<u64>();
            drop(exchanges);
            before.assert_untouched("a device in a volume");
        }
    };
    loses_at_times(&[Kind::Runc, Kind::Crun], "a container's devices are in the container", promise);
    println!("1,000 nodes in 50 starts, {up} came up; they were exchanged {exchanged} times");
    assert!(exchanged > 0 && up > 0 || case.runtime.kind != Kind::Corten, "no start came up, or no exchange");
    case.assert_nothing_left();
}
