//! Paths inside a root, by descriptor only: every look-up goes through `openat2(2)` with
//! `RESOLVE_IN_ROOT`, so that no link of an image can lead out, and magic links of `/proc` are refused
//! (CVE-2024-21626, CVE-2023-27561, CVE-2024-45310 and their kin are look-ups that were not).

use crate::failure::{Failure, Step, describe};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::path::Arg;

const IN_ROOT: ResolveFlags = ResolveFlags::IN_ROOT.union(ResolveFlags::NO_MAGICLINKS);

/// Opens `path` below `root` for reference only (`O_PATH`), links followed within the root.
pub fn open_path(root: impl AsFd, path: &str) -> Result<OwnedFd, Errno> {
    open(root, path, OFlags::PATH)
}

/// Opens `path` below `root`, links followed within the root.
pub fn open(root: impl AsFd, path: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
    retry(|| rustix::fs::openat2(root.as_fd(), inside(path), flags | OFlags::CLOEXEC, Mode::empty(), IN_ROOT))
}

/// `openat2` answers EAGAIN where a rename races with the walk (openat2(2), ERRORS); bounded retries.
fn retry<T>(mut call: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    for _ in 0..32 {
        match call() {
            Err(Errno::AGAIN | Errno::INTR) => {}
            other => return other,
        }
    }
    Err(Errno::AGAIN)
}

/// A path relative to the root; the root itself is `.`.
fn inside(path: &str) -> &str {
    let path = path.trim_start_matches('/');
    if path.is_empty() { "." } else { path }
}

/// The directory at `path` below `root`, made with its parents (0755) where it is missing. What a dangling link
/// of the image means is made inside of the root, as runc does.
pub fn make_directory(root: impl AsFd, path: &str) -> Step<OwnedFd> {
    match open(&root, path, OFlags::PATH | OFlags::DIRECTORY) {
        Err(Errno::NOENT) => reach(root.as_fd(), path, true, true),
        other => other,
    }
    .map_err(|errno| not_made(path, errno))
}

/// As [`make_directory`], but no part of the path may be a link.
pub fn make_real_directory(root: impl AsFd, path: &str) -> Step<OwnedFd> {
    reach(root.as_fd(), path, true, false).map_err(|errno| not_made(path, errno))
}

/// The file at `path` below `root`, made empty (0644) with its parents where it is missing.
pub fn make_file(root: impl AsFd, path: &str) -> Step<OwnedFd> {
    split(path)?;
    match open_path(&root, path) {
        Err(Errno::NOENT) => reach(root.as_fd(), path, false, true),
        other => other,
    }
    .map_err(|errno| not_made(path, errno))
}

fn not_made(path: &str, errno: Errno) -> Failure {
    let text = format!("{path:?} in the root: {}", describe(errno));
    match errno {
        // What the image or the request has there.
        Errno::NOTDIR | Errno::ISDIR | Errno::LOOP | Errno::INVAL | Errno::XDEV | Errno::NAMETOOLONG => {
            Failure::request(text)
        }
        _ => Failure::system(text),
    }
}

/// As many links as the kernel follows (path_resolution(7)).
const LINKS_MOST: u32 = 40;

/// Walks to `path` one name at a time, each by the descriptor of the directory before, and makes what is missing. A
/// link is taken for its text, which begins at the root again where it is absolute, and ends there where it goes up.
fn reach(root: BorrowedFd<'_>, path: &str, directory: bool, follow: bool) -> Result<OwnedFd, Errno> {
    let mut todo: Vec<Vec<u8>> = Vec::new();
    push(&mut todo, path.as_bytes());
    if todo.iter().any(|name| name == b"..") {
        return Err(Errno::INVAL);
    }
    // The directories from the root to here; the root is the first.
    let mut dirs = vec![open(root, "/", OFlags::PATH | OFlags::DIRECTORY)?];
    let mut links = 0;
    while let Some(name) = todo.pop() {
        if name == b".." {
            if dirs.len() > 1 {
                dirs.pop();
            }
            continue;
        }
        let Some(dir) = dirs.last() else { return Err(Errno::NOENT) };
        let is_file = !directory && todo.is_empty();
        let found = match step(dir, &name) {
            Err(Errno::NOENT) => make_in(dir.as_fd(), &name, !is_file)?,
            found => found?,
        };
        match kind(&found)? {
            FileType::Symlink => {
                links += 1;
                if !follow || links > LINKS_MOST {
                    return Err(Errno::LOOP);
                }
                let text = rustix::fs::readlinkat(&found, "", Vec::new())?;
                if text.as_bytes().starts_with(b"/") {
                    dirs.truncate(1);
                }
                push(&mut todo, text.as_bytes());
            }
            FileType::Directory => dirs.push(found),
            _ if is_file => return Ok(found),
            _ => return Err(Errno::NOTDIR),
        }
    }
    dirs.pop().ok_or(Errno::NOENT)
}

/// One name, which may be a link, by reference.
fn step(dir: &OwnedFd, name: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    retry(|| rustix::fs::openat2(dir, name, flags, Mode::empty(), ResolveFlags::BENEATH))
}

fn push(todo: &mut Vec<Vec<u8>>, path: &[u8]) {
    let names = path.split(|byte| *byte == b'/').filter(|name| !name.is_empty() && *name != b".");
    todo.extend(names.rev().map(<[u8]>::to_vec));
}

/// A new directory (0755) or empty file (0644) in `dir`, opened for reference; what is there already stays. Never a
/// link.
pub fn make_in(dir: BorrowedFd<'_>, name: impl Arg + Copy, directory: bool) -> Result<OwnedFd, Errno> {
    let made = if directory {
        rustix::fs::mkdirat(dir, name, Mode::from_raw_mode(0o755))
    } else {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        rustix::fs::openat(dir, name, flags, Mode::from_raw_mode(0o644)).map(drop)
    };
    match made {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(errno),
    }
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    retry(|| rustix::fs::openat2(dir, name, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve))
}

/// The parent path and the last name.
pub fn split(path: &str) -> Step<(&str, &str)> {
    let trimmed = path.trim_end_matches('/');
    let (parent, name) = trimmed.rsplit_once('/').unwrap_or(("", trimmed));
    if name.is_empty() || name == "." || name == ".." {
        return Err(Failure::request(format!("{path:?} names no file")));
    }
    Ok((if parent.is_empty() { "/" } else { parent }, name))
}

/// Kind of the file that a descriptor refers to.
pub fn kind(fd: impl AsFd) -> Result<FileType, Errno> {
    let stat = rustix::fs::statat(fd, "", AtFlags::EMPTY_PATH)?;
    Ok(FileType::from_raw_mode(stat.st_mode))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn root() -> (tempfile::TempDir, OwnedFd) {
        let dir = tempfile::tempdir().expect("temp");
        let fd = rustix::fs::open(dir.path(), OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).expect("open");
        (dir, fd)
    }

    #[test]
    fn links_of_the_image_stay_inside_the_root() {
        let (dir, fd) = root();
        symlink("/etc", dir.path().join("abs")).expect("link");
        symlink("../../../..", dir.path().join("up")).expect("link");
        make_directory(&fd, "/abs/made/deep").expect("inside, where the link's target is missing, too");
        assert!(dir.path().join("etc/made/deep").is_dir());
        make_file(&fd, "/up/etc/file").expect("inside");
        assert!(dir.path().join("etc/file").is_file());
        symlink("loop", dir.path().join("loop")).expect("link");
        make_directory(&fd, "/loop/x").expect_err("a loop");
        make_directory(&fd, "/etc/file/x").expect_err("a file on the way");
        make_real_directory(&fd, "/abs/other").expect_err("a link on the way");
        make_real_directory(&fd, "/etc/other").expect("no link");
    }

    #[test]
    fn what_a_dangling_link_means_is_made_inside_and_nowhere_else() {
        let (dir, fd) = root();
        let outside = tempfile::tempdir().expect("temp");
        symlink(outside.path().join("target"), dir.path().join("trap")).expect("link");
        make_file(&fd, "/trap").expect("inside");
        assert!(!outside.path().join("target").exists());
        let inside = outside.path().strip_prefix("/").expect("absolute");
        assert!(dir.path().join(inside).join("target").is_file());
        symlink("sub/../other/./file", dir.path().join("relative")).expect("link");
        make_file(&fd, "/relative").expect("inside");
        assert!(dir.path().join("other/file").is_file());
        make_directory(&fd, "/a/../b").expect_err("no way up");
        make_file(&fd, "/a/..").expect_err("no way up");
    }
}
