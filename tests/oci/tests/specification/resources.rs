//! config-linux.md, "Control groups": each resource, read back from the files of version 1 or 2.

use oci_suite::{Case, Groups, Kind, differs, lacks, needs};
use serde_json::{Value, json};
use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

/// A running container with one kind of resource set, and its groups.
fn with(name: &str, kind: &str, value: Value) -> Option<(Case, Groups)> {
    let case = Case::new(name)?;
    case.edit(|config| config["linux"]["resources"][kind] = value);
    let groups = case.sleeps().run_detached().groups();
    Some((case, groups))
}

/// Whether a file is there for the group of a controller.
fn has(controller: &str, file: &str) -> bool {
    Groups::of(std::process::id().cast_signed()).dir(controller).is_some_and(|dir| {
        // The root groups lack many files: any child has them.
        std::fs::read_dir(dir)
            .is_ok_and(|mut list| list.any(|one| one.is_ok_and(|one| one.path().join(file).exists())))
            || dir.join(file).exists()
    })
}

fn check(groups: &Groups, second: (&str, &str), first: (&str, &str)) {
    let (file, expected) = if Groups::unified() { second } else { first };
    assert_eq!(groups.read(file).as_deref(), Some(expected), "{file}");
}

#[test]
fn memory_limit() {
    let Some((case, groups)) = with("res-memory", "memory", json!({ "limit": 33_554_432 })) else { return };
    check(&groups, ("memory.max", "33554432"), ("memory.limit_in_bytes", "33554432"));
    case.delete_force();
    case.assert_nothing_left();
}

#[test]
fn memory_reservation() {
    let memory = json!({ "limit": 33_554_432, "reservation": 16_777_216 });
    let Some((_case, groups)) = with("res-reservation", "memory", memory) else { return };
    check(&groups, ("memory.low", "16777216"), ("memory.soft_limit_in_bytes", "16777216"));
}

#[test]
fn memory_and_swap() {
    if needs(
        has("memory", if Groups::unified() { "memory.swap.max" } else { "memory.memsw.limit_in_bytes" }),
        "swap accounting",
    ) {
        return;
    }
    let memory = json!({ "limit": 33_554_432, "swap": 50_331_648 });
    let Some((_case, groups)) = with("res-swap", "memory", memory) else { return };
    // Version 2 counts swap alone; the specification's number is the sum of both.
    check(&groups, ("memory.swap.max", "16777216"), ("memory.memsw.limit_in_bytes", "50331648"));
}

#[test]
fn unlimited_memory() {
    let Some((_case, groups)) = with("res-memory-none", "memory", json!({ "limit": -1 })) else { return };
    check(&groups, ("memory.max", "max"), ("memory.limit_in_bytes", "9223372036854771712"));
}

#[test]
fn swappiness_and_the_oom_killer_of_version_1() {
    if Groups::unified() {
        eprintln!("skipped: this machine has no cgroups of version 1");
        return;
    }
    let memory = json!({ "limit": 33_554_432, "swappiness": 17, "disableOOMKiller": true });
    let Some((_case, groups)) = with("res-oom", "memory", memory) else { return };
    assert_eq!(groups.read("memory.swappiness").as_deref(), Some("17"));
    assert!(groups.read("memory.oom_control").is_some_and(|text| text.contains("oom_kill_disable 1")));
}

#[test]
fn a_container_lives_with_512_kib() {
    let Some(case) = Case::new("res-small") else { return };
    if lacks(&[Kind::Runc], "how to start with so little memory") {
        return;
    }
    case.edit(|config| config["linux"]["resources"]["memory"] = json!({ "limit": 512 * 1024 }));
    assert_eq!(case.args(&["echo", "ran"]).run().good().out, "ran\n");
}

/// Takes a file out of memory, as load does in time: then whoever needs it reads it from the disk.
fn forget(path: &Path) {
    let file = std::fs::File::open(path).unwrap();
    // What is not on the disk yet stays.
    rustix::fs::fsync(&file).unwrap();
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
}

/// As before, where neither the runtime nor the program is in memory: what the kernel reads for a container is charged to it, with what
/// it reads ahead. 40 starts in one step and in two, and as many execs.
#[test]
fn a_container_lives_with_512_kib_when_its_program_has_to_be_read_first() {
    let Some(case) = Case::new("res-cold") else { return };
    if lacks(&[Kind::Runc, Kind::Crun], "how to start with so little memory and a program that is not in it")
    {
        return;
    }
    let program = case.bundle.root().join("bin/busybox");
    std::fs::write(case.bundle.root().join("bin/script"), "#!/bin/sh\necho ran\n").unwrap();
    std::fs::set_permissions(case.bundle.root().join("bin/script"), Permissions::from_mode(0o755)).unwrap();
    let cold = || {
        forget(&program);
        forget(case.runtime.program());
    };
    case.edit(|config| config["linux"]["resources"]["memory"] = json!({ "limit": 512 * 1024 }));
    // A guest without hardware help takes ten seconds for each.
    let rounds = if Groups::unified() { 3 } else { 40 };
    for round in 0..rounds {
        case.args(if round % 4 == 0 { &["script"] } else { &["echo", "ran"] });
        cold();
        if round % 2 == 0 {
            assert_eq!(case.run().good().out, "ran\n", "round {round}");
            continue;
        }
        let made = case.call(&["create", &case.id]).good();
        cold();
        case.start();
        case.await_status("stopped");
        assert_eq!(made.text_now(), "ran\n", "round {round}");
        case.delete_force();
    }
    // Two processes have to fit.
    case.edit(|config| config["linux"]["resources"]["memory"] = json!({ "limit": 1024 * 1024 }));
    let copy = case.bundle.root().join("copy/busybox");
    std::fs::create_dir(case.bundle.root().join("copy")).unwrap();
    std::fs::copy(&program, &copy).unwrap();
    let _ = case.sleeps().run_detached();
    for round in 0..rounds {
        // What runs stays in memory, but this copy of it does not.
        forget(&copy);
        forget(case.runtime.program());
        assert_eq!(
            case.call(&["exec", &case.id, "/copy/busybox", "echo", "ran"]).good().out,
            "ran\n",
            "exec {round}"
        );
    }
    case.delete_force();
    case.assert_nothing_left();
}

#[test]
fn cpu_shares() {
    let Some((_case, groups)) = with("res-shares", "cpu", json!({ "shares": 512 })) else { return };
    if Groups::unified() {
        // runc and crun map 2…262144 to 1…10000; newer ones with another curve (crun and runc 1.3 and later).
        let weight: u64 = groups.read("cpu.weight").and_then(|text| text.parse().ok()).unwrap();
        assert!((15..=70).contains(&weight), "{weight}");
    } else {
        assert_eq!(groups.read("cpu.shares").as_deref(), Some("512"));
    }
}

#[test]
fn cpu_quota_and_period() {
    let Some((_case, groups)) = with("res-quota", "cpu", json!({ "quota": 30_000, "period": 60_000 })) else {
        return;
    };
    if Groups::unified() {
        assert_eq!(groups.read("cpu.max").as_deref(), Some("30000 60000"));
    } else {
        assert_eq!(groups.read("cpu.cfs_quota_us").as_deref(), Some("30000"));
        assert_eq!(groups.read("cpu.cfs_period_us").as_deref(), Some("60000"));
    }
}

#[test]
fn cpu_burst() {
    if lacks(&[Kind::Runc, Kind::Crun], "the CPU burst") {
        return;
    }
    let cpu = json!({ "quota": 30_000, "period": 60_000, "burst": 10_000 });
    let Some((_case, groups)) = with("res-burst", "cpu", cpu) else { return };
    check(&groups, ("cpu.max.burst", "10000"), ("cpu.cfs_burst_us", "10000"));
}

#[test]
fn cpu_idle() {
    if lacks(&[Kind::Runc, Kind::Crun], "cpu.idle") || needs(has("cpu", "cpu.idle"), "cpu.idle") {
        return;
    }
    let Some((_case, groups)) = with("res-idle", "cpu", json!({ "idle": 1 })) else { return };
    check(&groups, ("cpu.idle", "1"), ("cpu.idle", "1"));
}

#[test]
fn cpu_realtime_of_version_1() {
    if Groups::unified() || needs(has("cpu", "cpu.rt_runtime_us"), "real-time groups") {
        return;
    }
    let Some((_case, groups)) =
        with("res-rt", "cpu", json!({ "realtimeRuntime": 1000, "realtimePeriod": 1_000_000 }))
    else {
        return;
    };
    assert_eq!(groups.read("cpu.rt_runtime_us").as_deref(), Some("1000"));
}

#[test]
fn cpus_and_memory_nodes() {
    let Some((case, groups)) = with("res-cpuset", "cpu", json!({ "cpus": "0", "mems": "0" })) else { return };
    assert_eq!(groups.read("cpuset.cpus").as_deref(), Some("0"));
    assert_eq!(groups.read("cpuset.mems").as_deref(), Some("0"));
    assert_eq!(case.process().status("Cpus_allowed_list"), "0");
    assert_eq!(case.exec("grep Cpus_allowed_list /proc/self/status").good().out, "Cpus_allowed_list:\t0\n");
}

#[test]
fn pids_limit() {
    let Some((case, groups)) = with("res-pids", "pids", json!({ "limit": 9 })) else { return };
    assert_eq!(groups.read("pids.max").as_deref(), Some("9"));
    let said = case.exec("for i in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 0.1 & done");
    assert_ne!(said.code, 0, "more than nine processes: {said:?}");
}

#[test]
fn unlimited_pids() {
    let words = "config-linux.md, PIDs: limit -1 is no limit, as runc and the schema have it";
    differs(&[Kind::Crun], words, || {
        let Some((_case, groups)) = with("res-pids-none", "pids", json!({ "limit": -1 })) else { return };
        assert_eq!(groups.read("pids.max").as_deref(), Some("max"));
    });
}

#[test]
fn block_throttles() {
    // The disk of /var/tmp, whole.
    let device = std::fs::metadata("/var/tmp").unwrap().dev();
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let there = std::path::Path::new(&format!("/sys/dev/block/{major}:{minor}")).exists()
        && !std::path::Path::new(&format!("/sys/dev/block/{major}:{minor}/partition")).exists();
    if needs(there, "whole disk below /var/tmp") {
        return;
    }
    let one = |rate: u64| json!([{ "major": major, "minor": minor, "rate": rate }]);
    let io = json!({
        "throttleReadBpsDevice": one(1_048_576), "throttleWriteBpsDevice": one(2_097_152),
        "throttleReadIOPSDevice": one(100), "throttleWriteIOPSDevice": one(200),
    });
    let Some((_case, groups)) = with("res-throttle", "blockIO", io) else { return };
    let device = format!("{major}:{minor}");
    if Groups::unified() {
        assert_eq!(
            groups.read("io.max"),
            Some(format!("{device} rbps=1048576 wbps=2097152 riops=100 wiops=200"))
        );
        return;
    }
    for (file, rate) in
        [("read_bps", 1_048_576), ("write_bps", 2_097_152), ("read_iops", 100), ("write_iops", 200)]
    {
        assert_eq!(
            groups.read(&format!("blkio.throttle.{file}_device")),
            Some(format!("{device} {rate}")),
            "{file}"
        );
    }
}

#[test]
fn block_weight() {
    let files = ["io.bfq.weight", "io.weight", "blkio.bfq.weight", "blkio.weight"];
    if needs(files.iter().any(|file| has("blkio", file) || has("io", file)), "scheduler with weights") {
        return;
    }
    if lacks(&[Kind::Crun], "the weights of BFQ on version 1") {
        return;
    }
    let Some((_case, groups)) = with("res-weight", "blockIO", json!({ "weight": 300 })) else { return };
    let seen = files.iter().find_map(|file| groups.read(file)).unwrap_or_default();
    // BFQ counts as the specification does; the other scheduler's weights go to 10000 (runc `ConvertBlkIOToIOWeightValue`).
    assert!(["300", "default 300", "default 2930", "2930"].contains(&seen.trim()), "{seen}");
}

#[test]
fn huge_pages() {
    let file = if Groups::unified() { "hugetlb.2MB.max" } else { "hugetlb.2MB.limit_in_bytes" };
    if needs(has("hugetlb", file), "hugetlb controller") {
        return;
    }
    let limits = json!([{ "pageSize": "2MB", "limit": 4_194_304 }]);
    let Some((_case, groups)) = with("res-huge", "hugepageLimits", limits) else { return };
    assert_eq!(groups.read(file).as_deref(), Some("4194304"));
}

#[test]
fn network_class_and_priorities_of_version_1() {
    if needs(has("net_cls", "net_cls.classid"), "net_cls controller") {
        return;
    }
    let network = json!({ "classID": 1_048_577, "priorities": [{ "name": "lo", "priority": 5 }] });
    let Some((_case, groups)) = with("res-network", "network", network) else { return };
    assert_eq!(groups.read("net_cls.classid").as_deref(), Some("1048577"));
    assert!(groups.read("net_prio.ifpriomap").is_some_and(|text| text.contains("lo 5")));
}

#[test]
fn rdma_limits() {
    if needs(
        std::fs::read_dir("/sys/class/infiniband").is_ok_and(|mut list| list.next().is_some()),
        "RDMA device",
    ) {
        return;
    }
    let Some((_case, groups)) =
        with("res-rdma", "rdma", json!({ "mlx5_0": { "hcaHandles": 3, "hcaObjects": 10 } }))
    else {
        return;
    };
    assert!(groups.read("rdma.max").is_some_and(|text| text.contains("hca_handle=3")));
}

#[test]
fn files_of_version_2_by_their_name() {
    if !Groups::unified() {
        // config-linux.md, Unified: "The OCI runtime MUST … generate an error" where it cannot be done.
        let Some(case) = Case::new("res-unified-none") else { return };
        case.edit(|config| config["linux"]["resources"]["unified"] = json!({ "memory.high": "1000000" }));
        let _ = case.run().bad();
        if lacks(&[Kind::Crun], "how to leave nothing of a creation that failed") {
            return;
        }
        return case.assert_nothing_left();
    }
    let unified = json!({ "memory.high": "33554432", "pids.max": "17" });
    let Some((_case, groups)) = with("res-unified", "unified", unified) else { return };
    assert_eq!(groups.read("memory.high").as_deref(), Some("33554432"));
    assert_eq!(groups.read("pids.max").as_deref(), Some("17"));
}

#[test]
fn a_limit_that_the_kernel_refuses_is_an_error_that_leaves_nothing() {
    let Some(case) = Case::new("res-wrong") else { return };
    case.edit(|config| config["linux"]["resources"]["cpu"] = json!({ "cpus": "4000-5000" }));
    let _ = case.run().bad();
    let words = "runtime.md, Errors: \"generating an error MUST leave the state of the environment as if the operation were \
        never attempted\"";
    let peers: &[Kind] = if Groups::unified() { &[] } else { &[Kind::Crun] };
    differs(peers, words, || case.assert_nothing_left());
}

#[test]
fn an_out_of_memory_kill_ends_the_container_with_137() {
    let Some(case) = Case::new("res-oom-kill") else { return };
    case.edit(|config| {
        config["linux"]["resources"]["memory"] = json!({ "limit": 12 << 20, "swap": 12 << 20 })
    });
    let said = case.shell("a=x; while :; do a=$a$a; done");
    assert_eq!(said.code, 137, "{said:?}");
    case.assert_nothing_left();
}
