//! A file system of its own for what is measured: ext4 as mkfs makes it, with a journal, new in every run. Without one,
//! what earlier runs removed would slow down the next ones: ext4 without a journal passes over inodes that were freed
//! in the last minutes, one by one (`recently_deleted` in fs/ext4/ialloc.c), and with another file system below the
//! same figures would not be those of a node.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::steps::read;

/// Room for the largest images of one runtime and the plain cost's files.
const BYTES: &str = "12G";

/// The file system, mounted. Dropping it takes it away.
pub struct Disk {
    image: PathBuf,
    device: Option<String>,
    mounted: Option<PathBuf>,
}

impl Disk {
    /// Makes it below `place`, as a sparse file.
    pub fn make(place: &Path) -> Result<Disk, String> {
        let mut disk = Disk { image: place.join("disk.img"), device: None, mounted: None };
        read(Command::new("truncate").args(["-s", BYTES]).arg(&disk.image))?;
        let at_once = "lazy_itable_init=0,lazy_journal_init=0";
        read(Command::new("mkfs.ext4").args(["-q", "-E", at_once]).arg(&disk.image))?;
        // Not cached twice.
        let attach = ["--direct-io=on", "--find", "--show"];
        let device = read(Command::new("losetup").args(attach).arg(&disk.image))?;
        let device = device.trim().to_owned();
        disk.device = Some(device.clone());
        let folder = place.join("disk");
        std::fs::create_dir_all(&folder).map_err(|why| format!("cannot make {}: {why}", folder.display()))?;
        read(Command::new("mount").arg(&device).arg(&folder))?;
        disk.mounted = Some(folder);
        Ok(disk)
    }

    /// A folder on it.
    pub fn folder(&self, name: &str) -> Result<PathBuf, String> {
        let folder = self.mounted.as_deref().ok_or("the disk is not mounted")?.join(name);
        std::fs::create_dir_all(&folder).map_err(|why| format!("cannot make {}: {why}", folder.display()))?;
        Ok(folder)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let mut done = Vec::new();
        if let Some(folder) = self.mounted.take() {
            done.push(read(Command::new("umount").arg(folder)));
        }
        if let Some(device) = self.device.take() {
            done.push(read(Command::new("losetup").args(["--detach", &device])));
        }
        for failed in done.into_iter().filter_map(Result::err) {
            eprintln!("{failed}");
        }
        // Also of a run that ended before its folder is removed: it is large.
        let _ = std::fs::remove_file(&self.image);
    }
}
