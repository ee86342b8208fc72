//! How the kernel runs a process: CPU scheduler, I/O priority, memory nodes, execution domain.

use std::io;

/// `struct sched_attr` of `linux/sched/types.h`, its first version (48 bytes).
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Attributes {
    size: u32,
    /// `SCHED_*`.
    pub policy: u32,
    /// `SCHED_FLAG_*`.
    pub flags: u64,
    /// Nice value of the ordinary policies.
    pub nice: i32,
    /// Priority of the real-time policies.
    pub priority: u32,
    /// Of `SCHED_DEADLINE`, nanoseconds.
    pub runtime: u64,
    /// Of `SCHED_DEADLINE`, nanoseconds.
    pub deadline: u64,
    /// Of `SCHED_DEADLINE`, nanoseconds.
    pub period: u64,
}

/// Sets the policy of this thread (sched_setattr(2)).
pub fn set_policy(attributes: Attributes) -> io::Result<()> {
    let sized = Attributes { size: std::mem::size_of::<Attributes>() as u32, ..attributes };
    // SAFETY: the kernel reads `size` bytes of a record that lives for the call.
    let done = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, std::ptr::from_ref(&sized), 0) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Sets the I/O priority of this thread: `IOPRIO_CLASS_*` and the priority in it (ioprio_set(2)).
pub fn set_io_priority(class: u16, priority: u16) -> io::Result<()> {
    const IOPRIO_WHO_PROCESS: i32 = 1;
    const IOPRIO_CLASS_SHIFT: u32 = 13;
    let value = u32::from(class) << IOPRIO_CLASS_SHIFT | u32::from(priority);
    // SAFETY: integers only.
    let done = unsafe { libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, value) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Sets from which NUMA nodes this thread's memory comes: `MPOL_*` with `MPOL_F_*`, and a bit mask of nodes
/// (set_mempolicy(2)).
pub fn set_memory_policy(mode: u32, nodes: &[u64]) -> io::Result<()> {
    // The kernel counts one bit less than it is told (mm/mempolicy.c, `get_nodes`).
    let bits = if nodes.is_empty() { 0 } else { nodes.len() * 64 + 1 };
    let mask = if nodes.is_empty() { std::ptr::null() } else { nodes.as_ptr() };
    // SAFETY: the kernel reads `bits - 1` bits of a slice that lives for the call, or nothing.
    let done = unsafe { libc::syscall(libc::SYS_set_mempolicy, mode, mask, bits) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Sets the execution domain of this process (personality(2)).
pub fn set_personality(domain: u32) -> io::Result<()> {
    // SAFETY: one integer.
    let before = unsafe { libc::personality(libc::c_ulong::from(domain)) };
    if before < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_does_not_know_is_refused() {
        assert!(set_policy(Attributes { policy: 99, ..Attributes::default() }).is_err());
        assert!(set_io_priority(7, 0).is_err());
        assert!(set_memory_policy(99, &[1]).is_err());
    }

    #[test]
    fn a_thread_takes_the_policy_that_it_sets() {
        // SCHED_BATCH needs no privileges.
        let thread = std::thread::spawn(|| {
            set_policy(Attributes { policy: 3, nice: 5, ..Attributes::default() })
                .map(|()| std::fs::read_to_string("/proc/thread-self/stat"))
        });
        let stat = thread.join().expect("ends").expect("set").expect("read");
        let fields: Vec<&str> = stat.rsplit_once(')').expect("a name").1.split_whitespace().collect();
        // Fields 19 and 41 of proc_pid_stat(5): nice and policy; `state` is field 3.
        assert_eq!((fields[19 - 3], fields[41 - 3]), ("5", "3"));
    }
}
