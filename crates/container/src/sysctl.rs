//! Kernel parameters of the container's namespaces, written by descriptor into a real `/proc/sys`
//! (CVE-2025-52881: a write that was redirected to another file).

use crate::failure::{Failure, Step, describe};
use rustix::fd::AsFd;
use rustix::fs::{Mode, OFlags, ResolveFlags};

/// `PROC_SUPER_MAGIC` of `linux/magic.h`.
const PROC_SUPER_MAGIC: u64 = 0x9fa0;

/// Writes each `name` (`net.ipv4.ip_forward`) below `proc`, the root of a proc file system.
pub fn write(proc: impl AsFd, values: &[(String, String)]) -> Step {
    for (name, value) in values {
        // As sysctl(8) has it: dots separate, and a slash stands for a dot within a part (`eth0/100` is eth0.100).
        let swap = |c| match c {
            '.' => '/',
            '/' => '.',
            other => other,
        };
        let path = format!("sys/{}", name.chars().map(swap).collect::<String>());
        let file = rustix::fs::openat2(
            proc.as_fd(),
            path.as_str(),
            OFlags::WRONLY | OFlags::CLOEXEC,
            Mode::empty(),
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV,
        )
        .map_err(|e| Failure::request(format!("sysctl {name:?}: {}", describe(e))))?;
        let stat = rustix::fs::fstatfs(&file)
            .map_err(|e| Failure::system(format!("sysctl {name:?}: {}", describe(e))))?;
        if stat.f_type as u64 != PROC_SUPER_MAGIC {
            return Err(Failure::system(format!(
                "sysctl {name:?}: the file is not of a proc file system; refused"
            )));
        }
        rustix::io::write(&file, value.as_bytes()).map_err(|e| {
            Failure::request(format!("sysctl {name:?} cannot be set to {value:?}: {}", describe(e)))
        })?;
    }
    Ok(())
}
