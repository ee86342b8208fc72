//! Attacks that are on no list: what else a hostile image, a hostile process or a hostile file could try.

use crate::{living, quietly};
use oci_suite::attack::Witness;
use oci_suite::{Case, Kind, differs};
use rustix::fs::{CWD, FileType, Mode};
use serde_json::{Value, json};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::time::{Duration, Instant};

fn fifo(path: &std::path::Path) {
    rustix::fs::mknodat(CWD, path, FileType::Fifo, Mode::from_raw_mode(0o755), 0).unwrap();
}

/// Names of an image end up in messages. None of them starts a line of its own in a log that somebody reads line by line.
#[test]
fn no_name_of_an_image_forges_a_line_of_the_log() {
    let Some(case) = Case::new("log") else { return };
    let forged = "/bin/x\ntime=\"2000-01-01T00:00:00Z\" level=info msg=\"all is well\"\n{\"level\":\"info\",\"msg\":\"all is well\"}";
    let log = case.bundle.aside().join("log");
    let attempts: [fn(&mut Value, &str); 4] = [
        |config, text| config["process"]["args"] = json!([text]),
        |config, text| config["process"]["cwd"] = format!("/etc/passwd/{text}").into(),
        |config, text| {
            config["mounts"]
                .as_array_mut()
                .unwrap()
                .push(json!({ "destination": format!("/etc/passwd/{text}"), "type": "tmpfs", "source": "x" }))
        },
        |config, text| config["root"]["path"] = text.into(),
    ];
    let plain = case.bundle.config();
    for format in ["json", "text"] {
        for attempt in attempts {
            let mut config = plain.clone();
            attempt(&mut config, forged);
            case.edit(|old| *old = config);
            let said = case.call(&["--log", log.to_str().unwrap(), "--log-format", format, "run", &case.id]);
            let _ = said.clone().bad();
            if case.runtime.kind == Kind::Corten {
                assert_eq!(said.err.trim_end().lines().count(), 1, "{}", said.err);
            }
            let text = std::fs::read_to_string(&log).unwrap();
            if case.runtime.kind == Kind::Crun {
                // Its text form has no level, and takes names as they are.
                continue;
            }
            for line in text.lines() {
                let whole = match format {
                    "json" => serde_json::from_str::<Value>(line).is_ok_and(|v| v["level"] != "info"),
                    _ => {
                        line.starts_with("time=\"")
                            && !line.split(" msg=").next().unwrap().contains("level=info")
                    }
                };
                assert!(whole, "{format}: {line}");
            }
            std::fs::remove_file(&log).unwrap();
        }
    }
    case.assert_nothing_left();
}

/// What the caller has in its environment is the caller's: neither a program, nor an exec, nor a hook gets any of it.
#[test]
fn nobody_gets_the_environment_of_the_caller() {
    let Some(case) = Case::new("environment") else { return };
    let node = case.bundle.aside().join("hook");
    case.hook("createRuntime", &format!("env >{}", node.display()))
        .script("env >/tmp/program; exec sleep 1000");
    let secret = |args: &[&str]| {
        let mut command = case.command(args);
        command.env("CORTEN_TEST_SECRET", "secret");
        case.finish(&mut command)
    };
    let _ = secret(&["run", "--detach", &case.id]).good();
    let program = case.bundle.root().join("tmp/program");
    oci_suite::output::until("the program", || {
        std::fs::read_to_string(&program).ok().filter(|text| text.contains("PATH"))
    });
    let execed = secret(&["exec", &case.id, "env"]).good().out;
    for text in [std::fs::read_to_string(&node).unwrap(), std::fs::read_to_string(&program).unwrap(), execed]
    {
        assert!(text.contains("PATH") && !text.contains("SECRET"), "{text}");
    }
    case.delete_force();
    case.assert_nothing_left();
}

/// A container that waits for its start still belongs to the runtime: it must hold no folder of the node, and stand in its root.
#[test]
fn a_container_that_waits_holds_no_folder_of_the_node() {
    let Some(case) = Case::new("waits") else { return };
    let process = case.sleeps().create();
    for entry in std::fs::read_dir(process.path("fd")).unwrap().flatten() {
        let seen = std::fs::metadata(entry.path()).unwrap();
        let target = std::fs::read_link(entry.path()).unwrap();
        assert!(!seen.is_dir(), "descriptor {:?} is {}", entry.file_name(), target.display());
    }
    let identity =
        |path: std::path::PathBuf| std::fs::metadata(path).map(|seen| (seen.dev(), seen.ino())).unwrap();
    let root = identity(case.bundle.root());
    assert_eq!((identity(process.path("root")), identity(process.path("cwd"))), (root, root));
    // Nor is anything of the node's mounts left in its own.
    for mount in process.mounts() {
        let node =
            ["/proc", "/sys", "/dev"].iter().all(|own| !mount.target.starts_with(own)) && mount.target != "/";
        assert!(!node, "a mount that nobody asked for: {} at {}", mount.kind, mount.target);
    }
    case.delete_force();
    case.assert_nothing_left();
}

/// A hook that the image brings runs with the container's privileges, and no more (config.md, "startContainer": in the container
/// namespace).
#[test]
fn a_hook_in_the_container_has_no_more_privileges_than_the_container() {
    let Some(case) = Case::new("hook-privileges") else { return };
    case.capabilities(&["CAP_KILL"]).edit(|config| config["process"]["noNewPrivileges"] = true.into());
    std::fs::create_dir_all(case.bundle.root().join("tmp")).unwrap();
    case.hook("startContainer", "grep -E 'Cap|NoNewPrivs' /proc/self/status >/tmp/hook");
    let _ = case.run().good();
    let text = std::fs::read_to_string(case.bundle.root().join("tmp/hook")).unwrap();
    for set in ["CapPrm", "CapEff", "CapBnd"] {
        let line = text.lines().find(|line| line.starts_with(set)).unwrap();
        let value = u64::from_str_radix(line.split_whitespace().nth(1).unwrap(), 16).unwrap();
        assert_eq!(value & !(1 << 5), 0, "{text}");
    }
    case.assert_nothing_left();
}

/// A running container makes pipes of all that an exec may look at. None of them makes the exec wait for ever.
#[test]
fn an_exec_into_a_hostile_container_never_hangs() {
    let Some(case) = Case::new("hang") else { return };
    case.sleeps().run_detached();
    for path in ["etc/passwd", "etc/group"] {
        std::fs::remove_file(case.bundle.root().join(path)).unwrap();
        fifo(&case.bundle.root().join(path));
    }
    fifo(&case.bundle.root().join("bin/pipe"));
    std::fs::create_dir(case.bundle.root().join("work")).unwrap();
    fifo(&case.bundle.root().join("work/pipe"));
    for args in [
        &["/bin/pipe"][..],
        &["pipe"],
        &["--cwd", "/work/pipe", "true"],
        &["--user", "1000", "true"],
        &["true"],
    ] {
        let (options, program) = args.split_at(args.len() - 1);
        let words: Vec<&str> = ["exec"]
            .iter()
            .chain(options)
            .copied()
            .chain([case.id.as_str()])
            .chain(program.iter().copied())
            .collect();
        let inner = case.command(&words);
        let mut command = std::process::Command::new("timeout");
        command
            .args(["-s", "KILL", "10"])
            .arg(inner.get_program())
            .args(inner.get_args())
            .current_dir(case.bundle.path());
        let start = Instant::now();
        quietly(&mut command);
        let hung = start.elapsed() >= Duration::from_secs(9);
        if matches!(case.runtime.kind, Kind::Runc | Kind::Crun) {
            // runc 1.1.5 opens the pipe at etc/passwd and waits; crun 1.8.1 waits for one that is to be executed.
            println!("{args:?}: hung: {hung}");
            continue;
        }
        assert!(!hung, "{args:?} hangs");
    }
    case.delete_force();
    if case.runtime.kind == Kind::Corten {
        case.assert_nothing_left();
    }
}

/// Two containers with one cgroup: taking the second one down must not end the first.
#[test]
fn a_container_never_ends_what_is_in_the_cgroup_of_another() {
    let Some(case) = Case::new("group") else { return };
    let Some(second) = Case::new("group-second") else { return };
    let first = case.sleeps().run_detached();
    let path = case.bundle.config()["linux"]["cgroupsPath"].clone();
    second.sleeps().edit(|config| config["linux"]["cgroupsPath"] = path);
    quietly(&mut second.command(&["create", &second.id]));
    quietly(&mut second.command(&["kill", "--all", &second.id, "KILL"]));
    quietly(&mut second.command(&["delete", "--force", &second.id]));
    std::thread::sleep(Duration::from_millis(50));
    differs(
        &[Kind::Runc, Kind::Crun],
        "delete removes what create made, and nothing else (runtime.md, \"Delete\")",
        || {
            assert!(first.lives(), "the first container's process was ended");
        },
    );
    case.delete_force();
}

/// The state folder is the runtime's, but what lies in it may be damaged, or by somebody else: names that climb, links, pipes, and
/// files that are no records. Nothing outside is touched, nothing hangs, and one's own containers go on.
#[test]
fn hostile_state_folders_lead_nowhere() {
    let Some(case) = Case::new("state") else { return };
    let node = case.bundle.aside().join("node");
    std::fs::create_dir(&node).unwrap();
    for name in ["state.json", "config.json", "lock", "exec.fifo", "other"] {
        std::fs::write(node.join(name), "untouched").unwrap();
    }
    let before = Witness::of(&node);
    let state = case.state_dir.path();
    for id in ["../node", "..", ".", "a/b", "", "a\nb", &"a".repeat(5000)] {
        if id == "a\nb" && case.runtime.kind == Kind::Crun {
            // crun takes it as a name.
            continue;
        }
        for verb in ["state", "kill", "delete", "create", "start"] {
            let said = case.call(&[verb, "--", id]);
            assert_ne!(said.code, 0, "{verb} {id:?}");
            assert!(!said.err.contains("panicked"), "{}", said.err);
        }
    }
    if case.runtime.kind == Kind::Corten {
        symlink(&node, state.join("linked")).unwrap();
        std::fs::create_dir(state.join("links")).unwrap();
        for name in ["state.json", "config.json", "lock"] {
            symlink(node.join(name), state.join("links").join(name)).unwrap();
        }
        std::fs::create_dir(state.join("pipes")).unwrap();
        fifo(&state.join("pipes/state.json"));
        fifo(&state.join("pipes/config.json"));
        std::fs::create_dir(state.join("garbage")).unwrap();
        std::fs::write(state.join("garbage/state.json"), "[".repeat(1 << 20)).unwrap();
        std::fs::create_dir(state.join("large")).unwrap();
        std::fs::File::create(state.join("large/state.json")).unwrap().set_len(1 << 36).unwrap();
        for id in ["linked", "links", "pipes", "garbage", "large"] {
            for args in [
                &["state", id][..],
                &["start", id],
                &["exec", id, "true"],
                &["kill", id, "KILL"],
                &["ps", id],
                &["list"],
                &["delete", id],
                &["delete", "--force", id],
            ] {
                let start = Instant::now();
                let said = case.call(args);
                assert!(
                    !said.err.contains("panicked") && start.elapsed() < Duration::from_secs(15),
                    "{args:?}: {}",
                    said.err
                );
                before.assert_untouched(&format!("{args:?}"));
            }
            let _ = std::fs::remove_dir_all(state.join(id));
            let _ = std::fs::remove_file(state.join(id));
        }
    }
    before.assert_untouched("hostile names");
    case.sleeps().run_detached();
    assert!(living(&case).is_some());
    case.delete_force();
    case.assert_nothing_left();
}

/// `tmpcopyup` copies what an image has: links as links, pipes without reading them, and no more than there is.
#[test]
fn tmpcopyup_of_a_hostile_folder_brings_nothing_of_the_node() {
    let Some(case) = Case::new("copyup") else { return };
    let node = case.bundle.aside().join("secret");
    std::fs::write(&node, "secret of the node").unwrap();
    let folder = case.bundle.root().join("data");
    std::fs::create_dir(&folder).unwrap();
    symlink(&node, folder.join("link")).unwrap();
    symlink(node.parent().unwrap(), folder.join("folder")).unwrap();
    symlink("/proc/self/root", folder.join("magic")).unwrap();
    fifo(&folder.join("pipe"));
    std::fs::write(folder.join("plain"), "plain").unwrap();
    std::fs::set_permissions(folder.join("plain"), std::fs::Permissions::from_mode(0o4711)).unwrap();
    case.mount("/data", "tmpfs", "tmpfs", &["tmpcopyup"]);
    let said = case.shell("cat /data/plain; stat -c %a /data/plain; cat /data/link /data/folder/* 2>/dev/null; readlink /data/link; ls -l /data | grep -c pipe");
    assert!(!said.out.contains("secret of"), "{}", said.out);
    if case.runtime.kind == Kind::Corten {
        assert_eq!(said.clone().good().lines(), ["plain4711", node.to_str().unwrap(), "1"], "{}", said.out);
    }
    case.assert_nothing_left();
}

/// The pid file is replaced, never written through a link that lies at its name.
#[test]
fn a_pid_file_is_not_written_through_a_link() {
    let Some(case) = Case::new("pid-file") else { return };
    let victim = case.bundle.aside().join("victim");
    std::fs::write(&victim, "untouched").unwrap();
    let place = case.bundle.aside().join("pid");
    symlink(&victim, &place).unwrap();
    let before = Witness::of(&victim);
    case.sleeps();
    quietly(&mut case.command(&["create", "--pid-file", place.to_str().unwrap(), &case.id]));
    differs(&[Kind::Crun], "create writes a pid file of its own", || before.assert_untouched("--pid-file"));
    case.delete_force();
    case.assert_nothing_left();
}
