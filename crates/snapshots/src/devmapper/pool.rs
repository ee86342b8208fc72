//! A thin pool (Documentation/admin-guide/device-mapper/thin-provisioning.rst): which of its devices are ours, and how they
//! are made, activated and deleted.
//!
//! A pool knows 2^24 devices by number. Whoever shares one with others has to know its own for certain, for what was
//! begun before a crash is deleted after it: so each folder claims a range of numbers, by making the first device of it,
//! which cannot be there twice. It never lists the pool's devices and never touches a number of another range.

use super::state::State;
use crate::layout::failed;
use crate::record::{self, Device};
use crate::usage::Usage;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};
use sys::dm::{Control, Target, Text};
use types::{Error, ErrorKind, Result};

/// Devices of one range.
const RANGE: u32 = 1 << 14;
/// The ranges of a pool. The first is left to programs that count from zero.
const RANGES: u32 = (1 << 24) / RANGE;
/// The file that says which range is ours.
const CLAIM: &str = "pool.json";
const FOLDER: &str = "/dev/mapper";

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Claim {
    pool: String,
    first: u32,
    /// The first device was made, so that the range is ours. Before that it may be another's.
    made: bool,
}

/// The numbers that are ours.
#[derive(Debug, Default)]
struct Ids {
    first: u32,
    next: u32,
    used: HashSet<u32>,
}

/// See the module.
#[derive(Debug)]
pub struct Pool {
    control: Control,
    name: String,
    prefix: String,
    ids: Mutex<Ids>,
    /// One at a time makes and takes away what is active.
    active: Mutex<()>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}

fn errno(error: &std::io::Error) -> Option<Errno> {
    Errno::from_io_error(error)
}

impl Pool {
    /// Looks at the pool of this name, which has to be there.
    pub fn open(name: &str, prefix: &str) -> Result<Self> {
        let control = Control::open().map_err(|error| {
            Error::with_source(
                ErrorKind::FailedPrecondition,
                format!(
                    "the snapshotter devmapper needs the device-mapper, and {} cannot be opened; load the kernel's \
                     modules dm_mod and dm_thin_pool, or choose another snapshotter",
                    sys::dm::CONTROL
                ),
                error,
            )
        })?;
        let (name, prefix) = (name.to_owned(), prefix.to_owned());
        let pool = Self { control, name, prefix, ids: Mutex::default(), active: Mutex::default() };
        pool.state()?;
        Ok(pool)
    }

    /// What the pool says of itself.
    fn state(&self) -> Result<State> {
        let name = &self.name;
        let found = match self.control.target(name, Text::Status) {
            Ok(found) => found,
            Err(error) if errno(&error) == Some(Errno::NXIO) => {
                return Err(Error::precondition(format!(
                    "there is no device {name} in the device-mapper; make the thin pool, or name the one that is there"
                )));
            }
            Err(error) => {
                let text = format!("cannot look at the thin pool {name}");
                return Err(Error::with_source(ErrorKind::Internal, text, error));
            }
        };
        match found {
            Some(target) if target.kind == "thin-pool" => Ok(State::parse(&target.text)),
            other => Err(Error::precondition(format!(
                "the device {name} is no thin pool but {}; name a thin pool",
                other.map_or("empty".to_owned(), |target| target.kind)
            ))),
        }
    }

    /// Refuses what is new where the pool cannot take it.
    pub fn usable(&self) -> Result<()> {
        match self.state()?.complaint(&self.name) {
            None => Ok(()),
            Some((kind, words)) => Err(Error::new(kind, words)),
        }
    }

    /// A failure, with what the pool says where that explains it.
    pub fn explain(&self, what: String, error: std::io::Error) -> Error {
        match self.state().map(|state| state.complaint(&self.name)) {
            Ok(Some((kind, words))) => Error::with_source(kind, format!("{what}: {words}"), error),
            _ => Error::with_source(ErrorKind::Internal, what, error),
        }
    }

    fn message(&self, text: &str) -> std::io::Result<()> {
        self.control.message(&self.name, text)
    }

    /// Takes a range for the folder `dir`, or the one that it has.
    pub fn claim(&self, dir: BorrowedFd<'_>, path: &Path) -> Result<()> {
        let known: Option<Claim> = record::read(dir, CLAIM)?;
        if let Some(claim) = known.filter(|claim| claim.made) {
            self.check_claim(&claim, path)?;
            lock(&self.ids).first = claim.first;
            return Ok(());
        }
        self.usable()?;
        let start = random()?;
        for at in 0..RANGES {
            let range = start.wrapping_add(at) % RANGES;
            if range == 0 {
                continue;
            }
            // A claim that is not known to be made is never undone: the device may be another's. It holds no blocks.
            let mut claim = Claim { pool: self.name.clone(), first: range * RANGE, made: false };
            record::write(dir, CLAIM, &claim)?;
            match self.message(&format!("create_thin {}", claim.first)) {
                Ok(()) => {
                    claim.made = true;
                    record::write(dir, CLAIM, &claim)?;
                    lock(&self.ids).first = claim.first;
                    return Ok(());
                }
                Err(error) if errno(&error) == Some(Errno::EXIST) => {}
                Err(error) => {
                    let text = format!("cannot make a device in the thin pool {}", self.name);
                    return Err(self.explain(text, error));
                }
            }
        }
        Err(Error::new(
            ErrorKind::ResourceExhausted,
            format!("all ranges of device numbers of the thin pool {} are taken", self.name),
        ))
    }

    fn check_claim(&self, claim: &Claim, path: &Path) -> Result<()> {
        let Claim { pool, first, .. } = claim;
        if *pool != self.name {
            return Err(Error::precondition(format!(
                "the layers in {} are in the thin pool {pool}, and the configuration names {}; name that one, or remove \
                 the folder and pull every image again",
                path.display(),
                self.name
            )));
        }
        if *first == 0 || first % RANGE != 0 || *first >= RANGES * RANGE {
            return Err(Error::internal(format!("{} is damaged", path.join(CLAIM).display())));
        }
        match self.message(&format!("create_thin {first}")) {
            Err(_) => Ok(()),
            Ok(()) => {
                let _ = self.message(&format!("delete {first}"));
                Err(Error::precondition(format!(
                    "the thin pool {pool} has none of the layers in {}: it was made anew, or is another one; remove the \
                     folder and pull every image again",
                    path.display()
                )))
            }
        }
    }

    /// Takes note of the numbers that have a record.
    pub fn know(&self, used: HashSet<u32>) -> Result<()> {
        let start = random()?;
        let mut ids = lock(&self.ids);
        ids.used = used;
        ids.next = start % RANGE;
        Ok(())
    }

    /// Makes a device in the pool, empty or as a snapshot, after `record` was told of it durably. `known` gives the
    /// numbers that have a record, for when each was given out once.
    pub fn make(
        &self,
        origin: Option<&Device>,
        sectors: u64,
        below: Usage,
        record: impl Fn(&Device) -> Result<()>,
        known: impl Fn() -> Result<HashSet<u32>>,
    ) -> Result<Device> {
        let sectors = origin.map_or(sectors, |origin| origin.sectors);
        let mut again = false;
        loop {
            let mut ids = lock(&self.ids);
            let Some(id) = ids.take() else {
                if again {
                    return Err(Error::new(
                        ErrorKind::ResourceExhausted,
                        format!(
                            "all {RANGE} device numbers that are ours in the thin pool {} are in use",
                            self.name
                        ),
                    ));
                }
                again = true;
                ids.used = known()?;
                continue;
            };
            let name = format!("{}-{}-{id}", self.prefix, self.name);
            let device = Device { name, id, sectors, below };
            // Under the lock, so that whoever reads all records meanwhile finds it.
            record(&device)?;
            drop(ids);
            let text = match origin {
                Some(origin) => format!("create_snap {id} {}", origin.id),
                None => format!("create_thin {id}"),
            };
            match self.message(&text) {
                Ok(()) => return Ok(device),
                // Of ours, and without a record: the next.
                Err(error) if errno(&error) == Some(Errno::EXIST) => {}
                Err(error) if errno(&error) == Some(Errno::NODATA) || errno(&error) == Some(Errno::INVAL) => {
                    let text = format!(
                        "the thin pool {} does not have the device {} any more; pull the image again",
                        self.name,
                        origin.map_or(id, |origin| origin.id)
                    );
                    return Err(self.explain(text, error));
                }
                Err(error) => {
                    return Err(
                        self.explain(format!("cannot make a device in the thin pool {}", self.name), error)
                    );
                }
            }
        }
    }

    /// A device with its table, by its name. One that never got a table is taken away: a device is made first and given
    /// its table then, so a kill in between leaves it without, in which state it holds nothing.
    fn whole(&self, name: &str) -> std::io::Result<Option<(sys::dm::Device, Target)>> {
        let Some(there) = self.control.device(name)? else { return Ok(None) };
        match self.control.target(name, Text::Table) {
            Ok(Some(table)) => Ok(Some((there, table))),
            Ok(None) => self.control.remove(name).map(|()| None),
            Err(error) if errno(&error) == Some(Errno::NXIO) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Takes a device out of the device-mapper that a kill left without a table. What has one stays.
    pub fn sweep(&self, device: &Device) -> std::io::Result<()> {
        let _one = lock(&self.active);
        self.whole(&device.name).map(drop)
    }

    /// Has the device active. Its path, which stays until [`Pool::deactivate`].
    pub fn activate(&self, device: &Device, read_only: bool) -> Result<String> {
        let name = &device.name;
        let wrap = |error| self.explain(format!("cannot activate the thin device {name}"), error);
        let _one = lock(&self.active);
        let minor = match self.whole(name).map_err(wrap)? {
            Some((there, table)) => {
                let id = device.id.to_string();
                let ours = table.kind == "thin" && table.text.split(' ').nth(1) == Some(id.as_str());
                if !ours {
                    return Err(Error::precondition(format!(
                        "the device-mapper has another device of the name {name}; remove it, or choose another prefix"
                    )));
                }
                there.minor
            }
            None => {
                let pool = self.control.device(&self.name).map_err(wrap)?;
                let pool = pool.ok_or_else(|| {
                    Error::precondition(format!("the thin pool {} is not there any more", self.name))
                })?;
                let text = format!("{}:{} {}", pool.major, pool.minor, device.id);
                let target = Target { sectors: device.sectors, kind: "thin".into(), text };
                self.control.create(name, &target, read_only).map_err(wrap)?.minor
            }
        };
        link(name, minor).map_err(|e| failed("make the link", Path::new(FOLDER).join(name), e))?;
        Ok(format!("{FOLDER}/{name}"))
    }

    /// Takes it out of the device-mapper; waits for its last user.
    pub fn deactivate(&self, device: &Device, patience: Duration) -> rustix::io::Result<()> {
        let end = Instant::now() + patience;
        let mut pause = Duration::from_millis(1);
        loop {
            let one = lock(&self.active);
            match self.control.remove(&device.name) {
                Ok(()) => {
                    // With the lock: a new one of that name would have a link of its own.
                    let _ = rustix::fs::unlink(Path::new(FOLDER).join(&device.name));
                    return Ok(());
                }
                Err(error) => match errno(&error) {
                    Some(Errno::BUSY) if Instant::now() < end => {}
                    other => return Err(other.unwrap_or(Errno::IO)),
                },
            }
            drop(one);
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(50));
        }
    }

    /// Takes it out of the device-mapper and out of the pool. What is gone already is no error.
    pub fn delete(&self, device: &Device, patience: Duration) -> rustix::io::Result<()> {
        let first = lock(&self.ids).first;
        if device.id <= first || device.id - first >= RANGE {
            // No record of ours says so.
            return Err(Errno::INVAL);
        }
        self.deactivate(device, patience)?;
        match self.message(&format!("delete {}", device.id)) {
            Ok(()) => Ok(()),
            Err(error) => match errno(&error) {
                Some(Errno::NODATA) => Ok(()),
                other => Err(other.unwrap_or(Errno::IO)),
            },
        }
    }
}

impl Ids {
    /// A number that no record has; each is given out once before any is again.
    fn take(&mut self) -> Option<u32> {
        for _ in 0..RANGE {
            let at = self.next;
            self.next = (self.next + 1) % RANGE;
            // The first one is the claim.
            if at != 0 && self.used.insert(self.first + at) {
                return Some(self.first + at);
            }
        }
        None
    }
}

fn random() -> Result<u32> {
    let mut bytes = [0; 4];
    rustix::rand::getrandom(&mut bytes[..], rustix::rand::GetRandomFlags::empty())
        .map_err(|e| failed("read random bytes from", "the kernel", e))?;
    Ok(u32::from_ne_bytes(bytes))
}

/// Makes `/dev/mapper/NAME`, which udev was told to leave to us.
fn link(name: &str, minor: u32) -> rustix::io::Result<()> {
    let place = Path::new(FOLDER).join(name);
    let target = format!("../dm-{minor}");
    if rustix::fs::readlink(&place, Vec::new()).is_ok_and(|found| found.as_bytes() == target.as_bytes()) {
        return Ok(());
    }
    let new = Path::new(FOLDER).join(format!(".{name}.new"));
    let _ = rustix::fs::unlink(&new);
    rustix::fs::symlink(&target, &new)?;
    rustix::fs::rename(&new, &place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_given_out_once_before_any_is_again() {
        let mut ids = Ids { first: RANGE, next: RANGE - 2, used: HashSet::from([RANGE + 1, RANGE + 2]) };
        assert_eq!(
            [ids.take(), ids.take(), ids.take()],
            [Some(2 * RANGE - 2), Some(2 * RANGE - 1), Some(RANGE + 3)]
        );
        let rest = std::iter::from_fn(|| ids.take()).collect::<HashSet<_>>();
        assert_eq!(rest.len() as u32, RANGE - 1 - 2 - 3, "all but the claim and what was used");
        assert!(!rest.contains(&RANGE) && !rest.contains(&(RANGE + 1)));
    }
}
