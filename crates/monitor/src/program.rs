//! The shim's program in a sealed memory file: nobody can overwrite it, the daemon's upgrade does not pull it
//! from under running pods, and all shims share its pages (CVE-2019-5736 was a runtime binary overwritten by
//! the container it ran).

use rustix::fd::{AsRawFd, OwnedFd};
use rustix::fs::{MemfdFlags, Mode, OFlags, SealFlags, fcntl_add_seals, memfd_create};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use types::{Error, ErrorKind, Result};

/// No shim is larger, in bytes.
const PROGRAM_MAX: u64 = 64 << 20;

/// A shim program that is ready to be started.
#[derive(Debug)]
pub struct ShimProgram {
    memory: OwnedFd,
    origin: PathBuf,
}

impl ShimProgram {
    /// Copies the program at `path` into memory and seals it.
    ///
    /// # Errors
    /// A missing or unreadable file, with the path and what to set.
    pub fn load(path: &Path) -> Result<Self> {
        let fail = |e: io::Error| {
            Error::with_source(
                ErrorKind::FailedPrecondition,
                format!(
                    "the shim {} cannot be loaded; set [runtimes.native] shim to where corten-shim is",
                    path.display()
                ),
                e,
            )
        };
        let memory = copy(path).map_err(fail)?;
        Ok(Self { memory, origin: path.to_owned() })
    }

    /// A path that executes the memory file, valid in this process and its immediate children.
    pub fn exec_path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.memory.as_raw_fd()))
    }

    /// Where it was loaded from.
    pub fn origin(&self) -> &Path {
        &self.origin
    }
}

fn copy(path: &Path) -> io::Result<OwnedFd> {
    let source = File::from(rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?);
    if !source.metadata()?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // MFD_EXEC is needed where vm.memfd_noexec is set (Linux 6.3); older kernels do not know the flag.
    let memory = memfd_create("corten-shim", flags | MemfdFlags::EXEC)
        .or_else(|_| memfd_create("corten-shim", flags))?;
    let mut file = File::from(memory);
    let copied = io::copy(&mut source.take(PROGRAM_MAX + 1), &mut file)?;
    if copied == 0 || copied > PROGRAM_MAX {
        return Err(io::Error::other(format!("{copied} bytes cannot be a shim")));
    }
    fcntl_add_seals(&file, SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE)?;
    Ok(file.into())
}
