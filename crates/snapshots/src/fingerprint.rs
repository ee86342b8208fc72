//! One number for all that a committed layer is: names, types, modes, owners, sizes, times of files, links, attributes and
//! every byte. Two trees of one number are the same, unless somebody has searched for another of that number: it finds what
//! a disk turns, not what an attacker does. It reads and never writes.
//!
//! Each entry has a SHA-256 of its own, and these are added up: so the order in which a file system lists its names makes
//! no difference, and nothing is held in memory.

use crate::compare::{fill, open, xattrs};
use crate::layout::failed;
use layers::tree::{At, Step, is_dir, walk};
use rustix::fs::{Advice, FileType, Stat};
use sha2::{Digest as _, Sha256};
use std::os::fd::BorrowedFd;
use types::{Error, Result};

/// Bytes that are read at once.
const PART: usize = 128 << 10;

/// The number of a tree. `from_disk`: what is in memory and clean is dropped first, for it may be right where the disk is
/// not. Times of directories do not count, as in [`crate::compare`].
pub(crate) fn of_tree(root: BorrowedFd<'_>, from_disk: bool) -> Result<[u8; 32]> {
    let top = rustix::fs::fstat(root).map_err(|e| failed("look at", "a layer's root", e))?;
    let mut first = start(b"", &top);
    attributes(&mut first, root).map_err(|e| failed("read attributes of", "a layer's root", e))?;
    let mut sum = Sum::default();
    sum.add(&first.finalize().into());
    let mut buffer = vec![0; PART];
    let walked = walk(root, &mut |step| {
        if let Step::Entry(at, stat) = step {
            sum.add(&entry(&at, stat, from_disk, &mut buffer)?);
        }
        Ok(())
    });
    walked.map_err(Error::from)?;
    Ok(sum.bytes())
}

fn entry(
    at: &At<'_>,
    stat: &Stat,
    from_disk: bool,
    buffer: &mut [u8],
) -> std::result::Result<[u8; 32], layers::Error> {
    let mut hasher = start(&at.path(), stat);
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Symlink => {
            let target = rustix::fs::readlinkat(at.dir, at.name, Vec::new());
            hasher.update(target.map_err(|e| at.failed("read the link", e))?.as_bytes());
        }
        kind @ (FileType::RegularFile | FileType::Directory) => {
            let file = open(at.dir, at.name).map_err(|e| at.failed("open", e))?;
            let file = std::os::fd::AsFd::as_fd(&file);
            attributes(&mut hasher, file).map_err(|e| at.failed("read attributes of", e))?;
            if kind == FileType::RegularFile {
                if from_disk {
                    // Only a hint (posix_fadvise(2)).
                    let _ = rustix::fs::fadvise(file, 0, None, Advice::DontNeed);
                }
                let mut offset = 0;
                loop {
                    let length = fill(file, buffer, offset).map_err(|e| at.failed("read", e))?;
                    if length == 0 {
                        break;
                    }
                    hasher.update(&buffer[..length]);
                    offset += length as u64;
                }
            }
        }
        _ => {}
    }
    Ok(hasher.finalize().into())
}

/// The name, and what the kernel says about the entry.
fn start(path: &[u8], stat: &Stat) -> Sha256 {
    let mut hasher = Sha256::new();
    part(&mut hasher, path);
    hasher.update(stat.st_mode.to_le_bytes());
    hasher.update(stat.st_uid.to_le_bytes());
    hasher.update(stat.st_gid.to_le_bytes());
    if !is_dir(stat) {
        hasher.update(stat.st_size.to_le_bytes());
        hasher.update(stat.st_nlink.to_le_bytes());
        hasher.update(stat.st_rdev.to_le_bytes());
        hasher.update(stat.st_mtime.to_le_bytes());
        hasher.update(stat.st_mtime_nsec.to_le_bytes());
    }
    hasher
}

fn attributes(hasher: &mut Sha256, file: BorrowedFd<'_>) -> rustix::io::Result<()> {
    let all = xattrs(file)?;
    hasher.update((all.len() as u64).to_le_bytes());
    for (name, value) in all {
        part(hasher, &name);
        part(hasher, &value);
    }
    Ok(())
}

/// Bytes with their number before them, so that no two lists of parts look the same.
fn part(hasher: &mut Sha256, bytes: &[u8]) {
    hasher.update((bytes.len() as u64).to_le_bytes());
    hasher.update(bytes);
}

/// Four numbers of 64 bits that wrap around.
#[derive(Default)]
struct Sum([u64; 4]);

impl Sum {
    fn add(&mut self, one: &[u8; 32]) {
        for (sum, bytes) in self.0.iter_mut().zip(one.as_chunks::<8>().0) {
            *sum = sum.wrapping_add(u64::from_le_bytes(*bytes));
        }
    }

    fn bytes(&self) -> [u8; 32] {
        let mut all = [0; 32];
        for (bytes, sum) in all.as_chunks_mut::<8>().0.iter_mut().zip(self.0) {
            *bytes = sum.to_le_bytes();
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::fd::AsFd;
    use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
    use std::path::Path;
    use std::time::UNIX_EPOCH;

    fn number(root: &Path) -> [u8; 32] {
        of_tree(fs::File::open(root).expect("open").as_fd(), true).expect("a number")
    }

    fn dated(path: &Path) {
        let file = fs::File::options().write(true).open(path).expect("open");
        file.set_times(fs::FileTimes::new().set_modified(UNIX_EPOCH)).expect("times");
    }

    /// The same tree, its names made in one order or the other.
    fn make(root: &Path, reversed: bool) {
        let mut names: Vec<String> = (0..40).map(|n| format!("f{n}")).collect();
        if reversed {
            names.reverse();
        }
        fs::create_dir_all(root.join("d/e")).expect("folders");
        for name in names {
            let path = root.join("d").join(&name);
            fs::write(&path, name.repeat(5000)).expect("file");
            dated(&path);
        }
        symlink("d", root.join("l")).expect("link");
        let epoch = rustix::fs::Timespec { tv_sec: 0, tv_nsec: 0 };
        let times = rustix::fs::Timestamps { last_access: epoch, last_modification: epoch };
        rustix::fs::utimensat(rustix::fs::CWD, root.join("l"), &times, rustix::fs::AtFlags::SYMLINK_NOFOLLOW)
            .expect("times");
    }

    #[test]
    fn equal_trees_have_one_number_and_whatever_turns_has_another() {
        let dir = tempfile::tempdir_in("/var/tmp").expect("temp dir");
        let trees = [dir.path().join("one"), dir.path().join("other")];
        make(&trees[0], false);
        make(&trees[1], true);
        let good = number(&trees[0]);
        assert_eq!(good, number(&trees[1]), "the order of names counts");
        let tree = &trees[1];
        let turn = |byte: u8| {
            let path = tree.join("d/f7");
            let file = fs::File::options().write(true).open(&path).expect("open");
            file.write_all_at(&[byte], 9_999).expect("write");
            dated(&path);
        };
        turn(b'x');
        assert_ne!(number(tree), good, "a byte");
        turn(b'7');
        assert_eq!(number(tree), good, "it is turned back");
        fs::set_permissions(tree.join("d/e"), PermissionsExt::from_mode(0o700)).expect("mode");
        assert_ne!(number(tree), good, "a mode");
        fs::set_permissions(
            tree.join("d/e"),
            fs::metadata(trees[0].join("d/e")).expect("stat").permissions(),
        )
        .expect("mode");
        assert_eq!(number(tree), good);
        fs::rename(tree.join("d/f1"), tree.join("d/f01")).expect("rename");
        assert_ne!(number(tree), good, "a name");
        fs::rename(tree.join("d/f01"), tree.join("d/f1")).expect("rename");
        fs::remove_file(tree.join("l")).expect("remove");
        assert_ne!(number(tree), good, "an entry is missing");
    }
}
