//! Flags before the verb, the form of the log, and exit statuses.

use oci_suite::{Case, Kind, lacks};
use serde_json::Value;
use std::process::Command;

#[test]
fn the_version_names_the_program_and_the_specification() {
    let Some(case) = Case::new("version") else { return };
    for flag in ["--version", "-v"] {
        if flag == "-v" && lacks(&[Kind::Crun], "-v") {
            continue;
        }
        let said = case.finish(case.runtime.command().arg(flag)).good();
        assert!(said.out.contains("version"), "{}", said.out);
        assert!(
            said.out.lines().any(|line| line.starts_with("spec: 1.")),
            "Podman looks for it: {}",
            said.out
        );
    }
}

#[test]
fn help_is_printed_and_is_no_error() {
    let Some(case) = Case::new("help") else { return };
    for flag in ["--help", "-h"] {
        if flag == "-h" && lacks(&[Kind::Crun], "-h") {
            continue;
        }
        let said = case.finish(case.runtime.command().arg(flag)).good();
        for verb in ["create", "start", "state", "kill", "delete", "exec"] {
            assert!(said.out.contains(verb), "{verb}");
        }
    }
}

#[test]
fn an_unknown_verb_or_flag_is_an_error() {
    let Some(case) = Case::new("wrong-words") else { return };
    if !lacks(&[Kind::Runc], "that an unknown verb is an error") {
        let _ = case.call(&["no-such-verb"]).bad();
    }
    let _ = case.call(&["list", "--no-such-flag"]).bad();
    let _ = case.finish(case.runtime.command().args(["--no-such-flag", "list"])).bad();
}

#[test]
fn containers_of_one_root_are_not_seen_in_another() {
    let Some(case) = Case::new("root") else { return };
    let _ = case.sleeps().run_detached();
    let other = case.bundle.aside().join("other-root");
    let said = case.finish(case.runtime.command().arg("--root").arg(&other).args(["state", &case.id]));
    let _ = said.bad();
    let listed = case.finish(case.runtime.command().arg("--root").arg(&other).args(["list", "-q"]));
    assert_eq!(listed.out.trim(), "");
}

#[test]
fn errors_are_one_line_on_standard_error_and_the_status_is_one() {
    let Some(case) = Case::new("errors") else { return };
    let said = case.call(&["state", "none-such"]);
    assert_eq!(said.code, 1, "{said:?}");
    assert_eq!(said.err.trim_end().lines().count(), 1, "{}", said.err);
    assert_eq!(said.out, "");
}

#[test]
fn errors_go_to_the_log_file_in_runcs_json_form_too() {
    let Some(case) = Case::new("log-json") else { return };
    let log = case.bundle.aside().join("log");
    let said = case.finish(
        case.runtime
            .command()
            .args(["--log", log.to_str().unwrap(), "--log-format", "json", "--root"])
            .arg(case.state_dir.path())
            .args(["state", "none-such"]),
    );
    assert_eq!(said.code, 1);
    let text = std::fs::read_to_string(&log).unwrap();
    let lines: Vec<Value> =
        text.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect();
    // containerd's go-runc and conmon read level and msg of the last line with level error.
    let error = lines.iter().rfind(|line| line["level"] == "error").expect("an error");
    assert!(error["msg"].as_str().is_some_and(|words| !words.is_empty()), "{text}");
    assert!(error["time"].as_str().is_some_and(|time| time.starts_with("20")), "{text}");
    if !lacks(&[Kind::Crun], "that an error with --log goes to standard error too") {
        assert!(!said.err.is_empty(), "a caller without the log sees it, too");
    }
}

#[test]
fn the_log_is_appended_to() {
    let Some(case) = Case::new("log-append") else { return };
    let log = case.bundle.aside().join("log");
    std::fs::write(&log, "before\n").unwrap();
    for _ in 0..2 {
        let mut command = case.runtime.command();
        command
            .args(["--log", log.to_str().unwrap(), "--root"])
            .arg(case.state_dir.path())
            .args(["state", "none-such"]);
        let _ = case.finish(&mut command).bad();
    }
    let text = std::fs::read_to_string(&log).unwrap();
    assert!(text.starts_with("before\n") && text.lines().count() >= 3, "{text}");
}

#[test]
fn a_log_format_that_is_none_is_an_error() {
    let Some(case) = Case::new("log-format") else { return };
    let mut command = case.runtime.command();
    command
        .args(["--log", "/dev/null", "--log-format", "none-such", "--root"])
        .arg(case.state_dir.path())
        .arg("list");
    let _ = case.finish(&mut command).bad();
}

#[test]
fn debug_adds_lines_and_changes_nothing_else() {
    let Some(case) = Case::new("debug") else { return };
    let log = case.bundle.aside().join("log");
    let mut command = case.runtime.command();
    command.args(["--debug", "--log", log.to_str().unwrap(), "--root"]).arg(case.state_dir.path());
    command.args(["run", &case.id]).current_dir(case.bundle.path());
    case.script("echo ran");
    assert_eq!(case.finish(&mut command).good().out, "ran\n");
    if !lacks(&[Kind::Crun], "lines of --debug") {
        assert!(std::fs::read_to_string(&log).is_ok_and(|text| text.contains("debug")));
    }
}

#[test]
fn the_modes_without_root_are_taken_by_root_too() {
    let Some(case) = Case::new("rootless-flag") else { return };
    if lacks(&[Kind::Crun], "--rootless") {
        return;
    }
    for mode in ["auto", "false"] {
        let mut command = case.runtime.command();
        command.args(["--rootless", mode, "--root"]).arg(case.state_dir.path()).args(["list", "-q"]);
        let _ = case.finish(&mut command).good();
    }
}

#[test]
fn systemd_makes_a_scope_with_systemd_cgroup() {
    let Some(case) = Case::new("systemd") else { return };
    if oci_suite::needs(std::path::Path::new("/run/systemd/system").exists(), "systemd") {
        return;
    }
    case.edit(|config| {
        config["linux"]["cgroupsPath"] = format!("system.slice:corten-test:{}", std::process::id()).into()
    });
    let unit = format!("corten-test-{}.scope", std::process::id());
    let mut command = case.runtime.command();
    command
        .arg("--systemd-cgroup")
        .arg("--root")
        .arg(case.state_dir.path())
        .args(["run", "--detach", &case.id]);
    let _ = case.sleeps().finish(command.current_dir(case.bundle.path())).good();
    assert!(case.process().read("cgroup").contains(&format!("/system.slice/{unit}")));
    let active = || {
        let said = Command::new("systemctl").args(["is-active", &unit]).output().expect("systemctl");
        String::from_utf8_lossy(&said.stdout).trim().to_owned()
    };
    assert_eq!(active(), "active");
    case.delete_force();
    oci_suite::output::until("the end of the scope", || (active() != "active").then_some(()));
}

#[test]
fn systemd_cgroup_without_systemd_is_an_error() {
    let Some(case) = Case::new("no-systemd") else { return };
    if std::path::Path::new("/run/systemd/system").exists() {
        eprintln!("skipped: this machine has systemd");
        return;
    }
    case.edit(|config| config["linux"]["cgroupsPath"] = "system.slice:corten-test:none".into());
    let mut command = case.runtime.command();
    command.arg("--systemd-cgroup").arg("--root").arg(case.state_dir.path()).args(["run", &case.id]);
    let said = case.finish(command.current_dir(case.bundle.path()));
    let _ = said.bad();
    case.assert_nothing_left();
}
