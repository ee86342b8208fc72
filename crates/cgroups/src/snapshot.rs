//! The limits of a group as the kernel has them, to go back to when a change is refused half-way; and the plain
//! text of one file. Knows names of files only, not what their values mean.

use crate::layout::{Hierarchy, Version};
use crate::{Group, Result};

/// Files of v1 that limits are written to, with the controller that they belong to.
const V1: [(&str, &str); 17] = [
    ("memory", "memory.limit_in_bytes"),
    ("memory", "memory.memsw.limit_in_bytes"),
    ("memory", "memory.soft_limit_in_bytes"),
    ("memory", "memory.swappiness"),
    ("cpu", "cpu.shares"),
    ("cpu", "cpu.cfs_period_us"),
    ("cpu", "cpu.cfs_quota_us"),
    ("cpu", "cpu.cfs_burst_us"),
    ("cpu", "cpu.idle"),
    ("cpu", "cpu.rt_period_us"),
    ("cpu", "cpu.rt_runtime_us"),
    ("cpuset", "cpuset.cpus"),
    ("cpuset", "cpuset.mems"),
    ("pids", "pids.max"),
    ("blkio", "blkio.weight"),
    ("blkio", "blkio.bfq.weight"),
    ("net_cls", "net_cls.classid"),
];
/// The same of v2.
const V2: [(&str, &str); 14] = [
    ("memory", "memory.max"),
    ("memory", "memory.swap.max"),
    ("memory", "memory.min"),
    ("memory", "memory.low"),
    ("memory", "memory.high"),
    ("cpu", "cpu.idle"),
    ("cpu", "cpu.weight"),
    ("cpu", "cpu.max"),
    ("cpu", "cpu.max.burst"),
    ("cpuset", "cpuset.cpus"),
    ("cpuset", "cpuset.mems"),
    ("pids", "pids.max"),
    ("io", "io.weight"),
    ("io", "io.bfq.weight"),
];

/// Limits of one group at one time.
#[derive(Debug)]
pub struct Snapshot {
    group: Group,
    /// Controller, file, text.
    values: Vec<(&'static str, &'static str, String)>,
}

impl Group {
    /// The text of a file of the group in the hierarchy that has `controller`, the empty name for the unified one.
    /// `None` where there is no such hierarchy, group or file.
    pub fn text(&self, controller: &str, file: &str) -> Result<Option<String>> {
        let Some(hierarchy) = self.of(controller) else { return Ok(None) };
        Ok(hierarchy.read(self.relative(), file)?)
    }

    /// Whether `controller` is there, and of version 2.
    pub fn is_v2(&self, controller: &str) -> Option<bool> {
        self.of(controller).map(|hierarchy| hierarchy.version == Version::V2)
    }

    /// Reads the limits that [`Snapshot::restore`] can bring back.
    pub fn snapshot(&self) -> Result<Snapshot> {
        let mut values = Vec::new();
        for (version, files) in [(Version::V1, V1.as_slice()), (Version::V2, V2.as_slice())] {
            for (controller, file) in files {
                let Some(hierarchy) = self.layout.with(controller) else { continue };
                if hierarchy.version != version {
                    continue;
                }
                // A file that cannot be read (EOPNOTSUPP of some) was not written either.
                if let Ok(Some(text)) = hierarchy.read(self.relative(), file) {
                    values.push((*controller, *file, text));
                }
            }
        }
        Ok(Snapshot { group: self.clone(), values })
    }

    fn of(&self, controller: &str) -> Option<&Hierarchy> {
        match controller {
            "" => self.layout.unified(),
            name => self.layout.with(name),
        }
    }
}

impl Snapshot {
    /// Writes back what has changed since. True when all is as it was.
    pub fn restore(&self) -> bool {
        // Some depend on each other (memory and memory with swap, quota and burst), so the refused are tried again.
        (0..3).any(|_| self.once())
    }

    fn once(&self) -> bool {
        let mut same = true;
        for (controller, file, text) in &self.values {
            let Some(hierarchy) = self.group.of(controller) else { continue };
            let now = hierarchy.read(self.group.relative(), file).ok().flatten();
            if now.as_deref() == Some(text.as_str()) {
                continue;
            }
            // `io.weight` has one line for each device, and `default 100` first.
            for line in text.lines() {
                // An empty list (of CPUs) is written as a line, for the kernel passes over a write of nothing.
                let line = if line.trim().is_empty() { "\n" } else { line.trim() };
                same &= hierarchy.try_write(self.group.relative(), file, line).is_ok();
            }
        }
        same
    }
}
