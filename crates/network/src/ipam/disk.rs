//! The files of host-local, by directory descriptor. What the files say is checked like any input:
//! other programs write them, too.

use super::IpamError;
use crate::files;
use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Longer than any id with any interface name.
const LARGEST_FILE: u64 = 4096;
/// How long another process may hold the lock.
const PATIENCE: Duration = Duration::from_secs(20);

/// An open folder of addresses.
pub struct Store {
    directory: OwnedFd,
    folder: PathBuf,
    queue: Arc<Mutex<()>>,
}

/// Holds the folder's lock; the lock file closes, and so unlocks, with it.
pub struct Lock<'a> {
    _file: OwnedFd,
    _turn: MutexGuard<'a, ()>,
}

/// One mutex per folder: the threads of this process wait here, in order and without polling,
/// and only one of them at a time contends for the file lock with other processes.
fn queue(folder: &Path) -> Arc<Mutex<()>> {
    static QUEUES: Mutex<Option<HashMap<PathBuf, Arc<Mutex<()>>>>> = Mutex::new(None);
    let mut queues = QUEUES.lock().unwrap_or_else(PoisonError::into_inner);
    let queues = queues.get_or_insert_default();
    if queues.len() > 256 {
        queues.retain(|_, queue| Arc::strong_count(queue) > 1);
    }
    queues.entry(folder.to_owned()).or_default().clone()
}

fn owner(id: &str, interface: &str) -> String {
    format!("{}\r\n{interface}", id.trim())
}

/// Whether a file's content names this owner. Old versions wrote the id alone.
fn is_owner(content: &[u8], id: &str, interface: &str) -> bool {
    let content = content.trim_ascii();
    content == owner(id, interface).as_bytes() || content == id.trim().as_bytes()
}

impl Store {
    /// Opens the folder, making it if it is not there; 0755 as host-local makes it.
    pub fn open(folder: &Path) -> Result<Self, IpamError> {
        let directory = files::directory(folder, 0o755).map_err(failed(folder, "open the folder"))?;
        Ok(Self { directory, folder: folder.to_owned(), queue: queue(folder) })
    }

    /// Opens the folder, if it is there.
    pub fn open_existing(folder: &Path) -> Result<Option<Self>, IpamError> {
        match rustix::fs::open(folder, OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()) {
            Ok(directory) => Ok(Some(Self { directory, folder: folder.to_owned(), queue: queue(folder) })),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(failed(folder, "open the folder")(errno)),
        }
    }

    fn failed(&self, action: &'static str) -> impl FnOnce(Errno) -> IpamError {
        failed(&self.folder, action)
    }

    /// Waits for the folder's lock, and gives up after 20 s.
    pub fn lock(&self) -> Result<Lock<'_>, IpamError> {
        let turn = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.directory, "lock", flags, Mode::from_raw_mode(0o666))
            .map_err(self.failed("open the lock file"))?;
        let started = Instant::now();
        let mut pause = Duration::from_micros(200);
        loop {
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Lock { _file: file, _turn: turn }),
                Err(Errno::AGAIN) if started.elapsed() < PATIENCE => {
                    std::thread::sleep(pause);
                    pause = (pause * 2).min(Duration::from_millis(10));
                }
                Err(Errno::INTR) => {}
                Err(errno) => {
                    return Err(self.failed("get the lock (another process holds it for 20 s)")(errno));
                }
            }
        }
    }

    /// Every address that has a file.
    pub fn taken(&self) -> Result<HashSet<IpAddr>, IpamError> {
        let names = files::names(&self.directory).map_err(self.failed("list the addresses"))?;
        Ok(names.iter().filter_map(|name| name.parse().ok()).collect())
    }

    /// A file that says who the owner is, to be linked to addresses.
    pub fn draft(&self, id: &str, interface: &str) -> Result<Draft<'_>, IpamError> {
        let name = files::temporary_name();
        // A process of the same number that died may have left one.
        files::remove(&self.directory, &name).map_err(self.failed("remove an old file"))?;
        files::create(&self.directory, &name, owner(id, interface).as_bytes(), 0o644)
            .map_err(self.failed("write an address"))?;
        Ok(Draft { store: self, name })
    }

    /// The last address given out from the set of that number; what is no address counts as none.
    pub fn last(&self, set: usize) -> Result<Option<IpAddr>, IpamError> {
        match files::read(&self.directory, &format!("last_reserved_ip.{set}"), LARGEST_FILE) {
            Ok(content) => Ok(content.and_then(|c| std::str::from_utf8(&c).ok()?.trim().parse().ok())),
            Err(Errno::FBIG | Errno::INVAL) => Ok(None),
            Err(errno) => Err(self.failed("read the last address")(errno)),
        }
    }

    /// Remembers the last address given out. Written in place, as host-local does it: a loss only
    /// costs the round-robin order, and a rename per pod would make some filesystems flush.
    pub fn remember(&self, set: usize, address: &IpAddr) -> Result<(), IpamError> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let text = address.to_string();
        let write = || {
            let name = format!("last_reserved_ip.{set}");
            let file = rustix::fs::openat(&self.directory, name, flags, Mode::from_raw_mode(0o644))?;
            rustix::io::write(&file, text.as_bytes())?;
            rustix::fs::ftruncate(&file, text.len() as u64)
        };
        write().map_err(self.failed("write the last address"))
    }

    /// What a file says, where it is a readable file of a sane size.
    fn content(&self, name: &str) -> Result<Option<Vec<u8>>, IpamError> {
        match files::read(&self.directory, name, LARGEST_FILE) {
            Ok(content) => Ok(content),
            Err(Errno::FBIG | Errno::INVAL | Errno::ISDIR) => Ok(None),
            Err(errno) => Err(self.failed("read an address")(errno)),
        }
    }

    /// The addresses of an owner.
    pub fn owned(&self, id: &str, interface: &str) -> Result<Vec<IpAddr>, IpamError> {
        let mut all = Vec::new();
        for address in self.taken()? {
            if self.content(&address.to_string())?.is_some_and(|c| is_owner(&c, id, interface)) {
                all.push(address);
            }
        }
        all.sort();
        Ok(all)
    }

    /// Removes the files of an owner: the known ones, or all after reading all.
    pub fn release(&self, id: &str, interface: &str, known: &[IpAddr]) -> Result<(), IpamError> {
        let names: Vec<String> = if known.is_empty() {
            files::names(&self.directory).map_err(self.failed("list the addresses"))?
        } else {
            known.iter().map(IpAddr::to_string).collect()
        };
        for name in names {
            if self.content(&name)?.is_some_and(|c| is_owner(&c, id, interface)) {
                files::remove(&self.directory, &name).map_err(self.failed("free an address"))?;
            }
        }
        Ok(())
    }

    /// Removes the address files whose owner is not live, drafts included.
    pub fn retain(&self, live: impl Fn(&str) -> bool) -> Result<usize, IpamError> {
        let mut removed = 0;
        for name in files::names(&self.directory).map_err(self.failed("list the addresses"))? {
            let address = name.parse::<IpAddr>().is_ok();
            if !address && !name.starts_with(".tmp-") {
                continue;
            }
            let content = self.content(&name)?.unwrap_or_default();
            let id = String::from_utf8_lossy(&content);
            let id = id.split("\r\n").next().unwrap_or_default().trim();
            if !address || !live(id) {
                files::remove(&self.directory, &name).map_err(self.failed("free an address"))?;
                removed += usize::from(address);
            }
        }
        Ok(removed)
    }
}

fn failed(folder: &Path, action: &'static str) -> impl FnOnce(Errno) -> IpamError {
    let folder = folder.to_owned();
    move |source| IpamError::Folder { action, folder, source }
}

/// See [`Store::draft`]. Its own name goes away with it.
pub struct Draft<'a> {
    store: &'a Store,
    name: String,
}

impl Draft<'_> {
    /// Takes an address, whole and at once; `false` where it is taken. Every address gets a file
    /// of its own: of the draft itself for the first, for host-local rewrites none of them.
    pub fn claim(&self, address: &IpAddr) -> Result<bool, IpamError> {
        let directory = &self.store.directory;
        match rustix::fs::linkat(directory, &self.name, directory, address.to_string(), AtFlags::empty()) {
            Ok(()) => Ok(true),
            Err(Errno::EXIST) => Ok(false),
            Err(errno) => Err(self.store.failed("take an address")(errno)),
        }
    }
}

impl Drop for Draft<'_> {
    fn drop(&mut self) {
        // A draft that stays is removed by `release` and `retain`, for it names its owner.
        let _ = files::remove(&self.store.directory, &self.name);
    }
}
