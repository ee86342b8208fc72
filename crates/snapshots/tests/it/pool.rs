//! A thin pool of a test's own, on loop devices of two files; the kernel makes its metadata.

use snapshots::DevmapperConfig;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use sys::dm::{Control, Target, Text};
use sys::loop_device::LoopDevice;

/// How large the file system of a container is.
pub const BASE: u64 = 256 << 20;
/// The file that names the pool, in the folder of a test.
const NAME: &str = "pool";

/// It goes with all devices of a snapshotter that are made of it.
pub struct ThinPool {
    pub name: String,
    control: Control,
    _loops: [LoopDevice; 2],
}

/// The snapshotter's configuration, for a folder of a test or one in it.
pub fn config(folder: &Path) -> DevmapperConfig {
    let name = folder.ancestors().take(2).find_map(|dir| std::fs::read_to_string(dir.join(NAME)).ok());
    DevmapperConfig { pool: name.unwrap_or_else(|| "none".into()), bytes: BASE, ..DevmapperConfig::default() }
}

impl ThinPool {
    /// With so many bytes for data; none where this kernel has no device-mapper, which is said.
    pub fn new(folder: &Path, bytes: u64) -> Option<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("snaptest-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        Self::named(&name, folder, bytes)
    }

    pub fn named(name: &str, folder: &Path, bytes: u64) -> Option<Self> {
        let control = match Control::open() {
            Ok(control) => control,
            Err(error) => {
                println!("SKIPPED: there is no device-mapper here: {error}");
                return None;
            }
        };
        let disk = |file: &str, bytes: u64| {
            let path = folder.join(file);
            let _ = std::fs::remove_file(&path);
            let file =
                std::fs::File::options().read(true).write(true).create_new(true).open(path).expect("file");
            file.set_len(bytes).expect("size");
            sys::loop_device::attach(file.as_fd(), false).expect("a loop device")
        };
        let loops = [disk("metadata", 16 << 20), disk("data", bytes)];
        let text = format!("{} {} 128 0 1 error_if_no_space", loops[0].path, loops[1].path);
        let table = Target { sectors: bytes / 512, kind: "thin-pool".into(), text };
        control.create(name, &table, false).expect("a thin pool (modprobe dm_thin_pool)");
        std::fs::write(folder.join(NAME), name).expect("name");
        Some(Self { name: name.to_owned(), control, _loops: loops })
    }

    /// Blocks of data that are used.
    pub fn used(&self) -> u64 {
        let status = self.control.target(&self.name, Text::Status).expect("status").expect("a table");
        let pair = status.text.split(' ').nth(2).and_then(|pair| pair.split_once('/'));
        pair.and_then(|(used, _)| used.parse().ok()).expect("used blocks")
    }

    /// Devices of the snapshotter that are active.
    pub fn active(&self) -> Vec<String> {
        let prefix = format!("corten-{}-", self.name);
        let names = std::fs::read_dir("/dev/mapper").expect("/dev/mapper");
        let names = names.map(|entry| entry.expect("entry").file_name().to_string_lossy().into_owned());
        names.filter(|name| name.starts_with(&prefix)).collect()
    }
}

impl Drop for ThinPool {
    fn drop(&mut self) {
        // What was mounted in a namespace goes a little after it.
        for _ in 0..200 {
            for device in self.active() {
                if self.control.remove(&device).is_ok() {
                    let _ = std::fs::remove_file(Path::new("/dev/mapper").join(device));
                }
            }
            match self.control.remove(&self.name) {
                Ok(()) => return,
                Err(_) => std::thread::sleep(std::time::Duration::from_millis(20)),
            }
        }
        eprintln!("the thin pool {} is left behind", self.name);
    }
}
