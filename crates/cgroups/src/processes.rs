//! Who is in a group and below it. Reads only.

use crate::error::Error;
use crate::layout::{Hierarchy, Version};
use crate::{Group, Result};
use rustix::fs::{Dir, FileType, OFlags};
use rustix::io::Errno;

/// Most groups below one that are looked at. A container with a writable cgroup file system can make many.
const MAX_GROUPS: usize = 16_384;
/// Most processes that are listed; the kernel's own limit of pids is 4,194,304.
const MAX_PROCESSES: usize = 1 << 20;
/// Deepest group below one.
const MAX_DEPTH: usize = 128;

impl Group {
    /// The processes in this group and in all groups below it, sorted, each once.
    ///
    /// On hybrid machines this is the union over the hierarchies that matter for ending them (unified, freezer,
    /// pids, memory): a process that was moved in one is still found in the others. A group that is gone has none.
    /// Dead processes that nobody waited for are not listed (kernel, `css_task_iter_advance`, since Linux 5.3).
    pub fn processes(&self) -> Result<Vec<i32>> {
        Ok(self.members()?)
    }

    pub(crate) fn members(&self) -> std::result::Result<Vec<i32>, Error> {
        let mut all = Vec::new();
        for hierarchy in self.lists() {
            for group in groups(hierarchy, self.relative())? {
                let text = match hierarchy.read(&group, "cgroup.procs") {
                    Ok(Some(text)) => text,
                    Ok(None) => continue,
                    // A threaded group lists its processes at the group above (cgroups(7), "Thread mode").
                    Err(Error::Io { source, .. })
                        if source.raw_os_error() == Some(Errno::OPNOTSUPP.raw_os_error()) =>
                    {
                        continue;
                    }
                    Err(error) => return Err(error),
                };
                // 0 stands for a process outside our PID namespace: nothing can be done about it by number.
                all.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()).filter(|pid| *pid > 0));
                if all.len() > MAX_PROCESSES {
                    all.truncate(MAX_PROCESSES);
                    break;
                }
            }
        }
        all.sort_unstable();
        all.dedup();
        Ok(all)
    }

    /// The hierarchies whose lists are read.
    fn lists(&self) -> impl Iterator<Item = &Hierarchy> {
        let matters = |h: &&Hierarchy| {
            h.version == Version::V2
                || h.controllers.iter().any(|name| matches!(name.as_str(), "freezer" | "pids" | "memory"))
        };
        let any = self.layout.hierarchies.iter().any(|h| matters(&h));
        self.layout.hierarchies.iter().filter(move |h| !any || matters(h))
    }
}

/// The group and all groups below it, each after the one above it. Empty when it is gone.
pub(crate) fn groups(hierarchy: &Hierarchy, top: &str) -> std::result::Result<Vec<String>, Error> {
    let mut found = vec![top.to_owned()];
    let mut next = 0;
    let top_depth = top.matches('/').count();
    while let Some(group) = found.get(next).cloned() {
        next += 1;
        let folder = match hierarchy.open(&group, "", OFlags::RDONLY | OFlags::DIRECTORY) {
            Ok(folder) => folder,
            Err(Errno::NOENT | Errno::NODEV) if group == top => return Ok(Vec::new()),
            Err(Errno::NOENT | Errno::NODEV) => continue,
            Err(errno) => return Err(Error::io("open the cgroup", hierarchy.shown(&group, ""), errno)),
        };
        // A group's link count is 2 and one for each group below (kernfs): most have none, and need no listing.
        if rustix::fs::fstat(&folder).is_ok_and(|stat| stat.st_nlink == 2) {
            continue;
        }
        if group.matches('/').count() - top_depth >= MAX_DEPTH {
            continue;
        }
        let entries =
            Dir::new(folder).map_err(|errno| Error::io("list", hierarchy.shown(&group, ""), errno))?;
        for entry in entries {
            let Ok(entry) = entry else { break };
            let Ok(name) = entry.file_name().to_str() else { continue };
            if entry.file_type() == FileType::Directory
                && name != "."
                && name != ".."
                && found.len() < MAX_GROUPS
            {
                found.push(format!("{group}/{name}"));
            }
        }
    }
    Ok(found)
}
