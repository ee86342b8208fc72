//! What the device controller of v2 promises, in the unified hierarchy of this machine's kernel.

use crate::Temporary;
use cgroups::{DeviceKind, DeviceRule, Mode};
use std::io::Read;
use std::os::fd::AsFd;
use std::time::Instant;
use types::ErrorKind;

/// In the unified hierarchy alone, even where v1 has a devices controller. `None` where bpf(2) is not for us.
fn unified(name: &str) -> Option<Temporary> {
    let t = Temporary::only(name, true)?;
    assert_eq!(t.cgroups.mode(), Mode::V2);
    match t.group.devices(&[rule(true, DeviceKind::All, None, None, "rwm")]) {
        Ok(warnings) => {
            assert_eq!(warnings, Vec::<String>::new());
            Some(t)
        }
        Err(error) => {
            assert!(
                matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::FailedPrecondition),
                "{}",
                error.chain()
            );
            eprintln!("skipped {name}: {}", error.chain());
            None
        }
    }
}

fn rule(allow: bool, kind: DeviceKind, major: Option<u32>, minor: Option<u32>, access: &str) -> DeviceRule {
    let has = |c| access.contains(c);
    DeviceRule { allow, kind, major, minor, read: has('r'), write: has('w'), mknod: has('m') }
}

const CHAR: DeviceKind = DeviceKind::Char;

fn output(t: &Temporary, script: &str) -> String {
    let mut child = t.shell(script);
    let mut out = String::new();
    child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
    child.wait().unwrap();
    out.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Opens three devices, and makes a node.
fn tried(t: &Temporary) -> String {
    let folder = tempfile::tempdir().unwrap();
    let node = folder.path().join("node");
    let script = format!(
        "(: < /dev/null) && echo null; (: < /dev/zero) && echo zero; (: <> /dev/full) && echo full; \
         mknod {} c 1 3 && echo made",
        node.display()
    );
    output(t, &script)
}

/// The device programs on the group itself.
fn attached(t: &Temporary) -> Vec<u32> {
    let folder = std::fs::File::open(t.file("unified", "")).unwrap();
    sys::bpf::attached_device_programs(folder.as_fd()).unwrap()
}

#[test]
fn v2_processes_open_and_make_what_the_rules_allow_and_nothing_else() {
    let Some(t) = unified("dev-open") else { return };
    assert_eq!(tried(&t), "null zero full made");
    let deny = rule(false, DeviceKind::All, None, None, "rwm");
    let null = rule(true, CHAR, Some(1), Some(3), "rw");
    t.group.devices(&[deny.clone(), null.clone()]).unwrap();
    assert_eq!(tried(&t), "null");
    t.group.devices(&[null, rule(true, DeviceKind::All, None, None, "m")]).unwrap();
    assert_eq!(tried(&t), "null made");
    t.group
        .devices(&[rule(true, DeviceKind::All, None, None, "rwm"), rule(false, CHAR, Some(1), Some(7), "w")])
        .unwrap();
    // Reading and writing is refused when writing is.
    assert_eq!(tried(&t), "null zero made");
    t.group.devices(&[rule(true, DeviceKind::All, None, None, "rwm"), deny]).unwrap();
    assert_eq!(tried(&t), "");
}

#[test]
fn v2_rules_hold_in_groups_below() {
    let Some(t) = unified("dev-below") else { return };
    t.group.devices(&[rule(true, CHAR, Some(1), Some(3), "rwm")]).unwrap();
    let below = t.cgroups.create(&format!("{}/below", t.group.path())).unwrap();
    below.devices(&[rule(true, DeviceKind::All, None, None, "rwm")]).unwrap();
    let mut child = crate::shell_in(&below, "(: < /dev/null) && echo null; (: < /dev/zero) && echo zero");
    let mut out = String::new();
    child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
    child.wait().unwrap();
    assert_eq!(out, "null\n", "a group cannot give itself more than the one above has");
}

#[test]
fn v2_rules_take_the_place_of_earlier_ones_and_leave_the_programs_of_others() {
    use sys::bpf::{Instruction, attach_device_program, load_device_program};
    let Some(t) = unified("dev-replace") else { return };
    let first = attached(&t);
    assert_eq!(first.len(), 1);
    let allow = [Instruction::new(0xb4, 0, 0, 0, 1), Instruction::new(0x95, 0, 0, 0, 0)];
    let other = load_device_program(&allow, c"of_another").unwrap();
    let folder = std::fs::File::open(t.file("unified", "")).unwrap();
    attach_device_program(folder.as_fd(), other.as_fd(), None).unwrap();
    t.group.devices(&[rule(true, CHAR, Some(1), Some(3), "rw")]).unwrap();
    let second = attached(&t);
    assert_eq!(second.len(), 2);
    assert!(!second.contains(&first[0]));
    assert_eq!(tried(&t), "null");
    // No rules: no change.
    t.group.devices(&[]).unwrap();
    assert_eq!(attached(&t), second);
    // At the same time, from several threads.
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| t.group.devices(&[rule(true, CHAR, Some(1), Some(5), "rw")]).unwrap());
        }
    });
    t.group.devices(&[rule(true, CHAR, Some(1), Some(5), "rw")]).unwrap();
    assert_eq!(attached(&t).len(), 2);
    assert_eq!(tried(&t), "zero");
}

#[test]
fn the_kernel_takes_as_many_rules_as_fit() {
    let Some(t) = unified("dev-many") else { return };
    let kinds = [CHAR, DeviceKind::Block];
    let access = ["r", "w", "m", "rw", "rwm", "rm"];
    let rules: Vec<DeviceRule> = (0..1000u32)
        .map(|n| {
            let kind = kinds[n as usize / 3 % 2];
            let (major, minor) = ((n % 5 != 0).then_some(n % 9), (n % 7 != 0).then_some(n));
            rule(n % 3 != 0, kind, major, minor, access[n as usize % access.len()])
        })
        .collect();
    let start = Instant::now();
    t.group.devices(&rules).unwrap_or_else(|error| panic!("{}", error.chain()));
    eprintln!("1000 rules took {:?}", start.elapsed());
    let start = Instant::now();
    t.group.devices(&rules[..12]).unwrap();
    eprintln!("12 rules took {:?}", start.elapsed());
    let error = t.group.devices(&vec![rules[1].clone(); 2000]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{}", error.chain());
}

#[test]
fn where_bpf_is_not_permitted_the_rules_are_an_error_that_says_so() {
    let Some(t) = unified("dev-eperm") else { return };
    let group = t.group.clone();
    // Capabilities belong to the thread.
    let error = std::thread::spawn(move || {
        sys::process::set_capabilities(0, 0, 0).unwrap();
        group.devices(&[rule(true, CHAR, Some(1), Some(3), "rw")]).unwrap_err()
    })
    .join()
    .unwrap();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{}", error.chain());
    assert!(error.chain().contains("bpf(2) is not permitted"), "{}", error.chain());
}

#[test]
fn a_machine_that_cannot_limit_devices_refuses_rules() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("memory")).unwrap();
    let info = "31 24 0:27 / /memory rw - cgroup cgroup rw,memory\n";
    let cgroups = cgroups::Cgroups::probe_at(dir.path(), info, "1:memory:/\n").unwrap();
    let group = cgroups.create("/a").unwrap();
    let error = group.devices(&[rule(false, DeviceKind::All, None, None, "rwm")]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::FailedPrecondition);
    assert!(group.devices(&[]).unwrap().is_empty());
}
