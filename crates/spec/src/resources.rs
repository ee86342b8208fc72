//! Limits, checked in their form. What this machine's controllers can do is for the cgroups to say.

use crate::inputs::NodeFacts;
use types::pod::Resources;
use types::reference::shorten;
use types::{Error, Result};

/// The limits for a container's cgroup. Without a word about swap, a memory limit is a limit on memory and
/// swap together, so that nothing swaps by default (containerd `spec_linux_opts.go`, `WithResources`).
pub(crate) fn decide(asked: &Resources, facts: &NodeFacts) -> Result<Resources> {
    for (what, value, least) in [
        ("cpu_period", asked.cpu_period, 0),
        ("cpu_shares", asked.cpu_shares, 0),
        // -1 is "no limit" to the kernel.
        ("memory_limit", asked.memory_limit, -1),
        ("memory_swap_limit", asked.memory_swap_limit, -1),
    ] {
        if value < least {
            return Err(Error::invalid(format!("{what} {value}: a number from {least} up is expected")));
        }
    }
    for (what, list) in [("cpuset_cpus", &asked.cpuset_cpus), ("cpuset_mems", &asked.cpuset_mems)] {
        let plain = list.bytes().all(|b| b.is_ascii_digit() || matches!(b, b',' | b'-' | b':' | b'/'));
        if list.len() > 4096 || !plain {
            return Err(Error::invalid(format!("{what} {:?}: a list as 0-2,7 is expected", shorten(list))));
        }
    }
    crate::limits::count("huge page limits", asked.hugepages.len())?;
    for (size, _) in &asked.hugepages {
        // The size becomes part of a file name: hugetlb.2MB.limit_in_bytes.
        if size.is_empty() || size.len() > 16 || !size.bytes().all(|b| b.is_ascii_alphanumeric()) {
            return Err(Error::invalid(format!(
                "huge page size {:?}: a size as 2MB is expected",
                shorten(size)
            )));
        }
    }
    crate::limits::count("unified cgroup settings", asked.unified.len())?;
    for (file, value) in &asked.unified {
        // A file name, so that no setting leaves the container's cgroup.
        let plain = file.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
        let controller =
            file.split_once('.').is_some_and(|(name, rest)| !name.is_empty() && !rest.is_empty());
        // `cgroup.procs` and its kin move processes and delegate; they are no limits.
        if !plain || !controller || file.len() > 128 || file.starts_with("cgroup.") || value.len() > 4096 {
            return Err(Error::invalid(format!(
                "unified cgroup setting {:?}: a file as memory.high is expected, and 4096 bytes of value at most",
                shorten(file)
            )));
        }
    }
    let mut out = asked.clone();
    if out.memory_limit > 0 && out.memory_swap_limit == 0 && facts.swap_accounting {
        out.memory_swap_limit = out.memory_limit;
    }
    Ok(out)
}
