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

#[test]
fn without_a_network_the_node_says_so_and_pods_are_refused() {
    let Some(mut node) = Node::with_default_network(false) else { return };
    node.start();
    let status: serde_json::Value = serde_json::from_str(&node.ok(&["info", "-o", "json"])).expect("JSON");
    let conditions = status["status"]["conditions"].as_array().expect("conditions").clone();
    let network = conditions.iter().find(|c| c["type"] == "NetworkReady").expect("NetworkReady");
    assert_eq!(network["status"], false);
    assert!(network["message"].as_str().is_some_and(|m| m.contains("net.d")), "{network}");
    let pod = node.file("pod.json", r#"{"metadata":{"name":"p","namespace":"test","uid":"u"},"linux":{}}"#);
    let said = node.fails(&["runp", &pod]);
    assert!(said.contains("net.d"), "{said}");
    assert!(node.ok(&["pods", "-q"]).is_empty());
    node.assert_nothing_left();
}

#[test]
fn a_configuration_that_arrives_later_is_seen_and_its_plugins_are_executed() {
    let plugins = std::path::Path::new("/usr/lib/cni/bridge");
    if !plugins.exists() {
        println!("skipped: containernetworking-plugins is not installed");
        return;
    }
    let Some(mut node) = Node::with_default_network(false) else { return };
    let text = std::fs::read_to_string(node.config()).expect("configuration");
    std::fs::write(node.config(), text.replace("[network]", "[network]\nbuiltin_plugins = false"))
        .expect("written");
    node.start();
    let data = node.temp.path().join("addresses");
    let bridge = format!("ct{}", std::process::id() % 1_000_000);
    let conf = format!(
        r#"{{"cniVersion":"1.0.0","name":"late","plugins":[{{"type":"bridge","bridge":{bridge:?},"isGateway":true,
            "ipam":{{"type":"host-local","dataDir":{data:?},"ranges":[[{{"subnet":"{}0/24"}}]]}}}}]}}"#,
        node.prefix()
    );
    std::fs::create_dir_all(node.temp.path().join("net.d")).expect("made");
    std::fs::write(node.temp.path().join("net.d/10-late.conflist"), conf).expect("written");
    node.wait_for("the network", ready);
    node.ok(&["pull", &node.busybox()]);
    let (pod, id) = node.container("c", "sleep 1000");
    assert!(node.ok(&["exec", "-s", &id, "ip", "-o", "address"]).contains(&node.prefix()));
    node.ok(&["rmp", "-f", &pod]);
    let kept: Vec<_> = std::fs::read_dir(data.join("late"))
        .expect("host-local's folder")
        .flatten()
        .map(|f| f.file_name())
        .collect();
    assert!(
        kept.iter().all(|name| !name.to_string_lossy().starts_with(&node.prefix())),
        "an address is not given back: {kept:?}"
    );
    // The bridge is the plugin's and stays after DEL, as the CNI plugin has it.
    let _ = Command::new("ip").args(["link", "delete", &bridge]).status();
    node.assert_nothing_left();
}

fn ready(node: &Node) -> bool {
    let status: serde_json::Value = serde_json::from_str(&node.ok(&["info", "-o", "json"])).expect("JSON");
    let conditions = status["status"]["conditions"].as_array().cloned().unwrap_or_default();
    conditions.iter().any(|c| c["type"] == "NetworkReady" && c["status"] == true)
}
