//! Programs that are read into memory before a container needs them, by a process whose memory it is then. Only for
//! containers with very little memory; never fails, for a container may do without.
//!
//! The kernel charges a page of a file to the cgroup of whoever reads it first (admin-guide/cgroup-v1/memory.rst, "Shared
//! Page Accounting"), with all that it reads ahead: up to 8 MiB at once on some disks (`queue/read_ahead_kb`). Pages on
//! their way from the disk cannot be taken back. So a container of 512 KiB whose program was not in memory, as
//! after a time of much load, was killed while it executed it.

use crate::failure::{Step, Tried};
use crate::plan::Process;
use crate::{beneath, program, report};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, socketpair};
use serde::{Deserialize, Serialize};
use sys::process::Fork;
use sys::resident::Resident;

/// Containers with more memory have room for what is read ahead, twice.
const LITTLE: i64 = 16 << 20;
/// Most that is held of one file; a program that needs more than this at once does not run in so little memory.
const HELD_MOST: usize = 16 << 20;
/// How many programs one leads to: a script's interpreter, that one's loader, and no more than the kernel follows (fs/exec.c,
/// `exec_binprm`).
const LEADS_MOST: usize = 5;
/// The kernel looks for a script's first line in 256 bytes (`BINPRM_BUF_SIZE`); the name of a loader stands a bit later.
const HEAD: usize = 4096;

/// What stays in memory until this is dropped.
pub type Held = Vec<Resident>;

/// Whether a container with this limit in bytes needs this; 0 and less are no limit.
pub fn is_little(limit: i64) -> bool {
    (1..=LITTLE).contains(&limit)
}

/// A program as the container's process will look for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    cwd: String,
    candidates: Vec<Vec<u8>>,
}

impl Wanted {
    /// By the command, the environment with its `PATH`, and the working directory.
    pub fn new(command: &[u8], env: &[Vec<u8>], cwd: &str) -> Self {
        Self { cwd: cwd.to_owned(), candidates: program::candidates(command, env) }
    }
}

/// The program, what executes that, and what executes it, below a container's root. A volume of the container that does
/// not answer makes this wait as it makes the container's process wait.
pub fn program(root: impl AsFd, wanted: &Wanted) -> Held {
    let open_in = |path: &[u8]| {
        let whole =
            if path.starts_with(b"/") { path.to_vec() } else { [wanted.cwd.as_bytes(), b"/", path].concat() };
        open(root.as_fd(), std::str::from_utf8(&whole).ok()?)
    };
    let mut held = Held::new();
    let mut next = wanted.candidates.iter().find_map(|path| open_in(path));
    for _ in 0..LEADS_MOST {
        let Some(file) = next else { break };
        held.extend(hold(&file));
        next = leads_to(&head(&file)).and_then(open_in);
    }
    held
}

/// One file, as far as it is held.
pub fn hold(file: impl AsFd) -> Option<Resident> {
    Resident::hold(file, HELD_MOST).ok()
}

/// A process beside the container's, in the cgroup of the one that starts it. It reads one program when the container's
/// process asks for it, holds it until that closes its descriptors before the exec, or ends, and is gone.
#[derive(Debug)]
pub struct Warmer(OwnedFd);

impl Warmer {
    /// Forks it; the caller may have one thread only, and reaps it as a child that it does not know. To be dropped once
    /// the container's process is forked.
    pub fn start() -> Step<Self> {
        let (ours, its) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
            .tried(|| "cannot make a socket".into())?;
        match sys::process::fork(0, None).tried(|| "cannot make a process that reads the program".into())? {
            Fork::Child => {
                // Else it would never see the end of those that ask.
                drop(ours);
                serve(&its)
            }
            Fork::Parent(_) => Ok(Self(ours)),
        }
    }

    /// Has the program of a process read below this root, and waits for that.
    pub(crate) fn ask(&self, root: BorrowedFd<'_>, process: &Process) {
        let Some(command) = process.args.first() else { return };
        let wanted = Wanted::new(command, &process.env, &process.cwd);
        let Ok(bytes) = postcard::to_allocvec(&wanted) else { return };
        if report::send(&self.0, &bytes, Some(root)).is_ok() {
            // Whatever comes, an end as well, it has done what it can.
            let _ = rustix::io::retry_on_intr(|| rustix::io::read(&self.0, &mut [0; 1]));
        }
    }
}

/// The process of a [`Warmer`].
fn serve(socket: &OwnedFd) -> ! {
    // It keeps nobody's pipe open, and does not outlive the one that started it.
    if sys::process::die_with_parent().is_ok() {
        let _ = sys::process::close_others_and(3, &[socket.as_fd()], || {
            answer(socket);
            sys::process::exit_now(0)
        });
    }
    sys::process::exit_now(1)
}

fn answer(socket: &OwnedFd) {
    let Ok(Some(Some((bytes, Some(root))))) = report::receive(socket, RecvFlags::empty()) else { return };
    let Ok(wanted) = postcard::from_bytes(&bytes) else { return };
    let held = program(&root, &wanted);
    drop(root);
    let _ = rustix::io::write(socket, b"0");
    // Nothing more comes but the end.
    let _ = rustix::io::retry_on_intr(|| rustix::io::read(socket, &mut [0; 1]));
    drop(held);
}

/// File systems whose files are not held, by their numbers in statfs(2): those of tmpfs and hugetlbfs are in memory anyway, and
/// their holes would be filled at this process's cost; sysfs has no programs; and FUSE answers as whoever serves it likes.
const UNFIT: [u32; 4] = [0x0102_1994, 0x9584_58f6, 0x6265_6572, 0x6573_5546];

/// A plain file below the root, open for reading. It is looked at before, as opening a device or a FIFO does things; and so
/// does reading some files of proc and tracefs, which have no size.
fn open(root: BorrowedFd<'_>, path: &str) -> Option<OwnedFd> {
    let found = beneath::open_path(root, path).ok()?;
    let stat = rustix::fs::fstat(&found).ok()?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile || stat.st_size <= 0 {
        return None;
    }
    let kind = rustix::fs::fstatfs(&found).ok()?.f_type;
    if UNFIT.iter().any(|&unfit| i128::from(kind) == i128::from(unfit)) {
        return None;
    }
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    rustix::fs::open(format!("/proc/self/fd/{}", found.as_raw_fd()), flags, Mode::empty()).ok()
}

fn head(file: &OwnedFd) -> Vec<u8> {
    let mut head = vec![0; HEAD];
    let length = rustix::io::pread(file, &mut head, 0).unwrap_or(0);
    head.truncate(length);
    head
}

/// What executes a file that begins so: a script's interpreter, or the loader of a dynamic program.
fn leads_to(head: &[u8]) -> Option<&[u8]> {
    if let Some(script) = head.strip_prefix(b"#!") {
        let blank = |byte: &u8| matches!(byte, b' ' | b'\t');
        let line = script.split(|byte| *byte == b'\n').next()?;
        return line.split(blank).find(|word| !word.is_empty());
    }
    loader(head)
}

/// `PT_INTERP` of a program of 64 bits in this machine's order of bytes (elf(5)).
fn loader(head: &[u8]) -> Option<&[u8]> {
    const PT_INTERP: u64 = 3;
    if !head.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    let number = |at: usize, length: usize| -> Option<usize> {
        let bytes = head.get(at..at.checked_add(length)?)?;
        let number = bytes.iter().rev().fold(0_u64, |all, byte| all << 8 | u64::from(*byte));
        usize::try_from(number).ok()
    };
    let (start, size, count) = (number(32, 8)?, number(54, 2)?, number(56, 2)?);
    (0..count).find_map(|index| {
        let at = start.checked_add(index.checked_mul(size)?)?;
        if number(at, 4)? as u64 != PT_INTERP {
            return None;
        }
        let (offset, length) = (number(at.checked_add(8)?, 8)?, number(at.checked_add(32)?, 8)?);
        head.get(offset..offset.checked_add(length)?)?.split(|byte| *byte == 0).next()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_and_dynamic_programs_lead_to_what_executes_them() {
        assert_eq!(leads_to(b"#!/bin/sh -e\nexit\n"), Some(&b"/bin/sh"[..]));
        assert_eq!(leads_to(b"#! \t/bin/env\tx"), Some(&b"/bin/env"[..]));
        assert_eq!(leads_to(b"#!\n/bin/sh"), None);
        assert_eq!(leads_to(b""), None);
        // This test is a program with a loader.
        let own = std::fs::read("/proc/self/exe").expect("this program");
        let loader = leads_to(&own[..HEAD]).map(String::from_utf8_lossy).expect("a loader");
        assert!(std::path::Path::new(&*loader).exists(), "{loader}");
    }

    #[test]
    fn a_hostile_program_leads_nowhere() {
        let mut head = vec![0xff; HEAD];
        head[..6].copy_from_slice(b"\x7fELF\x02\x01");
        assert_eq!(leads_to(&head), None);
        assert_eq!(leads_to(&head[..40]), None);
        assert_eq!(leads_to(b"\x7fELF"), None);
    }

    #[test]
    fn only_little_limits_are_little() {
        assert!(is_little(1) && is_little(512 << 10) && is_little(LITTLE));
        assert!(!is_little(0) && !is_little(-1) && !is_little(LITTLE + 1));
    }

    #[test]
    fn a_program_is_found_as_its_process_finds_it_with_what_executes_it() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let root = tempfile::tempdir().expect("a root");
        let at = |name: &str| root.path().join(name);
        for dir in ["bin", "opt", "work"] {
            std::fs::create_dir(at(dir)).expect("mkdir");
        }
        std::fs::write(at("bin/tool"), vec![7; 9000]).expect("a program");
        std::fs::set_permissions(at("bin/tool"), std::fs::Permissions::from_mode(0o755)).expect("chmod");
        std::fs::write(at("work/script"), "#!/bin/tool -x\n").expect("a script");
        symlink("/work/script", at("opt/link")).expect("a link");
        let dir = std::fs::File::open(root.path()).expect("open");
        let held = |command: &[u8], cwd: &str| {
            let env = [b"PATH=/none:/opt:/bin".to_vec()];
            program(&dir, &Wanted::new(command, &env, cwd)).len()
        };
        assert_eq!(held(b"tool", "/"), 1);
        assert_eq!(held(b"link", "/"), 2, "a link, a script, and what executes it");
        assert_eq!(held(b"./script", "/work"), 2);
        assert_eq!(held(b"script", "/work"), 0, "PATH does not lead there");
        assert_eq!(held(b"/bin", "/"), 0, "a directory");
        assert_eq!(held(b"../../bin/tool", "/"), 1, "nothing is above the root");
    }
}
