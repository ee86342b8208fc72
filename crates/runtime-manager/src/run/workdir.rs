//! The folder of one pod on this machine: its record, its volumes, hosts file and termination messages.
//!
//! The record is written before anything else is made, so that a run that was killed is found by
//! [`Manager::sweep`]. Deleting never crosses into a mount and never follows a link.

use super::Manager;
use crate::translate::{Identity, keys};
use crate::{Error, Result};
use k8s_openapi::api::core::v1::PodSpec;
use serde::{Deserialize, Serialize};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// What a container may leave as its last words (core/v1: 4096 bytes).
const MAX_MESSAGE: u64 = 4096;
const RECORD: &str = "run.json";

/// Who made a pod's folder.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    endpoint: String,
    namespace: String,
    name: String,
    pid: i32,
    log_dir: PathBuf,
}

/// One pod's folder.
#[derive(Debug, Clone)]
pub(super) struct Workdir {
    path: PathBuf,
}

impl Workdir {
    /// Makes the folder and its record. A uid that is in use already is refused.
    pub fn create(manager: &Manager, identity: &Identity, log_dir: &Path) -> Result<Self> {
        let root = &manager.options.work_dir;
        make_dir_all(root)?;
        let path = root.join(&identity.uid);
        match std::fs::DirBuilder::new().mode(0o700).create(&path) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                return Err(Error::refused(
                    "metadata.uid",
                    format!("a pod with uid {} exists here", identity.uid),
                ));
            }
            Err(error) => return Err(Error::file("create", path, error)),
        }
        let work = Self { path };
        let record = Record {
            endpoint: manager.options.endpoint.clone(),
            namespace: identity.namespace.clone(),
            name: identity.name.clone(),
            pid: rustix::process::getpid().as_raw_nonzero().get(),
            log_dir: log_dir.to_owned(),
        };
        let text =
            serde_json::to_vec(&record).map_err(|e| Error::file("write", work.path.join(RECORD), e))?;
        write_new(&work.path.join(RECORD), &text, 0o600)?;
        for folder in ["volumes", "messages"] {
            make_dir_all(&work.path.join(folder))?;
        }
        Ok(work)
    }

    /// Where emptyDir volumes are.
    pub fn volumes(&self) -> PathBuf {
        self.path.join("volumes")
    }

    /// A new file for the last words of one attempt, that any user of the container may write.
    pub fn message_file(&self, container: &str, attempt: u32) -> Result<PathBuf> {
        let path = self.message_path(container, attempt);
        write_new(&path, b"", 0o666)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666))
            .map_err(|e| Error::file("change the mode of", &path, e))?;
        Ok(path)
    }

    pub fn message_path(&self, container: &str, attempt: u32) -> PathBuf {
        self.path.join("messages").join(format!("{container}.{attempt}"))
    }

    /// What an attempt left. The container wrote it: bounded, and control characters are dropped.
    pub fn message(&self, container: &str, attempt: u32) -> String {
        let mut bytes = Vec::new();
        let file = std::fs::OpenOptions::new()
            .read(true)
            .custom_flags(
                rustix::fs::OFlags::NOFOLLOW.bits() as i32 | rustix::fs::OFlags::NONBLOCK.bits() as i32,
            )
            .open(self.message_path(container, attempt));
        match file.and_then(|file| file.take(MAX_MESSAGE).read_to_end(&mut bytes)) {
            Ok(_) => printable(&String::from_utf8_lossy(&bytes)),
            Err(_) => String::new(),
        }
    }

    /// The pod's hosts file, as the kubelet writes it.
    pub fn write_hosts(&self, spec: &PodSpec, hostname: &str, ips: &[String]) -> Result<PathBuf> {
        let path = self.path.join("hosts");
        write_new(&path, hosts(spec, hostname, ips).as_bytes(), 0o644)?;
        Ok(path)
    }

    /// The hosts file, if it was written.
    pub fn hosts(&self) -> Option<PathBuf> {
        Some(self.path.join("hosts")).filter(|path| path.exists())
    }

    /// Deletes the folder; of what is gone: fine. Refuses while something is mounted below, which a
    /// container with Bidirectional propagation can leave: deleting would go into the mounted files.
    pub fn remove(&self) -> Result<()> {
        remove_tree(&self.path)
    }
}

impl Manager {
    /// Removes the folders of pods that a killed run left, when their maker and their sandbox are gone.
    /// Returns how many were removed.
    pub async fn sweep(&self) -> Result<usize> {
        let entries = match std::fs::read_dir(&self.options.work_dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(0),
            Err(error) => return Err(Error::file("read", &self.options.work_dir, error)),
        };
        let mut removed = 0;
        for entry in entries.flatten() {
            let path = entry.path();
            let Some(record) = read_record(&path.join(RECORD)) else { continue };
            let uid = entry.file_name().to_string_lossy().into_owned();
            if record.endpoint != self.options.endpoint || is_alive(record.pid) {
                continue;
            }
            if self.client.pods_with_label(keys::POD_UID, &uid).await?.is_empty() {
                remove_tree(&path)?;
                remove_tree(&record.log_dir)?;
                removed += 1;
            }
        }
        Ok(removed)
    }
}

/// A record is ours, and still read with a limit.
fn read_record(path: &Path) -> Option<Record> {
    let mut text = Vec::new();
    std::fs::File::open(path).ok()?.take(64 << 10).read_to_end(&mut text).ok()?;
    serde_json::from_slice(&text).ok()
}

/// True when the process exists. A pid that was given out again keeps the folder longer, nothing worse.
fn is_alive(pid: i32) -> bool {
    rustix::process::Pid::from_raw(pid)
        .is_some_and(|pid| rustix::process::test_kill_process(pid) != Err(rustix::io::Errno::SRCH))
}

fn hosts(spec: &PodSpec, hostname: &str, ips: &[String]) -> String {
    let mut text = String::from(
        "# Written for this pod by corten.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n",
    );
    for ip in ips {
        text.push_str(&format!("{ip}\t{hostname}\n"));
    }
    for alias in spec.host_aliases.iter().flatten() {
        text.push_str(&format!("{}\t{}\n", alias.ip, alias.hostnames.clone().unwrap_or_default().join("\t")));
    }
    text
}

fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control() || *c == '\n' || *c == '\t').collect::<String>().trim().to_owned()
}

/// `mkdir -p` with mode 0700.
pub(super) fn make_dir_all(path: &Path) -> Result<()> {
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|e| Error::file("create", path, e))
}

fn write_new(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    file.and_then(|mut file| file.write_all(bytes)).map_err(|e| Error::file("write", path, e))
}

/// Deletes a tree of ours. The standard library walks it by descriptor, so that a link swapped in is not
/// followed.
pub(super) fn remove_tree(path: &Path) -> Result<()> {
    let table = std::fs::read_to_string("/proc/self/mountinfo")
        .map_err(|e| Error::file("read", "/proc/self/mountinfo", e))?;
    let real = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    if let Some(mounted) = mounts(&table).find(|mounted| mounted.starts_with(&real)) {
        let busy = std::io::Error::from(rustix::io::Errno::BUSY);
        return Err(Error::file("delete, because something is mounted at", mounted, busy));
    }
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::file("delete", path, error)),
        _ => Ok(()),
    }
}

/// Mount points of a mountinfo table (proc_pid_mountinfo(5)): the fifth word, with octal escapes.
fn mounts(table: &str) -> impl Iterator<Item = PathBuf> {
    table.lines().filter_map(|line| line.split(' ').nth(4)).map(|word| {
        PathBuf::from(
            word.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\"),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hosts_file_names_the_pod_and_its_aliases() {
        let pod = crate::translate::fixtures::pod(
            "  hostAliases: [{ip: 192.0.2.7, hostnames: [a, b]}]\n  containers: [{name: c, image: x}]\n",
        );
        let text = hosts(&pod.spec.unwrap(), "web", &["10.0.0.5".into()]);
        assert!(text.contains("10.0.0.5\tweb\n") && text.ends_with("192.0.2.7\ta\tb\n"), "{text}");
    }

    #[test]
    fn escaped_mount_points_are_read() {
        let table = "36 35 98:0 / /a\\040b rw - ext4 x rw\n";
        assert_eq!(mounts(table).collect::<Vec<_>>(), [PathBuf::from("/a b")]);
    }

    #[test]
    fn last_words_lose_their_control_characters() {
        assert_eq!(printable("\u{1b}[31mred\u{7}\nline\n"), "[31mred\nline");
    }
}
