//! What a specification says of CPUs, scheduling, NUMA nodes and the execution domain, in the kernel's numbers.

use container::plan::{MemoryPolicy, Scheduling, SchedulingPolicy};
use oci_spec::runtime::{
    IOPriorityClass, LinuxMemoryPolicy, LinuxPersonality, LinuxPersonalityDomain, LinuxSchedulerFlag,
    LinuxSchedulerPolicy, MemoryPolicyFlagType, MemoryPolicyModeType, Process, Scheduler,
};
use types::reference::shorten;
use types::{Error, Result};

/// The largest number of a CPU or NUMA node in a list: the kernel's largest `NR_CPUS` is 8192, and its C library's
/// `cpu_set_t` has 1024 bits.
const LARGEST: u32 = 1023;

/// Policy, I/O priority and CPUs of a process.
pub(super) fn of(process: &Process) -> Result<Scheduling> {
    let affinity = process.exec_cpu_affinity().as_ref();
    let cpus = |name: &str, text: Option<&Option<String>>| match text {
        Some(Some(text)) => list(&format!("process.execCPUAffinity.{name}"), text),
        _ => Ok(Vec::new()),
    };
    Ok(Scheduling {
        policy: process.scheduler().as_ref().map(policy).transpose()?,
        io_priority: process
            .io_priority()
            .as_ref()
            .map(|io| io_priority(io.class(), io.priority()))
            .transpose()?,
        initial_cpus: cpus("initial", affinity.map(|a| a.initial()))?,
        final_cpus: cpus("final", affinity.map(|a| a.cpu_affinity_final()))?,
    })
}

/// Numbers of `linux/sched.h`.
fn policy(scheduler: &Scheduler) -> Result<SchedulingPolicy> {
    use LinuxSchedulerPolicy as Policy;
    let policy = match scheduler.policy() {
        Policy::SchedOther => 0,
        Policy::SchedFifo => 1,
        Policy::SchedRr => 2,
        Policy::SchedBatch => 3,
        Policy::SchedIso => 4,
        Policy::SchedIdle => 5,
        Policy::SchedDeadline => 6,
    };
    let nice = scheduler.nice().unwrap_or(0);
    if !(-20..=19).contains(&nice) {
        return Err(Error::invalid(format!(
            "process.scheduler.nice {nice}: a number from -20 to 19 is expected"
        )));
    }
    let priority = scheduler.priority().unwrap_or(0);
    let priority = u32::try_from(priority).ok().filter(|number| *number <= 99).ok_or_else(|| {
        Error::invalid(format!("process.scheduler.priority {priority}: a number from 0 to 99 is expected"))
    })?;
    // As runc refuses it (`configs/validate`, "scheduler"): the kernel would take it in silence or say EINVAL.
    if priority != 0 && !matches!(scheduler.policy(), Policy::SchedFifo | Policy::SchedRr) {
        return Err(Error::invalid("process.scheduler.priority is for SCHED_FIFO and SCHED_RR alone"));
    }
    let deadline =
        [scheduler.runtime(), scheduler.deadline(), scheduler.period()].map(|number| number.unwrap_or(0));
    if deadline != [0; 3] && *scheduler.policy() != Policy::SchedDeadline {
        return Err(Error::invalid(
            "process.scheduler runtime, deadline and period are for SCHED_DEADLINE alone",
        ));
    }
    let flags = scheduler.flags().iter().flatten().fold(0, |all, flag| {
        all | match flag {
            LinuxSchedulerFlag::SchedResetOnFork => 0x01,
            LinuxSchedulerFlag::SchedFlagReclaim => 0x02,
            LinuxSchedulerFlag::SchedFlagDLOverrun => 0x04,
            LinuxSchedulerFlag::SchedFlagKeepPolicy => 0x08,
            LinuxSchedulerFlag::SchedFlagKeepParams => 0x10,
            LinuxSchedulerFlag::SchedFlagUtilClampMin => 0x20,
            LinuxSchedulerFlag::SchedFlagUtilClampMax => 0x40,
        }
    });
    let [runtime, deadline, period] = deadline;
    Ok(SchedulingPolicy { policy, flags, nice, priority, runtime, deadline, period })
}

/// Numbers of `linux/ioprio.h`.
fn io_priority(class: IOPriorityClass, priority: i64) -> Result<(u16, u16)> {
    let class = match class {
        IOPriorityClass::IoprioClassRt => 1,
        IOPriorityClass::IoprioClassBe => 2,
        IOPriorityClass::IoprioClassIdle => 3,
    };
    match u16::try_from(priority) {
        Ok(priority @ 0..=7) => Ok((class, priority)),
        _ => Err(Error::invalid(format!(
            "process.ioPriority.priority {priority}: a number from 0 to 7 is expected"
        ))),
    }
}

/// The execution domain; `None` is the plain one, which every process has.
pub(super) fn personality(personality: Option<&LinuxPersonality>) -> Result<Option<u32>> {
    let Some(personality) = personality else { return Ok(None) };
    // "Currently no flag values are supported" (OCI config-linux.md, "Personality").
    if let Some(flag) = personality.flags().iter().flatten().next() {
        return Err(Error::invalid(format!("linux.personality.flags {:?}: there are none", shorten(flag))));
    }
    // linux/personality.h
    Ok(Some(match personality.domain() {
        LinuxPersonalityDomain::PerLinux => 0,
        LinuxPersonalityDomain::PerLinux32 => 8,
    }))
}

/// Numbers of `linux/mempolicy.h`. Whether mode, flags and nodes go together is the kernel's to say.
pub(super) fn memory_policy(policy: &LinuxMemoryPolicy) -> Result<MemoryPolicy> {
    use MemoryPolicyModeType as Mode;
    let mode = match policy.mode() {
        Mode::MpolDefault => 0,
        Mode::MpolPreferred => 1,
        Mode::MpolBind => 2,
        Mode::MpolInterleave => 3,
        Mode::MpolLocal => 4,
        Mode::MpolPreferredMany => 5,
        Mode::MpolWeightedInterleave => 6,
    };
    let flags = policy.flags().iter().flatten().fold(0, |all, flag| {
        all | match flag {
            MemoryPolicyFlagType::MpolFNumaBalancing => 1 << 13,
            MemoryPolicyFlagType::MpolFRelativeNodes => 1 << 14,
            MemoryPolicyFlagType::MpolFStaticNodes => 1 << 15,
        }
    });
    let nodes = match policy.nodes().as_deref() {
        None | Some("") => Vec::new(),
        Some(text) => list("linux.memoryPolicy.nodes", text)?,
    };
    Ok(MemoryPolicy { mode: mode | flags, nodes })
}

/// `0-2,7` as numbers (cpuset(7), "List format").
fn list(what: &str, text: &str) -> Result<Vec<u32>> {
    let bad = || {
        Error::invalid(format!(
            "{what} {:?}: numbers and ranges up to {LARGEST} are expected, as 0-2,7",
            shorten(text)
        ))
    };
    let number = |text: &str| {
        let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        text.parse::<u32>().ok().filter(|number| plain && *number <= LARGEST).ok_or_else(bad)
    };
    let mut out = Vec::new();
    for part in text.split(',').map(str::trim) {
        let (from, to) = match part.split_once('-') {
            Some((from, to)) => (number(from)?, number(to)?),
            None => (number(part)?, number(part)?),
        };
        if from > to {
            return Err(bad());
        }
        out.extend(from..=to);
    }
    out.sort_unstable();
    out.dedup();
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_as_the_kernel_writes_them() {
        assert_eq!(list("x", "0-2,7, 5").expect("good"), [0, 1, 2, 5, 7]);
        for bad in ["", ",", "1-", "-1", "2-1", "+1", "a", "1024", "0-1024", "99999999999", "1,,2"] {
            assert!(list("x", bad).is_err(), "{bad}");
        }
    }
}
