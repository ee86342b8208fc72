//! Paths inside a root, by descriptor only: every look-up goes through `openat2(2)` with
//! `RESOLVE_IN_ROOT`, so that no link of an image can lead out, and magic links of `/proc` are refused
//! (CVE-2024-21626, CVE-2023-27561, CVE-2024-45310 and their kin are look-ups that were not).

use crate::failure::{Failure, Step, describe};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

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

/// The directory at `path` below `root`, made with its parents (0755) where it is missing.
pub fn make_directory(root: impl AsFd, path: &str) -> Step<OwnedFd> {
    match open(&root, path, OFlags::PATH | OFlags::DIRECTORY) {
        Ok(dir) => return Ok(dir),
        Err(Errno::NOENT) => {}
        Err(errno) => return Err(Failure::request(format!("{path:?} in the root: {}", describe(errno)))),
    }
    let mut at = open(&root, "/", OFlags::PATH | OFlags::DIRECTORY)
        .map_err(|e| Failure::system(format!("the root itself: {}", describe(e))))?;
    let mut walked = String::new();
    for name in parts(path)? {
        walked.push('/');
        walked.push_str(name);
        // Each prefix is resolved from the root anew, so that a link among the parents stays inside.
        match open(&root, &walked, OFlags::PATH | OFlags::DIRECTORY) {
            Ok(dir) => {
                at = dir;
                continue;
            }
            Err(Errno::NOENT) => {}
            Err(errno) => {
                return Err(Failure::request(format!("{walked:?} in the root: {}", describe(errno))));
            }
        }
        match rustix::fs::mkdirat(&at, name, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => {
                return Err(Failure::system(format!(
                    "cannot make the directory {walked:?} in the root: {}",
                    describe(errno)
                )));
            }
        }
        at = open(&root, &walked, OFlags::PATH | OFlags::DIRECTORY).map_err(|e| {
            Failure::request(format!("{walked:?} in the root: {} (a dangling link?)", describe(e)))
        })?;
    }
    Ok(at)
}

/// The file at `path` below `root`, made empty (0644) with its parents where it is missing.
pub fn make_file(root: impl AsFd, path: &str) -> Step<OwnedFd> {
    match open_path(&root, path) {
        Ok(file) => return Ok(file),
        Err(Errno::NOENT) => {}
        Err(errno) => return Err(Failure::request(format!("{path:?} in the root: {}", describe(errno)))),
    }
    let (parent, name) = split(path)?;
    let dir = make_directory(&root, parent)?;
    // O_EXCL never follows a link, so that a dangling one is refused instead of made elsewhere.
    match rustix::fs::openat(
        &dir,
        name,
        OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC,
        Mode::from_raw_mode(0o644),
    ) {
        Ok(_) | Err(Errno::EXIST) => {}
        Err(errno) => {
            return Err(Failure::system(format!(
                "cannot make the file {path:?} in the root: {}",
                describe(errno)
            )));
        }
    }
    open_path(&root, path)
        .map_err(|e| Failure::request(format!("{path:?} in the root: {} (a dangling link?)", describe(e))))
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

fn parts(path: &str) -> Step<Vec<&str>> {
    let parts: Vec<_> = path.split('/').filter(|p| !p.is_empty() && *p != ".").collect();
    if parts.contains(&"..") {
        return Err(Failure::request(format!("{path:?} may not go up (..)")));
    }
    Ok(parts)
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
        make_directory(&fd, "/abs/made").expect_err("the link's target is missing inside");
        std::fs::create_dir(dir.path().join("etc")).expect("mkdir");
        make_directory(&fd, "/abs/made/deep").expect("inside");
        assert!(dir.path().join("etc/made/deep").is_dir());
        make_file(&fd, "/up/etc/file").expect("inside");
        assert!(dir.path().join("etc/file").is_file());
    }

    #[test]
    fn a_dangling_link_makes_no_file_elsewhere() {
        let (dir, fd) = root();
        let outside = tempfile::tempdir().expect("temp");
        symlink(outside.path().join("target"), dir.path().join("trap")).expect("link");
        make_file(&fd, "/trap").expect_err("dangling");
        assert!(!outside.path().join("target").exists());
        make_directory(&fd, "/a/../b").expect_err("no way up");
    }
}
