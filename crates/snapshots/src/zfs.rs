//! Layers and containers as data sets of a ZFS: a layer is a data set with a snapshot `@layer`, a container a clone of its
//! topmost layer's. All work is done by the program `zfs`, one call for each step and no shell.
//!
//! The name of a data set is in `dataset.json` of the folder that it belongs to, durably before it is made and until after
//! it is destroyed. Nothing outside of the configured data set is ever named. Data sets have `mountpoint=legacy`: none
//! is ever in the node's mount table.

use crate::layout::{Draft, LayerDraft, Layout, check_id, failed, missing_layer, open_dir};
use crate::local::{Local, unbounded};
use crate::record;
use crate::remove::Remove;
use crate::usage::{Usage, measure};
use crate::{ChainId, Space, Writable, text, view};
use container::plan::{Filesystem, RootIds, RootSource};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use types::{Error, ErrorKind, Result};

pub const NAME: &str = "zfs";

/// A layer's snapshot.
const SNAPSHOT: &str = "layer";
/// The file with a [`Record`] in it.
const RECORD: &str = "dataset.json";
/// What one call may take; destroying a large data set goes on in the background.
const LIMIT: Duration = Duration::from_secs(120);
/// The longest configured name, so that ours below it stay within 255 bytes (`ZFS_MAX_DATASET_NAME_LEN`).
const NAME_MOST: usize = 90;

/// What the snapshotter `zfs` works with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ZfsConfig {
    /// The data set below which all others are made, as `tank/corten`. It has to be there, and nobody else's may be in it.
    pub dataset: String,
    /// The program.
    pub program: PathBuf,
}

impl Default for ZfsConfig {
    fn default() -> Self {
        Self { dataset: String::new(), program: "zfs".into() }
    }
}

impl ZfsConfig {
    /// zfsconcepts(7) and `zfs_namecheck.c`: letters, digits and `-_.:`, in parts that are divided by slashes.
    fn check(&self) -> Result<()> {
        if self.dataset.is_empty() {
            return Err(Error::invalid("the snapshotter zfs needs a data set; name one, as tank/corten"));
        }
        let letter = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b':');
        let part = |part: &str| {
            part.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric) && part.bytes().all(letter)
        };
        if self.dataset.len() > NAME_MOST || !self.dataset.split('/').all(part) {
            return Err(Error::invalid(format!(
                "{:?} is no name of a data set: letters, digits and -_.: in parts divided by /, {NAME_MOST} bytes at most",
                types::reference::shorten(&self.dataset)
            )));
        }
        Ok(())
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Record {
    dataset: String,
}

/// The program, for one data set.
#[derive(Debug)]
struct Tool(ZfsConfig);

impl Tool {
    fn run(&self, arguments: &[&str]) -> Result<crate::program::Said> {
        crate::program::run(self.0.program.as_os_str(), arguments, LIMIT).map_err(|error| {
            if error.kind() == ErrorKind::FailedPrecondition {
                error.context("the snapshotter zfs needs the program zfs; install ZFS's tools, or choose another snapshotter")
            } else {
                error
            }
        })
    }

    /// Runs it, and has its words in the error where it fails.
    fn done(&self, arguments: &[&str]) -> Result<String> {
        let said = self.run(arguments)?;
        if said.well() {
            return Ok(said.out);
        }
        let words = said.words();
        let kind = match () {
            () if words.contains("out of space") => ErrorKind::ResourceExhausted,
            () if words.contains("does not exist") => ErrorKind::NotFound,
            () if words.contains("permission denied") => ErrorKind::PermissionDenied,
            () => ErrorKind::Internal,
        };
        Err(Error::new(kind, format!("zfs {} failed: {words}", arguments.join(" "))))
    }

    fn below(&self, name: &str) -> String {
        format!("{}/{name}", self.0.dataset)
    }

    /// The configured data set, which has to be a file system.
    fn look(&self) -> Result<()> {
        let dataset = &self.0.dataset;
        let said = self.run(&["list", "-H", "-p", "-o", "name,type", dataset])?;
        if !said.well() {
            return Err(Error::precondition(format!(
                "the data set {dataset} cannot be listed ({}); make it with: zfs create -o mountpoint=none {dataset}",
                said.words()
            )));
        }
        match rows(&said.out, 2)?.as_slice() {
            [row] if row == &[dataset, "filesystem"] => Ok(()),
            _ => Err(Error::precondition(format!("{dataset} is no file system of a ZFS; name one that is"))),
        }
    }

    /// A new file system: empty, or one that begins as a snapshot.
    fn make(&self, dataset: &str, origin: Option<&str>) -> Result<()> {
        match origin {
            None => self.done(&["create", "-o", "mountpoint=legacy", dataset]),
            Some(origin) => self.done(&["clone", "-o", "mountpoint=legacy", origin, dataset]),
        }
        .map(drop)
    }

    /// Bytes that are this one's alone (`used`, zfsprops(7)).
    fn used(&self, dataset: &str) -> Result<u64> {
        let out = self.done(&["list", "-H", "-p", "-o", "name,used", dataset])?;
        match rows(&out, 2)?.as_slice() {
            [row] if row[0] == dataset => row[1]
                .parse()
                .map_err(|_| Error::internal(format!("zfs list says {:?} bytes are used", shown(row[1])))),
            _ => Err(Error::internal(format!("zfs list does not tell of {dataset} alone"))),
        }
    }

    /// Destroys a data set of ours with its own snapshots. What is gone is no error; clones of it are never touched.
    fn destroy(&self, dataset: &str) -> std::result::Result<(), Errno> {
        let ours = dataset.strip_prefix(&self.0.dataset).and_then(|rest| rest.strip_prefix('/'));
        if !ours.is_some_and(|rest| !rest.is_empty() && !rest.contains(['/', '@', ' '])) {
            return Err(Errno::INVAL);
        }
        let said = self.run(&["destroy", "-r", dataset]).map_err(|error| {
            tracing::warn!(dataset, error = error.chain(), "cannot destroy a data set");
            Errno::IO
        })?;
        let words = said.words();
        match () {
            () if said.well() || words.contains("does not exist") => Ok(()),
            // A layer whose clones are there goes after them; a mounted one after its last user.
            () if words.contains("dependent clones") || words.contains("busy") => Err(Errno::BUSY),
            () => {
                tracing::warn!(dataset, words, "cannot destroy a data set");
                Err(Errno::IO)
            }
        }
    }
}

/// Rows of `-H`: fields divided by single tabs.
fn rows(out: &str, fields: usize) -> Result<Vec<Vec<&str>>> {
    let rows: Vec<Vec<&str>> = out.lines().map(|line| line.split('\t').collect()).collect();
    match rows.iter().find(|row| row.len() != fields) {
        None => Ok(rows),
        Some(row) => Err(Error::internal(format!(
            "zfs list gives {:?}, which has not {fields} fields",
            shown(&row.join("\t"))
        ))),
    }
}

fn shown(text: &str) -> String {
    text.chars().take(80).collect()
}

/// See [`crate::Snapshotter`].
pub struct Zfs {
    layout: Arc<Layout>,
    tool: Arc<Tool>,
}

/// Removes a folder and before it the data set that it belongs to.
struct Remover(Arc<Tool>);

impl Remove for Remover {
    fn remove(&self, parent: BorrowedFd<'_>, name: &OsStr) -> std::result::Result<(), layers::Error> {
        if let Some(top) = name.to_str().and_then(|name| open_dir(parent, name).ok()) {
            match record::read::<Record>(top.as_fd(), RECORD) {
                Ok(Some(record)) => self.0.destroy(&record.dataset).map_err(|errno| {
                    let name = name.to_string_lossy();
                    layers::Error::system("destroy the data set of", name.escape_debug(), errno)
                })?,
                // A record is there whole, or the data set was not made.
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(name = %name.display(), error = error.chain(), "a data set may be left");
                }
            }
        }
        layers::tree::remove(parent, name)
    }
}

impl Zfs {
    /// Opens the directories, and looks whether the data set is there.
    pub fn open(root: &Path, config: &ZfsConfig) -> Result<Self> {
        config.check()?;
        let tool = Arc::new(Tool(config.clone()));
        tool.look()?;
        let layout = Layout::open_with(root, NAME, Arc::new(Remover(Arc::clone(&tool))))?;
        Ok(Self { layout, tool })
    }

    fn dataset(&self, parent: &OwnedFd, folder: &str, name: &str) -> Result<Option<String>> {
        let path = self.layout.path().join(folder).join(name);
        let dir = match open_dir(parent, name) {
            Ok(dir) => dir,
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
            Err(error) => return Err(failed("open", path, error)),
        };
        let record: Option<Record> = record::read(dir.as_fd(), RECORD)?;
        Ok(record.map(|record| record.dataset))
    }

    fn layer(&self, chain: &ChainId) -> Result<String> {
        let found = self.dataset(&self.layout.layers, "layers", chain.hex())?;
        found.ok_or_else(|| missing_layer(chain))
    }

    fn container(&self, id: &str) -> Result<String> {
        check_id(id)?;
        let found = self.dataset(&self.layout.containers, "containers", id)?;
        found.ok_or_else(|| Error::not_found(format!("the container {id} has no writable layer")))
    }

    /// A draft with a data set that begins as a layer, or empty; it is not mounted.
    fn draft_of(&self, name: &str, layer: Option<&ChainId>) -> Result<(LayerDraft, String)> {
        let origin =
            layer.map(|chain| self.layer(chain)).transpose()?.map(|name| format!("{name}@{SNAPSHOT}"));
        let draft = self.layout.draft(name)?;
        let top = self.layout.draft_top(&draft)?;
        let dataset = self.tool.below(&draft.home.name());
        record::write(top.as_fd(), RECORD, &Record { dataset: dataset.clone() })?;
        rustix::fs::fsync(&self.layout.ingest).map_err(|e| failed("sync the folder of", name, e))?;
        self.tool.make(&dataset, origin.as_deref())?;
        Ok((draft, dataset))
    }
}

impl Local for Zfs {
    const NAME: &'static str = NAME;
    const REPAIRS: bool = false;
    // A layer that has clones goes after them.
    const LATER: Option<&'static str> = Some("a data set is in use; it is destroyed later");

    fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }

    fn begin(&self, name: &str, below: Option<&ChainId>) -> Result<LayerDraft> {
        let (draft, dataset) = self.draft_of(name, below)?;
        let dir = tree(dataset, false)?;
        Ok(LayerDraft { dir, ..draft })
    }

    /// Makes the snapshot of what was unpacked, and writes what is known of it beside it.
    fn seal(
        &self,
        draft: LayerDraft,
        _chain: &ChainId,
        unpacked: &layers::Unpacked,
    ) -> Result<(String, Draft)> {
        let top = self.layout.draft_top(&draft)?;
        let LayerDraft { dir, home } = draft;
        let path = home.path();
        let record: Record = record::read(top.as_fd(), RECORD)?
            .ok_or_else(|| Error::internal(format!("{} has no data set", path.display())))?;
        let inodes = measure(dir.as_fd())?.inodes;
        rustix::fs::syncfs(&dir).map_err(|e| failed("sync the data set", &record.dataset, e))?;
        drop(dir);
        let snapshot = format!("{}@{SNAPSHOT}", record.dataset);
        self.tool.done(&["snapshot", &snapshot])?;
        // A snapshot is taken with a transaction group, so that the numbers are of now.
        let usage = Usage { bytes: self.tool.used(&record.dataset)?, inodes };
        self.layout.write_meta(&top, &path, &unpacked.diff_id, usage, None)?;
        Ok((home.name(), home))
    }

    fn root(&self, id: &str, layers: &[ChainId], writable: &Writable) -> Result<RootSource> {
        if writable.bytes.is_some() {
            return Err(unbounded(NAME));
        }
        if !self.layout.has_container(id)? {
            let (draft, _) = self.draft_of(id, layers.first())?;
            self.layout.place_container(draft, id)?;
        }
        let source = filesystem(self.container(id)?, false);
        let place = text(&self.layout.container_path(id, "fs"))?;
        Ok(RootSource::Filesystem(Filesystem { place, ..source }))
    }

    fn shown(&self, layers: &[ChainId]) -> Result<RootSource> {
        let chain = view::topmost(layers)?;
        let source = filesystem(format!("{}@{SNAPSHOT}", self.layer(chain)?), true);
        let place = text(&self.layout.layer_path(chain))?;
        Ok(RootSource::Filesystem(Filesystem { place, ..source }))
    }

    /// Its own bytes; files are not counted.
    fn container_usage(&self, id: &str) -> Result<Usage> {
        Ok(Usage { bytes: self.tool.used(&self.container(id)?)?, inodes: 0 })
    }

    fn measured(&self, chain: &ChainId) -> Result<Usage> {
        self.layout.layer_usage(chain)
    }

    fn space_taken(&self) -> Result<Space> {
        crate::sum(self)
    }
}

fn filesystem(source: String, read_only: bool) -> Filesystem {
    let options = if read_only { vec!["ro".to_owned()] } else { Vec::new() };
    Filesystem { kind: NAME.into(), source, options, ..Filesystem::default() }
}

/// The tree of a data set, mounted nowhere.
fn tree(dataset: String, read_only: bool) -> Result<OwnedFd> {
    let source = RootSource::Filesystem(filesystem(dataset.clone(), read_only));
    let mount = container::root::detached(&source, &RootIds::default(), container::root::Attach::Here)
        .map_err(|failure| Error::internal(failure.to_string()))?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(&mount, ".", flags, Mode::empty()).map_err(|e| failed("open the root of", dataset, e))
}

#[cfg(test)]
mod tests;
