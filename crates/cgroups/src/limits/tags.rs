//! Tags for network traffic, and limits of RDMA devices.

use super::{NetworkLimits, RdmaLimit, Setting, plain_name};
use crate::error::Error;

/// Most interfaces and most RDMA devices taken.
const MAX_ENTRIES: usize = 1024;
/// Longest name of an interface (IFNAMSIZ without its zero).
const MAX_INTERFACE: usize = 15;

impl Setting<'_> {
    /// v2 has neither controller. It does the same with eBPF and nftables, outside of the runtime, so runc leaves them out
    /// there; that is said.
    pub(super) fn network(&mut self, asked: &NetworkLimits) -> Result<(), Error> {
        if *asked == NetworkLimits::default() {
            return Ok(());
        }
        bounded("network.priorities", asked.priorities.len())?;
        if self.group.layout.mode == crate::Mode::V2 {
            self.warnings.push(
                "the class and priorities of network traffic are not set: cgroup v2 has none".to_owned(),
            );
            return Ok(());
        }
        if let Some(class) = asked.class_id
            && let Some(hierarchy) = self.with("net_cls", "network.classID")?
        {
            self.write(hierarchy, "net_cls.classid", &class.to_string())?;
        }
        for (interface, priority) in &asked.priorities {
            plain_name("network.priorities", interface, MAX_INTERFACE)?;
            if let Some(hierarchy) = self.with("net_prio", "network.priorities")? {
                self.write(hierarchy, "net_prio.ifpriomap", &format!("{interface} {priority}"))?;
            }
        }
        Ok(())
    }

    pub(super) fn rdma(&mut self, asked: &[RdmaLimit]) -> Result<(), Error> {
        if asked.is_empty() {
            return Ok(());
        }
        bounded("rdma", asked.len())?;
        let lines = asked.iter().map(rdma_line).collect::<Result<Vec<String>, Error>>()?;
        let Some(hierarchy) = self.with("rdma", "the limit of RDMA devices")? else { return Ok(()) };
        self.enable(hierarchy, "rdma")?;
        for line in lines {
            self.write(hierarchy, "rdma.max", &line)?;
        }
        Ok(())
    }
}

fn bounded(what: &str, count: usize) -> Result<(), Error> {
    match count <= MAX_ENTRIES {
        true => Ok(()),
        false => Err(Error::Value {
            what: what.to_owned(),
            value: count.to_string(),
            why: "1024 entries are the most",
        }),
    }
}

/// `mlx5_1 hca_handle=3 hca_object=10000` (admin-guide/cgroup-v2.rst, "RDMA"); what is not in the line stays.
fn rdma_line(limit: &RdmaLimit) -> Result<String, Error> {
    plain_name("rdma", &limit.device, 64)?;
    let mut line = limit.device.clone();
    for (key, value) in [("hca_handle", limit.handles), ("hca_object", limit.objects)] {
        if let Some(value) = value {
            line.push_str(&format!(" {key}={value}"));
        }
    }
    match line.contains(' ') {
        true => Ok(line),
        // Specification, "RDMA": at least one of them MUST be given.
        false => Err(Error::Value {
            what: "rdma".to_owned(),
            value: limit.device.clone(),
            why: "hcaHandles or hcaObjects must be given",
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(device: &str, handles: Option<u32>, objects: Option<u32>) -> RdmaLimit {
        RdmaLimit { device: device.to_owned(), handles, objects }
    }

    #[test]
    fn an_rdma_limit_is_one_line_that_cannot_be_broken() {
        assert_eq!(rdma_line(&limit("mlx5_1", Some(3), None)).unwrap(), "mlx5_1 hca_handle=3");
        assert_eq!(rdma_line(&limit("rxe3", Some(3), Some(4))).unwrap(), "rxe3 hca_handle=3 hca_object=4");
        for bad in [
            limit("mlx", None, None),
            limit("", Some(1), None),
            limit("a b", Some(1), None),
            limit("a\nb", Some(1), None),
        ] {
            assert!(rdma_line(&bad).is_err(), "{bad:?}");
        }
    }
}
