//! Resolver configuration: reading a resolv.conf, and merging it with a pod's `dnsPolicy` and `dnsConfig`
//! (kubelet `pkg/kubelet/network/dns`). It asks no server anything.

use cri_api::v1::DnsConfig;
use k8s_openapi::api::core::v1::PodSpec;
use std::io::Read;
use std::path::Path;

/// Largest resolv.conf that is read.
const MAX_BYTES: u64 = 64 << 10;
/// glibc reads no more servers (resolv.conf(5), MAXNS); the kubelet keeps as many.
const MAX_SERVERS: usize = 3;
const MAX_SEARCHES: usize = 32;

/// What a resolv.conf says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resolver {
    /// `nameserver` lines.
    pub servers: Vec<String>,
    /// The last `search` line.
    pub searches: Vec<String>,
    /// `options` lines.
    pub options: Vec<String>,
}

impl Resolver {
    /// Reads the node's resolver. Where systemd-resolved keeps only its own loopback address in
    /// /etc/resolv.conf, which no pod can reach, the file with the real servers is read instead.
    pub fn of_node() -> Self {
        let own = Self::read(Path::new("/etc/resolv.conf"));
        let loopback = |server: &String| server.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
        if !own.servers.is_empty() && own.servers.iter().all(loopback) {
            let real = Self::read(Path::new("/run/systemd/resolve/resolv.conf"));
            if !real.servers.is_empty() {
                return real;
            }
        }
        own
    }

    /// Reads one file; what cannot be read is empty.
    pub fn read(path: &Path) -> Self {
        let mut text = Vec::new();
        match std::fs::File::open(path).and_then(|file| file.take(MAX_BYTES).read_to_end(&mut text)) {
            Ok(_) => Self::parse(&String::from_utf8_lossy(&text)),
            Err(_) => Self::default(),
        }
    }

    /// Reads the text of a resolv.conf.
    pub fn parse(text: &str) -> Self {
        let mut resolver = Self::default();
        for line in text.lines() {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => resolver.servers.extend(words.next().map(str::to_owned)),
                // The last one counts (resolv.conf(5)).
                Some("search") => resolver.searches = words.map(str::to_owned).collect(),
                Some("options") => resolver.options.extend(words.map(str::to_owned)),
                _ => {}
            }
        }
        resolver
    }
}

/// The pod's resolver. `ClusterFirst` without a cluster is the node's own, as the kubelet falls back.
pub fn config(spec: &PodSpec, node: &Resolver) -> DnsConfig {
    let mut base =
        if spec.dns_policy.as_deref() == Some("None") { Resolver::default() } else { node.clone() };
    if let Some(own) = &spec.dns_config {
        append(&mut base.servers, own.nameservers.iter().flatten());
        append(&mut base.searches, own.searches.iter().flatten());
        for option in own.options.iter().flatten() {
            let Some(name) = &option.name else { continue };
            base.options.retain(|known| known.split(':').next() != Some(name));
            base.options.push(match &option.value {
                Some(value) => format!("{name}:{value}"),
                None => name.clone(),
            });
        }
    }
    base.servers.truncate(MAX_SERVERS);
    base.searches.truncate(MAX_SEARCHES);
    DnsConfig { servers: base.servers, searches: base.searches, options: base.options }
}

fn append<'a>(list: &mut Vec<String>, more: impl Iterator<Item = &'a String>) {
    for item in more {
        if !list.contains(item) {
            list.push(item.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::translate::fixtures::pod;

    #[test]
    fn a_resolv_conf_is_read() {
        let got =
            Resolver::parse("# c\nnameserver 192.0.2.1\nsearch a b\nsearch c\noptions ndots:5 rotate\n");
        assert_eq!(got.servers, ["192.0.2.1"]);
        assert_eq!(got.searches, ["c"]);
        assert_eq!(got.options, ["ndots:5", "rotate"]);
    }

    #[test]
    fn a_pods_own_options_win_and_policy_none_forgets_the_node() {
        let node =
            Resolver { servers: vec!["192.0.2.1".into()], searches: vec![], options: vec!["ndots:1".into()] };
        let with = "  containers: [{name: c, image: x}]\n  dnsConfig: {nameservers: [192.0.2.9], options: [{name: ndots, value: '3'}]}\n";
        let got = config(&pod(with).spec.unwrap(), &node);
        assert_eq!(got.servers, ["192.0.2.1", "192.0.2.9"]);
        assert_eq!(got.options, ["ndots:3"]);
        let got = config(&pod(&format!("{with}  dnsPolicy: None\n")).spec.unwrap(), &node);
        assert_eq!(got.servers, ["192.0.2.9"]);
    }
}
