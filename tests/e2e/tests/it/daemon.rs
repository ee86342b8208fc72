//! The daemon's manners.

use crate::node::{Node, corten, text};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::process::Command;

#[test]
fn one_instance_per_root() {
    let Some(node) = Node::serving() else { return };
    let second =
        Command::new(corten()).args(["daemon", "--config"]).arg(node.config()).output().expect("runs");
    assert!(!second.status.success());
    let said = text(&second.stderr);
    assert!(said.contains("locked by") && said.contains(&node.pid().to_string()), "{said}");
    node.ok(&["version"]);
    node.assert_nothing_left();
}

#[test]
fn folders_and_socket_are_the_owners_alone() {
    let Some(node) = Node::serving() else { return };
    let mode =
        |path: std::path::PathBuf| std::fs::metadata(path).expect("there").permissions().mode() & 0o777;
    assert_eq!(mode(node.temp.root()), 0o700);
    assert_eq!(mode(node.temp.state()), 0o700);
    assert_eq!(mode(node.temp.state().join("corten.sock")), 0o600);
    node.assert_nothing_left();
}

#[test]
fn readiness_is_told_to_the_service_manager() {
    let Some(node) = Node::new() else { return };
    let path = node.temp.path().join("notify");
    let socket = UnixDatagram::bind(&path).expect("bound");
    socket.set_read_timeout(Some(std::time::Duration::from_secs(20))).expect("timeout");
    let mut daemon = Command::new(corten())
        .args(["daemon", "--config"])
        .arg(node.config())
        .env("NOTIFY_SOCKET", &path)
        .spawn()
        .expect("starts");
    let mut buffer = [0; 64];
    let count = socket.recv(&mut buffer).expect("told");
    assert_eq!(&buffer[..count], b"READY=1");
    assert!(node.verb(&["version"]).status.success(), "ready means that it answers");
    rustix::process::kill_process(rustix::process::Pid::from_child(&daemon), rustix::process::Signal::TERM)
        .expect("signal");
    assert!(daemon.wait().expect("waited").success());
    node.assert_nothing_left();
}

#[test]
fn a_wrong_configuration_names_line_and_nearest_key() {
    let dir = std::env::temp_dir().join(format!("corten-e2e-config-{}", std::process::id()));
    std::fs::write(&dir, "root = \"/x\"\n[network]\nconfdir = \"/y\"\n").expect("written");
    let output = Command::new(corten()).args(["daemon", "--config"]).arg(&dir).output().expect("runs");
    std::fs::remove_file(&dir).expect("removed");
    let said = text(&output.stderr);
    assert!(!output.status.success() && said.contains(":3:") && said.contains("conf_dir"), "{said}");
}
