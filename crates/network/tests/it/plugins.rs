//! Networks of a configuration folder: the real plugins' binaries beside the built-in ones, and
//! plugins that fail on purpose.

use crate::node::{Node, PLUGINS, links, on_a_node};
use crate::traffic::{answer, serve, silent};
use corten_network::ipam::HostLocal;
use corten_network::{Network, NetworkConfig};
use serde_json::{Value, json};
use std::collections::HashSet;
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use types::ErrorKind;
use types::pod::{PortMapping, Protocol};

fn has_plugins(test: &str) -> bool {
    let there = ["bridge", "host-local", "portmap", "loopback"]
        .iter()
        .all(|p| std::path::Path::new(PLUGINS).join(p).exists());
    if !there {
        eprintln!("SKIPPED {test}: the plugins' binaries are not in {PLUGINS}");
    }
    there
}

fn bridge(node: &Node) -> Value {
    json!({
        "type": "bridge", "bridge": "cni7", "isGateway": true, "isDefaultGateway": true, "hairpinMode": true,
        "ipam": { "type": "host-local", "subnet": "10.66.0.0/24", "dataDir": node.path("ipam") }
    })
}

fn list(plugins: &[Value]) -> Value {
    json!({ "cniVersion": "1.0.0", "name": "net", "plugins": plugins })
}

fn with(node: &Node, builtin_plugins: bool) -> Network {
    Network::open(NetworkConfig { builtin_plugins, ..node.config() }).expect("a network")
}

const FAILING: &str = r#"cat >/dev/null; if [ "$CNI_COMMAND" = ADD ]; then echo '{"cniVersion":"1.0.0","code":7,"msg":"no luck","details":"today"}'; exit 1; fi"#;
const PASSING: &str = r#"cat >/dev/null; echo '{"cniVersion":"1.0.0"}'"#;

#[test]
fn binaries_and_built_in_plugins_make_the_same_network() {
    on_a_node("same_network", |node| async move {
        if !has_plugins("same_network") {
            return;
        }
        node.conf("10-net.conflist", &list(&[bridge(&node), json!({"type": "loopback"})]));
        let mut results = Vec::new();
        for builtin in [false, true] {
            let network = with(&node, builtin);
            assert!(network.status().ready, "{:?}", network.status());
            let (a, b) = (node.pod("a"), node.pod("b"));
            let attached = network.attach(&a.config).await.expect("attach");
            network.attach(&b.config).await.expect("attach");
            serve(|work| a.inside(work), 80, "a");
            let ip = attached.ips[0].to_string();
            assert_eq!(b.inside(|| answer(&ip, 80)).expect("pod to pod").0, "a", "built in: {builtin}");
            assert_eq!(answer(&ip, 80).expect("node to pod").0, "a");
            assert!(a.inside(|| answer("127.0.0.1", 80)).is_ok(), "loopback is up");
            assert_eq!(node.taken("ipam/net").len(), 2);
            for pod in [&a, &b] {
                network.detach(&pod.config).await.expect("detach");
                network.detach(&pod.config).await.expect("detach again");
            }
            network.settled().await;
            assert!(node.taken("ipam/net").is_empty());
            assert_eq!(links(), ["cni7", "lo"], "the bridge is the administrator's and stays");
            // Names, addresses and hardware addresses differ; the form does not.
            let mut form = attached.result;
            for interface in form["interfaces"].as_array_mut().expect("interfaces") {
                interface["mac"] = json!("");
                interface["name"] = json!(interface["name"].as_str().map(|n| n.starts_with("veth")));
            }
            form["ips"][0]["address"] = json!("");
            results.push(form);
        }
        assert_eq!(results[0], results[1]);
    });
}

#[test]
fn a_network_made_by_one_is_taken_down_by_the_same_after_a_change_of_mind() {
    on_a_node("change_of_mind", |node| async move {
        if !has_plugins("change_of_mind") {
            return;
        }
        node.conf("10-net.conflist", &list(&[bridge(&node)]));
        let (a, b) = (node.pod("a"), node.pod("b"));
        with(&node, false).attach(&a.config).await.expect("by the binary");
        with(&node, true).attach(&b.config).await.expect("in-process");
        // The configuration is gone, the daemon has another setting, and the binary's pod has no namespace.
        std::fs::remove_file(node.path("net.d/10-net.conflist")).expect("remove");
        let a_config = a.config.clone();
        drop(a);
        with(&node, true).detach(&a_config).await.expect("detach");
        let network = with(&node, false);
        network.detach(&b.config).await.expect("detach");
        network.settled().await;
        assert!(node.taken("ipam/net").is_empty());
    });
}

#[test]
fn a_failing_plugin_at_any_place_leaves_only_what_living_pods_have() {
    on_a_node("failing_plugin", |node| async move {
        if !has_plugins("failing_plugin") {
            return;
        }
        node.plugin("failing", FAILING);
        node.plugin("passing", PASSING);
        node.conf("10-net.conflist", &list(&[bridge(&node)]));
        let living = node.pod("living");
        with(&node, true).attach(&living.config).await.expect("attach");
        let before = links();
        let port = PortMapping {
            protocol: Protocol::Tcp,
            container_port: 80,
            host_port: 8080,
            host_ip: String::new(),
        };
        for builtin in [true, false] {
            for place in 0..4 {
                let portmap = json!({"type": "portmap", "capabilities": {"portMappings": true}});
                // The binary of portmap needs iptables; in its place stands one that passes on.
                let third = if builtin { portmap } else { json!({"type": "passing"}) };
                let mut plugins = vec![json!({"type": "passing"}), bridge(&node), third];
                plugins.insert(place, json!({"type": "failing"}));
                node.conf("10-net.conflist", &list(&plugins));
                let network = with(&node, builtin);
                let mut pod = node.pod(&format!("doomed{place}{builtin}"));
                pod.config.port_mappings = vec![port.clone()];
                let error = network.attach(&pod.config).await.expect_err("it fails").chain();
                assert!(
                    error.contains("\"failing\"")
                        && error.contains("no luck; today")
                        && error.contains("\"net\"")
                        && error.contains("test/doomed"),
                    "{error}"
                );
                network.settled().await;
                assert_eq!(
                    node.taken("ipam/net"),
                    [("10.66.0.2".to_owned(), living.config.id.clone())],
                    "place {place}"
                );
                assert_eq!(links(), before, "place {place}, built in {builtin}");
                assert_eq!(
                    std::fs::read_dir(node.path("state/network/attachments")).expect("list").count(),
                    1
                );
                assert!(silent("127.0.0.1", 8080));
            }
        }
    });
}

#[test]
fn built_in_plugins_and_binaries_chain_in_every_version() {
    on_a_node("versions", |node| async move {
        if !std::path::Path::new(PLUGINS).join("tuning").exists() {
            eprintln!("SKIPPED versions: the tuning plugin is not in {PLUGINS}");
            return;
        }
        let tuning = json!({"type": "tuning", "sysctl": {"net.ipv4.conf.eth0.arp_filter": "1"}});
        for version in ["0.3.1", "0.4.0", "1.0.0"] {
            for order in [
                vec![bridge(&node), tuning.clone()],
                vec![bridge(&node), tuning.clone(), json!({"type": "loopback"})],
            ] {
                node.conf(
                    "10-net.conflist",
                    &json!({"cniVersion": version, "name": "net", "plugins": order}),
                );
                let network = node.network();
                let pod = node.pod("pod");
                let attached = network.attach(&pod.config).await.expect(version);
                assert_eq!(attached.result["cniVersion"], version);
                let filter =
                    pod.inside(|| std::fs::read_to_string("/proc/sys/net/ipv4/conf/eth0/arp_filter"));
                assert_eq!((attached.ips.len(), filter.expect("readable").trim()), (1, "1"));
                network.detach(&pod.config).await.expect(version);
                assert!(node.taken("ipam/net").is_empty());
            }
        }
    });
}

#[test]
fn the_last_port_of_a_network_closes_what_the_first_one_opened() {
    on_a_node("last_port", |node| async move {
        let portmap = json!({"type": "portmap", "capabilities": {"portMappings": true}});
        node.conf("10-net.conflist", &list(&[bridge(&node), portmap]));
        let network = node.network();
        let localnet =
            || std::fs::read_to_string("/proc/sys/net/ipv4/conf/cni7/route_localnet").expect("readable");
        for _ in 0..2 {
            let mut pod = node.pod("pod");
            let (container_port, host_port, host_ip) = (80, 8080, String::new());
            pod.config.port_mappings =
                vec![PortMapping { protocol: Protocol::Tcp, container_port, host_port, host_ip }];
            network.attach(&pod.config).await.expect("attach");
            serve(|work| pod.inside(work), 80, "web");
            assert_eq!(answer("127.0.0.1", 8080).expect("the port").0, "web");
            assert_eq!(localnet().trim(), "1");
            network.detach(&pod.config).await.expect("detach");
            network.settled().await;
            assert_eq!(localnet().trim(), "0", "the bridge stays, its guard does not");
            assert_eq!(crate::node::rules().unwrap_or_default(), "");
            assert_eq!(
                std::fs::read_dir(node.path("state/network/made")).expect("list").count(),
                1,
                "the bridge"
            );
        }
    });
}

#[test]
fn what_could_not_be_undone_is_undone_later() {
    on_a_node("undone_later", |node| async move {
        node.plugin(
            "stubborn",
            r#"cat >/dev/null; echo '{"cniVersion":"1.0.0","code":5,"msg":"not now"}'; exit 1"#,
        );
        node.conf("10-net.conflist", &list(&[bridge(&node), json!({"type": "stubborn"})]));
        let network = node.network();
        let pod = node.pod("pod");
        network.attach(&pod.config).await.expect_err("ADD fails, and so does its DEL");
        assert!(node.taken("ipam/net").is_empty(), "the other plugins had their turn");
        let error = network.detach(&pod.config).await.expect_err("still");
        assert!(error.chain().contains("not now"), "{}", error.chain());
        drop(network);
        node.plugin("stubborn", PASSING);
        let network = node.network();
        network.sweep(&HashSet::new()).await.expect("sweep");
        assert_eq!(std::fs::read_dir(node.path("state/network/attachments")).expect("list").count(), 0);
    });
}

#[test]
fn plugins_get_a_clean_environment_and_the_result_of_the_one_before() {
    on_a_node("environment", |node| async move {
        let seen = node.path("seen");
        node.plugin(
            "first",
            r#"cat >/dev/null; echo '{"cniVersion":"1.1.0","ips":[{"address":"10.1.2.3/24"}]}'"#,
        );
        node.plugin(
            "second",
            &format!(
                "echo \"$CNI_COMMAND\" >> {0}.commands; env > {0}.env; cat > {0}.$CNI_COMMAND; echo '{{\"cniVersion\":\"1.1.0\",\"ips\":[{{\"address\":\"10.1.2.3/24\"}}]}}'",
                seen.display()
            ),
        );
        let second = json!({"type": "second", "capabilities": {"portMappings": true, "io.kubernetes.cri.pod-annotations": true}});
        node.conf(
            "10-net.conflist",
            &json!({"cniVersion": "1.1.0", "name": "net", "plugins": [{"type": "first"}, second]}),
        );
        let network = node.network();
        let mut pod = node.pod("pod");
        pod.config.annotations.insert("a".into(), "b".into());
        assert_eq!(network.attach(&pod.config).await.expect("attach").ips[0].to_string(), "10.1.2.3");
        network.detach(&pod.config).await.expect("detach");
        let read = |end: &str| std::fs::read_to_string(node.path(&format!("seen.{end}"))).expect("written");
        for command in ["ADD", "DEL"] {
            let conf: Value = serde_json::from_str(&read(command)).expect("JSON");
            assert_eq!(conf["prevResult"]["ips"][0]["address"], "10.1.2.3/24");
            assert_eq!(conf["runtimeConfig"], json!({"io.kubernetes.cri.pod-annotations": {"a": "b"}}));
            assert_eq!((&conf["name"], &conf["cniVersion"]), (&json!("net"), &json!("1.1.0")));
        }
        let environment = read("env");
        assert!(environment.contains(&format!("CNI_CONTAINERID={}\n", pod.config.id)));
        assert!(environment.contains(
            "CNI_ARGS=IgnoreUnknown=1;K8S_POD_NAMESPACE=test;K8S_POD_NAME=pod;K8S_POD_INFRA_CONTAINER_ID="
        ));
        assert!(environment.contains("K8S_POD_UID=uid-pod\n"));
        // The shell itself adds PWD, OLDPWD, SHLVL and _.
        let foreign: Vec<&str> = environment
            .lines()
            .filter(|l| {
                !["CNI_", "PATH=", "PWD=", "OLDPWD=", "SHLVL=", "_="].iter().any(|known| l.starts_with(known))
            })
            .collect();
        assert!(foreign.is_empty(), "{foreign:?}");
    });
}

#[test]
fn hostile_answers_and_slow_plugins_are_bounded() {
    on_a_node("hostile", |node| async move {
        node.plugin("hostile", "sleep 0");
        node.conf("10-net.conflist", &list(&[json!({"type": "hostile"})]));
        let config = NetworkConfig { plugin_timeout: Duration::from_millis(1500), ..node.config() };
        let network = Network::open(config).expect("a network");
        let pid = node.path("pid");
        let slow = format!("sleep 1000 & echo $! > {}; wait", pid.display());
        let left = format!(
            "cat >/dev/null; sleep 1000 & echo $! > {}; echo '{{\"cniVersion\":\"1.0.0\"}}'",
            pid.display()
        );
        for (script, kind, why) in [
            ("exit 0", Some(ErrorKind::Internal), "printed nothing"),
            ("echo hello", Some(ErrorKind::Internal), "not a result"),
            ("echo oops >&2; exit 3", Some(ErrorKind::Internal), "oops"),
            ("kill -9 $$", Some(ErrorKind::Internal), "signal"),
            ("yes '{\"ips\":[]}' | head -c 3000000", Some(ErrorKind::Internal), "longer than"),
            ("yes x | head -c 3000000 >&2; exit 1", Some(ErrorKind::Internal), "it wrote: x x"),
            (
                "echo '{\"ips\":[{\"address\":\"127.0.0.1/8\"}]}'",
                Some(ErrorKind::Internal),
                "cannot be a pod's address",
            ),
            ("echo '{\"ips\":[{\"address\":\"10.0.0.1/99\"}]}'", Some(ErrorKind::Internal), "not an address"),
            ("echo '{\"code\":11,\"msg\":\"later\"}'; exit 1", Some(ErrorKind::Unavailable), "later"),
            (slow.as_str(), Some(ErrorKind::DeadlineExceeded), "did not end within"),
            (left.as_str(), None, ""),
        ] {
            // DEL succeeds at once, so that only ADD is tried.
            node.plugin("hostile", &format!("[ $CNI_COMMAND = DEL ] && exit 0\n{script}"));
            let pod = node.pod("pod");
            let started = Instant::now();
            let outcome = network.attach(&pod.config).await;
            assert!(started.elapsed() < Duration::from_secs(5), "{script}: {:?}", started.elapsed());
            match (outcome, kind) {
                (Ok(_), None) => network.detach(&pod.config).await.expect("detach"),
                (Err(error), Some(kind)) => {
                    assert!(error.chain().contains(why), "{script}: {}", error.chain());
                    assert!(error.chain().len() < 10_000, "bounded");
                    assert_eq!(error.kind(), kind, "{script}");
                }
                (outcome, _) => panic!("{script}: {outcome:?}"),
            }
            if let Ok(text) = std::fs::read_to_string(&pid) {
                let stat = format!("/proc/{}/stat", text.trim());
                // Gone, or dead and waiting for whoever adopted it.
                let gone = || std::fs::read_to_string(&stat).map_or(true, |stat| stat.contains(") Z"));
                let until = Instant::now() + Duration::from_secs(2);
                while !gone() && Instant::now() < until {
                    std::thread::sleep(Duration::from_millis(5));
                }
                assert!(gone(), "{text} outlives its plugin");
                std::fs::remove_file(&pid).expect("remove");
            }
        }
    });
}

#[test]
fn the_status_says_what_is_missing_and_sees_what_arrives() {
    on_a_node("status", |node| async move {
        let network =
            Network::open(NetworkConfig { default_network: false, ..node.config() }).expect("a network");
        let status = network.status();
        assert!(!status.ready && status.reason == "NetworkPluginNotReady", "{status:?}");
        assert!(
            status.message.contains("cni plugin not initialized: no valid network configuration in"),
            "{status:?}"
        );
        let pod = node.pod("pod");
        assert_eq!(network.attach(&pod.config).await.expect_err("no network").kind(), ErrorKind::Unavailable);
        node.conf("10-net.conflist.tmp", &list(&[json!({"type": "later"})]));
        std::fs::rename(node.path("net.d/10-net.conflist.tmp"), node.path("net.d/10-net.conflist"))
            .expect("rename");
        let status = network.status();
        assert!(
            !status.ready && status.message.contains("\"later\" is in none of the folders"),
            "{status:?}"
        );
        node.plugin("later", PASSING);
        assert!(network.status().ready, "{:?}", network.status());
        std::fs::write(node.path("net.d/10-net.conflist"), "{").expect("write");
        assert!(network.status().message.contains("it is not JSON"), "{:?}", network.status());
    });
}

#[test]
fn a_caller_that_gives_up_leaves_a_whole_attachment_or_none() {
    on_a_node("gives_up", |node| async move {
        node.plugin("slow", r#"cat >/dev/null; sleep 0.3; echo '{"cniVersion":"1.0.0"}'"#);
        node.conf("10-net.conflist", &list(&[bridge(&node), json!({"type": "slow"})]));
        let network = node.network();
        let pod = node.pod("pod");
        let given_up = tokio::time::timeout(Duration::from_millis(100), network.attach(&pod.config)).await;
        assert!(given_up.is_err(), "it takes longer");
        network.detach(&pod.config).await.expect("waits for its turn, then detaches");
        network.settled().await;
        assert!(node.taken("ipam/net").is_empty());
        assert_eq!(links(), ["cni7", "lo"]);
    });
}

fn host_local(node: &Node, command: &str, id: &str) -> (bool, String) {
    let conf = json!({
        "cniVersion": "1.0.0", "name": "shared", "type": "x",
        "ipam": {"type": "host-local", "subnet": "10.55.0.0/28", "dataDir": node.path("ipam")}
    });
    let mut child = Command::new(format!("{PLUGINS}/host-local"))
        .env_clear()
        .envs([
            ("CNI_COMMAND", command),
            ("CNI_CONTAINERID", id),
            ("CNI_IFNAME", "eth0"),
            ("CNI_NETNS", "/x"),
            ("CNI_PATH", PLUGINS),
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("host-local");
    child.stdin.take().expect("piped").write_all(conf.to_string().as_bytes()).expect("write");
    let output = child.wait_with_output().expect("its end");
    (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn the_real_host_local_and_ours_share_a_folder() {
    on_a_node("host_local", |node| async move {
        if !has_plugins("host_local") {
            return;
        }
        let ipam = json!({"type": "host-local", "subnet": "10.55.0.0/28", "dataDir": node.path("ipam")});
        let ours = HostLocal::from_conf("shared", &ipam, &[]).expect("valid");
        let reserve = |id: &str| ours.reserve(id, "eth0", &[], false).map(|l| l[0].address.to_string());
        assert_eq!(reserve("one").expect("free"), "10.55.0.2/28");
        let (good, answer) = host_local(&node, "ADD", "two");
        assert!(good && answer.contains("10.55.0.3/28"), "round-robin goes on: {answer}");
        assert_eq!(reserve("three").expect("free"), "10.55.0.4/28");
        // Each takes back what the other gave out.
        assert!(host_local(&node, "DEL", "one").0);
        ours.release("two", "eth0", &[]).expect("release");
        assert_eq!(node.taken("ipam/shared"), [("10.55.0.4".to_owned(), "three".to_owned())]);
        assert!(reserve("three").expect_err("it has one").to_string().contains("10.55.0.4"));
        assert!(!host_local(&node, "ADD", "three").0, "the real one says so, too");

        // Both at once until nothing is left: 13 addresses without network, gateway and broadcast.
        let node = &node;
        let (ours, theirs) = std::thread::scope(|scope| {
            let ours = scope.spawn(|| (0..10).filter(|i| reserve(&format!("o{i}")).is_ok()).count());
            let theirs =
                scope.spawn(|| (0..10).filter(|i| host_local(node, "ADD", &format!("t{i}")).0).count());
            (ours.join().expect("ours"), theirs.join().expect("theirs"))
        });
        let taken = node.taken("ipam/shared");
        assert_eq!((ours + theirs, taken.len()), (12, 13), "{taken:?}");
        let error = reserve("late").expect_err("full");
        assert!(error.to_string().contains("no free address"), "{error}");
        assert_eq!(error.kind(), ErrorKind::ResourceExhausted);
        ours_again(node);
    });
}

/// A wished address is given out if it is free and in a range, and an address that fails takes
/// nothing with it.
fn ours_again(node: &Node) {
    let ipam = json!({
        "type": "host-local", "dataDir": node.path("ipam"),
        "ranges": [[{"subnet": "10.54.0.0/24"}], [{"subnet": "10.53.0.0/30"}]]
    });
    let ours = HostLocal::from_conf("wishes", &ipam, &[]).expect("valid");
    let reserve = |id: &str, wish: &[&str]| {
        let wish: Vec<_> = wish.iter().map(|w| w.parse().expect("an address")).collect();
        ours.reserve(id, "eth0", &wish, false)
            .map(|l| l.iter().map(|l| l.address.to_string()).collect::<Vec<_>>())
    };
    assert!(reserve("a", &["10.1.1.1"]).is_err(), "in no range");
    assert!(reserve("a", &["10.54.0.1"]).is_err(), "the gateway's");
    assert_eq!(reserve("a", &["10.54.0.77"]).expect("free"), ["10.54.0.77/24", "10.53.0.2/30"]);
    assert!(reserve("b", &[]).is_err(), "the second set is empty");
    assert_eq!(node.taken("ipam/wishes").len(), 2, "the address of the first set is free again");
    assert!(reserve("b", &["10.54.0.77"]).is_err());
    ours.release("a", "eth0", &["10.54.0.77".parse().expect("an address")]).expect("release");
    ours.release("a", "eth0", &[]).expect("release");
    assert!(node.taken("ipam/wishes").is_empty());
}
