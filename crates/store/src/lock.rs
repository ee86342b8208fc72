//! One owner per folder: an flock(2) on a file that names its holder. It never waits and never
//! removes the file, for removing a lock file lets two owners lock two different files.

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use types::{Error, ErrorKind, Result};

/// Why a lock was not taken.
#[derive(Debug, thiserror::Error)]
enum LockError {
    #[error("cannot open the lock file {}", path.display())]
    Open {
        path: PathBuf,
        #[source]
        cause: Errno,
    },
    #[error("cannot lock {}", path.display())]
    Lock {
        path: PathBuf,
        #[source]
        cause: Errno,
    },
    #[error(
        "{} is locked by {holder}: stop that process, or give this one a root and a state folder of its own",
        path.display()
    )]
    Held { path: PathBuf, holder: String },
}

impl From<LockError> for Error {
    fn from(error: LockError) -> Self {
        let kind = match &error {
            LockError::Held { .. } => ErrorKind::FailedPrecondition,
            LockError::Open { cause: Errno::ACCESS | Errno::PERM, .. } => ErrorKind::PermissionDenied,
            _ => ErrorKind::Internal,
        };
        match error {
            LockError::Held { .. } => Error::new(kind, error.to_string()),
            LockError::Open { cause, .. } | LockError::Lock { cause, .. } => {
                Error::with_source(kind, error.to_string(), cause)
            }
        }
    }
}

/// A held lock. It ends when this is dropped or its process ends, however it ends.
#[derive(Debug)]
pub struct Lock {
    file: File,
    path: PathBuf,
}

/// Takes the lock at `path`, making the file (mode 0600) where it is missing; does not wait.
///
/// A lock that is held gives [`ErrorKind::FailedPrecondition`] and names the holder's process id.
pub fn exclusive(path: &Path) -> Result<Lock> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let fd = rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR)
        .map_err(|cause| LockError::Open { path: path.to_owned(), cause })?;
    let mut file = File::from(fd);
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK) => {
            return Err(LockError::Held { path: path.to_owned(), holder: holder(&mut file) }.into());
        }
        Err(cause) => return Err(LockError::Lock { path: path.to_owned(), cause }.into()),
    }
    // The text is for people and for the message above; the lock itself is the kernel's.
    let text = format!("{}\n", std::process::id());
    if let Err(error) =
        file.set_len(0).and_then(|()| file.rewind()).and_then(|()| file.write_all(text.as_bytes()))
    {
        tracing::warn!(path = %path.display(), %error, "the lock file could not be given our process id");
    }
    Ok(Lock { file, path: path.to_owned() })
}

impl Lock {
    /// The locked file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Lets the lock go; dropping does the same.
    pub fn release(self) {
        drop(self.file);
    }
}

/// Who holds the lock, as far as its file says. The content is not trusted: only a number is repeated.
fn holder(file: &mut File) -> String {
    let mut text = [0u8; 16];
    let length = file.read(&mut text).unwrap_or(0);
    match std::str::from_utf8(&text[..length]).ok().and_then(|t| t.trim().parse::<u32>().ok()) {
        Some(pid) => format!("process {pid}"),
        None => "another process".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_owner_is_refused_and_told_the_pid_of_the_first() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("lock");
        let held = exclusive(&path).expect("first");
        let refused = exclusive(&path).expect_err("second");
        assert_eq!(refused.kind(), ErrorKind::FailedPrecondition);
        assert!(refused.message().contains(&format!("process {}", std::process::id())), "{refused}");
        held.release();
        exclusive(&path).expect("free again");
    }

    #[test]
    fn a_lock_file_with_nonsense_in_it_is_taken_and_a_link_is_not_followed() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("lock");
        std::fs::write(&path, [0xff; 4096]).expect("write");
        let held = exclusive(&path).expect("taken");
        assert_eq!(std::fs::read_to_string(held.path()).expect("read"), format!("{}\n", std::process::id()));
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&path, &link).expect("link");
        assert!(exclusive(&link).is_err());
    }
}
