//! Descriptors of the node, and working directories that are none of the container's (CVE-2024-21626).

use oci_suite::{Case, Kind, Output, differs};
use serde_json::json;
use std::os::unix::fs::symlink;
use std::process::Command;

/// The first descriptor that is no standard one, and the last that is tried.
const TRIED: std::ops::Range<u32> = 3..16;

/// A call by somebody who has folders of the node open and lets them be inherited.
fn careless(case: &Case, args: &[&str]) -> Output {
    let inner = case.command(args);
    let mut command = Command::new("/bin/sh");
    command.args(["-c", "exec 7</ 9</etc \"$0\" \"$@\""]).arg(inner.get_program()).args(inner.get_args());
    command.current_dir(case.bundle.path()).stdin(std::process::Stdio::null());
    case.finish(&mut command)
}

/// Looks for a file of the node from the working directory on, upwards.
fn search(witness: &str) -> String {
    format!(
        "for up in . .. ../.. ../../.. ../../../../../../../../..; do [ -e \"$up{witness}\" ] && echo ESCAPED; done; ls -l /proc/self/fd/; :"
    )
}

/// runc until 1.1.11 kept a descriptor of `/sys/fs/cgroup` open until the program was executed: with the image's working
/// directory (or `exec --cwd`) at `/proc/self/fd/7` the container was on the node. Tried for every number, also through links of
/// the image and with `..`, for `run`, `create` and `start`, and `exec`, by a caller that leaks descriptors as well: to such a
/// caller crun 1.8.1 falls; Debian's runc has the fix.
#[test]
fn cve_2024_21626_no_working_directory_is_a_descriptor_of_the_node() {
    let Some(case) = Case::new("21626") else { return };
    let witness = case.bundle.aside().join("witness");
    std::fs::write(&witness, "").unwrap();
    let script = search(witness.to_str().unwrap());
    let safe =
        |said: Output, what: &str| assert!(!said.out.contains("ESCAPED"), "{what}: {}{}", said.out, said.err);
    let promise = || {
        for number in TRIED {
            let link = case.bundle.root().join(format!("work-{number}"));
            let _ = std::fs::remove_file(&link);
            symlink(format!("/proc/self/fd/{number}"), &link).unwrap();
            let plain = format!("/proc/self/fd/{number}");
            for cwd in [
                plain.clone(),
                format!("/work-{number}"),
                format!("{plain}/.."),
                format!("/proc/thread-self/fd/{number}/."),
            ] {
                case.edit(|config| config["process"]["cwd"] = cwd.clone().into()).script(&script);
                safe(careless(&case, &["run", &case.id]), &cwd);
                case.delete_force();
            }
            case.edit(|config| config["process"]["cwd"] = plain.clone().into());
            if case.call(&["create", &case.id]).code == 0 {
                let out = case.call(&["start", &case.id]);
                safe(out, &plain);
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
            case.delete_force();
        }
        // The image's own folder is a link, and the program itself is behind a descriptor.
        for path in ["/proc/self/fd/7/bin/busybox", "/proc/self/fd/9/../bin/ls"] {
            case.edit(|config| config["process"]["cwd"] = "/".into()).args(&[path, "echo", "ESCAPED"]);
            safe(careless(&case, &["run", &case.id]), path);
            case.delete_force();
        }
    };
    differs(&[Kind::Crun], "process.cwd is in the container", promise);
    case.delete_force();
    case.edit(|config| config["process"]["cwd"] = "/".into()).sleeps().run_detached();
    let promise = || {
        for number in TRIED {
            for cwd in [
                format!("/proc/self/fd/{number}"),
                format!("/work-{number}/.."),
                format!("/proc/1/fd/{number}"),
            ] {
                safe(careless(&case, &["exec", "--cwd", &cwd, &case.id, "sh", "-c", &script]), &cwd);
            }
        }
    };
    differs(&[Kind::Crun], "process.cwd is in the container", promise);
    case.delete_force();
    case.assert_nothing_left();
}

/// What a program can list of itself: the standard descriptors alone, whatever the caller has open, and for every way in.
#[test]
fn no_program_has_a_descriptor_but_the_standard_ones() {
    let Some(case) = Case::new("descriptors") else { return };
    let list = "for fd in /proc/self/fd/*; do echo $fd $(readlink $fd); done";
    let only_standard = |out: &str, what: &str| {
        for line in out.lines() {
            let number = line.split(' ').next().and_then(|path| path.rsplit('/').next()).unwrap_or_default();
            // The shell opens the folder to list it, and the link is gone when it is read.
            let own =
                line.split(' ').nth(1).is_none_or(|target| target.is_empty() || target.contains("/proc/"));
            assert!(["0", "1", "2"].contains(&number) || own, "{what}: {out}");
        }
        assert!(out.contains("/proc/self/fd/1 "), "{what}: nothing was listed: {out}");
    };
    case.script(list);
    only_standard(&careless(&case, &["run", &case.id]).good().out, "run");
    case.sleeps();
    let _ = careless(&case, &["run", "--detach", &case.id]).good();
    let process = case.process();
    let held: Vec<_> =
        std::fs::read_dir(process.path("fd")).unwrap().flatten().map(|e| e.file_name()).collect();
    assert_eq!(held.len(), 3, "the waiting program holds {held:?}");
    only_standard(&careless(&case, &["exec", &case.id, "sh", "-c", list]).good().out, "exec");
    case.delete_force();
    // Hooks in the container are told as little.
    case.args(&["true"]).edit(|config| {
        let hook = json!({ "path": "/bin/sh", "args": ["sh", "-c", format!("({list}) >/tmp/hook 2>&1")], "env": ["PATH=/bin"] });
        config["hooks"] = json!({ "startContainer": [hook] });
    });
    let _ = careless(&case, &["run", &case.id]).good();
    let text = std::fs::read_to_string(case.bundle.root().join("tmp/hook")).unwrap();
    only_standard(&text, "startContainer");
    case.assert_nothing_left();
}
