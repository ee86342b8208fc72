//! A small disk of a test's own: a file system on a loop device.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Whether these programs, loop devices and the right to use them are there. It says so where they are not.
pub fn can(what: &str, programs: &[&str]) -> bool {
    let missing: Vec<&&str> = programs
        .iter()
        .filter(|program| {
            ["/usr/sbin", "/sbin", "/usr/bin", "/bin"]
                .iter()
                .all(|dir| !Path::new(dir).join(program).exists())
        })
        .collect();
    let root = rustix::process::geteuid().is_root() && Path::new("/dev/loop-control").exists();
    if missing.is_empty() && root {
        return true;
    }
    eprintln!("SKIPPED {what}: needs root, loop devices and {programs:?}; missing are {missing:?}");
    false
}

/// Runs a program that has to succeed.
pub fn run(program: &str, arguments: &[&str]) -> String {
    let out = Command::new(program).args(arguments).output().unwrap_or_else(|e| panic!("{program}: {e}"));
    assert!(out.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8_lossy(&out.stdout).trim().to_owned()
}

/// A file as a block device.
#[derive(Debug)]
pub struct Loop(String);

impl Loop {
    pub fn new(file: &Path) -> Loop {
        Loop(run("losetup", &["--find", "--show", &file.to_string_lossy()]))
    }

    pub fn device(&self) -> &str {
        &self.0
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Command::new("losetup").args(["-d", &self.0]).status();
        // It goes with its last user, which may be a moment later.
        let file = self.0.replace("/dev/", "/sys/block/") + "/loop/backing_file";
        for _ in 0..200 {
            if !Path::new(&file).exists() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        eprintln!("{} is still in use", self.0);
    }
}

/// A mount that ends with the value.
#[derive(Debug)]
pub struct Mount(PathBuf);

impl Mount {
    pub fn new(device: &str, kind: &str, options: &str, at: &Path) -> Mount {
        std::fs::create_dir_all(at).expect("mount point");
        let at_text = at.to_string_lossy();
        let mut arguments = vec!["-t", kind];
        if !options.is_empty() {
            arguments.extend(["-o", options]);
        }
        arguments.extend([device, &at_text]);
        run("mount", &arguments);
        Mount(at.to_owned())
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // A collection may still be at its last file.
        for _ in 0..50 {
            if Command::new("umount").arg(&self.0).output().is_ok_and(|out| out.status.success()) {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// A mounted file system of its own, in memory where there is room for it.
#[derive(Debug)]
pub struct Disk {
    // In the order in which they have to end.
    mount: Mount,
    _device: Loop,
    _dir: tempfile::TempDir,
}

impl Disk {
    pub fn new(name: &str, bytes: u64, kind: &str) -> Disk {
        let parent = if Path::new("/dev/shm").is_dir() { "/dev/shm" } else { "/var/tmp" };
        let dir =
            tempfile::Builder::new().prefix(&format!("images-keep-{name}-")).tempdir_in(parent).expect("dir");
        let file = dir.path().join("disk");
        std::fs::File::create(&file).and_then(|f| f.set_len(bytes)).expect("file");
        let device = Loop::new(&file);
        make(kind, device.device());
        let mount = Mount::new(device.device(), kind, "", &dir.path().join("mount"));
        Disk { mount, _device: device, _dir: dir }
    }

    pub fn root(&self) -> &Path {
        self.mount.path()
    }
}

/// A folder that is quick to sync: on a disk in memory where there can be one. It keeps the measure of a slow disk, and of
/// what others write there, out of tests that are not about it.
#[derive(Debug)]
pub enum Place {
    Disk(Disk),
    Folder(tempfile::TempDir),
}

impl Place {
    pub fn new(name: &str) -> Place {
        if rustix::process::geteuid().is_root() && Path::new("/dev/loop-control").exists() {
            return Place::Disk(Disk::new(name, 320 << 20, "ext4"));
        }
        let prefix = format!("images-keep-{name}-");
        Place::Folder(tempfile::Builder::new().prefix(&prefix).tempdir_in("/var/tmp").expect("dir"))
    }

    pub fn root(&self) -> &Path {
        match self {
            Place::Disk(disk) => disk.root(),
            Place::Folder(dir) => dir.path(),
        }
    }
}

/// Makes a file system.
pub fn make(kind: &str, device: &str) {
    let quiet = if kind == "ext4" { vec!["-q", "-F", device] } else { vec!["-q", "-f", device] };
    run(&format!("mkfs.{kind}"), &quiet);
}
