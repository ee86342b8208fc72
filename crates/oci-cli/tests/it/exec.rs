//! One more process.

use super::Place;
use serde_json::json;

#[test]
fn exec_runs_in_the_container_as_it_is_told() {
    let Some(place) = Place::running("exec", &["sleep", "100"]) else { return };
    place.good(&["run", "-d", &place.id]);
    let say = |args: &[&str]| {
        let output = place.run(&[&["exec"], args].concat());
        assert!(output.status.success(), "{output:?}");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    assert_eq!(say(&[&place.id, "hostname"]), "corten");
    assert_eq!(say(&["--cwd", "/etc", &place.id, "pwd"]), "/etc");
    assert_eq!(
        say(&["-e", "A=1", "--env", "B=2", &place.id, "sh", "-c", "echo $A$B$PATH"]).split('/').next(),
        Some("12")
    );
    assert_eq!(say(&["--user", "5:6", "-g", "7", &place.id, "id"]), "uid=5 gid=6 groups=7");
    assert!(say(&[&place.id, "ps"]).contains("sleep 100"));
    // In the container's groups, not in ours.
    let groups = say(&[&place.id, "sh", "-c", "cat /proc/self/cgroup"]);
    assert!(groups.lines().all(|line| line.ends_with(":/")), "{groups}");
    assert_eq!(place.run(&["exec", &place.id, "sh", "-c", "exit 9"]).status.code(), Some(9));
    assert_eq!(place.run(&["exec", &place.id, "sh", "-c", "kill -9 $$"]).status.code(), Some(137));
    let file = place.dir.path().join("process.json");
    std::fs::write(
        &file,
        json!({
            "terminal": false, "user": { "uid": 3, "gid": 4 }, "cwd": "/tmp",
            "args": ["sh", "-c", "echo $(pwd) $X; id"], "env": ["X=y", "PATH=/bin"],
        })
        .to_string(),
    )
    .unwrap();
    assert_eq!(say(&["--process", file.to_str().unwrap(), &place.id]), "/tmp y\nuid=3 gid=4");
    let pid_file = place.dir.path().join("exec.pid");
    place.good(&["exec", "--detach", "--pid-file", pid_file.to_str().unwrap(), &place.id, "sleep", "50"]);
    let pid: i32 = std::fs::read_to_string(pid_file).unwrap().parse().unwrap();
    let pids: Vec<i32> = serde_json::from_str(&place.good(&["ps", "-f", "json", &place.id])).unwrap();
    assert!(pids.contains(&pid), "{pid} {pids:?}");
    assert!(place.good(&["ps", &place.id]).contains("sleep 50") || which_ps_is_missing());
    place.good(&["delete", "-f", &place.id]);
    place.assert_nothing_left();
}

fn which_ps_is_missing() -> bool {
    !std::path::Path::new("/usr/bin/ps").exists()
}

#[test]
fn exec_says_why_it_fails() {
    let Some(place) = Place::running("exec-bad", &["sleep", "100"]) else { return };
    place.good(&["run", "-d", &place.id]);
    for (args, words) in [
        (vec!["nothing-here"], "executable file not found in $PATH"),
        (vec!["/nothing"], "no such file or directory"),
        (vec![], "give a command"),
    ] {
        let all = [vec!["exec", &place.id], args].concat();
        assert!(place.bad(255, &all).contains(words), "{words}");
    }
    for (option, value, words) in [
        ("--user", "root", "numbers as 1000"),
        ("--user", "4294967296", "numbers as 1000"),
        ("--cwd", "/missing", "working directory"),
        ("--cwd", "relative", "process.cwd"),
        ("--preserve-fds", "9", "descriptor"),
    ] {
        let error = place.bad(255, &["exec", option, value, &place.id, "true"]);
        assert!(error.contains(words), "{option} {value}: {error}");
    }
    assert!(place.bad(255, &["exec", "--tty", "--detach", &place.id, "true"]).contains("--console-socket"));
    place.good(&["delete", "-f", &place.id]);
    place.assert_nothing_left();
}

#[test]
fn an_exec_goes_where_the_first_process_is_when_the_group_has_groups_of_its_own() {
    let script = "cd /sys/fs/cgroup && busybox mkdir init && echo 1 > init/cgroup.procs && echo +pids > cgroup.subtree_control && exec sleep 100";
    let Some(place) = Place::running("inner", &["sh", "-c", script]) else { return };
    if std::path::Path::new("/sys/fs/cgroup/memory").exists() {
        eprintln!("SKIPPED inner: cgroup v2 is needed");
        return;
    }
    place.edit(|config| {
        let mounts = config["mounts"].as_array_mut().unwrap();
        mounts.retain(|mount| mount["type"] != "cgroup");
        mounts.push(json!({ "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["rw"] }));
    });
    place.good(&["run", "-d", &place.id]);
    let start = std::time::Instant::now();
    loop {
        let output = place.run(&[
            "exec",
            &place.id,
            "cat",
            "/proc/self/cgroup",
            "/sys/fs/cgroup/cgroup.subtree_control",
        ]);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        if said.contains("pids") {
            assert!(said.starts_with("0::/init\n"), "{said}");
            break;
        }
        assert!(start.elapsed() < std::time::Duration::from_secs(30), "{output:?}");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    place.good(&["delete", "-f", &place.id]);
    place.assert_nothing_left();
}
