//! Limits of a group, in the words of both versions. What a machine cannot do comes back as a warning;
//! what is wrong in the request is an error. Limits that are not said are left as they are.

mod block;
mod cpu;
mod memory;

pub use block::BlockLimit;

use crate::create::hand_down;
use crate::error::Error;
use crate::layout::{Hierarchy, Mode, Version};
use crate::{Group, Result};
use rustix::io::Errno;
use types::pod::Resources;

/// Longest value for a file of the `unified` map.
const MAX_UNIFIED: usize = 4096;

/// What this machine cannot do, one sentence each.
pub(crate) type Warnings = Vec<String>;

impl Group {
    /// Sets the limits that are said in `resources`; `oom_score_adj` belongs to processes and is not looked at.
    ///
    /// Gives back what this machine cannot do, one sentence each.
    ///
    /// # Errors
    /// `InvalidArgument` for a value that the kernel refuses, `FailedPrecondition` when a memory limit is below
    /// what the group uses and cannot give back.
    pub fn apply(&self, resources: &Resources) -> Result<Vec<String>> {
        let mut warnings = Vec::new();
        self.apply_memory(resources.memory_limit, resources.memory_swap_limit, &mut warnings)?;
        self.apply_cpu(resources, &mut warnings)?;
        self.apply_cpuset(resources, &mut warnings)?;
        self.apply_hugepages(&resources.hugepages, &mut warnings)?;
        self.apply_unified(resources, &mut warnings)?;
        Ok(warnings)
    }

    /// Limits how many processes and threads the group may have; `None` lifts the limit.
    pub fn limit_pids(&self, max: Option<u64>) -> Result<Vec<String>> {
        let Some(hierarchy) = self.layout.with("pids") else {
            return Ok(vec![lacks("pids", "the limit of processes")]);
        };
        let value = max.map_or_else(|| "max".to_owned(), |max| max.to_string());
        hierarchy.write(self.relative(), "pids.max", &value)?;
        Ok(Vec::new())
    }

    fn apply_hugepages(&self, limits: &[(String, u64)], warnings: &mut Warnings) -> Result<(), Error> {
        if limits.is_empty() {
            return Ok(());
        }
        let Some(hierarchy) = self.layout.with("hugetlb") else {
            warnings.push(lacks("hugetlb", "limits of huge pages"));
            return Ok(());
        };
        self.enable_beside(hierarchy, "hugetlb", warnings)?;
        for (size, limit) in limits {
            check_page_size(size)?;
            let (all, reserved) = match hierarchy.version {
                Version::V1 => {
                    (format!("hugetlb.{size}.limit_in_bytes"), format!("hugetlb.{size}.rsvd.limit_in_bytes"))
                }
                Version::V2 => (format!("hugetlb.{size}.max"), format!("hugetlb.{size}.rsvd.max")),
            };
            // The reservation is limited too (Linux 5.7), or a process is killed by SIGBUS on first use instead of
            // being refused by mmap(2) (admin-guide/cgroup-v1/hugetlb.rst).
            for (file, needed) in [(all, true), (reserved, false)] {
                match hierarchy.try_write(self.relative(), &file, &limit.to_string()) {
                    Ok(()) => {}
                    Err(Errno::NOENT) if !needed => {}
                    Err(Errno::NOENT) => warnings.push(format!(
                        "the limit of {size} huge pages is not enforced: this machine has none of that size"
                    )),
                    Err(errno) => {
                        return Err(hierarchy.refused(self.relative(), &file, &limit.to_string(), errno));
                    }
                }
            }
        }
        Ok(())
    }

    fn apply_unified(&self, resources: &Resources, warnings: &mut Warnings) -> Result<(), Error> {
        for (file, value) in &resources.unified {
            check_unified(file, value)?;
            let Some(hierarchy) = self.layout.unified() else {
                warnings.push(format!("{file} is not set: this machine has no unified cgroup hierarchy"));
                continue;
            };
            let controller = file.split_once('.').map_or("", |(controller, _)| controller);
            self.enable_beside(hierarchy, controller, warnings)?;
            // Files such as io.max take one line per write.
            for line in value.lines().map(str::trim).filter(|line| !line.is_empty()) {
                match hierarchy.try_write(self.relative(), file, line) {
                    Ok(()) => {}
                    Err(Errno::NOENT) => {
                        warnings.push(format!(
                            "{file} is not set: the unified cgroup hierarchy of this machine has no such file"
                        ));
                        break;
                    }
                    Err(errno) => return Err(hierarchy.refused(self.relative(), file, line, errno)),
                }
            }
        }
        Ok(())
    }

    /// On a hybrid machine the unified hierarchy's few controllers are handed down only when one is asked for: a
    /// pod's own processes would be in the way, and nearly nobody asks.
    fn enable_beside(
        &self,
        hierarchy: &Hierarchy,
        controller: &str,
        warnings: &mut Warnings,
    ) -> Result<(), Error> {
        if hierarchy.version == Version::V1 || self.layout.mode == Mode::V2 {
            return Ok(());
        }
        match hand_down(&self.layout, hierarchy, self.relative(), &[controller]) {
            Err(error @ Error::InnerProcesses { .. }) => {
                warnings.push(error.to_string());
                Ok(())
            }
            other => other,
        }
    }
}

/// The warning of a missing controller.
pub(crate) fn lacks(controller: &str, what: &str) -> String {
    format!("{what} is not enforced: this machine has no {controller} controller")
}

/// A page size as the kernel writes it in file names: `64KB`, `2MB`, `1GB` (mm/hugetlb_cgroup.c, `mem_fmt`).
fn check_page_size(size: &str) -> Result<(), Error> {
    let digits = size.trim_end_matches(|c: char| c.is_ascii_uppercase());
    let unit = &size[digits.len()..];
    let good = (1..=6).contains(&digits.len())
        && digits.bytes().all(|b| b.is_ascii_digit())
        && matches!(unit, "KB" | "MB" | "GB");
    match good {
        true => Ok(()),
        false => Err(Error::Value {
            what: "the size of huge pages".into(),
            value: size.chars().take(40).collect(),
            why: "write it like 2MB or 1GB",
        }),
    }
}

/// Names of the `unified` map become file names, and values are written as they are.
fn check_unified(file: &str, value: &str) -> Result<(), Error> {
    let refuse = |why| {
        Err(Error::Value {
            what: "the unified cgroup map".into(),
            value: file.chars().take(100).collect(),
            why,
        })
    };
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    if file.is_empty()
        || file.len() > 100
        || !file.bytes().all(plain)
        || file.contains("..")
        || !file.contains('.')
        || file.starts_with('.')
    {
        return refuse("a name is a file name like memory.high");
    }
    // cgroup.procs, cgroup.kill, cgroup.subtree_control … are how the runtime itself keeps hold of the group.
    if file.starts_with("cgroup.") {
        return refuse("the cgroup.* files belong to the runtime");
    }
    if value.len() > MAX_UNIFIED {
        return refuse("its value is longer than 4096 bytes");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn page_sizes_are_checked() {
        for good in ["2MB", "1GB", "64KB", "512MB"] {
            check_page_size(good).unwrap();
        }
        for bad in ["", "MB", "2", "2mb", "2MB/../x", "../2MB", "2TB", "99999999MB", "2 MB"] {
            assert!(check_page_size(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn unified_names_stay_in_the_group_and_off_its_core_files() {
        check_unified("memory.high", "1").unwrap();
        check_unified("hugetlb.2MB.max", "1").unwrap();
        for bad in [
            "",
            "memory",
            "../memory.max",
            "a/b.c",
            "cgroup.procs",
            "cgroup.kill",
            ".x",
            "memory..max",
            "m\0.x",
        ] {
            assert!(check_unified(bad, "1").is_err(), "{bad:?}");
        }
        assert!(check_unified("memory.high", &"1".repeat(5000)).is_err());
    }

    proptest! {
        #[test]
        fn no_name_or_size_makes_the_checks_panic(text in "\\PC{0,40}") {
            let _ = check_unified(&text, "");
            let _ = check_page_size(&text);
        }
    }
}
