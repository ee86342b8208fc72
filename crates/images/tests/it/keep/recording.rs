//! A disk that writes down what reaches it, in its order, and where it was told to keep that (a flush); and what it may be
//! after a power cut: all that came before the last flush that ended, and of the writes after it any, whole or in part.
//!
//! The disk is a file of a FUSE that has nothing else (the kernel's documentation, filesystems/fuse), with a loop device on
//! it. The loop device says that it has a cache to be flushed and cannot write through it, so the block layer makes of every
//! flush and every write through the cache an fsync(2), which comes as a request of its own. FUSE is served by a process of
//! its own, which dies with this one: then its requests end with errors, and nobody waits for them for ever.

use super::killed::Dice;
use rustix::mount::{MountFlags, UnmountFlags};
use rustix::process::Signal;
use std::collections::BTreeSet;
use std::ffi::CString;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use sys::loop_device::LoopDevice;

/// What the process that is the disk is told.
const FOLDER: &str = "CORTEN_TEST_RECORDING";
const BYTES: &str = "CORTEN_TEST_RECORDING_BYTES";
/// Of an entry of the log: what it is, where, and how long. The bytes of a write follow.
const HEADER: usize = 24;
const FLUSH: u64 = 0;
const WRITE: u64 = 1;
const ZEROS: u64 = 2;
/// The longest write that FUSE passes on in one.
const LONGEST: usize = 1 << 20;

/// A disk that is being written down.
#[derive(Debug)]
pub struct Recording {
    // Before the file system that its file is in.
    device: Option<LoopDevice>,
    child: Child,
    log: Arc<File>,
    folder: tempfile::TempDir,
}

impl Recording {
    /// A disk of so many bytes, all zero. It is mounted where this thread sees it.
    pub fn new(name: &str, bytes: u64) -> Recording {
        let prefix = format!("images-keep-{name}-");
        let folder = tempfile::Builder::new().prefix(&prefix).tempdir_in("/dev/shm").expect("dir");
        let path = folder.path().join("disk");
        File::create(&path).expect("mount point");
        let log = Arc::new(File::create_new(folder.path().join("log")).expect("log"));
        // Whatever lies where this program was started from by now.
        let child = Command::new("/proc/self/exe")
            .args(["--exact", "keep::recording::serve", "--test-threads=1", "--nocapture"])
            .env(FOLDER, folder.path())
            .env(BYTES, bytes.to_string())
            .stdout(Stdio::null())
            .spawn()
            .expect("server");
        let mut recording = Recording { device: None, child, log, folder };
        let end = Instant::now() + Duration::from_secs(30);
        // The kernel asks for the size, too.
        while !std::fs::metadata(&path).is_ok_and(|found| found.len() == bytes) {
            assert!(Instant::now() < end, "the disk does not come");
            assert!(recording.child.try_wait().expect("child").is_none(), "the disk's server ended");
            std::thread::sleep(Duration::from_millis(5));
        }
        let file = File::options().read(true).write(true).open(&path).expect("disk");
        recording.device = Some(sys::loop_device::attach(file.as_fd(), false).expect("a loop device"));
        recording
    }

    pub fn device(&self) -> &str {
        &self.device.as_ref().expect("a device").path
    }

    /// Tells how much is written down.
    pub fn clock(&self) -> Clock {
        Clock(self.log.clone())
    }

    /// From now on every write fails, or none.
    pub fn fail_writes(&self, fail: bool) {
        let mark = self.folder.path().join("broken");
        let done = if fail { File::create(mark).map(drop) } else { std::fs::remove_file(mark) };
        done.expect("mark");
    }

    /// Everything from the first byte on. The disk itself goes; nothing may have it mounted any more.
    pub fn replay(self) -> Replay {
        let log = File::open(self.folder.path().join("log")).expect("log");
        let bytes = std::fs::metadata(self.folder.path().join("disk")).expect("disk").len();
        drop(self);
        Replay::new(log, bytes)
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        let name = self.device.take().map(|device| device.path.replace("/dev/", "/sys/block/"));
        let path = self.folder.path().join("disk");
        let unmounted = (0..300).any(|_| {
            let unmounted = rustix::mount::unmount(&path, UnmountFlags::empty()).is_ok();
            if !unmounted {
                std::thread::sleep(Duration::from_millis(10));
            }
            unmounted
        });
        if !unmounted {
            eprintln!("{name:?} is still in use");
            let _ = rustix::mount::unmount(&path, UnmountFlags::DETACH);
        }
        // Its end is the end of the mount; a disk that is still in use loses it now.
        for _ in 0..100 {
            if !unmounted || self.child.try_wait().is_ok_and(|status| status.is_some()) {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// See [`Recording::clock`].
#[derive(Debug, Clone)]
pub struct Clock(Arc<File>);

impl Clock {
    /// What reached the disk before this moment lies before this number, and what reaches it later does not.
    pub fn now(&self) -> u64 {
        self.0.metadata().expect("log").len()
    }
}

/// The process that is the disk.
#[test]
fn serve() {
    let (Ok(folder), Ok(bytes)) = (std::env::var(FOLDER), std::env::var(BYTES)) else { return };
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).expect("death signal");
    let folder = PathBuf::from(folder);
    let fuse = File::options().read(true).write(true).open("/dev/fuse").expect("/dev/fuse");
    // The root is no folder but the file: the place that it is mounted at is one as well.
    let options = format!("fd={},rootmode=100600,user_id=0,group_id=0", fuse.as_raw_fd());
    let options = CString::new(options).expect("no NUL");
    let place = folder.join("disk");
    rustix::mount::mount("recording", &place, "fuse", MountFlags::empty(), options.as_c_str())
        .expect("mount");
    let log = File::options().append(true).open(folder.join("log")).expect("log");
    let bytes: usize = bytes.parse().expect("bytes");
    let mut disk = Disk { content: vec![0; bytes], log, broken: folder.join("broken") };
    let mut buffer = vec![0; LONGEST + 8192];
    loop {
        let length = match (&fuse).read(&mut buffer) {
            Ok(length) => length,
            // ENOENT: a request was taken back.
            Err(error) if matches!(error.raw_os_error(), Some(2 | 4 | 11)) => continue,
            // ENODEV: it was unmounted.
            Err(_) => return,
        };
        // `struct fuse_in_header` of linux/fuse.h, 40 bytes; `struct fuse_out_header`, 16.
        let (head, body) = buffer[..length].split_at(40);
        let Some(answer) = disk.answer(number(head, 4, 4), body) else { continue };
        let (error, answer) = match answer {
            Ok(answer) => (0, answer),
            Err(errno) => (-errno, Vec::new()),
        };
        let mut reply = u32::try_from(16 + answer.len()).expect("short").to_ne_bytes().to_vec();
        reply.extend(error.to_ne_bytes());
        reply.extend(&head[8..16]);
        reply.extend(answer);
        // Who asked may be gone.
        let _ = (&fuse).write(&reply);
    }
}

/// An unsigned number of so many bytes in a request.
fn number(bytes: &[u8], at: usize, length: usize) -> u64 {
    let mut raw = [0; 8];
    raw[..length].copy_from_slice(&bytes[at..at + length]);
    u64::from_le_bytes(raw)
}

/// Numbers of four bytes in an answer.
fn words(numbers: &[u32]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}

/// What the process keeps.
struct Disk {
    content: Vec<u8>,
    log: File,
    broken: PathBuf,
}

impl Disk {
    /// The answer to a request, by its number in `enum fuse_opcode` of linux/fuse.h; none to one that has none.
    fn answer(&mut self, request: u64, body: &[u8]) -> Option<Result<Vec<u8>, i32>> {
        const EIO: i32 = 5;
        const ENOSYS: i32 = 38;
        let broken = matches!(request, 16 | 43) && self.broken.exists();
        Some(match request {
            // FORGET, INTERRUPT, BATCH_FORGET.
            2 | 36 | 42 => return None,
            // INIT. Version 7.31; FUSE_BIG_WRITES and FUSE_MAX_PAGES; `max_write` and so many pages.
            26 => Ok(words(&[
                7,
                31,
                1 << 17,
                1 << 5 | 1 << 22,
                9 << 16 | 12,
                LONGEST as u32,
                1,
                (LONGEST / 4096) as u32,
                0,
                0,
                0,
                0,
                0,
                0,
                0,
                0,
            ])),
            // GETATTR, SETATTR: valid for ever.
            3 | 4 => {
                let mut answer = words(&[u32::MAX, 0, 0, 0]);
                let size = self.content.len() as u64;
                answer.extend([1, size, size / 512, 0, 0, 0].iter().flat_map(|n: &u64| n.to_le_bytes()));
                answer.extend(words(&[0, 0, 0, 0o100_600, 1, 0, 0, 0, 4096, 0]));
                Ok(answer)
            }
            // OPEN: FOPEN_DIRECT_IO, so that nothing is kept in a cache above.
            14 => Ok(words(&[0, 0, 1, 0])),
            // READ.
            15 => {
                let (at, length) = (number(body, 8, 8) as usize, number(body, 16, 4) as usize);
                let end = (at + length).min(self.content.len());
                Ok(self.content[at.min(end)..end].to_vec())
            }
            16 | 43 if broken => Err(EIO),
            // WRITE: 40 bytes, and the content.
            16 => {
                let (at, length) = (number(body, 8, 8), number(body, 16, 4));
                let content = &body[40..40 + length as usize];
                self.note(WRITE, at, length, content);
                self.content[at as usize..][..content.len()].copy_from_slice(content);
                Ok(words(&[length as u32, 0]))
            }
            // FALLOCATE: what is discarded or made zero reads as zeros.
            43 => {
                let (at, length) = (number(body, 8, 8), number(body, 16, 8));
                self.note(ZEROS, at, length, &[]);
                self.content[at as usize..(at + length) as usize].fill(0);
                Ok(Vec::new())
            }
            // FSYNC. It is written down before it is told.
            20 => {
                self.note(FLUSH, 0, 0, &[]);
                Ok(Vec::new())
            }
            // STATFS: `struct fuse_kstatfs`.
            17 => Ok(words(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4096, 255, 4096, 0, 0, 0, 0, 0, 0, 0])),
            // RELEASE, FLUSH (of a descriptor that is closed), DESTROY.
            18 | 25 | 38 => Ok(Vec::new()),
            _ => Err(ENOSYS),
        })
    }

    fn note(&mut self, what: u64, at: u64, length: u64, content: &[u8]) {
        let mut entry = Vec::with_capacity(HEADER + content.len());
        [what, at, length].iter().for_each(|number| entry.extend(number.to_le_bytes()));
        entry.extend(content);
        self.log.write_all(&entry).expect("log");
    }
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    what: u64,
    at: u64,
    length: u64,
    /// Where its bytes, and where it itself, end in the log.
    end: u64,
}

/// What was written down, and the disk as it surely is at a moment.
#[derive(Debug)]
pub struct Replay {
    log: File,
    entries: Vec<Entry>,
    disk: Vec<u8>,
    /// Parts of [`PART`] bytes that were ever written.
    touched: BTreeSet<u64>,
    next: usize,
}

const PART: u64 = 64 << 10;

/// What one power cut left.
#[derive(Debug, Clone, Copy, Default)]
pub struct Loss {
    /// Writes that no flush had followed.
    pub unsure: usize,
    /// Of these, what is not there at all, and what is there in part.
    pub lost: usize,
    pub torn: usize,
}

impl Replay {
    fn new(log: File, bytes: u64) -> Replay {
        let (mut entries, mut at) = (Vec::new(), 0);
        let mut header = [0; HEADER];
        while log.read_exact_at(&mut header, at).is_ok() {
            let what = number(&header, 0, 8);
            let length = number(&header, 16, 8);
            at += HEADER as u64 + if what == WRITE { length } else { 0 };
            entries.push(Entry { what, at: number(&header, 8, 8), length, end: at });
        }
        let disk = vec![0; usize::try_from(bytes).expect("bytes")];
        Replay { log, entries, disk, touched: BTreeSet::new(), next: 0 }
    }

    /// Moments between two others, in their order: some just before a flush, when most is unsure, the others anywhere.
    pub fn moments(&self, from: u64, to: u64, count: usize, dice: &mut Dice) -> Vec<u64> {
        let first = self.entries.partition_point(|entry| entry.end <= from);
        let last = self.entries.partition_point(|entry| entry.end <= to);
        assert!(last > first + 100, "hardly anything was written");
        let flushes: Vec<usize> = (first + 1..last).filter(|at| self.entries[*at].what == FLUSH).collect();
        let mut all: Vec<u64> = (0..count)
            .map(|number| match number % 2 {
                0 => self.entries[flushes[dice.roll(flushes.len())] - 1].end,
                _ => self.entries[first + dice.roll(last - first)].end,
            })
            .collect();
        all.sort_unstable();
        all
    }

    /// Makes a disk as a power cut at this moment may leave it, which is no earlier than the one before. A write comes
    /// whole or in sectors of so many bytes.
    pub fn cut(&mut self, moment: u64, sector: u64, dice: &mut Dice, to: &Path) -> Loss {
        let end = self.entries.partition_point(|entry| entry.end <= moment);
        let flush = self.entries[..end].iter().rposition(|entry| entry.what == FLUSH);
        let sure = flush.map_or(0, |at| at + 1);
        while self.next < sure {
            let entry = self.entries[self.next];
            self.next += 1;
            if entry.what == FLUSH {
                continue;
            }
            let bytes = self.bytes(&entry);
            self.disk[entry.at as usize..][..bytes.len()].copy_from_slice(&bytes);
            self.touched.extend(entry.at / PART..(entry.at + entry.length).div_ceil(PART));
        }
        let file = File::create(to).expect("disk");
        file.set_len(self.disk.len() as u64).expect("size");
        let zeros = [0; PART as usize];
        for part in &self.touched {
            let at = part * PART;
            let content = &self.disk[at as usize..(at + PART).min(self.disk.len() as u64) as usize];
            if *content != zeros[..content.len()] {
                file.write_all_at(content, at).expect("write");
            }
        }
        // Of sixteen writes so many come; all of them is a cut in their order.
        let arrive = [16, 0, 8, 14, 2][dice.roll(5)];
        let tears = dice.roll(4) > 0;
        let mut loss = Loss::default();
        for entry in &self.entries[sure..end] {
            loss.unsure += 1;
            if dice.roll(16) >= arrive {
                loss.lost += 1;
                continue;
            }
            let bytes = self.bytes(entry);
            let sectors = entry.length.div_ceil(sector);
            if arrive < 16 && tears && sectors > 1 && dice.roll(2) == 0 {
                loss.torn += 1;
                for (number, content) in bytes.chunks(sector as usize).enumerate() {
                    if dice.roll(2) == 0 {
                        file.write_all_at(content, entry.at + number as u64 * sector).expect("write");
                    }
                }
            } else {
                file.write_all_at(&bytes, entry.at).expect("write");
            }
        }
        loss
    }

    fn bytes(&self, entry: &Entry) -> Vec<u8> {
        let mut bytes = vec![0; usize::try_from(entry.length).expect("length")];
        if entry.what == WRITE {
            self.log.read_exact_at(&mut bytes, entry.end - entry.length).expect("log");
        }
        bytes
    }
}
