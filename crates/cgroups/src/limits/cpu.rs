//! CPU time, weight, and which CPUs and memory nodes.

use super::{Warnings, lacks};
use crate::Group;
use crate::error::Error;
use crate::layout::{Hierarchy, Version};
use crate::weight::weight_of_shares;
use rustix::io::Errno;
use types::pod::Resources;

/// The kernel's own period, microseconds.
const DEFAULT_PERIOD: i64 = 100_000;
/// Longest list of CPUs taken.
const MAX_LIST: usize = 4096;

impl Group {
    pub(super) fn apply_cpu(&self, r: &Resources, warnings: &mut Warnings) -> Result<(), Error> {
        if r.cpu_shares == 0 && r.cpu_period == 0 && r.cpu_quota == 0 {
            return Ok(());
        }
        let Some(hierarchy) = self.layout.with("cpu") else {
            warnings.push(lacks("cpu", "the CPU limit"));
            return Ok(());
        };
        match hierarchy.version {
            Version::V1 => self.cpu_v1(hierarchy, r),
            Version::V2 => self.cpu_v2(hierarchy, r),
        }
    }

    fn cpu_v1(&self, hierarchy: &Hierarchy, r: &Resources) -> Result<(), Error> {
        let group = self.relative();
        if r.cpu_shares > 0 {
            // The kernel clamps to 2–262144 itself.
            hierarchy.write(group, "cpu.shares", &r.cpu_shares.to_string())?;
        }
        let quota = r.cpu_quota.max(-1).to_string();
        let mut quota_done = r.cpu_quota == 0;
        if r.cpu_period > 0 {
            let period = r.cpu_period.to_string();
            let mut result = hierarchy.try_write(group, "cpu.cfs_period_us", &period);
            // The quota that is there, over the new period, may be more than the group above has: quota first then.
            if result == Err(Errno::INVAL)
                && !quota_done
                && hierarchy.try_write(group, "cpu.cfs_quota_us", &quota).is_ok()
            {
                quota_done = true;
                result = hierarchy.try_write(group, "cpu.cfs_period_us", &period);
            }
            result.map_err(|errno| hierarchy.refused(group, "cpu.cfs_period_us", &period, errno))?;
        }
        if !quota_done {
            hierarchy.write(group, "cpu.cfs_quota_us", &quota)?;
        }
        Ok(())
    }

    fn cpu_v2(&self, hierarchy: &Hierarchy, r: &Resources) -> Result<(), Error> {
        let group = self.relative();
        if r.cpu_shares > 0 {
            hierarchy.write(
                group,
                "cpu.weight",
                &weight_of_shares(r.cpu_shares.unsigned_abs()).to_string(),
            )?;
        }
        if r.cpu_quota != 0 || r.cpu_period > 0 {
            hierarchy.write(group, "cpu.max", &self.cpu_max(hierarchy, r)?)?;
        }
        Ok(())
    }

    /// v2 takes quota and period in one line; what is not said stays as it is.
    fn cpu_max(&self, hierarchy: &Hierarchy, r: &Resources) -> Result<String, Error> {
        let (mut quota, mut period) = ("max".to_owned(), DEFAULT_PERIOD.to_string());
        if (r.cpu_quota == 0 || r.cpu_period <= 0)
            && let Some(now) = hierarchy.read(self.relative(), "cpu.max")?
            && let Some((old_quota, old_period)) = now.trim().split_once(' ')
        {
            (quota, period) = (old_quota.to_owned(), old_period.to_owned());
        }
        match r.cpu_quota {
            0 => {}
            ..0 => quota = "max".to_owned(),
            said => quota = said.to_string(),
        }
        if r.cpu_period > 0 {
            period = r.cpu_period.to_string();
        }
        Ok(format!("{quota} {period}"))
    }

    pub(super) fn apply_cpuset(&self, r: &Resources, warnings: &mut Warnings) -> Result<(), Error> {
        for (file, list) in [("cpuset.cpus", &r.cpuset_cpus), ("cpuset.mems", &r.cpuset_mems)] {
            if list.is_empty() {
                continue;
            }
            check_list(file, list)?;
            match self.layout.with("cpuset") {
                Some(hierarchy) => hierarchy.write(self.relative(), file, list)?,
                None => warnings.push(lacks("cpuset", file)),
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
