//! Podman's own choice on a node with systemd: `--cgroup-manager systemd`, a scope for each container. The same for an
//! ordinary user, whose own systemd makes them.

use super::{IMAGE, Podman};
use crate::machine::{Manager, cgroup_file, said, until};

impl Podman {
    /// As [`Podman::end`], where systemd may not have a unit of these containers either.
    #[track_caller]
    fn end_without_units(self, containers: &[&str]) {
        self.ok(&["rm", "-f", "-a", "-t", "0"]);
        for name in containers {
            let left = self.cgroups().units_with(name);
            assert!(left.is_empty(), "systemd still has {left:?}");
        }
        self.end();
    }

    /// The container's group as the kernel has it.
    #[track_caller]
    fn group(&self, name: &str) -> String {
        let pid = self.field(name, "{{.State.Pid}}");
        let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
        text.trim().strip_prefix("0::").unwrap_or_else(|| panic!("{text}")).to_owned()
    }
}

/// From its start to its end, and what podman shows and changes in between. The container first runs a script, after which it
/// is in the group `inner` of its own.
fn a_whole_life(manager: Manager, options: &[&str], first: &str, inner: &str) {
    let Some(podman) = Podman::with(manager) else { return };
    let limits = ["--memory", "64m", "--cpus", "0.5", "--pids-limit", "30"];
    let script = format!("trap 'exit 5' TERM; {first} echo up; sleep 1000 & wait");
    let id = podman.start("one", &[&limits[..], options].concat(), &["sh", "-c", &script]);
    until(|| podman.ok(&["logs", "one"]).contains("up"));
    let scope = format!("libpod-{id}.scope");
    let slice = podman.cgroups().name.clone();
    let group = podman.cgroups().path(&scope);
    assert_eq!(podman.group("one"), format!("{group}{inner}"));
    let of_unit = |names| podman.cgroups().properties(&scope, names);
    let of_group = |file: &str| cgroup_file(podman.cgroups(), &scope, file);
    assert_eq!(of_unit(["ActiveState", "Slice", "ControlGroup"]), ["active", &slice, &group]);
    let limits = ["MemoryMax", "CPUQuotaPerSecUSec", "TasksMax"];
    assert_eq!(of_unit(limits), ["67108864", "500ms", "30"]);
    assert_eq!(["memory.max", "cpu.max", "pids.max"].map(of_group), ["67108864", "50000 100000", "30"]);

    podman.ok(&["update", "--memory", "96m", "--cpus", "2", "one"]);
    assert_eq!(of_unit(limits), ["100663296", "2s", "30"]);
    assert_eq!(["memory.max", "cpu.max", "pids.max"].map(of_group), ["100663296", "200000 100000", "30"]);

    let shown =
        podman.on_terminal(&["exec", "-it", "one", "sh", "-c", "tty; stty size; cat /proc/self/cgroup"], &[]);
    let inner = if inner.is_empty() { "/" } else { inner };
    assert!(shown.contains(&format!("/dev/pts/0\n33 77\n0::{inner}\n")), "{shown:?}");
    podman.ok(&["exec", "-d", "one", "sleep", "77"]);
    let stats = podman.ok(&["stats", "--no-stream", "--format", "{{.PIDs}} {{.MemUsage}}", "one"]);
    assert!(stats.starts_with("3 ") && !stats.starts_with("3 0B"), "{stats}");

    podman.ok(&["pause", "one"]);
    assert_eq!(podman.field("one", "{{.State.Status}}"), "paused");
    assert_eq!(of_group("cgroup.freeze"), "1");
    podman.ok(&["unpause", "one"]);
    assert_eq!(of_group("cgroup.freeze"), "0");

    podman.ok(&["stop", "-t", "100", "one"]);
    assert_eq!(podman.field("one", "{{.State.Status}} {{.State.ExitCode}}"), "exited 5");
    assert_eq!(podman.cgroups().units_with(&scope), Vec::<String>::new(), "before it is removed");
    podman.ok(&["rm", "one"]);
    podman.end_without_units(&[&id]);
}

#[test]
fn a_container_lives_in_a_scope_of_systemds_and_leaves_nothing() {
    a_whole_life(Manager::Systemd, &[], "", "");
}

#[test]
fn an_ordinary_users_container_lives_in_a_scope_of_the_users_systemd() {
    // And makes groups as a systemd in it would: its own group then takes no process any more.
    let script = "cd /sys/fs/cgroup && mkdir inner && echo $$ > inner/cgroup.procs && echo +pids > cgroup.subtree_control &&";
    let options = ["--systemd", "always", "--stop-signal", "TERM"];
    a_whole_life(Manager::UsersSystemd, &options, script, "/inner");
}

/// As a unit that Podman wrote has it: the service holds podman, conmon and the container.
#[test]
fn an_ordinary_users_service_holds_its_container() {
    let Some(podman) = Podman::with(Manager::UsersSystemd) else { return };
    let unit = podman.cgroups().name.replace(".slice", ".service");
    let mut command = Manager::UsersSystemd.limited("systemd-run");
    command.args([
        "--user",
        "--quiet",
        "--wait",
        "--pipe",
        "--collect",
        "-p",
        "Delegate=yes",
        "--unit",
        &unit,
    ]);
    for (name, value) in podman.command(&[]).get_envs() {
        command.arg("-E").arg([name, value.unwrap_or_default()].join("=".as_ref()));
    }
    command.arg("podman").args(podman.globals());
    command.args(["run", "--rm", "--network", "none", "--cgroups", "split", "--pids-limit", "40", IMAGE]);
    let output = command.args(["cat", "/sys/fs/cgroup/pids.max"]).output().unwrap();
    assert!(output.status.success() && output.stdout == b"40\n", "{}", said(&output));
    assert_eq!(podman.cgroups().units_with(&unit), Vec::<String>::new());
    podman.end_without_units(&[]);
}

#[test]
fn a_container_that_runs_out_of_memory_leaves_no_failed_scope() {
    let Some(podman) = Podman::with(Manager::Systemd) else { return };
    let options = ["--name", "hungry", "--memory", "20m", "--memory-swap", "20m"];
    let words = podman.making("run", &options, &["dd", "if=/dev/zero", "of=/dev/null", "bs=64M", "count=1"]);
    assert_eq!(podman.fails(&words).0, 137);
    // Its scope has the same name again.
    assert_eq!(podman.fails(&["start", "--attach", "hungry"]).0, 137);
    let id = podman.field("hungry", "{{.Id}}");
    podman.end_without_units(&[&id]);
}

#[test]
fn a_pods_slice_holds_the_scopes_of_its_containers() {
    let Some(podman) = Podman::with(Manager::Systemd) else { return };
    let parent = podman.cgroups().name.clone();
    let names = ["pod", "create", "--name", "pod", "--network", "none", "--cgroup-parent", &parent];
    let first = ["--infra-image", IMAGE, "--infra-command", "sleep 100000"];
    let pod = podman.ok(&[&names[..], &first].concat());
    let id = podman.start("member", &["--pod", "pod"], &["sleep", "1000"]);
    let slice = format!("{}-libpod_pod_{pod}.slice", parent.trim_end_matches(".slice"));
    let scope = format!("libpod-{id}.scope");
    assert_eq!(podman.group("member"), podman.cgroups().path(&format!("{slice}/{scope}")));
    assert_eq!(podman.cgroups().properties(&scope, ["Slice"]), [slice]);
    podman.ok(&["pod", "rm", "-f", "-t", "0", "pod"]);
    podman.end_without_units(&[&id, &pod]);
}
