//! How the kernel is to run the new process: execution domain, NUMA nodes, CPUs, scheduler, I/O priority.

use crate::failure::{Failure, Step, Tried};
use crate::plan::Process;
use rustix::thread::{CpuSet, sched_setaffinity};
use sys::scheduling::{Attributes, set_io_priority, set_memory_policy, set_personality, set_policy};

/// Sets all that the plan asks for, in the container's cgroup and while still privileged. CPUs are for an exec alone
/// (OCI config.md, `execCPUAffinity`).
pub(crate) fn apply(process: &Process, is_exec: bool) -> Step {
    if let Some(domain) = process.personality {
        set_personality(domain).tried(|| format!("cannot set the personality {domain:#x}"))?;
    }
    if let Some(policy) = &process.memory_policy {
        set_memory_policy(policy.mode, &node_mask(&policy.nodes)).tried(|| {
            format!(
                "cannot set linux.memoryPolicy (mode {:#x}, nodes {:?}); has this machine these nodes?",
                policy.mode, policy.nodes
            )
        })?;
    }
    if is_exec {
        set_cpus("process.execCPUAffinity.final", &process.scheduling.final_cpus)?;
    }
    // Last: a deadline scheduler may neither fork nor change its CPUs (sched(7)).
    if let Some((class, priority)) = process.scheduling.io_priority {
        set_io_priority(class, priority)
            .tried(|| format!("cannot set process.ioPriority (class {class}, priority {priority})"))?;
    }
    if let Some(policy) = process.scheduling.policy {
        let mut attributes = Attributes::default();
        (attributes.policy, attributes.flags) = (policy.policy, policy.flags);
        (attributes.nice, attributes.priority) = (policy.nice, policy.priority);
        (attributes.runtime, attributes.deadline, attributes.period) =
            (policy.runtime, policy.deadline, policy.period);
        set_policy(attributes).tried(|| {
            format!("cannot set process.scheduler {policy:?}; may this process have it, and its cgroup?")
        })?;
    }
    Ok(())
}

/// The CPUs that this process may run on; none leaves them.
pub fn set_cpus(what: &str, cpus: &[u32]) -> Step {
    if cpus.is_empty() {
        return Ok(());
    }
    let mut set = CpuSet::new();
    for cpu in cpus {
        let number = usize::try_from(*cpu).ok().filter(|number| *number < CpuSet::MAX_CPU);
        set.set(number.ok_or_else(|| Failure::request(format!("{what}: there is no CPU {cpu}")))?);
    }
    sched_setaffinity(None, &set)
        .tried(|| format!("{what} {cpus:?} cannot be set; has this machine these CPUs?"))
}

fn node_mask(nodes: &[u32]) -> Vec<u64> {
    let mut mask = Vec::new();
    for node in nodes {
        let at = (*node / 64) as usize;
        if mask.len() <= at {
            mask.resize(at + 1, 0);
        }
        mask[at] |= 1 << (node % 64);
    }
    mask
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_become_bits() {
        assert_eq!(node_mask(&[]), Vec::<u64>::new());
        assert_eq!(node_mask(&[0, 3, 64]), [0b1001, 1]);
    }
}
