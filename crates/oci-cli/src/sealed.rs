//! This program runs from a read-only mount of its own file wherever it becomes a container's process, so
//! that nobody in a container can overwrite the file on the node through `/proc/PID/exe` (CVE-2019-5736).
//!
//! The mount is a clone that is attached nowhere: nobody can make it writable again, as mount_setattr(2) wants a
//! mount of the caller's own mount namespace. It shares the page cache, so it costs two system calls. Where it
//! cannot be had (an ordinary user, a file of another mount namespace), a sealed copy in memory takes its place.

use rustix::fd::{AsFd, AsRawFd, OwnedFd};
use rustix::fs::{
    AtFlags, MemfdFlags, Mode, OFlags, SealFlags, StatVfsMountFlags, StatxAttributes, StatxFlags,
};
use rustix::io::Errno;
use rustix::process::DumpableBehavior;
use std::ffi::{CString, OsString};
use std::os::unix::ffi::OsStringExt;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use sys::mount::{Attributes, attr, set_attributes};
use types::{Error, ErrorKind, Result};

const SEALS: SealFlags =
    SealFlags::SEAL.union(SealFlags::SHRINK).union(SealFlags::GROW).union(SealFlags::WRITE);

/// As [`protect`] for a verb that will want it, before the command line is understood, which then is done once.
///
/// It only looks for words: a container that is called `run` costs a second start, and what fails here is told later.
pub fn protect_early() {
    let mut wanted = false;
    for word in std::env::args_os().skip(1) {
        let word = word.as_encoded_bytes();
        wanted |= matches!(word, b"create" | b"run" | b"exec");
        if word.windows(12).any(|part| part == b"preserve-fds") {
            return;
        }
    }
    if wanted {
        let _ = protect(0);
    }
}

/// Starts over from a file that cannot be written, unless this is one already. Of the caller's descriptors only the standard
/// ones and `preserve_fds` more come along: a container that waits for its start would keep the others open.
pub fn protect(preserve_fds: u32) -> Result<()> {
    static DONE: AtomicBool = AtomicBool::new(false);
    if DONE.load(Relaxed) {
        return Ok(());
    }
    let fail = |what: &str, errno: Errno| {
        Error::with_source(
            ErrorKind::Internal,
            format!("{what}, which keeps the container from changing this program; nothing was started"),
            std::io::Error::from(errno),
        )
    };
    let own = rustix::fs::open("/proc/self/exe", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| fail("cannot open this program's own file", errno))?;
    if is_protected(&own) {
        // The kernel named us after the descriptor.
        let _ = rustix::thread::set_name(c"corten-oci");
        // Our children are in a container before they execute its program: nobody there may trace them or
        // look at their descriptors (CVE-2016-9962). The exec makes them as any process again.
        rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
            .map_err(|errno| fail("cannot hide this process from tracers", errno))?;
        DONE.store(true, Relaxed);
        return Ok(());
    }
    let copy = match read_only_mount() {
        Ok(mount) => mount,
        Err(_) => copy(&own).map_err(|errno| fail("cannot copy this program to memory", errno))?,
    };
    let path = CString::new(format!("/proc/self/fd/{}", copy.as_raw_fd()))
        .map_err(|_| Error::internal("a number has a NUL byte"))?;
    let strings = |list: Vec<OsString>| {
        // What the kernel gave as a string has no NUL byte inside.
        list.into_iter().filter_map(|text| CString::new(text.into_vec()).ok()).collect::<Vec<_>>()
    };
    let env = std::env::vars_os()
        .map(|(mut name, value)| {
            name.push("=");
            name.push(value);
            name
        })
        .collect();
    let image = sys::process::Image::new(strings(std::env::args_os().collect()), strings(env));
    sys::process::close_on_exec_from(preserve_fds.saturating_add(3)).map_err(|e| {
        Error::with_source(ErrorKind::Internal, "cannot close the caller's other descriptors", e)
    })?;
    let error = image.exec(&path);
    Err(Error::with_source(
        ErrorKind::Internal,
        "cannot execute this program from where no container can change it; is vm.memfd_noexec 2?",
        error,
    ))
}

/// True for our own mount, and for a sealed copy in memory. A read-only file system of the node does not count:
/// it can be made writable while a container still has a way to the file.
fn is_protected(own: &OwnedFd) -> bool {
    // A file of a disk answers EINVAL; one of a tmpfs has the seal against seals only (fcntl(2)).
    if rustix::fs::fcntl_get_seals(own).is_ok_and(|seals| seals.contains(SEALS)) {
        return true;
    }
    // The root of our mount is the file itself; that of any other mount it is on is a directory.
    let is_root = || {
        rustix::fs::statx(own, "", AtFlags::EMPTY_PATH, StatxFlags::empty())
            .is_ok_and(|stat| stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
    };
    rustix::fs::fstatvfs(own).is_ok_and(|system| system.f_flag.contains(StatVfsMountFlags::RDONLY))
        && is_root()
}

/// A read-only clone of the mount at this program's file.
fn read_only_mount() -> std::io::Result<OwnedFd> {
    use rustix::mount::{OpenTreeFlags, open_tree};
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let mount = open_tree(rustix::fs::CWD, "/proc/self/exe", flags)?;
    let read_only = Attributes { set: attr::RDONLY, ..Attributes::default() };
    set_attributes(mount.as_fd(), c"", read_only)?;
    Ok(mount)
}

fn copy(own: &OwnedFd) -> Result<OwnedFd, Errno> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // The flag is there since Linux 6.3, and needed where vm.memfd_noexec is 1.
    let copy = match rustix::fs::memfd_create("corten-oci", flags | MemfdFlags::EXEC) {
        Err(Errno::INVAL) => rustix::fs::memfd_create("corten-oci", flags)?,
        other => other?,
    };
    let size = u64::try_from(rustix::fs::fstat(own)?.st_size).map_err(|_| Errno::FBIG)?;
    let mut at = 0;
    while at < size {
        let left = usize::try_from(size - at).unwrap_or(usize::MAX).min(1 << 30);
        let sent = rustix::fs::sendfile(&copy, own, Some(&mut at), left)?;
        if sent == 0 {
            return Err(Errno::IO);
        }
    }
    rustix::fs::fcntl_add_seals(&copy, SEALS)?;
    Ok(copy)
}
