//! Content of `/etc/hosts` and `/etc/resolv.conf` as text. Writes no file.
//!
//! Where a caller such as the kubelet mounts its own `/etc/hosts`, ours is not used.

use std::fmt::Write;
use std::net::IpAddr;
use types::pod::Dns;
use types::reference::shorten;
use types::{Error, Result};

/// `/etc/resolv.conf` for a pod, in the form that the kubelet's callers know: `search`, `nameserver`, `options`.
///
/// containerd writes it the same way (`internal/cri/server/podsandbox/sandbox_run_linux.go`, `parseDNSOptions`).
/// Bounds: 64 KiB, and no entry with white space or control characters, which would be another line or another word.
pub fn resolv_conf(dns: &Dns) -> Result<String> {
    let mut text = String::new();
    for list in [&dns.searches, &dns.servers, &dns.options] {
        for word in list {
            if word.is_empty() || word.contains(|c: char| c.is_whitespace() || c.is_control()) {
                return Err(Error::invalid(format!(
                    "DNS entry {:?}: one word without white space is expected",
                    shorten(word)
                )));
            }
        }
    }
    let mut line = |name: &str, words: &[String]| {
        if !words.is_empty() {
            // Writing to a String does not fail.
            let _ = writeln!(text, "{name} {}", words.join(" "));
        }
    };
    line("search", &dns.searches);
    for server in &dns.servers {
        line("nameserver", std::slice::from_ref(server));
    }
    line("options", &dns.options);
    if text.len() > 64 << 10 {
        return Err(Error::invalid("the pod's DNS configuration is longer than 64 KiB"));
    }
    Ok(text)
}

/// `/etc/hosts` for a pod that has addresses of its own: the names of the loopback and one line per address.
pub fn hosts(hostname: &str, addresses: &[IpAddr]) -> String {
    let mut text = String::from(
        "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::0\tip6-localnet\n\
         fe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n",
    );
    let plain = hostname.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'));
    if !hostname.is_empty() && plain {
        for address in addresses {
            let _ = writeln!(text, "{address}\t{hostname}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolv_conf_has_search_then_servers_then_options() {
        let dns = Dns {
            servers: vec!["10.96.0.10".into(), "10.96.0.11".into()],
            searches: vec!["a.svc.cluster.local".into(), "svc.cluster.local".into()],
            options: vec!["ndots:5".into()],
        };
        assert_eq!(
            resolv_conf(&dns).expect("plain"),
            "search a.svc.cluster.local svc.cluster.local\nnameserver 10.96.0.10\nnameserver 10.96.0.11\noptions ndots:5\n"
        );
        assert_eq!(resolv_conf(&Dns::default()).expect("empty"), "");
    }

    #[test]
    fn a_dns_entry_cannot_bring_a_line_of_its_own() {
        let dns = Dns { servers: vec!["1.1.1.1\nnameserver 6.6.6.6".into()], ..Dns::default() };
        assert!(resolv_conf(&dns).is_err());
    }

    #[test]
    fn the_pods_name_stands_after_each_of_its_addresses() {
        let text = hosts("web-0", &["10.88.0.5".parse().expect("v4"), "fd00::5".parse().expect("v6")]);
        assert!(text.ends_with("10.88.0.5\tweb-0\nfd00::5\tweb-0\n"), "{text}");
        assert!(!hosts("a\nb", &["10.88.0.5".parse().expect("v4")]).contains("10.88"));
    }
}
