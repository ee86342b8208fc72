//! What can be asked for: every field of OCI `linux.resources` save the devices, in the specification's units. No I/O.
//!
//! Everything is optional: what is not said is left as it is, so the same types serve creation and `update`.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Limits of one group (OCI runtime specification, config-linux.md, "Control groups").
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Memory and swap.
    pub memory: MemoryLimits,
    /// CPU time, CPUs and memory nodes.
    pub cpu: CpuLimits,
    /// Most processes and threads; negative is no limit.
    pub pids: Option<i64>,
    /// Block I/O.
    pub block: BlockLimits,
    /// Bytes by page size (`2MB`); negative is no limit.
    pub hugepages: Vec<(String, i64)>,
    /// Tags for traffic; v1 only.
    pub network: NetworkLimits,
    /// RDMA devices.
    pub rdma: Vec<RdmaLimit>,
    /// v2 files and what is written to them, after all else.
    pub unified: BTreeMap<String, String>,
}

/// Memory limits, bytes; negative is no limit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryLimits {
    /// The hard limit.
    pub limit: Option<i64>,
    /// What the kernel tries to leave: v1's soft limit, v2's `memory.low`.
    pub reservation: Option<i64>,
    /// Memory and swap together, as v1 counts.
    pub swap: Option<i64>,
    /// How readily anonymous memory is swapped, 0–100; v1 only.
    pub swappiness: Option<u64>,
    /// Processes wait for memory instead of being killed; v1 only.
    pub disable_oom_killer: Option<bool>,
    /// Refuse a limit below what is used now, rather than have the kernel reclaim and kill.
    pub check_before_update: bool,
}

/// CPU limits. Times are microseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CpuLimits {
    /// Relative weight, 2–262144.
    pub shares: Option<u64>,
    /// Time per period; negative is no limit.
    pub quota: Option<i64>,
    /// The period.
    pub period: Option<u64>,
    /// Unused time that may be saved up.
    pub burst: Option<u64>,
    /// Time per period for the realtime schedulers; v1 only.
    pub realtime_runtime: Option<i64>,
    /// Their period; v1 only.
    pub realtime_period: Option<u64>,
    /// 1 puts the group's tasks behind all others (SCHED_IDLE), 0 takes that back.
    pub idle: Option<i64>,
    /// CPUs, as `0-2,7`; empty is not said.
    pub cpus: String,
    /// Memory nodes, as `0`; empty is not said.
    pub mems: String,
}

/// Block I/O limits.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockLimits {
    /// Relative weight, 10–1000.
    pub weight: Option<u16>,
    /// Against the groups below this one; only v1's CFQ scheduler knew it.
    pub leaf_weight: Option<u16>,
    /// Weights of single devices.
    pub devices: Vec<BlockWeight>,
    /// Throttles of single devices.
    pub throttles: Vec<BlockLimit>,
}

/// The weight of one device, 10–1000.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockWeight {
    /// Major number of the device.
    pub major: u32,
    /// Minor number of the device.
    pub minor: u32,
    /// Relative weight.
    pub weight: Option<u16>,
    /// Against the groups below; see [`BlockLimits::leaf_weight`].
    pub leaf_weight: Option<u16>,
}

/// Throttles of one device; `None` is not said, 0 lifts one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockLimit {
    /// Major number of the device.
    pub major: u32,
    /// Minor number of the device.
    pub minor: u32,
    /// Bytes read per second.
    pub read_bytes: Option<u64>,
    /// Bytes written per second.
    pub write_bytes: Option<u64>,
    /// Reads per second.
    pub read_operations: Option<u64>,
    /// Writes per second.
    pub write_operations: Option<u64>,
}

/// Tags for the traffic of a group's sockets.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkLimits {
    /// `net_cls.classid`.
    pub class_id: Option<u32>,
    /// `net_prio.ifpriomap`: interface and priority.
    pub priorities: Vec<(String, u32)>,
}

/// The use of one RDMA device.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RdmaLimit {
    /// The device, as `mlx5_1`.
    pub device: String,
    /// Most handles.
    pub handles: Option<u32>,
    /// Most objects.
    pub objects: Option<u32>,
}

impl From<&types::pod::Resources> for Limits {
    /// In the CRI's types 0 and empty are not said.
    fn from(r: &types::pod::Resources) -> Self {
        let said = |value: i64| Some(value).filter(|value| *value != 0);
        let positive = |value: i64| u64::try_from(value).ok().filter(|value| *value > 0);
        Limits {
            memory: MemoryLimits {
                limit: said(r.memory_limit),
                swap: said(r.memory_swap_limit),
                ..MemoryLimits::default()
            },
            cpu: CpuLimits {
                shares: positive(r.cpu_shares),
                quota: said(r.cpu_quota),
                period: positive(r.cpu_period),
                cpus: r.cpuset_cpus.clone(),
                mems: r.cpuset_mems.clone(),
                ..CpuLimits::default()
            },
            hugepages: r
                .hugepages
                .iter()
                .map(|(size, limit)| (size.clone(), i64::try_from(*limit).unwrap_or(i64::MAX)))
                .collect(),
            unified: r.unified.clone(),
            ..Limits::default()
        }
    }
}
