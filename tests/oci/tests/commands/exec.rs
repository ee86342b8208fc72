//! `exec`: a further process in a container.

use oci_suite::{Case, Console, Kind, console, differs, lacks};
use serde_json::json;

fn running(name: &str) -> Option<Case> {
    let case = Case::new(name)?;
    let _ = case.sleeps().run_detached();
    Some(case)
}

#[test]
fn exec_runs_in_the_namespaces_cgroup_root_and_with_the_limits_of_the_container() {
    let Some(case) = Case::new("exec") else { return };
    case.edit(|config| config["hostname"] = json!("inside"));
    let process = case.sleeps().run_detached();
    let said = case.exec("hostname; cat /proc/1/comm; readlink /proc/self/ns/mnt; grep -E 'CapBnd|NoNew' /proc/self/status; ls /bin/busybox").good();
    assert!(said.out.starts_with("inside\nsleep\n"), "{}", said.out);
    assert!(said.out.contains(&process.namespace("mnt")), "{}", said.out);
    assert!(said.out.contains(&process.status("CapBnd")), "{}", said.out);
    let words = "config.md, Linux Process, noNewPrivileges: what the container's process has, a further one does not lack";
    differs(&[Kind::Crun], words, || assert!(said.out.contains("NoNewPrivs:\t1"), "{}", said.out));
    let file = case.bundle.aside().join("pid");
    let _ =
        case.call(&["exec", "-d", "--pid-file", file.to_str().unwrap(), &case.id, "sleep", "1000"]).good();
    let other = oci_suite::Process::new(std::fs::read_to_string(&file).unwrap().parse().unwrap());
    for controller in ["memory", "pids", "devices", "freezer"] {
        assert_eq!(other.groups().dir(controller), process.groups().dir(controller), "{controller}");
    }
}

#[test]
fn the_exit_status_is_the_programs() {
    let Some(case) = running("exec-status") else { return };
    for status in [0, 3, 255] {
        assert_eq!(case.exec(&format!("exit {status}")).code, status);
    }
    assert_eq!(case.exec("kill -9 $$").code, 137);
}

#[test]
fn a_program_that_is_not_there_is_an_error_that_names_it() {
    let Some(case) = running("exec-missing") else { return };
    let said = case.call(&["exec", &case.id, "no-such-program"]);
    assert_ne!(said.code, 0);
    assert!(said.err.contains("no-such-program"), "{said:?}");
    let said = case.call(&["exec", &case.id]).bad();
    assert!(!said.is_empty());
}

#[test]
fn exec_needs_a_running_container() {
    let Some(case) = Case::new("exec-stopped") else { return };
    let _ = case.script("true").create();
    case.start();
    case.await_status("stopped");
    let _ = case.exec("true").bad();
}

#[test]
fn exec_works_in_a_created_container() {
    let Some(case) = Case::new("exec-created") else { return };
    let _ = case.create();
    assert_eq!(case.exec("echo in").good().out, "in\n");
    assert_eq!(case.status(), "created");
}

#[test]
fn standard_streams_are_the_callers() {
    let Some(case) = running("exec-streams") else { return };
    let input = case.bundle.aside().join("input");
    std::fs::write(&input, "from the caller\n").unwrap();
    let mut command = case.command(&["exec", &case.id, "sh", "-c", "cat; echo wrong >&2"]);
    let said = case.finish(command.stdin(std::fs::File::open(&input).unwrap())).good();
    assert_eq!((said.out.as_str(), said.err.as_str()), ("from the caller\n", "wrong\n"));
}

#[test]
fn a_detached_exec_comes_back_at_once_and_writes_its_pid() {
    let Some(case) = running("exec-detach") else { return };
    let file = case.bundle.aside().join("pid");
    for flag in ["--detach", "-d"] {
        let args = ["exec", flag, "--pid-file", file.to_str().unwrap(), &case.id, "sleep", "1234"];
        let _ = case.call(&args).good();
        let pid: i32 = std::fs::read_to_string(&file).unwrap().parse().expect("a number and nothing else");
        let process = oci_suite::Process::new(pid);
        assert!(process.lives());
        assert_eq!(process.namespace("mnt"), case.process().namespace("mnt"));
    }
    case.delete_force();
    case.assert_nothing_left();
}

#[test]
fn a_terminal_for_exec_comes_over_the_console_socket() {
    let Some(case) = running("exec-tty") else { return };
    let socket = Console::new(&case.bundle.aside());
    for flag in ["--tty", "-t"] {
        let args = [
            "exec",
            "-d",
            flag,
            "--console-socket",
            socket.path(),
            &case.id,
            "sh",
            "-c",
            "test -t 0 && test -t 2 && tty",
        ];
        let _ = case.call(&args).good();
        let (_, master) = socket.master();
        assert!(console::read_all(master).contains("/dev/pts/"));
    }
}

#[test]
fn a_process_as_json_says_everything() {
    let Some(case) = running("exec-process") else { return };
    let file = case.bundle.aside().join("process.json");
    let process = json!({
        "terminal": false,
        "user": { "uid": 1000, "gid": 1001, "additionalGids": [7] },
        "args": ["sh", "-c", "id -u; id -g; id -G; pwd; echo $ONE; ulimit -c; grep NoNew /proc/self/status; grep CapBnd /proc/self/status"],
        "env": ["PATH=/bin", "ONE=1"],
        "cwd": "/tmp",
        "rlimits": [{ "type": "RLIMIT_CORE", "soft": 1536, "hard": 4096 }],
        "capabilities": { "bounding": ["CAP_KILL"], "effective": ["CAP_KILL"], "permitted": ["CAP_KILL"] },
        "noNewPrivileges": true,
    });
    std::fs::write(&file, process.to_string()).unwrap();
    for flag in ["--process", "-p"] {
        let said = case.call(&["exec", flag, file.to_str().unwrap(), &case.id]).good();
        assert_eq!(said.out, "1000\n1001\n1001 7\n/tmp\n1\n3\nNoNewPrivs:\t1\nCapBnd:\t0000000000000020\n");
    }
    std::fs::write(&file, "{").unwrap();
    let _ = case.call(&["exec", "--process", file.to_str().unwrap(), &case.id]).bad();
}

#[test]
fn preserved_descriptors_reach_the_program_of_exec() {
    let Some(case) = running("exec-fds") else { return };
    std::fs::write(case.bundle.aside().join("three"), "three\n").unwrap();
    let args = ["exec", "--preserve-fds", "1", &case.id, "sh", "-c", "cat <&3; ls /proc/self/fd | wc -l"];
    let said = case.finish(&mut case.command_after("exec 3<aside/three 4</etc/passwd", &args)).good();
    assert_eq!(said.out, "three\n5\n");
}

#[test]
fn the_pidfd_of_an_exec_goes_over_the_pidfd_socket() {
    let Some(case) = Case::new("exec-pidfd") else { return };
    if lacks(&[Kind::Runc, Kind::Crun], "--pidfd-socket") {
        return;
    }
    let _ = case.sleeps().run_detached();
    let socket = Console::new(&case.bundle.aside());
    let _ = case.call(&["exec", "-d", "--pidfd-socket", socket.path(), &case.id, "sleep", "1000"]).good();
    let _fd = socket.master();
}
