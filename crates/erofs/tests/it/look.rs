//! Looks at images: mounted, and with the programs of others.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Everything that can be seen of one name.
#[derive(Debug, PartialEq, Eq)]
pub struct Seen {
    pub mode: u32,
    pub owner: (u32, u32),
    pub links: u64,
    pub size: u64,
    pub mtime: (i64, i64),
    pub device: u64,
    /// Of those with several names, the first of them.
    pub same_as: Option<Vec<u8>>,
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Of a link, where it points; of a file, what it holds.
    pub content: Vec<u8>,
}

/// All of a tree by its paths.
pub fn tree(top: &Path) -> BTreeMap<Vec<u8>, Seen> {
    let mut all = BTreeMap::new();
    let mut first = std::collections::HashMap::new();
    look(top, b"", &mut all, &mut first);
    all
}

fn look(
    path: &Path,
    name: &[u8],
    all: &mut BTreeMap<Vec<u8>, Seen>,
    first: &mut std::collections::HashMap<u64, Vec<u8>>,
) {
    let stat = path.symlink_metadata().unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let several = !stat.is_dir() && stat.nlink() > 1;
    let same_as = several.then(|| first.entry(stat.ino()).or_insert_with(|| name.to_vec()).clone());
    let content = if stat.is_symlink() {
        std::fs::read_link(path).expect("link").into_os_string().into_vec()
    } else if stat.is_file() {
        std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
    } else {
        Vec::new()
    };
    let seen = Seen {
        mode: stat.mode(),
        owner: (stat.uid(), stat.gid()),
        links: stat.nlink(),
        size: if stat.is_dir() { 0 } else { stat.size() },
        mtime: (stat.mtime(), stat.mtime_nsec()),
        device: stat.rdev(),
        same_as,
        xattrs: xattrs(path),
        content,
    };
    all.insert(name.to_vec(), seen);
    if stat.is_dir() {
        let mut names: Vec<OsString> =
            std::fs::read_dir(path).expect("read_dir").map(|e| e.expect("entry").file_name()).collect();
        names.sort();
        for child in names {
            let mut below = name.to_vec();
            below.push(b'/');
            below.extend(child.as_bytes());
            look(&path.join(&child), &below, all, first);
        }
    }
}

pub fn xattrs(path: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut list = vec![0; 65536];
    let length = match rustix::fs::llistxattr(path, &mut list[..]) {
        Ok(length) => length,
        Err(error) => panic!("{}: {error}", path.display()),
    };
    let names = list[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty());
    let mut all = BTreeMap::new();
    for name in names {
        let mut value = vec![0; 65536];
        let length = rustix::fs::lgetxattr(path, name, &mut value[..]).expect("value");
        all.insert(name.to_vec(), value[..length].to_vec());
    }
    all
}

/// An image in a folder that goes with it.
pub struct Image {
    pub folder: tempfile::TempDir,
    pub file: std::fs::File,
    pub written: erofs::Written,
}

pub const UUID: [u8; 16] = *b"0123456789abcdef";

pub fn image(top: &Path) -> Result<Image, erofs::Error> {
    let folder = tempfile::tempdir_in("/var/tmp").expect("a folder");
    let options = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .open(folder.path().join("image"))
        .expect("image");
    let tree = std::fs::File::open(top).expect("tree");
    let written = erofs::write(tree.as_fd(), options.as_fd(), UUID)?;
    Ok(Image { folder, file: options, written })
}

impl Image {
    pub fn path(&self) -> PathBuf {
        self.folder.path().join("image")
    }

    pub fn bytes(&self) -> Vec<u8> {
        std::fs::read(self.path()).expect("read")
    }

    /// The image as the kernel shows it; `None` where it has no erofs.
    pub fn mount(&self) -> Option<Mounted> {
        use rustix::mount as api;
        let file = std::fs::File::open(self.path()).expect("open");
        let try_with = |source: &str| {
            let fs = api::fsopen("erofs", api::FsOpenFlags::FSOPEN_CLOEXEC)?;
            api::fsconfig_set_string(&fs, "source", source)?;
            // A read-only device is refused without.
            api::fsconfig_set_flag(&fs, "ro")?;
            api::fsconfig_create(&fs)?;
            api::fsmount(&fs, api::FsMountFlags::FSMOUNT_CLOEXEC, api::MountAttrFlags::MOUNT_ATTR_RDONLY)
        };
        let by_file = try_with(&format!("/proc/self/fd/{}", file.as_raw_fd()));
        let mount = match by_file {
            Err(rustix::io::Errno::NOTBLK) => {
                let device = sys::loop_device::attach(file.as_fd(), true).expect("a loop device");
                try_with(&device.path).expect("mount by loop")
            }
            Err(rustix::io::Errno::NODEV | rustix::io::Errno::PERM) => {
                println!("SKIPPED the look at the mounted image: no erofs, or no right to mount it");
                return None;
            }
            other => other.expect("mount"),
        };
        Some(Mounted(mount))
    }

    /// What Debian's programs say of it.
    pub fn check(&self) {
        // With `--extract` and no folder, the content of files is read as well.
        for (program, more) in [("fsck.erofs", &["--extract"][..]), ("dump.erofs", &["-s"])] {
            match Command::new(program).args(more).arg(self.path()).output() {
                Ok(output) => assert!(
                    output.status.success() && !String::from_utf8_lossy(&output.stderr).contains("<E>"),
                    "{program}: {output:?}"
                ),
                Err(error) => println!("SKIPPED {program}: {error}"),
            }
        }
    }
}

/// A mount that is attached nowhere.
pub struct Mounted(OwnedFd);

impl Mounted {
    pub fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}/", self.0.as_raw_fd()))
    }
}

/// Writes an image of the tree and finds the same in it.
pub fn same(top: &Path) -> Image {
    let image = image(top).expect("image");
    image.check();
    if let Some(mounted) = image.mount() {
        let (wanted, found) = (tree(top), tree(&mounted.path()));
        assert_eq!(
            wanted.keys().map(|n| n.escape_ascii().to_string()).collect::<Vec<_>>(),
            found.keys().map(|n| n.escape_ascii().to_string()).collect::<Vec<_>>()
        );
        for (name, one) in &wanted {
            assert!(found[name] == *one, "{}: {one:?}\nis\n{:?}", name.escape_ascii(), found[name]);
        }
        let inodes: std::collections::HashSet<_> =
            wanted.iter().map(|(name, seen)| seen.same_as.clone().unwrap_or_else(|| name.clone())).collect();
        assert_eq!(image.written.inodes, inodes.len() as u64);
    }
    assert_eq!(image.written.bytes, image.file.metadata().expect("stat").len());
    image
}
