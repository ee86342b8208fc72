//! What a runtime costs in memory: its daemon, and per pod its monitors and its pause process.
//!
//! Monitors are found from below: the process of a container has its monitor as parent, in every
//! runtime. Numbers are those of `/proc/PID/smaps_rollup` (proc_pid_smaps_rollup(5)).

use serde::Serialize;
use std::collections::BTreeSet;

/// Memory of processes, in KiB.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// How many processes.
    pub processes: usize,
    /// Pages, each divided by the number of processes that share it.
    pub pss_kib: u64,
    /// Pages that no other process has.
    pub private_kib: u64,
}

/// What was seen with some pods running.
#[derive(Debug, Clone, Serialize)]
pub struct Memory {
    /// How many pods.
    pub pods: usize,
    /// The daemon without pods.
    pub daemon_idle: Option<Usage>,
    /// The daemon with them.
    pub daemon: Option<Usage>,
    /// All monitors together.
    pub monitors: Usage,
    /// All pause processes together.
    pub pauses: Usage,
}

impl Usage {
    /// One process; none where it is gone or not ours to look at.
    pub fn of(pid: i32) -> Option<Self> {
        let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
        Some(Self { processes: 1, ..parse(&text) })
    }

    /// Several together.
    pub fn sum(pids: &BTreeSet<i32>) -> Self {
        pids.iter().filter_map(|pid| Self::of(*pid)).fold(Self::default(), |sum, one| Self {
            processes: sum.processes + one.processes,
            pss_kib: sum.pss_kib + one.pss_kib,
            private_kib: sum.private_kib + one.private_kib,
        })
    }
}

fn parse(text: &str) -> Usage {
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0)
    };
    Usage {
        processes: 0,
        pss_kib: field("Pss"),
        private_kib: field("Private_Clean") + field("Private_Dirty"),
    }
}

/// The processes of a verbose CRI status: runtimes put JSON with a `pid` under one of their info keys.
pub fn pid(info: &std::collections::HashMap<String, String>) -> Option<i32> {
    let number = |text: &String| {
        let value: serde_json::Value = serde_json::from_str(text).ok()?;
        i32::try_from(value.get("pid").unwrap_or(&value).as_i64()?).ok().filter(|pid| *pid > 1)
    };
    info.get("info").and_then(number).or_else(|| info.get("pid").and_then(number))
}

/// The process above `pid` (field 4 of proc_pid_stat(5)); the name before it may hold anything.
pub fn parent(pid: i32) -> Option<i32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok().filter(|parent| *parent > 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    #[test]
    fn shared_and_private_pages_are_read() {
        let text = "00400000-7ffd ---p 00000000 00:00 0 [rollup]\nRss: 900 kB\nPss:   105 kB\nPss_Dirty: 9 kB\nPrivate_Clean: 30 kB\nPrivate_Dirty:  42 kB\n";
        assert_eq!(parse(text), Usage { processes: 0, pss_kib: 105, private_kib: 72 });
        assert!(Usage::of(std::process::id().cast_signed()).is_some_and(|own| own.pss_kib > 0));
        assert_eq!(Usage::of(i32::MAX), None);
    }

    #[test]
    fn the_process_is_found_in_both_forms_of_verbose_answers() {
        let info = |key: &str, text: &str| HashMap::from([(key.to_owned(), text.to_owned())]);
        assert_eq!(pid(&info("info", r#"{"sandboxID":"x","pid":77}"#)), Some(77));
        assert_eq!(pid(&info("pid", "78")), Some(78));
        assert_eq!(pid(&info("info", "not JSON")), None);
        assert_eq!(pid(&info("info", r#"{"pid":0}"#)), None);
    }

    #[test]
    fn our_parent_is_found() {
        assert_eq!(
            parent(std::process::id().cast_signed()),
            rustix::process::getppid().map(|p| p.as_raw_nonzero().get())
        );
    }
}
