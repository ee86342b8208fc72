//! `linux.resources` as limits of a cgroup. What the cgroup crate cannot set is refused by its name; what
//! this machine cannot do comes back as a warning.

use cgroups::{BlockLimit, Group};
use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxResources, LinuxThrottleDevice};
use std::fmt::Display;
use types::pod::Resources;
use types::{Error, ErrorKind, Result};

/// Limits of one container.
#[derive(Debug, Default, PartialEq)]
pub struct Limits {
    resources: Resources,
    /// `Some(None)` lifts the limit.
    pids: Option<Option<u64>>,
    block_weight: Option<u16>,
    throttles: Vec<BlockLimit>,
}

impl Limits {
    /// From a specification. Device rules are [`crate::device_rules`]' part.
    pub fn of(resources: Option<&LinuxResources>) -> Result<Self> {
        let mut limits = Self::default();
        let Some(all) = resources else { return Ok(limits) };
        if let Some(memory) = all.memory() {
            limits.memory(memory)?;
        }
        if let Some(cpu) = all.cpu() {
            limits.cpu(cpu)?;
        }
        if let Some(block) = all.block_io() {
            limits.block(block)?;
        }
        // 0 is "not said" in what the callers of runc write.
        limits.pids = match all.pids().as_ref().map(|pids| pids.limit()) {
            None | Some(0) => None,
            Some(limit) => Some(u64::try_from(limit).ok()),
        };
        for page in all.hugepage_limits().iter().flatten() {
            let limit = number("hugepageLimits", page.limit())?;
            limits.resources.hugepages.push((page.page_size().clone(), limit));
        }
        if let Some(network) = all.network() {
            refuse("network.classID", network.class_id().is_some())?;
            refuse("network.priorities", network.priorities().as_ref().is_some_and(|p| !p.is_empty()))?;
        }
        refuse("rdma", all.rdma().as_ref().is_some_and(|map| !map.is_empty()))?;
        limits.resources.unified =
            all.unified().iter().flatten().map(|(file, value)| (file.clone(), value.clone())).collect();
        Ok(limits)
    }

    fn memory(&mut self, memory: &LinuxMemory) -> Result<()> {
        let said = |value: Option<i64>| value.is_some_and(|value| value != 0);
        refuse("memory.reservation", said(memory.reservation()))?;
        refuse("memory.kernel", said(memory.kernel()))?;
        refuse("memory.kernelTCP", said(memory.kernel_tcp()))?;
        refuse("memory.swappiness", memory.swappiness().is_some())?;
        refuse("memory.disableOOMKiller", memory.disable_oom_killer() == Some(true))?;
        // The kernel has no other way since Linux 5.11.
        refuse("memory.useHierarchy false", memory.use_hierarchy() == Some(false))?;
        refuse("memory.checkBeforeUpdate", memory.check_before_update() == Some(true))?;
        self.resources.memory_limit = memory.limit().unwrap_or(0);
        self.resources.memory_swap_limit = memory.swap().unwrap_or(0);
        Ok(())
    }

    fn cpu(&mut self, cpu: &LinuxCpu) -> Result<()> {
        refuse("cpu.idle", cpu.idle().is_some_and(|idle| idle != 0))?;
        refuse("cpu.burst", cpu.burst().is_some_and(|burst| burst != 0))?;
        refuse("cpu.realtimeRuntime", cpu.realtime_runtime().is_some_and(|time| time != 0))?;
        refuse("cpu.realtimePeriod", cpu.realtime_period().is_some_and(|time| time != 0))?;
        self.resources.cpu_shares = number("cpu.shares", cpu.shares().unwrap_or(0))?;
        self.resources.cpu_period = number("cpu.period", cpu.period().unwrap_or(0))?;
        self.resources.cpu_quota = cpu.quota().unwrap_or(0);
        self.resources.cpuset_cpus = cpu.cpus().clone().unwrap_or_default();
        self.resources.cpuset_mems = cpu.mems().clone().unwrap_or_default();
        Ok(())
    }

    fn block(&mut self, block: &LinuxBlockIo) -> Result<()> {
        refuse("blockIO.leafWeight", block.leaf_weight().is_some_and(|weight| weight != 0))?;
        refuse("blockIO.weightDevice", block.weight_device().as_ref().is_some_and(|list| !list.is_empty()))?;
        self.block_weight = block.weight().filter(|weight| *weight != 0);
        self.throttle(block.throttle_read_bps_device(), |limit| &mut limit.read_bytes)?;
        self.throttle(block.throttle_write_bps_device(), |limit| &mut limit.write_bytes)?;
        self.throttle(block.throttle_read_iops_device(), |limit| &mut limit.read_operations)?;
        self.throttle(block.throttle_write_iops_device(), |limit| &mut limit.write_operations)
    }

    fn throttle(
        &mut self,
        list: &Option<Vec<LinuxThrottleDevice>>,
        field: impl Fn(&mut BlockLimit) -> &mut Option<u64>,
    ) -> Result<()> {
        for device in list.iter().flatten() {
            let mut limit = BlockLimit {
                major: number("blockIO throttle device", device.major())?,
                minor: number("blockIO throttle device", device.minor())?,
                ..BlockLimit::default()
            };
            *field(&mut limit) = Some(device.rate());
            self.throttles.push(limit);
        }
        Ok(())
    }

    /// Sets the limits. Gives back what this machine cannot do.
    pub fn apply(&self, group: &Group) -> Result<Vec<String>> {
        let mut warnings = group.apply(&self.resources)?;
        if let Some(max) = self.pids {
            warnings.extend(group.limit_pids(max)?);
        }
        if let Some(weight) = self.block_weight {
            warnings.extend(group.block_weight(weight)?);
        }
        warnings.extend(group.block_throttle(&self.throttles)?);
        Ok(warnings)
    }
}

fn refuse(field: &str, said: bool) -> Result<()> {
    if !said {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Unimplemented,
        format!("`linux.resources.{field}` of the specification is not built yet; take it out"),
    ))
}

fn number<T: TryInto<U> + Copy + Display, U>(field: &str, value: T) -> Result<U> {
    value.try_into().map_err(|_| Error::invalid(format!("linux.resources.{field}: {value} is out of range")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(json: serde_json::Value) -> Result<Limits> {
        Limits::of(Some(&serde_json::from_value(json).expect("resources")))
    }

    #[test]
    fn limits_that_are_known_are_taken() {
        let limits = of(serde_json::json!({
            "memory": { "limit": 1_048_576, "swap": -1, "disableOOMKiller": false },
            "cpu": { "shares": 512, "quota": 20_000, "period": 100_000, "cpus": "0-1" },
            "pids": { "limit": 64 },
            "hugepageLimits": [{ "pageSize": "2MB", "limit": 0 }],
            "blockIO": { "throttleReadBpsDevice": [{ "major": 8, "minor": 0, "rate": 600 }] },
            "unified": { "memory.high": "1" },
        }))
        .expect("good");
        assert_eq!(limits.resources.memory_limit, 1_048_576);
        assert_eq!(limits.resources.memory_swap_limit, -1);
        assert_eq!((limits.resources.cpu_shares, limits.resources.cpu_quota), (512, 20_000));
        assert_eq!(limits.pids, Some(Some(64)));
        assert_eq!(limits.resources.hugepages, [("2MB".to_owned(), 0)]);
        assert_eq!(limits.throttles[0].read_bytes, Some(600));
        assert_eq!(of(serde_json::json!({ "pids": { "limit": -1 } })).expect("good").pids, Some(None));
        assert_eq!(Limits::of(None).expect("good"), Limits::default());
    }

    #[test]
    fn limits_that_are_not_built_are_refused_by_name() {
        for (json, name) in [
            (serde_json::json!({ "memory": { "swappiness": 0 } }), "memory.swappiness"),
            (serde_json::json!({ "memory": { "reservation": 5 } }), "memory.reservation"),
            (serde_json::json!({ "memory": { "disableOOMKiller": true } }), "memory.disableOOMKiller"),
            (serde_json::json!({ "cpu": { "realtimeRuntime": 5 } }), "cpu.realtimeRuntime"),
            (serde_json::json!({ "cpu": { "burst": 5 } }), "cpu.burst"),
            (serde_json::json!({ "network": { "classID": 1 } }), "network.classID"),
            (serde_json::json!({ "rdma": { "mlx5_1": { "hcaHandles": 3 } } }), "rdma"),
            (serde_json::json!({ "blockIO": { "leafWeight": 10 } }), "blockIO.leafWeight"),
        ] {
            let error = of(json).expect_err(name);
            assert_eq!(error.kind(), ErrorKind::Unimplemented);
            assert!(error.message().contains(&format!("`linux.resources.{name}`")), "{error}");
        }
        assert!(of(serde_json::json!({ "cpu": { "shares": u64::MAX } })).is_err());
        assert!(of(serde_json::json!({ "hugepageLimits": [{ "pageSize": "2MB", "limit": -1 }] })).is_err());
    }
}
