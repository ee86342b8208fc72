//! config.md, "Linux Process": `scheduler`, `ioPriority`, `execCPUAffinity`; config-linux.md: `memoryPolicy`.

use oci_suite::{Case, Kind, Probe, Process, lacks, needs};
use serde_json::{Value, json};

/// Both came after these versions (1.1.0 of the specification).
fn no_scheduler() -> bool {
    lacks(&[Kind::Runc, Kind::Crun], "the scheduler")
}

/// Nice value and policy: fields 19 and 41 of proc_pid_stat(5).
fn nice_and_policy(process: Process) -> (i64, i64) {
    let stat = process.read("stat");
    let (_, rest) = stat.rsplit_once(')').unwrap();
    // The first of these is field 4; some are larger than any signed number.
    let fields: Vec<&str> = rest.split_whitespace().skip(1).collect();
    (fields[15].parse().unwrap(), fields[37].parse().unwrap())
}

fn scheduled(name: &str, scheduler: Value) -> Option<(Case, Process)> {
    let case = Case::new(name)?;
    if no_scheduler() {
        return None;
    }
    case.sleeps().edit(|config| config["process"]["scheduler"] = scheduler);
    let process = case.run_detached();
    Some((case, process))
}

#[test]
fn the_policies_for_everyone_are_set_with_their_nice_value() {
    for (number, policy) in [(0, "SCHED_OTHER"), (3, "SCHED_BATCH")] {
        let Some((case, process)) = scheduled("sched", json!({ "policy": policy, "nice": 7 })) else {
            return;
        };
        assert_eq!(nice_and_policy(process), (7, number), "{policy}");
        case.delete_force();
        case.assert_nothing_left();
    }
    let Some((_case, process)) = scheduled("sched", json!({ "policy": "SCHED_IDLE" })) else { return };
    assert_eq!(nice_and_policy(process), (0, 5));
}

/// A version 1 group without a budget takes no real-time process (kernel, sched-rt-group.rst).
fn real_time_budget(case: &Case) {
    if std::path::Path::new("/sys/fs/cgroup/cpu/cpu.rt_runtime_us").exists() {
        case.edit(|config| {
            config["linux"]["resources"]["cpu"] =
                json!({ "realtimePeriod": 1_000_000, "realtimeRuntime": 10_000 });
        });
    }
}

#[test]
fn the_real_time_policies_are_set_with_their_priority() {
    let Some(case) = Case::new("sched-rt") else { return };
    if no_scheduler() {
        return;
    }
    real_time_budget(&case);
    for (number, policy) in [(1, "SCHED_FIFO"), (2, "SCHED_RR")] {
        let scheduler = json!({ "policy": policy, "priority": 9 });
        case.sleeps().edit(|config| config["process"]["scheduler"] = scheduler);
        let process = case.run_detached();
        assert_eq!(nice_and_policy(process).1, number, "{policy}");
        assert!(process.read("sched").contains("prio"), "proc_pid_sched is there");
        // Field 18 is minus one, minus the priority, for these.
        let stat = process.read("stat");
        let field: i64 =
            stat.rsplit_once(')').unwrap().1.split_whitespace().nth(15).unwrap().parse().unwrap();
        assert_eq!(field, -10, "{policy}");
        case.delete_force();
    }
}

/// The names are those of the specification (config.md, Linux Process, scheduler, flags) and of sched_setattr(2).
#[test]
fn a_scheduler_with_reset_on_fork_gives_the_children_the_default_policy() {
    let Some(case) = Case::new("sched-reset") else { return };
    if no_scheduler() {
        return;
    }
    real_time_budget(&case);
    let scheduler = json!({ "policy": "SCHED_RR", "priority": 9, "flags": ["SCHED_FLAG_RESET_ON_FORK"] });
    case.edit(|config| config["process"]["scheduler"] = scheduler);
    // Field 41 is the policy: the shell's own, then that of a child (a shell executes its last command itself).
    let said = case.shell("cut -d' ' -f41 /proc/1/stat; cut -d' ' -f41 /proc/self/stat; true").good();
    assert_eq!(said.out, "2\n0\n");
}

#[test]
fn the_deadline_policy_is_set() {
    let scheduler = json!({ "policy": "SCHED_DEADLINE", "runtime": 10_000_000, "deadline": 50_000_000, "period": 100_000_000 });
    let Some((_case, process)) = scheduled("sched-deadline", scheduler) else { return };
    assert_eq!(nice_and_policy(process).1, 6);
}

#[test]
fn a_scheduler_that_is_none_is_an_error() {
    let Some(case) = Case::new("sched-wrong") else { return };
    if no_scheduler() {
        return;
    }
    for wrong in [
        json!({ "policy": "SCHED_NONE_SUCH" }),
        json!({ "policy": "SCHED_OTHER", "nice": 99 }),
        json!({ "policy": "SCHED_FIFO", "priority": 200 }),
        json!({ "policy": "SCHED_OTHER", "flags": ["SCHED_FLAG_NONE_SUCH"] }),
    ] {
        case.edit(|config| config["process"]["scheduler"] = wrong);
        let _ = case.run().bad();
        case.assert_nothing_left();
    }
}

/// `ioprio_get(IOPRIO_WHO_PROCESS, 0)` is class * 8192 + priority.
#[test]
fn the_io_priority_is_set() {
    let Some(case) = Case::new("ioprio") else { return };
    if lacks(&[Kind::Runc, Kind::Crun], "the I/O priority") {
        return;
    }
    for (number, class, priority) in
        [(2, "IOPRIO_CLASS_BE", 3), (3, "IOPRIO_CLASS_IDLE", 0), (1, "IOPRIO_CLASS_RT", 5)]
    {
        case.edit(|config| config["process"]["ioPriority"] = json!({ "class": class, "priority": priority }));
        let results = case.probe(Probe::new().call(252, &[1.into(), 0.into()]));
        assert_eq!(results, [number * 8192 + priority], "{class}");
    }
    for wrong in [
        json!({ "class": "IOPRIO_CLASS_X", "priority": 1 }),
        json!({ "class": "IOPRIO_CLASS_BE", "priority": 8 }),
    ] {
        case.edit(|config| config["process"]["ioPriority"] = wrong);
        let _ = case.run().bad();
        case.assert_nothing_left();
    }
}

#[test]
fn a_program_of_exec_has_the_cpu_affinity_for_exec() {
    let Some(case) = Case::new("affinity") else { return };
    let cpus = Process::own().status("Cpus_allowed_list");
    if lacks(&[Kind::Runc, Kind::Crun], "execCPUAffinity")
        || needs(cpus == "0-1" || cpus.contains('-'), "second CPU")
    {
        return;
    }
    case.sleeps()
        .edit(|config| config["process"]["execCPUAffinity"] = json!({ "initial": "0-1", "final": "1" }));
    let process = case.run_detached();
    assert_eq!(process.status("Cpus_allowed_list"), cpus, "it is for exec only");
    let said = case.exec("grep Cpus_allowed_list /proc/self/status").good();
    assert_eq!(said.out, "Cpus_allowed_list:\t1\n");
}

#[test]
fn a_cpu_affinity_that_is_no_list_is_an_error() {
    let Some(case) = Case::new("affinity-wrong") else { return };
    if lacks(&[Kind::Runc, Kind::Crun], "execCPUAffinity") {
        return;
    }
    case.sleeps().edit(|config| config["process"]["execCPUAffinity"] = json!({ "final": "1-x" }));
    // At creation or at exec: no program may run with another affinity than asked for.
    if case.call(&["run", "-d", &case.id]).code == 0 {
        let _ = case.exec("true").bad();
    }
}

#[test]
fn the_personality_is_set() {
    let Some(case) = Case::new("personality") else { return };
    if lacks(&[Kind::Runc], "personality") || needs(cfg!(target_arch = "x86_64"), "x86-64") {
        return;
    }
    case.edit(|config| config["linux"]["personality"] = json!({ "domain": "LINUX32" }));
    assert_eq!(case.shell("uname -m").good().out, "i686\n");
    case.edit(|config| config["linux"]["personality"] = json!({ "domain": "LINUX" }));
    assert_eq!(case.shell("uname -m").good().out, "x86_64\n");
    case.edit(|config| config["linux"]["personality"] = json!({ "domain": "SVR4" }));
    let _ = case.run().bad();
}

/// Each mapping of `/proc/PID/numa_maps` begins with an address and the policy (numa(7)).
#[test]
fn the_memory_policy_is_set() {
    let Some(case) = Case::new("mempolicy") else { return };
    if lacks(&[Kind::Runc, Kind::Crun], "memoryPolicy")
        || needs(std::path::Path::new("/proc/self/numa_maps").exists(), "NUMA in its kernel")
    {
        return;
    }
    for (mode, seen) in
        [("MPOL_BIND", "bind:0"), ("MPOL_INTERLEAVE", "interleave:0"), ("MPOL_PREFERRED", "prefer:0")]
    {
        case.sleeps().edit(|config| config["linux"]["memoryPolicy"] = json!({ "mode": mode, "nodes": "0" }));
        let process = case.run_detached();
        let maps = process.read("numa_maps");
        assert!(maps.lines().all(|line| line.split(' ').nth(1) == Some(seen)), "{mode}: {maps}");
        case.delete_force();
    }
}

#[test]
fn a_memory_policy_that_is_none_is_an_error() {
    let Some(case) = Case::new("mempolicy-wrong") else { return };
    if lacks(&[Kind::Runc, Kind::Crun], "memoryPolicy") {
        return;
    }
    for wrong in [json!({ "mode": "MPOL_NONE_SUCH" }), json!({ "mode": "MPOL_BIND", "nodes": "x" })] {
        case.edit(|config| config["linux"]["memoryPolicy"] = wrong);
        let _ = case.run().bad();
        case.assert_nothing_left();
    }
}
