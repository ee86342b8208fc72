//! `create` and its flags.

use oci_suite::{Case, Kind, Process, differs};
use serde_json::json;

#[test]
fn the_bundle_is_the_working_folder_or_the_one_named() {
    let Some(case) = Case::new("create-bundle") else { return };
    let bundle = case.bundle.path();
    for flag in ["--bundle", "-b"] {
        let mut command = case.command(&["create", flag, bundle.to_str().unwrap(), &case.id]);
        let _ = case.finish(command.current_dir("/")).good();
        assert_eq!(case.state()["bundle"], json!(bundle));
        case.delete_force();
    }
    let mut relative =
        case.command(&["create", "--bundle", bundle.file_name().unwrap().to_str().unwrap(), &case.id]);
    let _ = case.finish(relative.current_dir("/var/tmp")).good();
    assert_eq!(case.state()["bundle"], json!(bundle), "the bundle in the state is absolute");
    case.delete_force();
    let said = case.call(&["create", "--bundle", "/no/such/bundle", &case.id]).bad();
    assert!(said.contains("/no/such/bundle") || said.contains("config.json"), "{said}");
    case.assert_nothing_left();
}

#[test]
fn the_process_id_is_written_to_the_pid_file() {
    let Some(case) = Case::new("create-pid") else { return };
    let file = case.bundle.aside().join("pid");
    let _ = case.call(&["create", "--pid-file", file.to_str().unwrap(), &case.id]).good();
    // conmon and containerd read the number up to the end of the file.
    assert_eq!(std::fs::read_to_string(&file).unwrap(), case.process().pid.to_string());
    case.delete_force();
    let _ = case.call(&["create", "--pid-file", "/no/such/folder/pid", &case.id]).bad();
    case.assert_nothing_left();
}

#[test]
fn preserved_descriptors_reach_the_program() {
    let Some(case) = Case::new("create-fds") else { return };
    std::fs::write(case.bundle.aside().join("three"), "three\n").unwrap();
    std::fs::write(case.bundle.aside().join("four"), "four\n").unwrap();
    case.script("cat <&3; cat <&4; ls /proc/self/fd | tr '\\n' ' '");
    let before = "exec 3<aside/three 4<aside/four 5</etc/passwd";
    let said = case.finish(&mut case.command_after(before, &["run", "--preserve-fds", "2", &case.id])).good();
    assert_eq!(said.out, "three\nfour\n0 1 2 3 4 5 ", "the last one is ls's own");
}

#[test]
fn the_container_waits_in_created_and_holds_none_of_the_callers_pipes() {
    let Some(case) = Case::new("create-pipes") else { return };
    // With pipes, as containerd and conmon call it: these must end although the container waits.
    let socket = oci_suite::Console::new(&case.bundle.aside());
    case.edit(|config| config["process"]["terminal"] = json!(true));
    let mut command = case.command(&["create", "--console-socket", socket.path(), &case.id]);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let _master = socket.master();
    assert_eq!(case.status(), "created");
}

#[test]
fn no_pivot_runs_without_pivot_root() {
    let Some(case) = Case::new("no-pivot") else { return };
    let said = case.script("ls /bin/busybox").call(&["run", "--no-pivot", &case.id]).good();
    assert_eq!(said.out, "/bin/busybox\n");
    case.assert_nothing_left();
}

/// `keyctl(KEYCTL_GET_KEYRING_ID, KEY_SPEC_SESSION_KEYRING, 0)` (keyctl(2)).
fn keyring(case: &Case, flags: &[&str]) -> i64 {
    let session = (-3_i64).cast_unsigned();
    let probe = oci_suite::Probe::new().call(250, &[0.into(), session.into(), 0.into()]);
    case.bundle.program("probe", &probe.program());
    let said = case.args(&["probe"]).call(&[&["run"], flags, &[&case.id]].concat()).good();
    oci_suite::Probe::results(&std::fs::read(&said.out_file).unwrap())[0]
}

#[test]
fn the_program_has_a_session_keyring_of_its_own_unless_told_otherwise() {
    let (Some(case), Some(other)) = (Case::new("keyring"), Case::new("keyring-other")) else { return };
    // Not twice in one container: a keyring is found by its name until the kernel has collected it.
    let first = keyring(&case, &[]);
    let second = keyring(&other, &[]);
    assert!(first > 0 && second > 0, "{first} {second}");
    assert_ne!(first, second);
    let shared = keyring(&case, &["--no-new-keyring"]);
    assert_eq!(shared, keyring(&case, &["--no-new-keyring"]), "the caller's");
}

#[test]
fn a_failed_create_leaves_nothing() {
    let Some(case) = Case::new("create-failed") else { return };
    case.args(&["/no/such/program"]);
    let created = case.call(&["create", &case.id]);
    // runc finds it at create; crun only at start.
    if created.code == 0 {
        let _ = case.call(&["start", &case.id]).bad();
        case.delete_leftover();
    }
    case.assert_nothing_left();
    case.args(&["true"]).mount("/x", "bind", "/no/such/source", &["bind"]);
    let _ = case.call(&["create", &case.id]).bad();
    case.assert_nothing_left();
}

#[test]
fn the_pidfd_of_the_process_goes_over_the_pidfd_socket() {
    let Some(case) = Case::new("pidfd") else { return };
    if oci_suite::lacks(&[Kind::Runc, Kind::Crun], "--pidfd-socket") {
        return;
    }
    let socket = oci_suite::Console::new(&case.bundle.aside());
    let _ = case.call(&["create", "--pidfd-socket", socket.path(), &case.id]).good();
    let (_, fd) = socket.master();
    let own = std::os::fd::AsRawFd::as_raw_fd(&fd);
    let info = Process::own().read(&format!("fdinfo/{own}"));
    let pid = info.lines().find_map(|line| line.strip_prefix("Pid:")).map(str::trim).map(str::to_owned);
    assert_eq!(pid, Some(case.process().pid.to_string()), "{info}");
    case.delete_force();
    case.assert_nothing_left();
}

#[test]
fn the_group_of_the_path_is_made_and_one_is_chosen_without_a_path() {
    let Some(case) = Case::new("cgroups-path") else { return };
    let process = case.create();
    let groups: Vec<_> = process.groups().dirs().map(|dir| dir.display().to_string()).collect();
    assert!(groups.iter().filter(|dir| dir.ends_with(&case.id)).count() >= 1, "{groups:?}");
    let memory = process.groups().dir("memory").unwrap().display().to_string();
    assert!(memory.ends_with(&format!("/{}", case.id)), "{memory}");
    case.delete_force();
    case.edit(|config| drop(config["linux"].as_object_mut().unwrap().remove("cgroupsPath")));
    let process = case.create();
    let memory = process.groups().dir("memory").unwrap().display().to_string();
    let words =
        "config-linux.md, Cgroups Path: \"Runtimes MAY\" choose; the name is in it, so that no two meet";
    differs(&[], words, || assert!(memory.contains(&case.id), "{memory}"));
    case.delete_force();
    case.assert_nothing_left();
}
