//! What a group uses, and whether the kernel killed in it for lack of memory. Reads only.
//!
//! A number that the machine does not have is `None`; it is never made up.

use crate::error::Error;
use crate::layout::{Hierarchy, Version};
use crate::{Group, Result};
use rustix::fs::OFlags;
use std::os::fd::OwnedFd;

/// Memory of a group and the groups below it, bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Memory {
    /// All that is charged, page cache included.
    pub usage: u64,
    /// `usage` without the file pages that the kernel would drop first (`inactive_file`): what the kubelet evicts by.
    pub working_set: u64,
    /// Anonymous memory.
    pub rss: u64,
    /// Page faults since the group was made.
    pub page_faults: u64,
    /// Those of them that needed I/O.
    pub major_page_faults: u64,
    /// The limit, where there is one.
    pub limit: Option<u64>,
    /// Swap used, where swap is accounted.
    pub swap: Option<u64>,
}

/// One line of a pressure file (Documentation/accounting/psi.rst).
#[derive(Debug, Clone, Copy, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct PressureLine {
    /// Share of the last 10 s, percent.
    pub avg10: f64,
    /// Share of the last 60 s, percent.
    pub avg60: f64,
    /// Share of the last 300 s, percent.
    pub avg300: f64,
    /// Since the group was made, microseconds.
    pub total_micros: u64,
}

/// How long tasks waited for a resource.
#[derive(Debug, Clone, Copy, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Pressure {
    /// Some tasks waited.
    pub some: PressureLine,
    /// All tasks waited.
    pub full: PressureLine,
}

/// What a group uses.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Stats {
    /// CPU time since the group was made, nanoseconds.
    pub cpu_nanos: Option<u64>,
    /// Memory.
    pub memory: Option<Memory>,
    /// Processes and threads now.
    pub pids: Option<u64>,
    /// Waiting for CPU.
    pub cpu_pressure: Option<Pressure>,
    /// Waiting for memory.
    pub memory_pressure: Option<Pressure>,
    /// Waiting for I/O.
    pub io_pressure: Option<Pressure>,
}

impl Group {
    /// What the group and the groups below it use.
    pub fn stats(&self) -> Result<Stats> {
        Ok(Stats {
            cpu_nanos: self.cpu_nanos()?,
            memory: self.memory()?,
            pids: self.number("pids", "pids.current")?,
            cpu_pressure: self.pressure("cpu.pressure")?,
            memory_pressure: self.pressure("memory.pressure")?,
            io_pressure: self.pressure("io.pressure")?,
        })
    }

    /// Opens the file with the `oom_kill` line ([`oom_kills`] reads it): how many processes the kernel killed here
    /// for lack of memory. The descriptor keeps working, and can be read again with pread(2), until the group is removed.
    ///
    /// On v2 (`memory.events`) groups below are counted in; on v1 (`memory.oom_control`, the line is there since
    /// Linux 4.13) they are not, since `memcg_memory_event` goes up on v2 only.
    ///
    /// # Errors
    /// `FailedPrecondition` without a memory controller, `NotFound` when the group is gone.
    pub fn oom_file(&self) -> Result<OwnedFd> {
        let hierarchy = self.layout.with("memory").ok_or(Error::NoController("memory"))?;
        let file = match hierarchy.version {
            Version::V1 => "memory.oom_control",
            Version::V2 => "memory.events",
        };
        let open = hierarchy.open(self.relative(), file, OFlags::RDONLY);
        Ok(open.map_err(|errno| Error::io("open", hierarchy.shown(self.relative(), file), errno))?)
    }

    fn cpu_nanos(&self) -> Result<Option<u64>, Error> {
        if let Some(hierarchy) = self.layout.with("cpuacct") {
            return Ok(hierarchy.read(self.relative(), "cpuacct.usage")?.as_deref().and_then(number));
        }
        // cpu.stat's time is there in every v2 group, whether or not the controller is enabled (cgroup-v2.rst).
        let Some(hierarchy) = self.layout.unified() else { return Ok(None) };
        let text = hierarchy.read(self.relative(), "cpu.stat")?;
        Ok(text
            .as_deref()
            .and_then(|text| keyed(text, "usage_usec"))
            .map(|micros| micros.saturating_mul(1000)))
    }

    fn memory(&self) -> Result<Option<Memory>, Error> {
        let Some(hierarchy) = self.layout.with("memory") else { return Ok(None) };
        match hierarchy.version {
            Version::V1 => self.memory_of_v1(hierarchy),
            Version::V2 => self.memory_of_v2(hierarchy),
        }
    }

    fn memory_of_v1(&self, hierarchy: &Hierarchy) -> Result<Option<Memory>, Error> {
        let group = self.relative();
        let Some(usage) = hierarchy.read(group, "memory.usage_in_bytes")?.as_deref().and_then(number) else {
            return Ok(None);
        };
        let stat = hierarchy.read(group, "memory.stat")?.unwrap_or_default();
        // "No limit" is the largest number of pages: PAGE_COUNTER_MAX, 2^63 less a page.
        let limit = keyed(&stat, "hierarchical_memory_limit").filter(|limit| *limit < 1 << 62);
        Ok(Some(memory_from(
            usage,
            &stat,
            ["total_inactive_file", "total_rss", "total_pgfault", "total_pgmajfault"],
            limit,
            keyed(&stat, "total_swap"),
        )))
    }

    fn memory_of_v2(&self, hierarchy: &Hierarchy) -> Result<Option<Memory>, Error> {
        let group = self.relative();
        let Some(usage) = hierarchy.read(group, "memory.current")?.as_deref().and_then(number) else {
            return Ok(None);
        };
        let stat = hierarchy.read(group, "memory.stat")?.unwrap_or_default();
        // `max` is no number, hence no limit.
        let limit = hierarchy.read(group, "memory.max")?.as_deref().and_then(number);
        let swap = hierarchy.read(group, "memory.swap.current")?.as_deref().and_then(number);
        Ok(Some(memory_from(usage, &stat, ["inactive_file", "anon", "pgfault", "pgmajfault"], limit, swap)))
    }

    fn number(&self, controller: &str, file: &str) -> Result<Option<u64>, Error> {
        let Some(hierarchy) = self.layout.with(controller) else { return Ok(None) };
        Ok(hierarchy.read(self.relative(), file)?.as_deref().and_then(number))
    }

    fn pressure(&self, file: &str) -> Result<Option<Pressure>, Error> {
        let Some(hierarchy) = self.layout.unified() else { return Ok(None) };
        match hierarchy.read(self.relative(), file) {
            Ok(text) => Ok(text.as_deref().and_then(pressure)),
            // EOPNOTSUPP: the kernel was started with psi=0, or `cgroup.pressure` is off.
            Err(Error::Io { source, .. })
                if source.raw_os_error() == Some(rustix::io::Errno::OPNOTSUPP.raw_os_error()) =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

/// The number on the `oom_kill` line of what [`Group::oom_file`] reads.
pub fn oom_kills(text: &str) -> Option<u64> {
    keyed(text, "oom_kill")
}

fn memory_from(usage: u64, stat: &str, keys: [&str; 4], limit: Option<u64>, swap: Option<u64>) -> Memory {
    let [inactive, rss, faults, major] = keys.map(|key| keyed(stat, key).unwrap_or(0));
    Memory {
        usage,
        working_set: usage.saturating_sub(inactive),
        rss,
        page_faults: faults,
        major_page_faults: major,
        limit,
        swap,
    }
}

fn number(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

/// The value of `key value` on a line of its own.
fn keyed(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| number(line.strip_prefix(key)?.strip_prefix(' ')?))
}

fn pressure(text: &str) -> Option<Pressure> {
    let line =
        |kind: &str| text.lines().find_map(|line| pressure_line(line.strip_prefix(kind)?.strip_prefix(' ')?));
    // The CPU file had no `full` line before Linux 5.13.
    Some(Pressure { some: line("some")?, full: line("full").unwrap_or_default() })
}

fn pressure_line(text: &str) -> Option<PressureLine> {
    let field = |key: &str| text.split(' ').find_map(|part| part.strip_prefix(key)?.strip_prefix('='));
    let share = |key| field(key)?.parse::<f64>().ok().filter(|share| share.is_finite());
    Some(PressureLine {
        avg10: share("avg10")?,
        avg60: share("avg60")?,
        avg300: share("avg300")?,
        total_micros: field("total")?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_oom_line_is_found_in_both_versions() {
        assert_eq!(oom_kills("oom_kill_disable 0\nunder_oom 0\noom_kill 3\n"), Some(3));
        assert_eq!(oom_kills("low 0\nhigh 0\nmax 7\noom 2\noom_kill 1\noom_group_kill 0\n"), Some(1));
        assert_eq!(oom_kills("oom_kill_disable 0\n"), None);
    }

    #[test]
    fn pressure_is_read() {
        let text = "some avg10=1.46 avg60=1.25 avg300=0.72 total=15597625\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=9\n";
        let read = pressure(text).unwrap();
        assert_eq!((read.some.avg10, read.some.total_micros, read.full.total_micros), (1.46, 15_597_625, 9));
        assert_eq!(
            pressure("some avg10=0.00 avg60=0.00 avg300=0.00 total=1\n").unwrap().full,
            PressureLine::default()
        );
    }

    #[test]
    fn the_working_set_never_goes_below_nothing() {
        let memory = memory_from(
            10,
            "inactive_file 50\nanon 4\n",
            ["inactive_file", "anon", "pgfault", "pgmajfault"],
            None,
            None,
        );
        assert_eq!((memory.working_set, memory.rss, memory.page_faults), (0, 4, 0));
    }

    proptest! {
        #[test]
        fn no_text_makes_the_readers_panic(text in "(some|full|oom_kill| |=|avg10|\\PC|\n){0,40}") {
            let _ = (pressure(&text), oom_kills(&text), number(&text));
        }
    }
}
