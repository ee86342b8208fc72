//! Keeping the logs of a pod that runs for long small, as the kubelet's container log manager does: a log
//! that is large is renamed, and the runtime begins a new one. Only what this run made is touched.

use super::{Control, Event, Manager, Running};
use crate::translate::container::log_path;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long to wait after a rotation that failed.
const RETRY: Duration = Duration::from_secs(60);

impl Manager {
    /// Rotates the logs of running containers that have grown beyond `Options::max_log`. The file before the
    /// last rotation is lost, so that a container takes about twice that.
    pub(super) async fn rotate_logs(&self, running: &mut Running, control: &Control) {
        if running.rotate_after.is_some_and(|after| after > Instant::now()) {
            return;
        }
        for entry in running.containers.iter().filter(|c| c.exit.is_none() && !c.id.is_empty()) {
            let size = std::fs::symlink_metadata(&entry.log_path).map_or(0, |found| found.len());
            if size < self.options.max_log {
                continue;
            }
            let old = older(&entry.log_path);
            let renamed = std::fs::rename(&entry.log_path, &old);
            let done = match renamed {
                Ok(()) => self.client.reopen_log(&entry.id).await.map_err(|error| error.to_string()),
                Err(error) => Err(error.to_string()),
            };
            if let Err(reason) = done {
                // The runtime still writes to the old file: it gets its name back, and is tried again later.
                // Unless it began a new one and only its answer was lost.
                let _ = renameat_with(CWD, &old, CWD, &entry.log_path, RenameFlags::NOREPLACE);
                control.emit(Event::Warning(format!("cannot rotate the log of {}: {reason}", entry.name)));
                running.rotate_after = Some(Instant::now() + RETRY);
                return;
            }
        }
    }

    /// Deletes the logs of an attempt that is two restarts old; the kubelet keeps one dead attempt too.
    pub(super) fn forget_attempt(&self, running: &Running, container: &str, attempt: u32) {
        let path = running.log_dir.join(log_path(container, attempt));
        // What is not there needs no deleting, and what cannot be deleted goes with the whole folder.
        for file in [older(&path), path, running.work.message_path(container, attempt)] {
            let _ = std::fs::remove_file(file);
        }
    }
}

fn older(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".1");
    name.into()
}
