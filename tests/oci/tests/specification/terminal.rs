//! config.md, "Process": `terminal` and `consoleSize`, with the console-socket protocol of runc (docs/terminals.md).

use oci_suite::{Case, Console, Kind, console, differs, lacks};
use serde_json::json;

/// A case with a terminal, created and ready to be started, with its master.
fn created(
    name: &str,
    script: &str,
    size: Option<(u16, u16)>,
) -> Option<(Case, String, std::os::fd::OwnedFd)> {
    let case = Case::new(name)?;
    case.script(script).edit(|config| {
        config["process"]["terminal"] = json!(true);
        if let Some((height, width)) = size {
            config["process"]["consoleSize"] = json!({ "height": height, "width": width });
        }
    });
    let socket = Console::new(&case.bundle.aside());
    let _ = case.call(&["create", "--console-socket", socket.path(), &case.id]).good();
    let (name, master) = socket.master();
    Some((case, name, master))
}

#[test]
fn the_standard_streams_are_a_terminal_whose_master_comes_over_the_socket() {
    let script = "test -t 0 && test -t 1 && test -t 2 && echo all; tty; echo err >&2";
    let Some((case, name, master)) = created("terminal", script, None) else { return };
    assert!(!name.is_empty(), "the message carries a name");
    case.start();
    assert_eq!(console::read_all(master), "all\n/dev/pts/0\nerr\n");
    case.await_status("stopped");
    case.delete_force();
    case.assert_nothing_left();
}

#[test]
fn dev_console_is_the_terminal() {
    // config-linux.md, Default Devices: "/dev/console is set up if terminal is enabled in the config by bind
    // mounting the pseudoterminal pty to /dev/console."
    let script = "test -c /dev/console && echo there; echo written > /dev/console";
    let Some((case, _, master)) = created("dev-console", script, None) else { return };
    case.start();
    assert_eq!(console::read_all(master), "there\nwritten\n");
}

#[test]
fn the_terminal_has_the_configured_size() {
    let Some((case, _, master)) = created("size", "stty size", Some((40, 123))) else { return };
    case.start();
    assert_eq!(console::read_all(master), "40 123\n");
}

#[test]
fn the_size_is_ignored_without_a_terminal() {
    let Some(case) = Case::new("size-ignored") else { return };
    case.edit(|config| config["process"]["consoleSize"] = json!({ "height": 40, "width": 123 }));
    assert_eq!(case.shell("test -t 0 || echo none").good().out, "none\n");
}

#[test]
fn the_terminal_controls_the_program_so_that_ctrl_c_interrupts_it() {
    let script = "trap 'echo interrupted; exit' INT; echo ready; while :; do sleep 0.02; done";
    let Some((case, _, master)) = created("ctrl-c", script, None) else { return };
    case.start();
    let mut part = [0; 7];
    std::io::Read::read_exact(&mut std::fs::File::from(master.try_clone().unwrap()), &mut part).unwrap();
    rustix::io::write(&master, b"\x03").unwrap();
    assert!(console::read_all(master).contains("interrupted"));
}

#[test]
fn the_terminal_belongs_to_the_user() {
    let Some(case) = Case::new("tty-user") else { return };
    case.script("stat -c %u $(tty); echo x > /dev/tty").edit(|config| {
        config["process"]["terminal"] = json!(true);
        config["process"]["user"] = json!({ "uid": 1000, "gid": 1000 });
    });
    let socket = Console::new(&case.bundle.aside());
    let _ = case.call(&["run", "--detach", "--console-socket", socket.path(), &case.id]).good();
    let (_, master) = socket.master();
    assert_eq!(console::read_all(master), "1000\nx\n");
}

#[test]
fn create_with_a_terminal_needs_a_socket_and_a_socket_needs_a_terminal() {
    let Some(case) = Case::new("tty-socket") else { return };
    case.edit(|config| config["process"]["terminal"] = json!(true));
    if !lacks(&[Kind::Crun], "that create with a terminal needs a socket") {
        let said = case.call(&["create", &case.id]).bad();
        assert!(said.contains("socket"), "{said}");
    }
    case.delete_leftover();
    case.edit(|config| config["process"]["terminal"] = json!(false));
    let socket = Console::new(&case.bundle.aside());
    // runc, utils_linux.go `checkTerminal`: "cannot use console socket if runc will not detach or allocate tty".
    differs(&[Kind::Crun], "not of the specification; as runc does", || {
        let said = case.call(&["create", "--console-socket", socket.path(), &case.id]).bad();
        assert!(said.contains("socket"), "{said}");
    });
}
