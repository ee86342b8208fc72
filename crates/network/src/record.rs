//! What is attached, and how: one small file per pod under `<state>/attachments`, written before the
//! first plugin runs and removed after the last one undid its work. It holds the configuration that
//! ADD used, for the specification wants DEL to have the same one (section "Lifecycle & Ordering").
//!
//! What the rest of the crate has to know of all pods (their networks and ports) is kept in memory.

use crate::files;
use crate::nftables::nat::{Mapping, Rules};
use crate::plugins::portmap::Ports;
use crate::pod::PodNetwork;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::{HashMap, HashSet};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Changes when the meaning of a field does.
const FORMAT: u32 = 1;
/// A configuration, a result and a pod's annotations; each of them is bounded elsewhere.
const LARGEST: u64 = 8 * 1024 * 1024;

/// One pod's attachment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    pub(crate) format: u32,
    /// As it was given.
    pub pod: PodNetwork,
    /// The interface's name in the pod.
    pub interface: String,
    /// The network's name.
    pub network: String,
    /// Whether it is the network of our own.
    pub default: bool,
    /// The configuration list, as it was.
    pub list: Value,
    /// Which of its plugins ran in-process.
    pub builtin: Vec<bool>,
    /// The network's nf_tables table, and what it has to say for this pod.
    pub table: String,
    /// See [`Rules`].
    pub rules: Rules,
    /// Ports of the node.
    pub ports: Ports,
    /// The last plugin's result so far.
    pub result: Option<Value>,
    /// Whether every plugin has run.
    pub complete: bool,
    /// The inode of the pod's namespace.
    pub netns: u64,
}

impl Record {
    /// Nothing has run yet.
    pub fn new(pod: PodNetwork, interface: &str, network: &str, list: Value, netns: u64) -> Self {
        Self {
            format: FORMAT,
            pod,
            interface: interface.to_owned(),
            network: network.to_owned(),
            default: false,
            list,
            builtin: Vec::new(),
            table: String::new(),
            rules: Rules::default(),
            ports: Ports::default(),
            result: None,
            complete: false,
            netns,
        }
    }
}

/// What is known of an attached pod without reading its file.
#[derive(Debug, Clone)]
struct Entry {
    network: String,
    table: String,
    pod: String,
    mappings: Vec<Mapping>,
}

/// All attachments.
#[derive(Debug)]
pub struct Attachments {
    folder: OwnedFd,
    index: Mutex<HashMap<String, Entry>>,
}

fn file(id: &str) -> String {
    format!("{id}.json")
}

impl Attachments {
    /// Opens `<state>/attachments` and reads what is there. A file that cannot be read is reported
    /// and kept: its pod's detachment works without it.
    pub fn open(state: &Path) -> Result<(Self, Vec<Record>), Errno> {
        let folder = files::directory(&state.join("attachments"), 0o700)?;
        let attachments = Self { folder, index: Mutex::default() };
        let mut records = Vec::new();
        for name in files::names(&attachments.folder)? {
            let Some(id) = name.strip_suffix(".json") else {
                // A write that was cut off: the file that it was to become is whole.
                if name.starts_with(".tmp-") {
                    files::remove(&attachments.folder, &name)?;
                }
                continue;
            };
            match attachments.read(id) {
                Ok(Some(record)) => {
                    attachments.enter(&record);
                    records.push(record);
                }
                Ok(None) => {}
                Err(errno) => {
                    tracing::warn!(pod = id, %errno, "the record of a network attachment cannot be read");
                    let entry = Entry {
                        network: String::new(),
                        table: String::new(),
                        pod: id.to_owned(),
                        mappings: Vec::new(),
                    };
                    attachments.index().insert(id.to_owned(), entry);
                }
            }
        }
        Ok((attachments, records))
    }

    fn index(&self) -> MutexGuard<'_, HashMap<String, Entry>> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A pod's record. One that makes no sense is `EBADMSG`.
    pub fn read(&self, id: &str) -> Result<Option<Record>, Errno> {
        let Some(content) = files::read(&self.folder, &file(id), LARGEST)? else { return Ok(None) };
        match serde_json::from_slice::<Record>(&content) {
            Ok(record) if record.format == FORMAT && record.pod.id == id => Ok(Some(record)),
            _ => Err(Errno::BADMSG),
        }
    }

    /// Makes a pod known, before anything is made for it.
    pub fn enter(&self, record: &Record) {
        let entry = Entry {
            network: record.network.clone(),
            table: record.table.clone(),
            pod: record.pod.display(),
            mappings: record.ports.mappings.clone(),
        };
        self.index().insert(record.pod.id.clone(), entry);
    }

    /// Writes a pod's record.
    pub fn write(&self, record: &Record) -> Result<(), Errno> {
        let content = serde_json::to_vec(record).map_err(|_| Errno::INVAL)?;
        files::replace(&self.folder, &file(&record.pod.id), &content, 0o600)
    }

    /// Forgets a pod.
    pub fn remove(&self, id: &str) -> Result<(), Errno> {
        files::remove(&self.folder, &file(id))?;
        self.index().remove(id);
        Ok(())
    }

    /// Takes ports for a pod. The error names a port that another pod has, and that pod.
    pub fn claim(&self, id: &str, mappings: &[Mapping]) -> Result<(), (String, String)> {
        let mut index = self.index();
        for (other, entry) in index.iter().filter(|(other, _)| *other != id) {
            if let Some(mapping) =
                mappings.iter().find(|m| entry.mappings.iter().any(|theirs| m.collides(theirs)))
            {
                let pod = if entry.pod.is_empty() { other } else { &entry.pod };
                return Err((mapping.display(), pod.clone()));
            }
        }
        if let Some(entry) = index.get_mut(id) {
            entry.mappings = mappings.to_vec();
        }
        Ok(())
    }

    /// Whether the pod is known.
    pub fn contains(&self, id: &str) -> bool {
        self.index().contains_key(id)
    }

    /// The ids of all pods.
    pub fn ids(&self) -> HashSet<String> {
        self.index().keys().cloned().collect()
    }

    /// Whether any pod needs the nf_tables table, or may need it.
    pub fn any_with_table(&self, table: &str) -> bool {
        self.index().values().any(|entry| entry.table == table || entry.network.is_empty())
    }

    /// Whether any pod is attached to the network, or may be.
    pub fn any_in(&self, network: &str) -> bool {
        self.index().values().any(|entry| entry.network == network || entry.network.is_empty())
    }
}
