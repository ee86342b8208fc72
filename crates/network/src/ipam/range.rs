//! Which addresses may be given out: ranges as host-local's configuration writes them. Pure.

use crate::cidr::{Cidr, from_number, next, to_number};
use serde::Deserialize;
use std::net::IpAddr;

/// One range as it is written.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RangeConf {
    /// The subnet; its prefix length goes into the result.
    pub subnet: Cidr,
    /// The first address, inclusive; by default the subnet's second.
    pub range_start: Option<IpAddr>,
    /// The last address, inclusive; by default the subnet's last, without IPv4's broadcast.
    pub range_end: Option<IpAddr>,
    /// Never given out; by default the subnet's second address.
    pub gateway: Option<IpAddr>,
}

/// One range, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Range {
    /// The subnet.
    pub subnet: Cidr,
    /// The first address, inclusive.
    pub first: IpAddr,
    /// The last address, inclusive.
    pub last: IpAddr,
    /// Never given out.
    pub gateway: IpAddr,
}

/// Why a range cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the range of {subnet}: {reason}")]
pub struct BadRange {
    subnet: Cidr,
    reason: String,
}

impl Range {
    /// Checks a range and fills in what it leaves open, as host-local does
    /// (plugins/ipam/host-local/backend/allocator/range.go of containernetworking/plugins).
    pub fn check(conf: &RangeConf) -> Result<Self, BadRange> {
        let subnet = conf.subnet;
        let refuse = |reason: String| BadRange { subnet, reason };
        if subnet.network() != subnet {
            return Err(refuse(format!("it has host bits; the network is {}", subnet.network())));
        }
        if subnet.prefix > subnet.bits() - 2 {
            return Err(refuse("it is too small to give addresses out".to_owned()));
        }
        let inside = |name: &str, address: IpAddr| {
            if subnet.contains(&address) {
                Ok(address)
            } else {
                Err(refuse(format!("{name} {address} is not in it")))
            }
        };
        let second = next(&subnet.address);
        let end = if subnet.address.is_ipv4() {
            from_number(&subnet.address, to_number(&subnet.last()) - 1) // a subnet has four addresses at least
        } else {
            subnet.last()
        };
        let range = Self {
            subnet,
            first: inside("rangeStart", conf.range_start.unwrap_or(second))?,
            last: inside("rangeEnd", conf.range_end.unwrap_or(end))?,
            gateway: inside("gateway", conf.gateway.unwrap_or(second))?,
        };
        if to_number(&range.first) > to_number(&range.last) {
            return Err(refuse(format!("rangeStart {} is after rangeEnd {}", range.first, range.last)));
        }
        Ok(range)
    }

    /// Whether the address is between the range's ends.
    pub fn contains(&self, address: &IpAddr) -> bool {
        self.subnet.contains(address)
            && (to_number(&self.first)..=to_number(&self.last)).contains(&to_number(address))
    }

    fn overlaps(&self, other: &Range) -> bool {
        self.contains(&other.first) || self.contains(&other.last) || other.contains(&self.first)
    }
}

/// Ranges of which a pod gets one address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RangeSet(Vec<Range>);

impl RangeSet {
    /// Checks all ranges of a set: one family, at least one range.
    pub fn check(confs: &[RangeConf]) -> Result<Self, String> {
        let ranges: Vec<Range> =
            confs.iter().map(Range::check).collect::<Result<_, _>>().map_err(|e| e.to_string())?;
        let Some(first) = ranges.first() else { return Err("a range set is empty".to_owned()) };
        if ranges.iter().any(|r| r.subnet.address.is_ipv4() != first.subnet.address.is_ipv4()) {
            return Err("a range set mixes IPv4 and IPv6".to_owned());
        }
        Ok(Self(ranges))
    }

    /// Whether the sets have an address in common.
    pub fn overlaps(&self, other: &RangeSet) -> bool {
        self.0.iter().any(|a| other.0.iter().any(|b| a.overlaps(b)))
    }

    /// The range that an address is in.
    pub fn range_of(&self, address: &IpAddr) -> Option<&Range> {
        self.0.iter().find(|r| r.contains(address))
    }

    /// The subnets of the set.
    pub fn subnets(&self) -> impl Iterator<Item = Cidr> + '_ {
        self.0.iter().map(|r| r.subnet)
    }

    /// All addresses once, round-robin: from the one after `last` to `last`, or from the start.
    pub fn from_after<'a>(&'a self, last: Option<&IpAddr>) -> impl Iterator<Item = (IpAddr, &'a Range)> + 'a {
        let mut start = (0, 0);
        let mut wrapped = true;
        if let Some(last) = last
            && let Some(index) = self.0.iter().position(|r| r.contains(last))
        {
            start = (index, to_number(last) - to_number(&self.0[index].first));
            wrapped = false;
        }
        let mut at = start;
        // `wrapped` means that the walk began at the start of the set, whose first address is
        // yielded at once; else the walk begins after `last` and ends with it.
        let mut fresh = wrapped;
        let mut done = false;
        std::iter::from_fn(move || {
            loop {
                if done {
                    return None;
                }
                if fresh {
                    fresh = false;
                } else {
                    let range = &self.0[at.0];
                    at = if at.1 >= to_number(&range.last) - to_number(&range.first) {
                        ((at.0 + 1) % self.0.len(), 0)
                    } else {
                        (at.0, at.1 + 1)
                    };
                    if at == start {
                        done = true;
                        if wrapped {
                            return None;
                        }
                    }
                }
                let range = &self.0[at.0];
                let address = from_number(&range.first, to_number(&range.first) + at.1);
                if address != range.gateway {
                    return Some((address, range));
                }
            }
        })
    }
}

impl std::fmt::Display for RangeSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, range) in self.0.iter().enumerate() {
            let comma = if index > 0 { ", " } else { "" };
            write!(f, "{comma}{}–{}", range.first, range.last)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(ranges: serde_json::Value) -> Result<RangeSet, String> {
        RangeSet::check(&serde_json::from_value::<Vec<RangeConf>>(ranges).map_err(|e| e.to_string())?)
    }

    fn walk(set: &RangeSet, last: Option<&str>) -> Vec<String> {
        let last = last.map(|l| l.parse().expect("an address"));
        set.from_after(last.as_ref()).map(|(a, _)| a.to_string()).collect()
    }

    #[test]
    fn the_walk_gives_every_address_once_and_never_the_gateway() {
        let small = set(serde_json::json!([{ "subnet": "10.0.0.0/29" }])).expect("valid");
        assert_eq!(walk(&small, None), ["10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6"]);
        assert_eq!(
            walk(&small, Some("10.0.0.4")),
            ["10.0.0.5", "10.0.0.6", "10.0.0.2", "10.0.0.3", "10.0.0.4"]
        );
        assert_eq!(
            walk(&small, Some("10.0.0.6")),
            ["10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6"]
        );
        assert_eq!(walk(&small, Some("192.168.0.1")).len(), 5, "a last address of elsewhere starts anew");
        let two = set(serde_json::json!([
            { "subnet": "10.0.0.0/29", "rangeStart": "10.0.0.2", "rangeEnd": "10.0.0.3" },
            { "subnet": "10.0.1.0/29", "rangeStart": "10.0.1.2", "rangeEnd": "10.0.1.2" }
        ]))
        .expect("valid");
        assert_eq!(walk(&two, Some("10.0.0.3")), ["10.0.1.2", "10.0.0.2", "10.0.0.3"]);
        let one = set(
            serde_json::json!([{ "subnet": "10.0.0.0/29", "rangeStart": "10.0.0.5", "rangeEnd": "10.0.0.5" }]),
        );
        let one = one.expect("valid");
        assert_eq!(
            (walk(&one, None), walk(&one, Some("10.0.0.5"))),
            (vec!["10.0.0.5".into()], vec!["10.0.0.5".into()])
        );
        let gateway_only = set(
            serde_json::json!([{ "subnet": "10.0.0.0/29", "rangeStart": "10.0.0.1", "rangeEnd": "10.0.0.1" }]),
        );
        assert!(walk(&gateway_only.expect("valid"), None).is_empty());
        let v6 = set(serde_json::json!([{ "subnet": "fd00::/64" }])).expect("valid");
        assert_eq!(v6.from_after(None).next().expect("many").0.to_string(), "fd00::2");
    }

    #[test]
    fn ranges_that_contradict_themselves_are_refused() {
        for (bad, why) in [
            (serde_json::json!([]), "empty"),
            (serde_json::json!([{ "subnet": "10.0.0.1/24" }]), "host bits"),
            (serde_json::json!([{ "subnet": "10.0.0.0/31" }]), "too small"),
            (serde_json::json!([{ "subnet": "10.0.0.0/24", "rangeStart": "10.0.1.1" }]), "not in it"),
            (serde_json::json!([{ "subnet": "10.0.0.0/24", "gateway": "fd00::1" }]), "not in it"),
            (
                serde_json::json!([{ "subnet": "10.0.0.0/24", "rangeStart": "10.0.0.9", "rangeEnd": "10.0.0.8" }]),
                "after",
            ),
            (serde_json::json!([{ "subnet": "10.0.0.0/24" }, { "subnet": "fd00::/64" }]), "mixes"),
            (serde_json::json!([{ "subnet": "10.0.0.0/24", "typo": 1 }]), "typo"),
        ] {
            let error = set(bad.clone()).expect_err("must be refused");
            assert!(error.contains(why), "{bad}: {error}");
        }
    }
}
