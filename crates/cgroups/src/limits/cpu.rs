//! CPU time, weight, and which CPUs and memory nodes.

use super::{CpuLimits, Setting};
use crate::error::Error;
use crate::layout::{Hierarchy, Version};
use crate::weight::weight_of_shares;
use rustix::io::Errno;

/// The kernel's own period, microseconds.
const DEFAULT_PERIOD: &str = "100000";
/// Longest list of CPUs taken.
const MAX_LIST: usize = 4096;
/// What v1's `cpu.shares` takes; the kernel moves others to these without a word.
const SHARES: std::ops::RangeInclusive<u64> = 2..=262_144;

impl Setting<'_> {
    pub(super) fn cpu(&mut self, asked: &CpuLimits) -> Result<(), Error> {
        let realtime = asked.realtime_runtime.is_some() || asked.realtime_period.is_some();
        let time = asked.quota.is_some() || asked.period.is_some() || asked.burst.is_some();
        if !realtime && !time && asked.shares.is_none() && asked.idle.is_none() {
            return Ok(());
        }
        let Some(hierarchy) = self.with("cpu", "the CPU limit")? else { return Ok(()) };
        if realtime {
            self.realtime(hierarchy, asked)?;
        }
        // A group that is idle takes no weight (EINVAL, kernel `sched_group_set_shares`).
        if asked.idle == Some(0) {
            self.idle(hierarchy, 0)?;
        }
        if let Some(shares) = asked.shares {
            self.weight(hierarchy, shares, asked.idle == Some(1))?;
        }
        match asked.idle {
            None | Some(0) => {}
            Some(idle) => self.idle(hierarchy, idle)?,
        }
        if !time {
            return Ok(());
        }
        match hierarchy.version {
            Version::V1 => self.time_v1(hierarchy, asked),
            Version::V2 => self.time_v2(hierarchy, asked),
        }
    }

    fn idle(&mut self, hierarchy: &Hierarchy, idle: i64) -> Result<(), Error> {
        self.write_if_there(hierarchy, "cpu.idle", &idle.to_string(), "cpu.idle")
    }

    fn weight(&mut self, hierarchy: &Hierarchy, shares: u64, idle: bool) -> Result<(), Error> {
        let (file, value) = match hierarchy.version {
            Version::V1 if !SHARES.contains(&shares) => {
                let why = "it must be from 2 to 262144";
                return Err(Error::Value { what: "cpu.shares".to_owned(), value: shares.to_string(), why });
            }
            Version::V1 => ("cpu.shares", shares),
            Version::V2 => ("cpu.weight", weight_of_shares(shares)),
        };
        match self.try_write(hierarchy, file, &value.to_string()) {
            // It is idle already and stays so: then the weight means nothing.
            Err(Errno::INVAL) if idle => Ok(()),
            other => other.map_err(|errno| self.refused(hierarchy, file, &value.to_string(), errno)),
        }
    }

    fn realtime(&mut self, hierarchy: &Hierarchy, asked: &CpuLimits) -> Result<(), Error> {
        const WHAT: &str = "the limit of realtime CPU time";
        if hierarchy.version == Version::V2 {
            return self.cannot(format!("{WHAT} cannot be set: cgroup v2 has no such limit"));
        }
        // The runtime may not be above the period at any moment: the one that is refused at first goes last.
        let period = asked.realtime_period.map(|period| ("cpu.rt_period_us", period.to_string()));
        let runtime = asked.realtime_runtime.map(|runtime| ("cpu.rt_runtime_us", runtime.to_string()));
        let mut waiting: Vec<(&str, String)> = [period, runtime].into_iter().flatten().collect();
        if let [(file, value), _] = &waiting[..]
            && self.try_write(hierarchy, file, value) == Err(Errno::INVAL)
        {
            waiting.reverse();
        }
        for (file, value) in waiting {
            self.write_if_there(hierarchy, file, &value, WHAT)?;
        }
        Ok(())
    }

    /// The kernel checks each value against the two others that are there, so one that it refuses (EINVAL) is tried again
    /// when the others are written.
    fn time_v1(&mut self, hierarchy: &Hierarchy, asked: &CpuLimits) -> Result<(), Error> {
        let quota = asked.quota.map(|quota| ("cpu.cfs_quota_us", quota.max(-1).to_string()));
        let period = asked.period.map(|period| ("cpu.cfs_period_us", period.to_string()));
        let burst = asked.burst.map(|burst| ("cpu.cfs_burst_us", burst.to_string()));
        let mut waiting: Vec<(&str, String)> = [period, quota, burst].into_iter().flatten().collect();
        for last in [false, true] {
            let mut again = Vec::new();
            for (file, value) in waiting {
                match self.try_write(hierarchy, file, &value) {
                    Ok(()) => {}
                    Err(Errno::INVAL) if !last => again.push((file, value)),
                    Err(Errno::NOENT) if file == "cpu.cfs_burst_us" => self.no_burst()?,
                    Err(errno) => return Err(self.refused(hierarchy, file, &value, errno)),
                }
            }
            waiting = again;
        }
        Ok(())
    }

    /// v2 takes quota and period in one line; what is not said stays as it is.
    fn time_v2(&mut self, hierarchy: &Hierarchy, asked: &CpuLimits) -> Result<(), Error> {
        let burst = asked.burst.map(|burst| burst.to_string());
        // A burst is never above the quota: it goes first when both shrink, and last when they grow.
        let early = burst.as_ref().map(|burst| self.try_write(hierarchy, "cpu.max.burst", burst));
        if asked.quota.is_some() || asked.period.is_some() {
            let line = self.cpu_max(hierarchy, asked)?;
            self.write(hierarchy, "cpu.max", &line)?;
        }
        match (burst, early) {
            (Some(burst), Some(Err(Errno::INVAL))) => self.write(hierarchy, "cpu.max.burst", &burst),
            (Some(_), Some(Err(Errno::NOENT))) => self.no_burst(),
            (Some(burst), Some(Err(errno))) => Err(self.refused(hierarchy, "cpu.max.burst", &burst, errno)),
            _ => Ok(()),
        }
    }

    /// Before Linux 5.14. runc leaves it out as well.
    fn no_burst(&mut self) -> Result<(), Error> {
        self.warnings.push("cpu.burst is not set: this kernel cannot save up unused time".to_owned());
        Ok(())
    }

    fn cpu_max(&self, hierarchy: &Hierarchy, asked: &CpuLimits) -> Result<String, Error> {
        let (mut quota, mut period) = ("max".to_owned(), DEFAULT_PERIOD.to_owned());
        if (asked.quota.is_none() || asked.period.is_none())
            && let Some(now) = hierarchy.read(self.group.relative(), "cpu.max")?
            && let Some((old_quota, old_period)) = now.trim().split_once(' ')
        {
            (quota, period) = (old_quota.to_owned(), old_period.to_owned());
        }
        match asked.quota {
            None => {}
            Some(..0) => quota = "max".to_owned(),
            Some(said) => quota = said.to_string(),
        }
        if let Some(said) = asked.period {
            period = said.to_string();
        }
        Ok(format!("{quota} {period}"))
    }

    pub(super) fn cpuset(&mut self, asked: &CpuLimits) -> Result<(), Error> {
        for (file, list) in [("cpuset.cpus", &asked.cpus), ("cpuset.mems", &asked.mems)] {
            if list.is_empty() {
                continue;
            }
            check_list(file, list)?;
            if let Some(hierarchy) = self.with("cpuset", file)? {
                self.write(hierarchy, file, list)?;
            }
        }
        Ok(())
    }
}

/// A list of numbers and ranges: `0-2,7`. The kernel judges the numbers.
fn check_list(file: &str, list: &str) -> Result<(), Error> {
    let plain = |b: u8| b.is_ascii_digit() || matches!(b, b',' | b'-');
    match list.len() <= MAX_LIST && list.bytes().all(plain) {
        true => Ok(()),
        false => Err(Error::Value {
            what: file.to_owned(),
            value: list.chars().take(100).collect(),
            why: "write it like 0-2,7",
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::check_list;

    #[test]
    fn lists_of_cpus_are_checked() {
        check_list("cpuset.cpus", "0-2,7").unwrap();
        for bad in ["all", "0 1", "0\n", "0;1", &"1,".repeat(4000)] {
            assert!(check_list("cpuset.cpus", bad).is_err());
        }
    }
}
