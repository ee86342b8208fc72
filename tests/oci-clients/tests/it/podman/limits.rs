//! Resources: what podman asks for is what the cgroup says.

use super::Podman;
use crate::machine::cgroup_file;

#[test]
fn limits_reach_the_cgroup() {
    let Some(podman) = Podman::new() else { return };
    let options = ["--memory", "32m", "--cpus", "0.5", "--pids-limit", "20", "--cpu-shares", "512"];
    let id = podman.start("small", &options, &["sleep", "1000"]);
    let group = format!("libpod-{id}");
    let value = |v1: &str, v2: &str| {
        let has = podman.cgroups().all().iter().any(|path| path.ends_with(&group) && path.join(v1).is_file());
        cgroup_file(podman.cgroups(), &group, if has { v1 } else { v2 })
    };
    assert_eq!(value("memory.limit_in_bytes", "memory.max"), "33554432");
    assert_eq!(value("pids.max", "pids.max"), "20");
    assert!(["50000", "50000 100000"].contains(&value("cpu.cfs_quota_us", "cpu.max").as_str()));
    assert!(["512", "20"].contains(&value("cpu.shares", "cpu.weight").as_str()));
    let limit = podman.ok(&["stats", "--no-stream", "--format", "{{.MemLimit}}", "small"]);
    assert_eq!(limit, "33554432");
    podman.end();
}

#[test]
fn the_finer_settings_reach_the_cgroup_too() {
    let Some(podman) = Podman::new() else { return };
    let options =
        ["--memory", "32m", "--memory-reservation", "16m", "--cpuset-cpus", "0", "--oom-score-adj", "500"];
    let id = podman.start("fine", &options, &["sleep", "1000"]);
    let group = format!("libpod-{id}");
    assert_eq!(podman.ok(&["exec", "fine", "cat", "/proc/self/oom_score_adj"]), "500");
    assert_eq!(cgroup_file(podman.cgroups(), &group, "cpuset.cpus"), "0");
    let v1 = podman.cgroups().all().iter().any(|path| path.join("memory.soft_limit_in_bytes").is_file());
    let file = if v1 { "memory.soft_limit_in_bytes" } else { "memory.low" };
    assert_eq!(cgroup_file(podman.cgroups(), &group, file), "16777216");
    // A command counts as the container's.
    podman.ok(&["exec", "-d", "fine", "sleep", "55"]);
    assert_eq!(podman.ok(&["stats", "--no-stream", "--format", "{{.PIDs}}", "fine"]), "2");
    podman.end();
}

#[test]
fn a_container_above_its_memory_is_killed() {
    let Some(podman) = Podman::new() else { return };
    // Not the shell: the kernel takes who needs the most.
    let script = "dd if=/dev/zero of=/dev/null bs=64M count=1; echo $?";
    assert_eq!(podman.sh(&["--memory", "20m", "--memory-swap", "20m"], script), "137");
    podman.end();
}

#[test]
fn process_limits_and_the_size_of_shared_memory_hold() {
    let Some(podman) = Podman::new() else { return };
    let script = "ulimit -n; ulimit -Hn; df -k /dev/shm | tail -n 1 | tr -s ' ' | cut -d ' ' -f 2";
    // Only both of these keep podman from asking for its own default of the other.
    let options = ["--ulimit", "nofile=100:200", "--ulimit", "nproc=900:900", "--shm-size", "1m"];
    assert_eq!(podman.sh(&options, script), "100\n200\n1024");
    podman.end();
}

#[test]
fn no_more_processes_than_allowed() {
    let Some(podman) = Podman::new() else { return };
    let script = "for i in 1 2 3 4 5 6 7 8 9; do sleep 5 & done; wait";
    let output = podman.podman(&podman.making("run", &["--rm", "--pids-limit", "5"], &["sh", "-c", script]));
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(error.contains("fork"), "{error}");
    podman.end();
}
