//! Every limit of the specification, on this machine's kernel, whichever version it has.

use crate::{Temporary, shell_in};
use cgroups::{
    BlockLimit, BlockLimits, BlockWeight, Cgroups, CpuLimits, Limits, MemoryLimits, Mode, NetworkLimits,
    OomEvent, RdmaLimit,
};
use std::time::Duration;
use types::ErrorKind;

fn is_v2(t: &Temporary) -> bool {
    t.cgroups.mode() == Mode::V2
}

/// Sets them; nothing may be left out.
fn set(t: &Temporary, change: impl FnOnce(&mut Limits)) {
    let warnings = try_set(t, change).unwrap_or_else(|error| panic!("{}", error.chain()));
    assert_eq!(warnings, Vec::<String>::new());
}

fn try_set(t: &Temporary, change: impl FnOnce(&mut Limits)) -> types::Result<Vec<String>> {
    let mut limits = Limits::default();
    change(&mut limits);
    t.group.limit(&limits)
}

fn file_of(t: &Temporary, controller: &str, v1: &str, v2: &str) -> String {
    match is_v2(t) {
        true => t.read("unified", v2),
        false => t.read(controller, v1),
    }
}

#[test]
fn memory_and_swap_go_up_and_down_in_every_order() {
    let Some(t) = Temporary::new("memswap") else { return };
    let sizes = [64_i64, 256, 32, 32, 128, -1, 16].map(|mib| if mib < 0 { -1 } else { mib << 20 });
    for limit in sizes {
        for swap in [limit, if limit < 0 { -1 } else { limit * 2 }, -1] {
            set(&t, |l| {
                l.memory = MemoryLimits { limit: Some(limit), swap: Some(swap), ..MemoryLimits::default() }
            });
            if is_v2(&t) {
                let want = if limit < 0 { "max".to_owned() } else { limit.to_string() };
                assert_eq!(t.read("unified", "memory.max"), want);
                let want = if swap < 0 { "max".to_owned() } else { (swap - limit).to_string() };
                assert_eq!(t.read("unified", "memory.swap.max"), want);
                continue;
            }
            let has = |file: &str| t.read("memory", file).parse::<u64>().unwrap();
            let want = |value: i64| u64::try_from(value).unwrap_or(i64::MAX as u64 & !4095);
            assert_eq!(has("memory.limit_in_bytes"), want(limit), "{limit} {swap}");
            assert_eq!(has("memory.memsw.limit_in_bytes"), want(swap), "{limit} {swap}");
        }
    }
    // One of them alone, as `update` may say it.
    set(&t, |l| l.memory.limit = Some(-1));
    set(&t, |l| l.memory.limit = Some(64 << 20));
    set(&t, |l| l.memory.swap = Some(80 << 20));
    if is_v2(&t) {
        assert_eq!(t.read("unified", "memory.swap.max"), (16 << 20).to_string());
        assert!(try_set(&t, |l| l.memory.swap = Some(1 << 20)).is_err());
    } else {
        assert_eq!(t.read("memory", "memory.memsw.limit_in_bytes"), (80 << 20).to_string());
    }
}

#[test]
fn reservation_swappiness_and_the_oom_killer_are_set_or_refused() {
    let Some(t) = Temporary::new("memrest") else { return };
    set(&t, |l| l.memory.reservation = Some(8 << 20));
    assert_eq!(file_of(&t, "memory", "memory.soft_limit_in_bytes", "memory.low"), (8 << 20).to_string());
    set(&t, |l| l.memory.disable_oom_killer = Some(false));
    for change in [
        |l: &mut Limits| l.memory.swappiness = Some(7),
        |l: &mut Limits| l.memory.disable_oom_killer = Some(true),
    ] {
        if is_v2(&t) {
            let error = try_set(&t, change).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::FailedPrecondition, "{}", error.chain());
            assert!(error.message().contains("cgroup v2"), "{error}");
        } else {
            set(&t, change);
        }
    }
    if !is_v2(&t) {
        assert_eq!(t.read("memory", "memory.swappiness"), "7");
        assert!(t.read("memory", "memory.oom_control").contains("oom_kill_disable 1"));
        let error = try_set(&t, |l| l.memory.swappiness = Some(101)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    }
}

#[test]
fn a_limit_below_what_is_used_is_refused_when_that_is_asked_for() {
    let Some(t) = Temporary::new("below") else { return };
    let mut child = t.shell("x=$(head -c 8000000 /dev/zero | tr '\\0' x); echo full; sleep 100; echo ${#x}");
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut [0; 5]).unwrap();
    // Memory that is in use by a process and cannot be swapped away: more than this.
    let low = |l: &mut Limits| {
        l.memory = MemoryLimits {
            limit: Some(1 << 20),
            swap: Some(1 << 20),
            check_before_update: true,
            ..MemoryLimits::default()
        };
    };
    // Not `rss`, which v2 counts up to 2 s late.
    let shell_uses = t.group.stats().unwrap().memory.unwrap().usage;
    if shell_uses > 4 << 20 {
        let error = try_set(&t, low).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::FailedPrecondition, "{}", error.chain());
        assert!(error.message().contains("uses"), "{error}");
        assert!(child.try_wait().unwrap().is_none(), "it was killed");
    } else {
        panic!("the shell gave its memory back: {shell_uses}");
    }
    t.group.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn cpu_time_is_set_whatever_was_there_before() {
    let Some(t) = Temporary::new("cputime") else { return };
    for (quota, period, burst) in [
        (Some(50_000), Some(100_000), None),
        (Some(20_000), Some(25_000), Some(10_000)),
        (Some(1_000_000), Some(500_000), Some(900_000)),
        (Some(5_000), Some(10_000), Some(0)),
        (Some(-1), None, None),
        (None, Some(200_000), None),
        (Some(30_000), None, Some(30_000)),
    ] {
        set(&t, |l| l.cpu = CpuLimits { quota, period, burst, ..CpuLimits::default() });
        let (now_quota, now_period) = match is_v2(&t) {
            true => {
                let text = t.read("unified", "cpu.max");
                let (quota, period) = text.split_once(' ').unwrap();
                (quota.replace("max", "-1"), period.to_owned())
            }
            false => (t.read("cpu", "cpu.cfs_quota_us"), t.read("cpu", "cpu.cfs_period_us")),
        };
        if let Some(quota) = quota {
            assert_eq!(now_quota, quota.to_string());
        }
        if let Some(period) = period {
            assert_eq!(now_period, period.to_string());
        }
        if let Some(burst) = burst {
            assert_eq!(file_of(&t, "cpu", "cpu.cfs_burst_us", "cpu.max.burst"), burst.to_string());
        }
    }
    let error = try_set(&t, |l| {
        l.cpu = CpuLimits { quota: Some(10_000), burst: Some(20_000), ..CpuLimits::default() }
    });
    assert_eq!(error.unwrap_err().kind(), ErrorKind::InvalidArgument, "a burst above the quota");
}

#[test]
fn weight_and_idleness_go_together() {
    let Some(t) = Temporary::new("cpuidle") else { return };
    let idle = |t: &Temporary| file_of(t, "cpu", "cpu.idle", "cpu.idle");
    set(&t, |l| l.cpu = CpuLimits { shares: Some(2000), idle: Some(1), ..CpuLimits::default() });
    assert_eq!(idle(&t), "1");
    set(&t, |l| l.cpu = CpuLimits { shares: Some(2000), idle: Some(1), ..CpuLimits::default() });
    set(&t, |l| l.cpu = CpuLimits { shares: Some(2000), idle: Some(0), ..CpuLimits::default() });
    assert_eq!(idle(&t), "0");
    assert_eq!(file_of(&t, "cpu", "cpu.shares", "cpu.weight"), if is_v2(&t) { "170" } else { "2000" });
    assert!(try_set(&t, |l| l.cpu.idle = Some(2)).is_err());
    if !is_v2(&t) {
        // runc refuses what the kernel would change without a word.
        let error = try_set(&t, |l| l.cpu.shares = Some(1)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    }
}

#[test]
fn realtime_is_set_where_the_kernel_has_it_and_refused_elsewhere() {
    let Some(t) = Temporary::new("rt") else { return };
    let there = !is_v2(&t) && t.file("cpu", "cpu.rt_runtime_us").exists();
    let result = try_set(&t, |l| {
        l.cpu =
            CpuLimits { realtime_period: Some(1_000_000), realtime_runtime: Some(0), ..CpuLimits::default() };
    });
    match there {
        true => assert!(result.unwrap().is_empty()),
        false => {
            let error = result.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::FailedPrecondition, "{}", error.chain());
            assert!(error.message().contains("realtime"), "{error}");
        }
    }
}

#[test]
fn cpus_nodes_and_processes_are_limited() {
    let Some(t) = Temporary::new("sets") else { return };
    set(&t, |l| {
        l.cpu = CpuLimits { cpus: "0".into(), mems: "0".into(), ..CpuLimits::default() };
        l.pids = Some(77);
    });
    assert_eq!(file_of(&t, "cpuset", "cpuset.cpus", "cpuset.cpus"), "0");
    assert_eq!(file_of(&t, "cpuset", "cpuset.mems", "cpuset.mems"), "0");
    assert_eq!(file_of(&t, "pids", "pids.max", "pids.max"), "77");
    set(&t, |l| l.pids = Some(-1));
    assert_eq!(file_of(&t, "pids", "pids.max", "pids.max"), "max");
}

/// A whole block device of this machine that can be throttled.
fn device() -> Option<(u32, u32)> {
    let numbers = std::fs::read_dir("/sys/block").ok()?.flatten().filter_map(|entry| {
        let text = std::fs::read_to_string(entry.path().join("dev")).ok()?;
        let (major, minor) = text.trim().split_once(':')?;
        Some((major.parse().ok()?, minor.parse().ok()?))
    });
    numbers.min()
}

#[test]
fn devices_are_throttled_and_let_go() {
    let Some(t) = Temporary::new("throttle") else { return };
    let Some((major, minor)) = device() else {
        eprintln!("skipped: this machine has no block device");
        return;
    };
    let all = |rate| BlockLimit {
        major,
        minor,
        read_bytes: Some(rate),
        write_bytes: Some(rate),
        read_operations: Some(rate),
        write_operations: Some(rate),
    };
    let throttles = |rate| move |l: &mut Limits| l.block.throttles = vec![all(rate)];
    match try_set(&t, throttles(1_048_576)) {
        Ok(warnings) => assert!(warnings.is_empty()),
        Err(error) => {
            eprintln!("skipped: {major}:{minor} cannot be throttled: {}", error.chain());
            return;
        }
    }
    if is_v2(&t) {
        assert_eq!(
            t.read("unified", "io.max"),
            format!("{major}:{minor} rbps=1048576 wbps=1048576 riops=1048576 wiops=1048576")
        );
    } else {
        for kind in ["read_bps", "write_bps", "read_iops", "write_iops"] {
            assert_eq!(
                t.read("blkio", &format!("blkio.throttle.{kind}_device")),
                format!("{major}:{minor} 1048576")
            );
        }
    }
    set(&t, throttles(0));
    assert_eq!(file_of(&t, "blkio", "blkio.throttle.read_bps_device", "io.max"), "");
    let error = try_set(&t, |l| l.block.throttles = vec![BlockLimit { major: 4000, ..all(1) }]).unwrap_err();
    assert!(error.chain().contains("4000"), "{}", error.chain());
}

#[test]
fn block_weights_are_set_where_a_scheduler_has_them_and_refused_elsewhere() {
    let Some(t) = Temporary::new("weight") else { return };
    let files: &[&str] =
        if is_v2(&t) { &["io.bfq.weight", "io.weight"] } else { &["blkio.bfq.weight", "blkio.weight"] };
    let there = files.iter().find(|file| t.file(if is_v2(&t) { "unified" } else { "blkio" }, file).exists());
    let result = try_set(&t, |l| l.block.weight = Some(500));
    match there {
        Some(file) => {
            assert!(result.unwrap().is_empty());
            let want = if *file == "io.weight" { "4950" } else { "500" };
            assert!(file_of(&t, "blkio", file, file).contains(want));
        }
        None => {
            let error = result.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::FailedPrecondition, "{}", error.chain());
        }
    }
    assert_eq!(try_set(&t, |l| l.block.weight = Some(5)).unwrap_err().kind(), ErrorKind::InvalidArgument);
    let leaf = BlockLimits { leaf_weight: Some(500), ..BlockLimits::default() };
    assert_eq!(try_set(&t, |l| l.block = leaf).unwrap_err().kind(), ErrorKind::FailedPrecondition);
    let device = BlockWeight { major: 8, minor: 0, weight: Some(5000), leaf_weight: None };
    assert!(try_set(&t, |l| l.block.devices.push(device)).is_err());
}

#[test]
fn a_controller_that_is_missing_is_an_error_that_names_it() {
    let Some(t) = Temporary::new("missing") else { return };
    let has = |name: &str| t.cgroups.controllers().iter().any(|controller| controller == name);
    if !has("hugetlb") {
        let error = try_set(&t, |l| l.hugepages = vec![("2MB".into(), 4 << 20)]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::FailedPrecondition);
        assert!(error.message().contains("hugetlb"), "{error}");
    } else {
        let (controller, end) =
            if t.has_v1("hugetlb") { ("hugetlb", "limit_in_bytes") } else { ("unified", "max") };
        let (all, reserved) = (format!("hugetlb.2MB.{end}"), format!("hugetlb.2MB.rsvd.{end}"));
        if t.file(controller, &all).exists() {
            set(&t, |l| l.hugepages = vec![("2MB".into(), 4 << 20)]);
            assert_eq!(t.read(controller, &all), (4 << 20).to_string());
            assert_eq!(t.read(controller, &reserved), (4 << 20).to_string());
            set(&t, |l| l.hugepages = vec![("2MB".into(), -1)]);
            assert_ne!(t.read(controller, &all), (4 << 20).to_string());
        } else {
            eprintln!("skipped: this machine has no huge pages of 2MB");
        }
    }
    assert!(try_set(&t, |l| l.hugepages = vec![("3MB".into(), 1)]).is_err());
    let rdma = vec![RdmaLimit { device: "nosuch0".into(), handles: Some(1), objects: None }];
    let error = try_set(&t, |l| l.rdma = rdma).unwrap_err();
    assert!(error.chain().to_lowercase().contains("rdma"), "{}", error.chain());
    let network = NetworkLimits { class_id: Some(0x10_0001), priorities: vec![("lo".into(), 5)] };
    let result = try_set(&t, |l| l.network = network);
    if is_v2(&t) {
        assert_eq!(result.unwrap().len(), 1, "said, and left out");
    } else if has("net_cls") && has("net_prio") {
        assert!(result.unwrap().is_empty());
        assert_eq!(t.read("net_cls", "net_cls.classid"), "1048577");
    } else {
        assert!(result.unwrap_err().message().contains("net_"));
    }
}

#[test]
fn the_unified_map_is_for_v2_and_its_controllers() {
    let Some(t) = Temporary::new("unified") else { return };
    let file = |name: &'static str, value: &'static str| {
        move |l: &mut Limits| drop(l.unified.insert(name.to_owned(), value.to_owned()))
    };
    if !is_v2(&t) {
        let error = try_set(&t, file("memory.high", "max")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::FailedPrecondition);
        assert!(error.message().contains("cgroup v1"), "{error}");
        return;
    }
    set(&t, file("memory.high", "8388608"));
    assert_eq!(t.read("unified", "memory.high"), "8388608");
    set(&t, file("cgroup.max.descendants", "5"));
    assert_eq!(t.read("unified", "cgroup.max.descendants"), "5");
    for (name, words) in [("nosuch.max", "\"nosuch\" is not there"), ("memory.nosuch", "no such file")] {
        let error = try_set(&t, file(name, "1")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::FailedPrecondition, "{}", error.chain());
        assert!(error.message().contains(words), "{error}");
    }
    for name in ["cgroup.procs", "../x.y", "a/b.c"] {
        assert_eq!(try_set(&t, file(name, "1")).unwrap_err().kind(), ErrorKind::InvalidArgument);
    }
    // A controller that is not always handed down.
    if t.cgroups.controllers().iter().any(|name| name == "misc") {
        set(&t, file("misc.max", ""));
        let _ = try_set(&t, file("misc.max", "nosuch 1"));
        assert!(t.read("unified", "cgroup.controllers").contains("misc"));
    }
}

#[test]
fn a_process_is_moved_by_its_number() {
    let Some(t) = Temporary::new("add") else { return };
    let mut child = std::process::Command::new("sleep").arg("100").spawn().unwrap();
    let pid = child.id() as i32;
    t.group.add(pid).unwrap();
    t.group.add(pid).expect("it is there already");
    assert_eq!(t.group.processes().unwrap(), [pid]);
    let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    assert!(groups.lines().all(|line| line.ends_with(t.group.path())), "{groups}");
    t.group.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(t.group.add(pid).unwrap_err().kind(), ErrorKind::NotFound);
    for odd in [0, -1, i32::MIN] {
        assert_eq!(t.group.add(odd).unwrap_err().kind(), ErrorKind::InvalidArgument);
    }
}

#[test]
fn groups_that_a_container_made_itself_are_removed_with_it() {
    let Some(t) = Temporary::new("nested") else { return };
    for hierarchy in if is_v2(&t) { vec!["unified"] } else { vec!["memory", "pids", "freezer", "unified"] } {
        let deep = t.file(hierarchy, &format!("in/{}", "x/".repeat(20)));
        std::fs::create_dir_all(&deep).unwrap();
        for wide in 0..50 {
            std::fs::create_dir(t.file(hierarchy, &format!("w{wide}"))).unwrap();
        }
    }
    t.group.remove().unwrap();
    assert!(t.cgroups.open(t.group.path()).unwrap().is_none());
}

#[test]
fn five_hundred_groups_at_once_leave_nothing() {
    let Some(t) = Temporary::new("many") else { return };
    let count = if is_v2(&t) { 100 } else { 500 };
    std::thread::scope(|threads| {
        for worker in 0..10 {
            let t = &t;
            threads.spawn(move || {
                for round in (worker..count).step_by(10) {
                    let group = t.cgroups.create(&format!("{}/{round}", t.group.path())).unwrap();
                    let mut limits = Limits { pids: Some(10), ..Limits::default() };
                    limits.memory.limit = Some(8 << 20);
                    limits.cpu.shares = Some(512);
                    group.limit(&limits).unwrap();
                    // Some with a process, which the kill ends.
                    let child = (round % 50 == 0).then(|| shell_in(&group, "exec sleep 100"));
                    group.kill().unwrap();
                    group.remove().unwrap();
                    if let Some(mut child) = child {
                        child.wait().unwrap();
                    }
                }
            });
        }
    });
    let left = |hierarchy: &str| {
        let entries = std::fs::read_dir(t.file(hierarchy, "")).unwrap().flatten();
        entries.filter(|entry| entry.file_type().unwrap().is_dir()).count()
    };
    for hierarchy in if is_v2(&t) { vec!["unified"] } else { vec!["memory", "cpu", "pids", "unified"] } {
        assert_eq!(left(hierarchy), 0, "{hierarchy}");
    }
}

#[test]
fn a_lack_of_memory_and_the_end_of_the_group_are_told() {
    let Some(t) = Temporary::new("watch") else { return };
    set(&t, |l| {
        l.memory = MemoryLimits { limit: Some(12 << 20), swap: Some(12 << 20), ..MemoryLimits::default() }
    });
    let mut keeper = t.shell("exec sleep 100");
    let mut watch = t.group.watch_oom().unwrap();
    assert_eq!(watch.wait(Duration::from_millis(20)).unwrap(), OomEvent::Nothing);
    let mut child = t.shell("x=$(head -c 60000000 /dev/zero | tr '\\0' x); echo ${#x}");
    let event = watch.wait(Duration::from_secs(30)).unwrap();
    assert!(matches!(event, OomEvent::Oom(1..)), "{event:?}");
    child.wait().unwrap();
    t.group.kill().unwrap();
    keeper.wait().unwrap();
    t.group.remove().unwrap();
    let mut last = watch.wait(Duration::from_secs(10)).unwrap();
    while matches!(last, OomEvent::Oom(_)) {
        last = watch.wait(Duration::from_secs(10)).unwrap();
    }
    assert_eq!(last, OomEvent::Gone);
    assert_eq!(t.group.watch_oom().unwrap_err().kind(), ErrorKind::NotFound);
}

/// Runs as another user; see below.
#[test]
fn child_that_may_not_write() {
    let Some(path) = std::env::var_os("CORTEN_TEST_NOT_OURS") else { return };
    let path = path.into_string().unwrap();
    let cgroups = Cgroups::probe_from_root().unwrap();
    let kind = |error: types::Error| {
        assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{}", error.chain());
    };
    kind(cgroups.create(&format!("{path}/below")).unwrap_err());
    let group = cgroups.open(&path).unwrap().unwrap();
    kind(group.limit(&Limits { pids: Some(5), ..Limits::default() }).unwrap_err());
    kind(group.add(std::process::id() as i32).unwrap_err());
    println!("told apart");
}

#[test]
fn a_group_that_is_not_ours_to_write_is_told_apart() {
    use std::os::unix::process::CommandExt;
    let Some(t) = Temporary::new("notours") else { return };
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "limits::child_that_may_not_write", "--nocapture"]);
    command.env("CORTEN_TEST_NOT_OURS", t.group.path()).current_dir("/").uid(65534).gid(65534);
    match command.output() {
        Ok(output) => assert!(String::from_utf8_lossy(&output.stdout).contains("told apart"), "{output:?}"),
        Err(error) => eprintln!("skipped: another user cannot run this test: {error}"),
    }
}
