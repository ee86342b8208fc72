//! `exec`: the flags that change the process.

use oci_suite::{Case, Kind, differs, lacks};
use serde_json::json;

fn running(name: &str) -> Option<Case> {
    let case = Case::new(name)?;
    let _ = case.sleeps().run_detached();
    Some(case)
}

#[test]
fn the_user_is_the_one_of_the_flag() {
    let Some(case) = running("exec-user") else { return };
    for flag in ["--user", "-u"] {
        let said = case.call(&["exec", flag, "1000:1001", &case.id, "sh", "-c", "id -u; id -g"]).good();
        assert_eq!(said.out, "1000\n1001\n");
    }
    let said = case.call(&["exec", "--user", "1000", &case.id, "id", "-u"]).good();
    assert_eq!(said.out, "1000\n");
    if lacks(&[Kind::Runc, Kind::Crun], "that a wrong --user is an error") {
        return;
    }
    for wrong in ["a b", "1000:", ":", "-5", "1000:x", "99999999999999999999"] {
        let _ = case.call(&["exec", &format!("--user={wrong}"), &case.id, "id"]).bad();
    }
}

#[test]
fn another_user_has_no_capabilities_of_roots() {
    let Some(case) = running("exec-user-caps") else { return };
    let said =
        case.call(&["exec", "--user", "1000:1000", &case.id, "grep", "CapEff", "/proc/self/status"]).good();
    assert_eq!(said.out, "CapEff:\t0000000000000000\n");
}

#[test]
fn the_directory_is_the_one_of_the_flag() {
    let Some(case) = running("exec-cwd") else { return };
    assert_eq!(case.call(&["exec", "--cwd", "/tmp", &case.id, "pwd"]).good().out, "/tmp\n");
    assert_eq!(case.call(&["exec", &case.id, "pwd"]).good().out, "/\n");
}

#[test]
fn variables_of_the_flag_are_added_and_replace() {
    let Some(case) = Case::new("exec-env") else { return };
    case.edit(|config| config["process"]["env"] = json!(["PATH=/bin", "OLD=1", "BOTH=1"]));
    let _ = case.sleeps().run_detached();
    let promise = || {
        for flag in ["--env", "-e"] {
            let args =
                ["exec", flag, "NEW=2", flag, "BOTH=2", &case.id, "/bin/sh", "-c", "echo $OLD $NEW $BOTH"];
            assert_eq!(case.call(&args).good().out, "1 2 2\n");
        }
    };
    differs(&[Kind::Crun], "runc, exec.go: --env adds to the environment of the container", promise);
}

#[test]
fn capabilities_of_the_flag_are_added() {
    let Some(case) = running("exec-cap") else { return };
    let bit =
        |text: &str| u64::from_str_radix(text.trim().rsplit('\t').next().unwrap(), 16).unwrap() >> 13 & 1;
    let plain = case.call(&["exec", &case.id, "grep", "CapBnd", "/proc/self/status"]).good();
    assert_eq!(bit(&plain.out), 0);
    for flag in ["--cap", "-c"] {
        let more =
            case.call(&["exec", flag, "CAP_NET_RAW", &case.id, "grep", "CapBnd", "/proc/self/status"]).good();
        assert_eq!(bit(&more.out), 1, "{}", more.out);
    }
}

#[test]
fn more_groups_of_the_flag_are_added() {
    let Some(case) = running("exec-groups") else { return };
    if lacks(&[Kind::Crun], "--additional-gids") {
        return;
    }
    for flag in ["--additional-gids", "-g"] {
        assert_eq!(
            case.call(&["exec", flag, "77", flag, "88", &case.id, "id", "-G"]).good().out,
            "0 77 88\n"
        );
    }
}

#[test]
fn no_new_privileges_can_be_set_for_exec() {
    let Some(case) = Case::new("exec-nnp") else { return };
    case.edit(|config| config["process"]["noNewPrivileges"] = json!(false));
    let _ = case.sleeps().run_detached();
    let status = |args: &[&str]| {
        case.call(&[&["exec"], args, &[&case.id, "grep", "NoNewPrivs", "/proc/self/status"]].concat())
            .good()
            .out
    };
    assert_eq!(status(&[]), "NoNewPrivs:\t0\n");
    assert_eq!(status(&["--no-new-privs"]), "NoNewPrivs:\t1\n");
}

#[test]
fn an_apparmor_profile_for_exec_is_refused_without_apparmor() {
    let Some(case) = running("exec-apparmor") else { return };
    if std::path::Path::new("/sys/module/apparmor").exists() {
        eprintln!("skipped: this machine has AppArmor");
        return;
    }
    let said = case.call(&["exec", "--apparmor", "some-profile", &case.id, "true"]);
    differs(
        &[],
        "not of the specification: a profile that cannot be had must not be dropped silently",
        || drop(said.bad()),
    );
}

#[test]
fn flags_end_at_the_containers_name() {
    let Some(case) = running("exec-flags") else { return };
    assert_eq!(case.call(&["exec", &case.id, "echo", "-u", "--cwd", "-d"]).good().out, "-u --cwd -d\n");
}
