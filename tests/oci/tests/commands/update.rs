//! `update`: new limits for a running container, by flags and by JSON, as the cgroup files show them.

use oci_suite::{Case, Groups, Kind, differs, lacks};
use serde_json::json;
use std::process::Stdio;

fn running(name: &str) -> Option<(Case, Groups)> {
    let case = Case::new(name)?;
    case.edit(|config| {
        config["linux"]["resources"]["memory"] = json!({ "limit": 64 << 20 });
        config["linux"]["resources"]["pids"] = json!({ "limit": 20 });
    });
    let groups = case.sleeps().run_detached().groups();
    Some((case, groups))
}

fn value(groups: &Groups, second: &str, first: &str) -> String {
    groups.either(second, first).unwrap_or_else(|| panic!("neither {second} nor {first}"))
}

#[test]
fn memory_and_pids_are_changed_by_flags() {
    let Some((case, groups)) = running("update-flags") else { return };
    let _ = case.call(&["update", "--memory", "33554432", "--pids-limit", "15", &case.id]).good();
    assert_eq!(value(&groups, "memory.max", "memory.limit_in_bytes"), "33554432");
    assert_eq!(value(&groups, "pids.max", "pids.max"), "15");
    let _ = case.call(&["update", "--memory-reservation", "16777216", &case.id]).good();
    assert_eq!(value(&groups, "memory.low", "memory.soft_limit_in_bytes"), "16777216");
    assert_eq!(value(&groups, "memory.max", "memory.limit_in_bytes"), "33554432", "what is not named stays");
    assert_eq!(value(&groups, "pids.max", "pids.max"), "15");
}

#[test]
fn cpu_is_changed_by_flags() {
    let Some((case, groups)) = running("update-cpu") else { return };
    let _ = case
        .call(&["update", "--cpu-share", "512", "--cpu-period", "50000", "--cpu-quota", "25000", &case.id])
        .good();
    if Groups::unified() {
        assert_eq!(groups.read("cpu.max").unwrap(), "25000 50000");
    } else {
        assert_eq!(groups.read("cpu.shares").unwrap(), "512");
        assert_eq!(groups.read("cpu.cfs_period_us").unwrap(), "50000");
        assert_eq!(groups.read("cpu.cfs_quota_us").unwrap(), "25000");
    }
    let _ = case.call(&["update", "--cpuset-cpus", "0", &case.id]).good();
    assert_eq!(groups.read("cpuset.cpus").unwrap(), "0");
}

#[test]
fn everything_is_changed_by_json_from_a_file_and_from_standard_input() {
    let Some((case, groups)) = running("update-json") else { return };
    let file = case.bundle.aside().join("resources.json");
    let resources = |limit: u64, pids: u64| {
        json!({ "memory": { "limit": limit }, "pids": { "limit": pids } }).to_string()
    };
    for (flag, pids) in [("--resources", 12), ("-r", 13)] {
        std::fs::write(&file, resources(40 << 20, pids)).unwrap();
        let _ = case.call(&["update", flag, file.to_str().unwrap(), &case.id]).good();
        assert_eq!(value(&groups, "memory.max", "memory.limit_in_bytes"), (40 << 20).to_string());
        assert_eq!(value(&groups, "pids.max", "pids.max"), pids.to_string());
    }
    if lacks(&[Kind::Crun], "resources from standard input") {
        return;
    }
    std::fs::write(&file, resources(41 << 20, 14)).unwrap();
    let mut command = case.command(&["update", "-r", "-", &case.id]);
    let _ = case.finish(command.stdin(Stdio::from(std::fs::File::open(&file).unwrap()))).good();
    assert_eq!(value(&groups, "pids.max", "pids.max"), "14");
}

#[test]
fn device_rules_stay_as_they_are() {
    let Some((case, _)) = running("update-devices") else { return };
    let _ = case.call(&["update", "--pids-limit", "15", &case.id]).good();
    assert_eq!(
        case.exec("head -c 2 /dev/zero | wc -c; echo x > /dev/null && echo fine").good().out,
        "2\nfine\n"
    );
}

#[test]
fn an_update_that_cannot_be_is_an_error() {
    let Some((case, groups)) = running("update-wrong") else { return };
    let _ = case.call(&["update", "--memory", "no-number", &case.id]).bad();
    let _ = case.call(&["update", "-r", "/no/such/file", &case.id]).bad();
    let _ = case.call(&["update", "--cpuset-cpus", "9999", &case.id]).bad();
    assert_eq!(value(&groups, "memory.max", "memory.limit_in_bytes"), (64 << 20).to_string());
}

#[test]
fn a_stopped_container_cannot_be_updated() {
    let Some(case) = Case::new("update-stopped") else { return };
    let _ = case.script("true").create();
    case.start();
    case.await_status("stopped");
    differs(&[Kind::Crun], "runc, update.go: a stopped container has nothing to update", || {
        drop(case.call(&["update", "--pids-limit", "15", &case.id]).bad());
    });
}
