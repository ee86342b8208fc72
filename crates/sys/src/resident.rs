//! Files that stay in the page cache for a while. Nobody reads them through this.

use rustix::fd::AsFd;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use std::ffi::c_void;
use std::io;

/// The beginning of a file, read into memory and mapped there. As long as this lives `drop_caches` does not take it out
/// (mm/truncate.c, `mapping_try_invalidate`, leaves mapped pages), and under pressure it goes after what nobody maps.
#[derive(Debug)]
pub struct Resident {
    address: *mut c_void,
    length: usize,
}

impl Resident {
    /// Reads at most `most` bytes from the start of `file`, which has to be open for reading. What was not in memory is
    /// charged to the caller's cgroup, whoever reads it later.
    ///
    /// # Errors
    /// As mmap(2). What cannot be read is left out without an error (mmap(2), `MAP_POPULATE`).
    pub fn hold(file: impl AsFd, most: usize) -> io::Result<Self> {
        let size = rustix::fs::fstat(&file)?.st_size;
        let length = usize::try_from(size).unwrap_or(usize::MAX).min(most);
        let flags = MapFlags::PRIVATE | MapFlags::POPULATE;
        // SAFETY: the kernel chooses the place, so no mapping of this process is replaced, and nothing ever reads or writes
        // through the address: a file that is cut short meanwhile harms nobody.
        let address = unsafe { mmap(std::ptr::null_mut(), length, ProtFlags::READ, flags, file, 0)? };
        Ok(Self { address, length })
    }
}

impl Drop for Resident {
    fn drop(&mut self) {
        // SAFETY: address and length are of a mapping that only this value knows, made by `hold` and not unmapped before.
        let _ = unsafe { munmap(self.address, self.length) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_held_and_let_go() {
        let held = || std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
        let name = std::env::temp_dir().join(format!("corten-sys-resident-{}", std::process::id()));
        std::fs::write(&name, vec![7; 10_000]).expect("a file");
        let file = std::fs::File::open(&name).expect("the file");
        let text = name.display().to_string();
        let resident = Resident::hold(&file, 1 << 20).expect("a mapping");
        assert!(held().contains(&text));
        drop(resident);
        assert!(!held().contains(&text));
        std::fs::remove_file(&name).expect("the file");
    }

    #[test]
    fn an_empty_file_is_an_error() {
        let file = std::fs::File::open("/proc/self/stat").expect("a file of no size");
        assert!(Resident::hold(&file, 4096).is_err());
    }
}
