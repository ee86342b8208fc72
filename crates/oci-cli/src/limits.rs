//! `linux.resources` as limits of a cgroup: for `create`, and for `update`. Says what of it means nothing any more; device
//! rules are [`crate::device_rules`]' part. No I/O before [`Limits::apply`].

use cgroups::{BlockLimit, BlockWeight, Group, RdmaLimit};
use oci_spec::runtime::{
    LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxNetwork, LinuxRdma, LinuxResources, LinuxThrottleDevice,
};
use std::collections::HashMap;
use std::fmt::Display;
use types::{Error, Result};

/// Limits of one container.
#[derive(Debug, Default, PartialEq)]
pub struct Limits {
    wanted: cgroups::Limits,
    /// What was asked for and means nothing, one sentence each.
    ignored: Vec<String>,
}

impl Limits {
    /// From a specification.
    ///
    /// In numbers for which the kernel has no 0, 0 is "not said", as it is for runc and for its callers.
    ///
    /// # Errors
    /// `InvalidArgument` for numbers that no kernel takes.
    pub fn of(resources: Option<&LinuxResources>) -> Result<Self> {
        let mut limits = Self::default();
        let Some(all) = resources else { return Ok(limits) };
        if let Some(memory) = all.memory() {
            limits.memory(memory);
        }
        if let Some(cpu) = all.cpu() {
            limits.cpu(cpu);
        }
        if let Some(block) = all.block_io() {
            limits.block(block)?;
        }
        limits.wanted.pids = all.pids().as_ref().and_then(|pids| said(Some(pids.limit())));
        for page in all.hugepage_limits().iter().flatten() {
            limits.wanted.hugepages.push((page.page_size().clone(), page.limit()));
        }
        if let Some(network) = all.network() {
            limits.network(network);
        }
        limits.rdma(all.rdma().as_ref());
        limits.wanted.unified =
            all.unified().iter().flatten().map(|(file, value)| (file.clone(), value.clone())).collect();
        Ok(limits)
    }

    fn memory(&mut self, memory: &LinuxMemory) {
        // The kernel has no such limits since Linux 5.11 (kernel) and none of use before; runc leaves them out too.
        for (name, value) in [("kernel", memory.kernel()), ("kernelTCP", memory.kernel_tcp())] {
            if value.is_some_and(|value| value > 0) {
                self.ignored
                    .push(format!("linux.resources.memory.{name} is ignored: it is counted in memory.limit"));
            }
        }
        if memory.use_hierarchy() == Some(false) {
            // The kernel has no other way since Linux 5.11.
            self.ignored.push(
                "linux.resources.memory.useHierarchy false is ignored: groups below always count".to_owned(),
            );
        }
        self.wanted.memory = cgroups::MemoryLimits {
            limit: said(memory.limit()),
            reservation: said(memory.reservation()),
            swap: said(memory.swap()),
            // runc's older callers write -1 for "not said", which is this number in an unsigned one.
            swappiness: memory.swappiness().filter(|value| *value != u64::MAX),
            disable_oom_killer: memory.disable_oom_killer(),
            check_before_update: memory.check_before_update() == Some(true),
        };
    }

    fn cpu(&mut self, cpu: &LinuxCpu) {
        let positive = |value: Option<u64>| value.filter(|value| *value != 0);
        self.wanted.cpu = cgroups::CpuLimits {
            shares: positive(cpu.shares()),
            quota: said(cpu.quota()),
            period: positive(cpu.period()),
            // Here 0 takes an earlier one back.
            burst: cpu.burst(),
            realtime_runtime: said(cpu.realtime_runtime()),
            realtime_period: positive(cpu.realtime_period()),
            idle: cpu.idle(),
            cpus: cpu.cpus().clone().unwrap_or_default(),
            mems: cpu.mems().clone().unwrap_or_default(),
        };
    }

    fn block(&mut self, block: &LinuxBlockIo) -> Result<()> {
        let weight = |weight: Option<u16>| weight.filter(|weight| *weight != 0);
        self.wanted.block.weight = weight(block.weight());
        self.wanted.block.leaf_weight = weight(block.leaf_weight());
        for device in block.weight_device().iter().flatten() {
            let weights = BlockWeight {
                major: number("blockIO.weightDevice", device.major())?,
                minor: number("blockIO.weightDevice", device.minor())?,
                weight: weight(device.weight()),
                leaf_weight: weight(device.leaf_weight()),
            };
            // Specification, "Block IO": at least one of them MUST be given.
            if weights.weight.is_none() && weights.leaf_weight.is_none() {
                return Err(Error::invalid(format!(
                    "linux.resources.blockIO.weightDevice: device {}:{} has neither weight nor leafWeight",
                    weights.major, weights.minor
                )));
            }
            self.wanted.block.devices.push(weights);
        }
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
            self.wanted.block.throttles.push(limit);
        }
        Ok(())
    }

    fn network(&mut self, network: &LinuxNetwork) {
        self.wanted.network.class_id = network.class_id().filter(|class| *class != 0);
        self.wanted.network.priorities = network
            .priorities()
            .iter()
            .flatten()
            .map(|priority| (priority.name().clone(), priority.priority()))
            .collect();
    }

    fn rdma(&mut self, devices: Option<&HashMap<String, LinuxRdma>>) {
        let limit = |(device, limit): (&String, &LinuxRdma)| RdmaLimit {
            device: device.clone(),
            handles: limit.hca_handles(),
            objects: limit.hca_objects(),
        };
        self.wanted.rdma = devices.into_iter().flatten().map(limit).collect();
        self.wanted.rdma.sort_by(|a, b| a.device.cmp(&b.device));
    }

    /// The limits in the cgroup crate's words, for systemd's properties too.
    pub fn wanted(&self) -> &cgroups::Limits {
        &self.wanted
    }

    /// Sets the limits, of a new group as of one in use. Gives back what was left out, one sentence each.
    ///
    /// # Errors
    /// As [`Group::limit`].
    pub fn apply(&self, group: &Group) -> Result<Vec<String>> {
        let mut warnings = self.ignored.clone();
        warnings.extend(group.limit(&self.wanted)?);
        Ok(warnings)
    }
}

/// 0 is not said.
fn said(value: Option<i64>) -> Option<i64> {
    value.filter(|value| *value != 0)
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
    fn every_limit_of_the_specification_is_taken() {
        let limits = of(serde_json::json!({
            "memory": {
                "limit": 1_048_576, "swap": -1, "reservation": 5, "swappiness": 0, "disableOOMKiller": true,
                "checkBeforeUpdate": true,
            },
            "cpu": {
                "shares": 512, "quota": 20_000, "period": 100_000, "burst": 0, "cpus": "0-1", "mems": "0", "idle": 0,
                "realtimeRuntime": 5, "realtimePeriod": 6,
            },
            "pids": { "limit": 64 },
            "hugepageLimits": [{ "pageSize": "2MB", "limit": 0 }],
            "blockIO": {
                "weight": 100, "leafWeight": 0,
                "weightDevice": [{ "major": 8, "minor": 0, "weight": 10 }],
                "throttleReadBpsDevice": [{ "major": 8, "minor": 0, "rate": 600 }],
                "throttleWriteIOPSDevice": [{ "major": 8, "minor": 1, "rate": 0 }],
            },
            "network": { "classID": 1_048_577, "priorities": [{ "name": "eth0", "priority": 5 }] },
            "rdma": { "mlx5_1": { "hcaHandles": 3 } },
            "unified": { "memory.high": "1" },
        }))
        .expect("good");
        assert_eq!(limits.ignored, Vec::<String>::new());
        let all = &limits.wanted;
        assert_eq!(
            (all.memory.limit, all.memory.swap, all.memory.reservation),
            (Some(1_048_576), Some(-1), Some(5))
        );
        assert_eq!((all.memory.swappiness, all.memory.disable_oom_killer), (Some(0), Some(true)));
        assert!(all.memory.check_before_update);
        assert_eq!((all.cpu.shares, all.cpu.quota, all.cpu.burst), (Some(512), Some(20_000), Some(0)));
        assert_eq!(
            (all.cpu.realtime_runtime, all.cpu.realtime_period, all.cpu.idle),
            (Some(5), Some(6), Some(0))
        );
        assert_eq!(all.pids, Some(64));
        assert_eq!(all.hugepages, [("2MB".to_owned(), 0)]);
        assert_eq!((all.block.weight, all.block.leaf_weight), (Some(100), None));
        assert_eq!(all.block.devices[0].weight, Some(10));
        assert_eq!(all.block.throttles[0].read_bytes, Some(600));
        assert_eq!(all.block.throttles[1].write_operations, Some(0));
        assert_eq!(all.network.priorities, [("eth0".to_owned(), 5)]);
        assert_eq!(all.rdma[0].handles, Some(3));
        assert_eq!(all.unified["memory.high"], "1");
    }

    #[test]
    fn a_zero_is_not_said_where_the_kernel_has_none() {
        let limits = of(serde_json::json!({
            "memory": { "limit": 0, "swap": 0, "kernel": 0, "kernelTCP": -1, "disableOOMKiller": false },
            "cpu": { "shares": 0, "quota": 0, "period": 0, "cpus": "" },
            "pids": { "limit": 0 },
        }))
        .expect("good");
        let mut none = Limits::default();
        none.wanted.memory.disable_oom_killer = Some(false);
        assert_eq!(limits, none);
        assert_eq!(of(serde_json::json!({ "pids": { "limit": -1 } })).expect("good").wanted.pids, Some(-1));
        assert_eq!(Limits::of(None).expect("good"), Limits::default());
    }

    #[test]
    fn limits_that_the_kernel_no_longer_has_are_warned_of() {
        let limits =
            of(serde_json::json!({ "memory": { "kernel": 5, "kernelTCP": 5, "useHierarchy": false } }))
                .expect("good");
        assert_eq!(limits.ignored.len(), 3);
        assert_eq!(limits.wanted, cgroups::Limits::default());
    }

    #[test]
    fn numbers_of_devices_that_cannot_be_are_refused() {
        for bad in [
            serde_json::json!({ "blockIO": { "weightDevice": [{ "major": 8, "minor": 0 }] } }),
            serde_json::json!({ "blockIO": { "weightDevice": [{ "major": -1, "minor": 0, "weight": 10 }] } }),
            serde_json::json!({ "blockIO": { "throttleReadBpsDevice": [{ "major": 1_i64 << 40, "minor": 0, "rate": 1 }] } }),
        ] {
            assert!(of(bad.clone()).is_err(), "{bad}");
        }
    }
}
