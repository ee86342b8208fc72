//! config-linux.md, "Devices", "Default Devices" and "Device symbolic links".

use oci_suite::{Case, Kind, differs};
use serde_json::{Value, json};

fn with_devices(case: &Case, devices: Value) -> &Case {
    case.edit(|config| config["linux"]["devices"] = devices)
}

#[test]
fn the_default_devices_are_there_and_work() {
    let Some(case) = Case::new("dev-default") else { return };
    let script = "for d in null zero full random urandom tty; do stat -c '%n %F %t %T %a' /dev/$d; done; \
        echo x > /dev/null && head -c 3 /dev/zero | wc -c; head -c 1 /dev/urandom | wc -c; echo x 2>/dev/null > /dev/full || echo full";
    let expected = "/dev/null character special file 1 3 666\n/dev/zero character special file 1 5 666\n\
        /dev/full character special file 1 7 666\n/dev/random character special file 1 8 666\n\
        /dev/urandom character special file 1 9 666\n/dev/tty character special file 5 0 666\n3\n1\nfull\n";
    assert_eq!(case.shell(script).good().out, expected);
}

#[test]
fn the_links_of_dev_are_there() {
    let Some(case) = Case::new("dev-links") else { return };
    let said =
        case.shell("cd /dev; for l in fd stdin stdout stderr ptmx; do echo $l $(readlink $l); done").good();
    assert_eq!(
        said.out,
        "fd /proc/self/fd\nstdin /proc/self/fd/0\nstdout /proc/self/fd/1\nstderr /proc/self/fd/2\nptmx pts/ptmx\n"
    );
}

#[test]
fn no_other_device_is_there() {
    let Some(case) = Case::new("dev-none") else { return };
    let said = case.shell("find /dev -type b -o -type c | sort | tr '\\n' ' '").good();
    assert_eq!(said.out, "/dev/full /dev/null /dev/pts/ptmx /dev/random /dev/tty /dev/urandom /dev/zero ");
}

#[test]
fn configured_devices_have_their_kind_numbers_mode_and_owner() {
    let Some(case) = Case::new("devices") else { return };
    with_devices(
        &case,
        json!([
            { "path": "/dev/own", "type": "c", "major": 1, "minor": 3, "fileMode": 0o640, "uid": 11, "gid": 12 },
            { "path": "/dev/unbuffered", "type": "u", "major": 1, "minor": 5 },
            { "path": "/dev/disk", "type": "b", "major": 7, "minor": 99, "fileMode": 0o600 },
            { "path": "/dev/pipe", "type": "p", "fileMode": 0o622 },
            { "path": "/dev/deep/er/node", "type": "c", "major": 1, "minor": 7 },
            { "path": "/other/node", "type": "c", "major": 1, "minor": 8 },
        ]),
    );
    let said = case
        .shell("stat -c '%n %F %t:%T %a %u:%g' /dev/own /dev/unbuffered /dev/disk /dev/pipe /dev/deep/er/node /other/node")
        .good();
    let lines = said.lines();
    assert_eq!(lines[0], "/dev/own character special file 1:3 640 11:12");
    assert!(lines[1].starts_with("/dev/unbuffered character special file 1:5 "), "{}", said.out);
    assert_eq!(lines[2], "/dev/disk block special file 7:63 600 0:0");
    assert!(lines[3].starts_with("/dev/pipe fifo 0:0 622"), "{}", said.out);
    assert!(lines[4].starts_with("/dev/deep/er/node character special file 1:7"), "{}", said.out);
    assert!(lines[5].starts_with("/other/node character special file 1:8"), "{}", said.out);
    case.assert_nothing_left();
}

#[test]
fn a_configured_device_takes_the_place_of_a_default_one() {
    let Some(case) = Case::new("dev-replaced") else { return };
    with_devices(
        &case,
        json!([{ "path": "/dev/null", "type": "c", "major": 1, "minor": 3, "fileMode": 0o600 }]),
    );
    case.edit(|config| {
        let rules = config["linux"]["resources"]["devices"].as_array_mut().unwrap();
        rules.push(json!({ "allow": true, "type": "c", "major": 1, "minor": 3, "access": "rwm" }));
    });
    assert_eq!(case.shell("stat -c '%t:%T %a' /dev/null").good().out, "1:3 600\n");
}

#[test]
fn devices_work_in_a_user_namespace() {
    let Some(case) = Case::new("dev-userns") else { return };
    case.user_namespace(100_000, 65536);
    assert_eq!(
        case.shell("echo x > /dev/null && head -c 3 /dev/zero | wc -c; stat -c %t:%T /dev/full").good().out,
        "3\n1:7\n"
    );
}

#[test]
fn a_device_that_is_wrong_is_an_error() {
    let Some(case) = Case::new("dev-wrong") else { return };
    with_devices(&case, json!([{ "path": "/dev/x", "type": "z", "major": 1, "minor": 3 }]));
    let words = "config-linux.md, Devices: \"type (string, REQUIRED) - type of device: c, b, u or p\"";
    differs(&[Kind::Crun], words, || drop(case.run().bad()));
    with_devices(&case, json!([{ "type": "c", "major": 1, "minor": 3 }]));
    differs(&[Kind::Runc], "config-linux.md, Devices: \"path (string, REQUIRED)\"", || {
        drop(case.run().bad())
    });
    case.assert_nothing_left();
}
