//! Limits, both ways. What a machine can grant is not decided here.

use crate::check::{self, at_least, refuse};
use cri_api::v1;
use types::Result;
use types::pod::Resources;
use types::reference::shorten;

/// The kernel's bounds of a CPU period, in microseconds (kernel `sched/core.c`, `max_cfs_quota_period`).
const PERIOD: std::ops::RangeInclusive<i64> = 1000..=1_000_000;
/// Bytes of a cpuset list.
const CPUSET_MAX: usize = 4096;
/// Entries of the small maps.
const FEW: usize = 256;

/// Limits from the wire.
pub fn from_wire(field: &str, wire: v1::LinuxContainerResources) -> Result<Resources> {
    let at = |name: &str| format!("{field}.{name}");
    if wire.cpu_period != 0 && !PERIOD.contains(&wire.cpu_period) {
        return refuse(
            &at("cpu_period"),
            format_args!(
                "{} is out of range; the kernel takes 1000 to 1000000 microseconds",
                wire.cpu_period
            ),
        );
    }
    if !(-1000..=1000).contains(&wire.oom_score_adj) {
        return refuse(
            &at("oom_score_adj"),
            format_args!("{} is out of range; -1000 to 1000 is allowed", wire.oom_score_adj),
        );
    }
    check::count(&at("hugepage_limits"), wire.hugepage_limits.len(), FEW)?;
    for limit in &wire.hugepage_limits {
        page_size(&at("hugepage_limits.page_size"), &limit.page_size)?;
    }
    check::count(&at("unified"), wire.unified.len(), FEW)?;
    for (file, value) in &wire.unified {
        cgroup_file(&at("unified"), file)?;
        check::text(&at("unified"), value, 4096)?;
    }
    Ok(Resources {
        cpu_period: wire.cpu_period,
        cpu_quota: wire.cpu_quota,
        cpu_shares: at_least(&at("cpu_shares"), wire.cpu_shares, 0)?,
        memory_limit: at_least(&at("memory_limit_in_bytes"), wire.memory_limit_in_bytes, -1)?,
        memory_swap_limit: at_least(&at("memory_swap_limit_in_bytes"), wire.memory_swap_limit_in_bytes, -1)?,
        oom_score_adj: wire.oom_score_adj,
        cpuset_cpus: cpuset(&at("cpuset_cpus"), wire.cpuset_cpus)?,
        cpuset_mems: cpuset(&at("cpuset_mems"), wire.cpuset_mems)?,
        hugepages: wire.hugepage_limits.into_iter().map(|limit| (limit.page_size, limit.limit)).collect(),
        unified: wire.unified.into_iter().collect(),
    })
}

/// Limits for the wire.
pub fn to_wire(resources: &Resources) -> v1::LinuxContainerResources {
    v1::LinuxContainerResources {
        cpu_period: resources.cpu_period,
        cpu_quota: resources.cpu_quota,
        cpu_shares: resources.cpu_shares,
        memory_limit_in_bytes: resources.memory_limit,
        oom_score_adj: resources.oom_score_adj,
        cpuset_cpus: resources.cpuset_cpus.clone(),
        cpuset_mems: resources.cpuset_mems.clone(),
        hugepage_limits: resources
            .hugepages
            .iter()
            .map(|(page_size, limit)| v1::HugepageLimit { page_size: page_size.clone(), limit: *limit })
            .collect(),
        unified: super::map(&resources.unified),
        memory_swap_limit_in_bytes: resources.memory_swap_limit,
    }
}

/// Digits, commas and hyphens (cpuset(7), "List format").
fn cpuset(field: &str, list: String) -> Result<String> {
    check::text(field, &list, CPUSET_MAX)?;
    if list.bytes().all(|b| b.is_ascii_digit() || matches!(b, b',' | b'-')) {
        return Ok(list);
    }
    refuse(field, format_args!("{:?} is not a list such as 0-2,7", shorten(&list)))
}

/// `2MB`, `1GB`: it becomes part of a file name.
fn page_size(field: &str, size: &str) -> Result<()> {
    let number =
        size.strip_suffix("KB").or_else(|| size.strip_suffix("MB")).or_else(|| size.strip_suffix("GB"));
    if number.is_some_and(|n| !n.is_empty() && n.len() <= 10 && n.bytes().all(|b| b.is_ascii_digit())) {
        return Ok(());
    }
    refuse(field, format_args!("{:?} is not a page size such as 2MB", shorten(size)))
}

/// `memory.high`: a file of a controller. Files of the cgroup core move processes and are ours alone.
fn cgroup_file(field: &str, file: &str) -> Result<()> {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'.' | b'-');
    let named = file.split_once('.').is_some_and(|(controller, rest)| {
        !controller.is_empty() && !rest.is_empty() && !rest.starts_with('.') && controller != "cgroup"
    });
    if named && file.len() <= 128 && file.bytes().all(plain) {
        return Ok(());
    }
    refuse(
        field,
        format_args!("{:?} is not a file of a cgroup controller such as memory.high", shorten(file)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::convert::testing::refused;
    use std::collections::HashMap;

    fn full() -> v1::LinuxContainerResources {
        v1::LinuxContainerResources {
            cpu_period: 100_000,
            cpu_quota: -1,
            cpu_shares: 2,
            memory_limit_in_bytes: 512 << 10,
            oom_score_adj: -998,
            cpuset_cpus: "0-2,7".into(),
            cpuset_mems: "0".into(),
            hugepage_limits: vec![v1::HugepageLimit { page_size: "2MB".into(), limit: 4 << 20 }],
            unified: HashMap::from([("memory.high".into(), "1048576".into())]),
            memory_swap_limit_in_bytes: 1 << 20,
        }
    }

    #[test]
    fn limits_survive_a_round_trip() {
        for wire in [full(), v1::LinuxContainerResources::default()] {
            let resources = from_wire("r", wire.clone()).expect("sound");
            assert_eq!(to_wire(&resources), wire);
        }
    }

    #[test]
    fn numbers_that_the_kernel_refuses_are_refused_with_a_sentence() {
        let bad = |change: fn(&mut v1::LinuxContainerResources), field: &str, part: &str| {
            let mut wire = full();
            change(&mut wire);
            refused(from_wire("r", wire), field, part);
        };
        bad(|w| w.cpu_period = 999, "r.cpu_period", "1000 to 1000000");
        bad(|w| w.cpu_period = -1, "r.cpu_period", "out of range");
        bad(|w| w.cpu_shares = -1, "r.cpu_shares", "too small");
        bad(|w| w.memory_limit_in_bytes = -2, "r.memory_limit_in_bytes", "too small");
        bad(|w| w.memory_swap_limit_in_bytes = -2, "r.memory_swap_limit_in_bytes", "too small");
        bad(|w| w.oom_score_adj = 1001, "r.oom_score_adj", "-1000 to 1000");
        bad(|w| w.oom_score_adj = i64::MIN, "r.oom_score_adj", "-1000 to 1000");
        bad(|w| w.cpuset_cpus = "0\n1".into(), "r.cpuset_cpus", "0-2,7");
        bad(|w| w.cpuset_mems = "all".into(), "r.cpuset_mems", "0-2,7");
    }

    #[test]
    fn names_that_would_become_other_files_are_refused() {
        for size in ["", "MB", "2M", "../2MB", "2mb", "99999999999MB"] {
            let mut wire = full();
            wire.hugepage_limits[0].page_size = size.into();
            refused(from_wire("r", wire), "r.hugepage_limits.page_size", "not a page size");
        }
        for file in
            ["", "memory", "../x.y", "memory/high", "cgroup.procs", "memory..", ".high", "memory.high\n"]
        {
            let wire =
                v1::LinuxContainerResources { unified: HashMap::from([(file.into(), "1".into())]), ..full() };
            refused(from_wire("r", wire), "r.unified", "not a file of a cgroup controller");
        }
        let many = (0..=FEW).map(|n| (format!("memory.x{n}"), String::new())).collect();
        refused(
            from_wire("r", v1::LinuxContainerResources { unified: many, ..full() }),
            "r.unified",
            "too many",
        );
        let value = HashMap::from([("memory.high".into(), "1\0".into())]);
        refused(from_wire("r", v1::LinuxContainerResources { unified: value, ..full() }), "r.unified", "NUL");
    }
}
