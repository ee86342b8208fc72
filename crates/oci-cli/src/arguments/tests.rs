//! What the callers of runc write is understood.

use super::*;

fn read(line: &str) -> Result<Arguments, clap::Error> {
    Arguments::read(std::iter::once("corten-oci").chain(line.split(' ')).map(OsString::from))
}

#[test]
fn the_command_line_has_no_contradictions() {
    Arguments::command().debug_assert();
}

#[test]
fn the_callers_of_runc_are_understood() {
    for line in [
        // containerd's shim (go-runc).
        "--root /r --log /l --log-format json create --bundle /b --pid-file /p --console-socket /c id",
        "--root /r --log /l --log-format json --systemd-cgroup create --bundle /b --pid-file /p --no-pivot --no-new-keyring id",
        "--root /r --debug --log /l --log-format json --rootless=false run --bundle /b --detach --preserve-fds 2 id",
        "--root /r --log /l --log-format json start id",
        "--root /r --log /l --log-format json kill --all id 9",
        "--root /r --log /l --log-format json delete --force id",
        "--root /r exec --process /p --detach --pid-file /q --console-socket /c id",
        "--root /r exec --process /p --console-socket /c --pidfd-socket /d --preserve-fds 1 id",
        "--root /r update --resources - id",
        "--root /r update --resources=- id",
        "--root /r events --stats id",
        "--root /r events --interval=5s id",
        "--root /r ps --format json id",
        "--root /r ps --format table id aux",
        "--root /r list --format=json",
        "--root /r pause id",
        "--root /r resume id",
        "--root /r features",
        // conmon and Podman.
        "--systemd-cgroup --log-format=json --log /l create --bundle /b --pid-file /p --no-new-keyring --console-socket /c id",
        "--log-format=json --log=/l create --bundle /b --pid-file /p id",
        "--root=/r exec --pid-file /p --process /f --detach --preserve-fds 3 --console-socket /c id",
        "state id",
        "kill id 15",
        "update --resources=/tmp/x id",
        // People.
        "exec id sh -c -e",
        "exec -t -e A=1 --cap CAP_KILL --cap CAP_CHOWN id env -i --tty",
        "kill id KILL",
        "kill id -9",
        "delete id --force",
        "-root /r -debug list -q",
        "exec -user 1000 -tty=true -cwd / id sh",
        "create -bundle /b -pid-file=/p id",
        "--criu /x --root /a --root /b state id",
        "update --pids-limit -1 --memory=-1 --cpu-quota -1 --kernel-memory 5 id",
    ] {
        read(line).unwrap_or_else(|e| panic!("{line}: {e}"));
    }
}

#[test]
fn what_follows_the_container_of_exec_is_its_command() {
    let command = |line: &str| match read(line).expect(line).verb {
        Verb::Exec(exec) => (exec.id, exec.command, exec.tty),
        other => panic!("{other:?}"),
    };
    let words = |list: &[&str]| list.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    assert_eq!(command("exec c --tty"), ("c".into(), words(&["--tty"]), false));
    assert_eq!(command("exec -tty c sh -tty"), ("c".into(), words(&["sh", "-tty"]), true));
    assert_eq!(command("exec c -- ls --"), ("c".into(), words(&["ls", "--"]), false));
    assert_eq!(command("exec -- c ls"), ("c".into(), words(&["ls"]), false));
    assert_eq!(command("exec --tty=false c ls"), ("c".into(), words(&["ls"]), false));
}

#[test]
fn values_that_mean_nothing_are_refused() {
    for line in [
        "",
        "state",
        "state a b",
        "nothing",
        "--rootless maybe state a",
        "--log-format xml state a",
        "delete --force=perhaps a",
        "create --preserve-fds -1 a",
        "list --format yaml",
    ] {
        assert!(read(line).is_err(), "{line}");
    }
    assert_eq!(read("--rootless 0 list").expect("good").rootless, Switch::No);
    assert_eq!(read("--rootless=true list").expect("good").rootless, Switch::Yes);
    assert_eq!(read("--root= list").expect("good").root, None);
}
