//! What groups promise, on this machine's kernel.

use crate::{Temporary, shell_in};
use cgroups::{DeviceKind, DeviceRule, Mode, oom_kills};
use std::io::Read;
use std::time::{Duration, Instant};
use types::ErrorKind;
use types::pod::Resources;

#[test]
fn a_group_is_made_found_and_removed_everywhere() {
    let Some(t) = Temporary::new("life") else { return };
    let path = format!("{}/pod/container", t.group.path());
    assert!(t.cgroups.open(&path).unwrap().is_none());
    let group = t.cgroups.create(&path).unwrap();
    t.cgroups.create(&path).unwrap();
    assert!(t.cgroups.open(&path).unwrap().is_some());
    let entry = group.entry().unwrap();
    assert_eq!(entry.directory.is_some(), t.cgroups.mode() != Mode::V1);
    assert_eq!(entry.tasks.is_empty(), t.cgroups.mode() == Mode::V2);
    assert!(group.processes().unwrap().is_empty());
    t.group.remove().unwrap();
    assert!(t.cgroups.open(&path).unwrap().is_none());
    assert!(t.cgroups.open(t.group.path()).unwrap().is_none());
    // Of what is gone.
    group.remove().unwrap();
    group.kill().unwrap();
    assert!(group.processes().unwrap().is_empty());
    assert_eq!(group.entry().unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(group.stats().unwrap().memory, None);
}

#[test]
fn processes_of_groups_below_are_listed_once() {
    let Some(t) = Temporary::new("list") else { return };
    let below = t.cgroups.create(&format!("{}/a/b", t.group.path())).unwrap();
    let mut child = shell_in(&below, "exec sleep 100");
    assert_eq!(t.group.processes().unwrap(), [child.id() as i32]);
    t.group.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_fork_bomb_is_killed_to_the_last_process() {
    let Some(t) = Temporary::new("bomb") else { return };
    t.group.limit_pids(Some(150)).unwrap();
    bomb(&t);
}

#[test]
fn a_fork_bomb_is_killed_without_the_unified_hierarchy() {
    let Some(t) = Temporary::only("bomb1", false) else { return };
    assert_eq!(t.cgroups.mode(), Mode::V1);
    t.group.limit_pids(Some(150)).unwrap();
    bomb(&t);
}

#[test]
fn a_fork_bomb_is_killed_in_the_unified_hierarchy_alone() {
    let Some(t) = Temporary::only("bomb2", true) else { return };
    assert_eq!(t.cgroups.mode(), Mode::V2);
    if !t.group.limit_pids(Some(150)).unwrap().is_empty() {
        eprintln!("without a limit: this bomb is a small one");
        let mut child = t.shell("sleep 100 & sleep 100 & (sleep 100 & wait) & wait");
        t.group.kill().unwrap();
        assert!(t.group.processes().unwrap().is_empty());
        child.wait().unwrap();
        return;
    }
    bomb(&t);
}

fn bomb(t: &Temporary) {
    // The sleeper is there even where the bomb chokes on its own limit before anybody looks.
    let mut child = t.shell("sleep 1000 & b() { b | b & sleep 0.01; b; }; while :; do b; done");
    let deadline = Instant::now() + Duration::from_secs(5);
    while t.group.processes().unwrap().len() < 40 && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(5));
    }
    let seen = t.group.processes().unwrap().len();
    assert!(seen > 0, "there is nothing to kill");
    let start = Instant::now();
    t.group.kill().unwrap();
    eprintln!("{:?}: a fork bomb of {seen} processes died in {:?}", t.cgroups.mode(), start.elapsed());
    assert!(t.group.processes().unwrap().is_empty());
    let start = Instant::now();
    t.group.remove().unwrap();
    eprintln!("its groups were removed in {:?}", start.elapsed());
    child.wait().unwrap();
}

#[test]
fn a_v2_group_with_processes_cannot_have_groups_with_controllers_below() {
    let Some(t) = Temporary::only("inner", true) else { return };
    if t.cgroups.controllers().is_empty() {
        eprintln!("skipped: the unified hierarchy has no controllers");
        return;
    }
    let mut child = t.shell("exec sleep 100");
    let error = t.cgroups.create(&format!("{}/below", t.group.path())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::FailedPrecondition, "{}", error.chain());
    assert!(
        t.cgroups.open(&format!("{}/below", t.group.path())).unwrap().is_none(),
        "it left something behind"
    );
    t.group.kill().unwrap();
    child.wait().unwrap();
    let below = t.cgroups.create(&format!("{}/below", t.group.path())).unwrap();
    // Nor where a controller is not to be had: one by one, the kernel would take those of threads.
    std::fs::write(t.file("unified", "cgroup.subtree_control"), "-io").unwrap();
    let mut child = shell_in(&below, "exec sleep 100");
    let error = t.cgroups.create(&format!("{}/deeper", below.path())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::FailedPrecondition, "{}", error.chain());
    let kind = std::fs::read_to_string(t.file("unified", "below/cgroup.type")).unwrap();
    assert_eq!(kind.trim(), "domain");
    below.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn frozen_processes_stop_and_still_can_be_killed() {
    let Some(t) = Temporary::new("freeze") else { return };
    let mut child = t.shell("while :; do :; done");
    t.group.freeze().unwrap();
    let before = t.group.stats().unwrap().cpu_nanos.unwrap();
    std::thread::sleep(Duration::from_millis(60));
    assert_eq!(t.group.stats().unwrap().cpu_nanos.unwrap(), before, "it ran while frozen");
    t.group.thaw().unwrap();
    // A busy machine may have others first.
    let deadline = Instant::now() + Duration::from_secs(10);
    while t.group.stats().unwrap().cpu_nanos.unwrap() <= before {
        assert!(Instant::now() < deadline, "it did not go on");
        std::thread::sleep(Duration::from_millis(10));
    }
    t.group.freeze().unwrap();
    t.group.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn limits_reach_the_kernel() {
    let Some(t) = Temporary::new("limits") else { return };
    let resources = Resources {
        cpu_period: 50_000,
        cpu_quota: 25_000,
        cpu_shares: 512,
        memory_limit: 64 << 20,
        memory_swap_limit: 64 << 20,
        cpuset_cpus: "0".to_owned(),
        cpuset_mems: "0".to_owned(),
        ..Resources::default()
    };
    assert_eq!(t.group.apply(&resources).unwrap(), Vec::<String>::new());
    t.group.limit_pids(Some(77)).unwrap();
    assert_eq!(t.read("pids", "pids.max"), "77");
    assert_eq!(t.group.stats().unwrap().memory.unwrap().limit, Some(64 << 20));
    if t.cgroups.mode() == Mode::V2 {
        assert_eq!(t.read("unified", "cpu.max"), "25000 50000");
        assert_eq!(t.read("unified", "memory.swap.max"), "0");
        return;
    }
    assert_eq!(t.read("cpu", "cpu.shares"), "512");
    assert_eq!(t.read("cpu", "cpu.cfs_quota_us"), "25000");
    assert_eq!(t.read("cpu", "cpu.cfs_period_us"), "50000");
    assert_eq!(t.read("memory", "memory.memsw.limit_in_bytes"), (64 << 20).to_string());
    assert_eq!(t.read("cpuset", "cpuset.cpus"), "0");
    // Up and down again, which need opposite orders.
    for limit in [256 << 20, 32 << 20] {
        t.group
            .apply(&Resources { memory_limit: limit, memory_swap_limit: limit, ..Resources::default() })
            .unwrap();
        assert_eq!(t.read("memory", "memory.memsw.limit_in_bytes"), limit.to_string());
    }
    t.group.apply(&Resources { memory_limit: -1, cpu_quota: -1, ..Resources::default() }).unwrap();
    assert_eq!(t.group.stats().unwrap().memory.unwrap().limit, None);
    assert_eq!(t.read("cpu", "cpu.cfs_quota_us"), "-1");
}

#[test]
fn values_that_the_kernel_refuses_are_invalid_arguments_that_name_the_file() {
    let Some(t) = Temporary::new("refused") else { return };
    let error =
        t.group.apply(&Resources { cpu_period: 1, cpu_quota: 1, ..Resources::default() }).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{}", error.chain());
    assert!(error.chain().contains("cpu"), "{}", error.chain());
    let error =
        t.group.apply(&Resources { cpuset_cpus: "9999".to_owned(), ..Resources::default() }).unwrap_err();
    assert!(error.chain().contains("cpuset.cpus"), "{}", error.chain());
}

#[test]
fn what_the_machine_cannot_do_is_a_warning() {
    let Some(t) = Temporary::new("warn") else { return };
    let unified = [("memory.nosuchfile".to_owned(), "1".to_owned())].into();
    let warnings = t.group.apply(&Resources { unified, ..Resources::default() }).unwrap();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    let hugepages = vec![("2MB".to_owned(), 4 << 20)];
    let warnings = t.group.apply(&Resources { hugepages, ..Resources::default() }).unwrap();
    if warnings.is_empty() {
        let (controller, file) = match t.has_v1("hugetlb") {
            false => ("unified", "hugetlb.2MB.max"),
            true => ("hugetlb", "hugetlb.2MB.limit_in_bytes"),
        };
        assert_eq!(t.read(controller, file), (4 << 20).to_string());
    }
}

#[test]
fn a_kill_for_lack_of_memory_is_counted() {
    let Some(t) = Temporary::new("oom") else { return };
    let limit = 12 << 20;
    t.group
        .apply(&Resources { memory_limit: limit, memory_swap_limit: limit, ..Resources::default() })
        .unwrap();
    let file = t.group.oom_file().unwrap();
    let mut child = t.shell("x=$(head -c 60000000 /dev/zero | tr '\\0' x); echo ${#x}; sleep 1");
    let status = child.wait().unwrap();
    let mut text = String::new();
    std::fs::File::from(file).read_to_string(&mut text).unwrap();
    assert!(oom_kills(&text).unwrap() >= 1, "status {status}, {text}");
}

#[test]
fn use_is_counted() {
    let Some(t) = Temporary::new("stats") else { return };
    let mut child = t.shell("x=$(head -c 8000000 /dev/zero | tr '\\0' x); i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; echo done; sleep 100");
    let mut out = [0; 5];
    child.stdout.as_mut().unwrap().read_exact(&mut out).unwrap();
    let stats = t.group.stats().unwrap();
    let memory = stats.memory.unwrap();
    assert!(stats.cpu_nanos.unwrap() > 1_000_000);
    assert!(
        memory.rss > 8_000_000 && memory.usage >= memory.working_set && memory.page_faults > 100,
        "{memory:?}"
    );
    assert!(stats.pids.unwrap() >= 1);
    t.group.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_busy_group_is_not_removed_and_its_processes_are_named() {
    let Some(t) = Temporary::new("busy") else { return };
    let mut child = t.shell("exec sleep 100");
    let error = t.group.remove().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DeadlineExceeded);
    assert!(error.to_string().contains(&child.id().to_string()), "{error}");
    assert!(child.try_wait().unwrap().is_none(), "removal must not kill");
    t.group.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_straggler_delays_removal_but_does_not_fail_it() {
    let Some(t) = Temporary::new("late") else { return };
    let mut child = t.shell("sleep 0.3");
    let reaper = std::thread::spawn(move || child.wait().unwrap());
    t.group.remove().unwrap();
    reaper.join().unwrap();
}

#[test]
fn denied_devices_cannot_be_opened() {
    let Some(t) = Temporary::new("devices") else { return };
    let rule = |allow, kind, major, minor| DeviceRule {
        allow,
        kind,
        major,
        minor,
        read: true,
        write: true,
        mknod: true,
    };
    let warnings = t
        .group
        .devices(&[rule(false, DeviceKind::All, None, None), rule(true, DeviceKind::Char, Some(1), Some(3))])
        .unwrap();
    if !warnings.is_empty() {
        eprintln!("skipped: {warnings:?}");
        return;
    }
    let mut child = t.shell("(: < /dev/null) && echo null; (: < /dev/zero) || echo refused");
    let mut out = String::new();
    child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
    child.wait().unwrap();
    assert_eq!(out, "null\nrefused\n");
}

/// Runs in a group of its own; see below.
#[test]
fn child_that_is_alone_in_its_group() {
    let Some(path) = std::env::var_os("CORTEN_TEST_OWN_GROUP") else { return };
    let path = path.into_string().unwrap();
    let cgroups = crate::only_version(true).unwrap();
    cgroups.create(&format!("{path}/pods/one")).unwrap();
    let own = std::fs::read_to_string("/proc/self/cgroup").unwrap();
    assert!(own.lines().any(|line| line == format!("0::{path}/runtime")), "{own}");
    println!("stepped aside");
}

#[test]
fn a_runtime_that_is_alone_in_its_v2_group_steps_aside() {
    let Some(t) = Temporary::only("aside", true) else { return };
    if t.cgroups.controllers().is_empty() {
        eprintln!("skipped: the unified hierarchy has no controllers");
        return;
    }
    let exe = std::env::current_exe().unwrap();
    let script = format!(
        "CORTEN_TEST_OWN_GROUP={} exec {} --exact kernel::child_that_is_alone_in_its_group --nocapture",
        t.group.path(),
        exe.display()
    );
    let mut child = t.shell(&script);
    let mut out = String::new();
    child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
    child.wait().unwrap();
    assert!(out.contains("stepped aside"), "{out}");
}
