//! config.md, section "Process": arguments, environment, directory, user, and what goes with them.

use oci_suite::{Case, Kind, Runtime, differs};
use serde_json::json;

#[test]
fn args_arrive_as_they_are() {
    let Some(case) = Case::new("args") else { return };
    case.args(&["printf", "<%s>", "", "a b", "$HOME", "*", "ü", "-x", "\"q\"\n"]);
    assert_eq!(case.run().good().out, "<><a b><$HOME><*><ü><-x><\"q\"\n>");
    case.assert_nothing_left();
}

#[test]
fn the_program_is_looked_for_in_the_path_of_the_containers_environment() {
    let Some(case) = Case::new("path") else { return };
    let root = case.bundle.root();
    std::fs::create_dir(root.join("other")).unwrap();
    std::os::unix::fs::symlink("../bin/busybox", root.join("other/echo")).unwrap();
    case.edit(|config| config["process"]["env"] = json!(["PATH=/other"])).args(&["echo", "found"]);
    assert_eq!(case.run().good().out, "found\n");
    case.args(&["cat", "/etc/passwd"]);
    let said = case.run().bad();
    assert!(said.contains("cat"), "{said}");
    case.assert_nothing_left();
}

#[test]
fn a_program_that_is_missing_or_not_executable_or_a_folder_is_named() {
    let Some(case) = Case::new("no-program") else { return };
    std::fs::write(case.bundle.root().join("bin/plain"), "x").unwrap();
    for program in ["/bin/no-such-program", "/bin/plain", "/etc"] {
        case.args(&[program]);
        let said = case.run().bad();
        // crun does not say which; the words of the system are enough for it.
        if Runtime::under_test().kind != Kind::Crun {
            assert!(said.contains(program), "{said}");
        }
        case.assert_nothing_left();
    }
}

#[test]
fn args_must_not_be_empty() {
    let Some(case) = Case::new("no-args") else { return };
    case.edit(|config| config["process"]["args"] = json!([]));
    differs(&[Kind::Crun], "config.md, Process, args: \"at least one entry is required\"", || {
        let said = case.run().bad();
        assert!(said.to_lowercase().contains("args"), "{said}");
    });
    case.assert_nothing_left();
}

#[test]
fn the_environment_is_the_configured_one_and_nothing_of_the_callers() {
    let Some(case) = Case::new("env") else { return };
    case.edit(|config| {
        config["process"]["env"] = json!(["PATH=/bin", "ONE=1", "EMPTY=", "WITH=a=b c", "HOME=/somewhere"]);
    });
    let process = case.sleeps().run_detached();
    let environment = process.environment();
    let pairs = [("PATH", "/bin"), ("ONE", "1"), ("EMPTY", ""), ("WITH", "a=b c"), ("HOME", "/somewhere")];
    let expected: Vec<_> =
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    assert_eq!(environment, expected.into_iter().collect());
    case.delete_force();
    case.assert_nothing_left();
}

#[test]
fn home_is_the_users_of_the_containers_passwd_where_it_is_not_set() {
    let Some(case) = Case::new("home") else { return };
    case.script("echo $HOME");
    assert_eq!(case.run().good().out, "/root\n");
    case.edit(|config| config["process"]["user"] = json!({ "uid": 1000, "gid": 1000 }));
    assert_eq!(case.run().good().out, "/tmp\n");
}

#[test]
fn the_working_directory_is_the_configured_one() {
    let Some(case) = Case::new("cwd") else { return };
    case.edit(|config| config["process"]["cwd"] = json!("/tmp"));
    assert_eq!(case.shell("pwd").good().out, "/tmp\n");
    case.edit(|config| config["process"]["cwd"] = json!(""));
    let _ = case.run().bad();
    case.edit(|config| config["process"]["cwd"] = json!("tmp"));
    let words = "config.md, Process, cwd: \"This value MUST be an absolute path.\"";
    differs(&[Kind::Crun], words, || drop(case.run().bad()));
    case.assert_nothing_left();
}

#[test]
fn a_working_directory_that_only_the_user_may_enter_is_entered() {
    let Some(case) = Case::new("cwd-user") else { return };
    let own = case.bundle.root().join("own");
    std::fs::create_dir(&own).unwrap();
    std::os::unix::fs::chown(&own, Some(1000), Some(1000)).unwrap();
    std::fs::set_permissions(&own, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    case.edit(|config| {
        config["process"]["cwd"] = json!("/own");
        config["process"]["user"] = json!({ "uid": 1000, "gid": 1000 });
    });
    assert_eq!(case.shell("pwd; touch made && ls").good().out, "/own\nmade\n");
}

#[test]
fn user_and_group_are_the_configured_ones() {
    let Some(case) = Case::new("user") else { return };
    case.edit(|config| config["process"]["user"] = json!({ "uid": 1234, "gid": 5678 }));
    let process = case.sleeps().run_detached();
    assert_eq!(process.status("Uid"), "1234\t1234\t1234\t1234");
    assert_eq!(process.status("Gid"), "5678\t5678\t5678\t5678");
    assert_eq!(process.status("Groups"), "", "no group of the caller may stay");
    case.delete_force();
}

#[test]
fn additional_groups_are_exactly_the_configured_ones() {
    let Some(case) = Case::new("gids") else { return };
    case.edit(|config| {
        config["process"]["user"] =
            json!({ "uid": 1000, "gid": 1000, "additionalGids": [5, 100_000, 70000] });
    });
    let process = case.sleeps().run_detached();
    let groups = process.status("Groups");
    let mut groups: Vec<u32> = groups.split_whitespace().map(|gid| gid.parse().unwrap()).collect();
    groups.sort_unstable();
    assert_eq!(groups, [5, 70000, 100_000]);
    case.delete_force();
}

#[test]
fn ids_may_be_as_large_as_the_kernels() {
    let Some(case) = Case::new("large-ids") else { return };
    let user =
        json!({ "uid": 4_000_000_000_u32, "gid": 4_000_000_001_u32, "additionalGids": [4_000_000_002_u32] });
    case.edit(|config| config["process"]["user"] = user);
    let words = "config.md, POSIX-platform User: \"uid (int, REQUIRED) specifies the user ID in the container \
        namespace\"; the kernel's ids have 32 bits";
    differs(&[Kind::Runc], words, || {
        let process = case.sleeps().run_detached();
        assert!(process.status("Uid").starts_with("4000000000\t"));
        assert!(process.status("Gid").starts_with("4000000001\t"));
        assert_eq!(process.status("Groups"), "4000000002");
    });
}

#[test]
fn the_umask_is_the_configured_one_and_else_the_callers() {
    let Some(case) = Case::new("umask") else { return };
    case.edit(|config| config["process"]["user"]["umask"] = json!(0o027));
    assert_eq!(case.shell("umask; touch /tmp/x; stat -c %a /tmp/x").good().out, "0027\n640\n");
    case.edit(|config| drop(config["process"]["user"].as_object_mut().unwrap().remove("umask")));
    let words = "config.md, POSIX-platform User, umask: \"If unspecified, the umask should not be changed from \
        the calling process' umask.\"";
    differs(&[Kind::Runc, Kind::Crun], words, || {
        let said = case.script("umask").finish(&mut case.command_after("umask 0031", &["run", &case.id]));
        assert_eq!(said.good().out, "0031\n");
    });
}

#[test]
fn no_new_privileges_is_as_configured() {
    let Some(case) = Case::new("nnp") else { return };
    for (asked, seen) in [(true, "NoNewPrivs:\t1\n"), (false, "NoNewPrivs:\t0\n")] {
        case.edit(|config| config["process"]["noNewPrivileges"] = json!(asked));
        assert_eq!(case.shell("grep NoNewPrivs /proc/self/status").good().out, seen);
    }
}

#[test]
fn oom_score_adj_is_set() {
    let Some(case) = Case::new("oom") else { return };
    case.edit(|config| config["process"]["oomScoreAdj"] = json!(567));
    assert_eq!(case.shell("cat /proc/self/oom_score_adj").good().out, "567\n");
}

#[test]
fn oom_score_adj_that_is_not_set_is_not_changed() {
    let Some(case) = Case::new("oom-unset") else { return };
    case.script("cat /proc/self/oom_score_adj");
    let said =
        case.finish(&mut case.command_after("echo 321 > /proc/self/oom_score_adj", &["run", &case.id]));
    assert_eq!(said.good().out, "321\n");
}

#[test]
fn standard_streams_are_the_callers_without_a_terminal() {
    let Some(case) = Case::new("streams") else { return };
    let input = case.bundle.aside().join("input");
    std::fs::write(&input, "from the caller\n").unwrap();
    case.script("cat; echo wrong >&2");
    let mut command = case.command(&["run", &case.id]);
    let said = case.finish(command.stdin(std::fs::File::open(&input).unwrap())).good();
    assert_eq!((said.out.as_str(), said.err.as_str()), ("from the caller\n", "wrong\n"));
}

#[test]
fn no_descriptor_but_the_standard_streams_reaches_the_program() {
    let Some(case) = Case::new("descriptors") else { return };
    let said = case
        .script("ls /proc/self/fd")
        .finish(&mut case.command_after("exec 7</etc/passwd", &["run", &case.id]));
    // The fourth is ls's own, on the folder.
    assert_eq!(said.good().out, "0\n1\n2\n3\n");
}
