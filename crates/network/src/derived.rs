//! What a plugin binary is handed: its configuration with the network's name, the result of the
//! plugin before and the capabilities it asked for (CNI specification 1.1, section 4 "Derived
//! configuration", and CONVENTIONS.md of containernetworking/cni), and `CNI_ARGS`. Pure.

use crate::conf::{NetworkList, Plugin};
use crate::pod::PodNetwork;
use serde_json::{Map, Value, json};
use types::pod::Protocol;

/// The configuration of one plugin of a list.
pub fn conf(list: &NetworkList, plugin: &Plugin, pod: &PodNetwork, previous: Option<&Value>) -> Value {
    let mut conf = plugin.options.clone();
    conf.insert("name".to_owned(), json!(list.name));
    conf.insert("cniVersion".to_owned(), json!(list.version.as_str()));
    let runtime = runtime_config(plugin, pod);
    if !runtime.is_empty() {
        conf.insert("runtimeConfig".to_owned(), Value::Object(runtime));
    }
    if let Some(previous) = previous {
        conf.insert("prevResult".to_owned(), previous.clone());
    }
    Value::Object(conf)
}

fn runtime_config(plugin: &Plugin, pod: &PodNetwork) -> Map<String, Value> {
    let mut runtime = Map::new();
    let mut offer = |capability: &str, value: Option<Value>| {
        if let Some(value) = value.filter(|_| plugin.wants(capability)) {
            runtime.insert(capability.to_owned(), value);
        }
    };
    let ports: Vec<Value> = pod.port_mappings.iter().filter(|m| m.host_port != 0).map(port).collect();
    offer("portMappings", (!ports.is_empty()).then_some(Value::Array(ports)));
    offer("ips", (!pod.ips.is_empty()).then(|| json!(pod.ips)));
    offer("mac", pod.mac.as_ref().map(|mac| json!(mac)));
    offer("bandwidth", bandwidth(pod));
    offer(
        "dns",
        pod.dns
            .as_ref()
            .map(|d| json!({ "servers": d.servers, "searches": d.searches, "options": d.options })),
    );
    offer("io.kubernetes.cri.pod-annotations", (!pod.annotations.is_empty()).then(|| json!(pod.annotations)));
    offer("cgroupPath", (!pod.cgroup_parent.is_empty()).then(|| json!(pod.cgroup_parent)));
    runtime
}

fn port(mapping: &types::pod::PortMapping) -> Value {
    let protocol = match mapping.protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
        Protocol::Sctp => "sctp",
    };
    json!({
        "hostPort": mapping.host_port,
        "containerPort": mapping.container_port,
        "protocol": protocol,
        "hostIP": mapping.host_ip,
    })
}

/// Kubernetes' bandwidth annotations in bits per second; the burst is as large as the plugin takes,
/// as the kubelet's own network code had it.
fn bandwidth(pod: &PodNetwork) -> Option<Value> {
    let mut value = Map::new();
    for (annotation, direction) in
        [("kubernetes.io/ingress-bandwidth", "ingress"), ("kubernetes.io/egress-bandwidth", "egress")]
    {
        if let Some(rate) = pod.annotations.get(annotation).and_then(|text| quantity(text)) {
            value.insert(format!("{direction}Rate"), json!(rate));
            value.insert(format!("{direction}Burst"), json!(i32::MAX));
        }
    }
    (!value.is_empty()).then_some(Value::Object(value))
}

/// A Kubernetes quantity of whole units: `10M`, `1Gi`, `500k`, `1000000`.
fn quantity(text: &str) -> Option<u64> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..end].parse().ok()?;
    let factor: u64 = match &text[end..] {
        "" => 1,
        "k" => 1000,
        "M" => 1_000_000,
        "G" => 1_000_000_000,
        "T" => 1_000_000_000_000,
        "Ki" => 1 << 10,
        "Mi" => 1 << 20,
        "Gi" => 1 << 30,
        "Ti" => 1 << 40,
        _ => return None,
    };
    number.checked_mul(factor)
}

/// `CNI_ARGS`, as containerd and CRI-O write them.
pub fn args(pod: &PodNetwork) -> String {
    format!(
        "IgnoreUnknown=1;K8S_POD_NAMESPACE={};K8S_POD_NAME={};K8S_POD_INFRA_CONTAINER_ID={};K8S_POD_UID={}",
        pod.namespace, pod.name, pod.id, pod.uid
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::pod::{Dns, PortMapping};

    #[test]
    fn a_plugin_gets_only_the_capabilities_that_it_asked_for() {
        let list = NetworkList::parse_list(
            br#"{"name":"n","cniVersion":"1.0.0","plugins":[
                {"type":"a"},
                {"type":"b","capabilities":{"portMappings":true,"dns":true,"bandwidth":true,"mac":false}}]}"#,
        )
        .expect("valid");
        let port = |host_port| PortMapping {
            protocol: Protocol::Udp,
            container_port: 53,
            host_port,
            host_ip: "10.0.0.1".into(),
        };
        let pod = PodNetwork {
            port_mappings: vec![port(5353), port(0)],
            dns: Some(Dns { servers: vec!["1.1.1.1".into()], ..Dns::default() }),
            mac: Some("0a:58:00:00:00:01".into()),
            annotations: [("kubernetes.io/ingress-bandwidth".to_owned(), "10M".to_owned())].into(),
            ..PodNetwork::default()
        };
        assert_eq!(
            conf(&list, &list.plugins[0], &pod, None),
            json!({"type": "a", "name": "n", "cniVersion": "1.0.0"})
        );
        let second = conf(&list, &list.plugins[1], &pod, Some(&json!({"ips": []})));
        assert_eq!(second["prevResult"], json!({"ips": []}));
        assert_eq!(
            second["runtimeConfig"],
            json!({
                "portMappings": [{"hostPort": 5353, "containerPort": 53, "protocol": "udp", "hostIP": "10.0.0.1"}],
                "dns": {"servers": ["1.1.1.1"], "searches": [], "options": []},
                "bandwidth": {"ingressRate": 10_000_000u64, "ingressBurst": i32::MAX},
            })
        );
    }

    #[test]
    fn quantities_that_are_no_number_are_left_out() {
        for (text, value) in [
            ("10M", Some(10_000_000)),
            ("1Ki", Some(1024)),
            ("7", Some(7)),
            ("", None),
            ("M", None),
            ("1.5M", None),
            ("99999999999T", None),
            ("-1", None),
        ] {
            assert_eq!(quantity(text), value, "{text}");
        }
    }
}
