//! Makes the images of `cargo xtask bench images` once, from the files of this Debian, as the storage of a
//! docker-registry.
//!
//! Packages are taken in the order of their names' hashes, so that every layer is a mixture; the same machine
//! gives the same bytes. Nothing is made where the storage is there already.

use super::super::said;
use super::storage::{Blob, Storage};
use sha2::{Digest as _, Sha256};
use std::collections::HashSet;
use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Where dpkg says which files a package has.
const LISTS: &str = "/var/lib/dpkg/info";
/// What builders use when they are told nothing (gzip(1), zstd(1)).
const GZIP_LEVEL: u32 = 6;
const ZSTD_LEVEL: i32 = 3;
/// Layers of the large images.
pub const LAYERS: usize = 8;
/// Images that are pulled at once.
pub const MANY: usize = 20;

/// Sizes in MiB of compressed gzip layers.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    /// The image of eight layers.
    pub image: u64,
    /// The one large layer.
    pub one: u64,
    /// What the many images share.
    pub base: u64,
    /// What each of them has beside.
    pub own: u64,
}

/// A layer as it was packed.
struct Packed {
    gzip: Blob,
    zstd: Option<Blob>,
    diff_id: String,
}

/// Fills `storage` with all images.
pub fn make(storage: &Storage, sizes: Sizes) -> Result<(), String> {
    let packages = packages()?;
    let mib = |size: u64| size << 20;
    eprintln!("making the images from {} packages; this is done once", packages.len());
    // Each layer has packages of its own; where they are too few, some of the next layer's, as images that install
    // over what is there have.
    let nth = |at: usize| packages.iter().skip(at % LAYERS).step_by(LAYERS);
    let parts: Vec<Vec<&PathBuf>> = (0..LAYERS).map(|at| nth(at).chain(nth(at + 1)).collect()).collect();
    // The layers of the image, the one large layer, the base, and the layers of the many.
    let mut work: Vec<(Vec<&PathBuf>, u64, bool)> = Vec::new();
    work.extend(parts.iter().map(|part| (part.clone(), mib(sizes.image) / LAYERS as u64, true)));
    work.push((packages.iter().rev().collect(), mib(sizes.one), false));
    work.push((packages.iter().skip(packages.len() / 2).collect(), mib(sizes.base), false));
    for at in 0..MANY {
        work.push((packages.iter().skip(at * packages.len() / MANY).collect(), mib(sizes.own), false));
    }
    let packed = side_by_side(storage, &work)?;
    let (large, rest) = packed.split_at(LAYERS);
    let (one, rest) = rest.split_at(1);
    let (base, own) = rest.split_at(1);
    let layers = |of: &[&Packed]| of.iter().map(|p| (p.gzip.clone(), p.diff_id.clone())).collect::<Vec<_>>();
    storage.image("bench/gzip", "gzip", &layers(&large.iter().collect::<Vec<_>>()))?;
    let zstd: Option<Vec<_>> = large.iter().map(|p| Some((p.zstd.clone()?, p.diff_id.clone()))).collect();
    storage.image("bench/zstd", "zstd", &zstd.ok_or("a layer was not packed with zstd")?)?;
    storage.image("bench/one", "gzip", &layers(&[&one[0]]))?;
    for (at, own) in own.iter().enumerate() {
        storage.image(&format!("bench/many{at}"), "gzip", &layers(&[&base[0], own]))?;
    }
    storage.complete(sizes)
}

/// Packs on two threads, which is what the machine has.
fn side_by_side(storage: &Storage, work: &[(Vec<&PathBuf>, u64, bool)]) -> Result<Vec<Packed>, String> {
    let next = std::sync::atomic::AtomicUsize::new(0);
    let done = std::sync::Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        let run = || -> Result<(), String> {
            loop {
                let at = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                let Some((lists, limit, both)) = work.get(at) else { return Ok(()) };
                let packed = pack(storage, lists, *limit, *both)?;
                eprintln!("  layer {} of {}: {} MiB", at + 1, work.len(), packed.gzip.size >> 20);
                done.lock().unwrap_or_else(|e| e.into_inner()).push((at, packed));
            }
        };
        let threads = [scope.spawn(run), scope.spawn(run)];
        threads.into_iter().try_for_each(|thread| thread.join().map_err(|_| "packing failed")?)
    })?;
    let mut done = done.into_inner().unwrap_or_else(|e| e.into_inner());
    done.sort_by_key(|(at, _)| *at);
    Ok(done.into_iter().map(|(_, packed)| packed).collect())
}

/// The lists of files of all packages, in the order of the hashes of their names.
fn packages() -> Result<Vec<PathBuf>, String> {
    let mut lists: Vec<(Vec<u8>, PathBuf)> = std::fs::read_dir(LISTS)
        .map_err(|why| format!("cannot read {LISTS}: {why}"))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|ext| ext == "list"))
        .map(|path| (Sha256::digest(path.as_os_str().as_encoded_bytes()).to_vec(), path))
        .collect();
    lists.sort();
    Ok(lists.into_iter().map(|(_, path)| path).collect())
}

/// One tar of the packages' files until the gzip of it has `limit` bytes.
fn pack(storage: &Storage, lists: &[&PathBuf], limit: u64, both: bool) -> Result<Packed, String> {
    let mut tar = tar::Builder::new(Tee {
        diff: Sha256::new(),
        gzip: flate2::write::GzEncoder::new(storage.blob()?, flate2::Compression::new(GZIP_LEVEL)),
        zstd: match both {
            true => Some(zstd::stream::write::Encoder::new(storage.blob()?, ZSTD_LEVEL).map_err(said)?),
            false => None,
        },
    });
    let mut seen = HashSet::new();
    'all: for list in lists {
        let text =
            std::fs::read_to_string(list).map_err(|why| format!("cannot read {}: {why}", list.display()))?;
        for name in text.lines().filter(|name| name.starts_with("/usr/")) {
            if seen.insert(name.to_owned()) {
                add(&mut tar, Path::new(name))?;
            }
            if tar.get_ref().gzip.get_ref().written() >= limit {
                break 'all;
            }
        }
    }
    let tee = tar.into_inner().map_err(said)?;
    let gzip = tee.gzip.finish().map_err(said)?.place(storage)?;
    let zstd = match tee.zstd {
        Some(zstd) => Some(zstd.finish().map_err(said)?.place(storage)?),
        None => None,
    };
    Ok(Packed { gzip, zstd, diff_id: format!("sha256:{:x}", HexOf(tee.diff.finalize().as_slice())) })
}

/// Adds one file, directory or link as it is; what vanished or is something else is left out.
fn add(tar: &mut tar::Builder<Tee>, path: &Path) -> Result<(), String> {
    let failed = |why: std::io::Error| format!("cannot pack {}: {why}", path.display());
    let Ok(meta) = std::fs::symlink_metadata(path) else { return Ok(()) };
    let name = path.strip_prefix("/").unwrap_or(path);
    let mut header = tar::Header::new_gnu();
    header.set_mode(meta.mode() & 0o7777);
    header.set_uid(meta.uid().into());
    header.set_gid(meta.gid().into());
    header.set_mtime(meta.mtime().cast_unsigned());
    header.set_size(0);
    if meta.is_dir() {
        header.set_entry_type(tar::EntryType::Directory);
        tar.append_data(&mut header, name, std::io::empty()).map_err(failed)
    } else if meta.is_symlink() {
        header.set_entry_type(tar::EntryType::Symlink);
        let target = std::fs::read_link(path).map_err(failed)?;
        tar.append_link(&mut header, name, target).map_err(failed)
    } else if meta.is_file() {
        header.set_size(meta.len());
        let file = File::open(path).map_err(failed)?;
        tar.append_data(&mut header, name, file.take(meta.len())).map_err(failed)
    } else {
        Ok(())
    }
}

/// One tar into a hash and up to two compressors.
struct Tee {
    diff: Sha256,
    gzip: flate2::write::GzEncoder<NewBlob>,
    zstd: Option<zstd::stream::write::Encoder<'static, NewBlob>>,
}

impl Write for Tee {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.diff.update(bytes);
        self.gzip.write_all(bytes)?;
        if let Some(zstd) = &mut self.zstd {
            zstd.write_all(bytes)?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A blob that is being written: its name is known at the end.
pub struct NewBlob {
    file: BufWriter<File>,
    path: PathBuf,
    hash: Sha256,
    size: u64,
}

impl NewBlob {
    /// Writes to `path`, which is renamed in the end.
    pub fn new(path: PathBuf) -> Result<NewBlob, String> {
        let file = File::create(&path).map_err(|why| format!("cannot make {}: {why}", path.display()))?;
        Ok(NewBlob { file: BufWriter::with_capacity(1 << 20, file), path, hash: Sha256::new(), size: 0 })
    }

    fn written(&self) -> u64 {
        self.size
    }

    /// Gives it its place.
    pub fn place(mut self, storage: &Storage) -> Result<Blob, String> {
        self.file.flush().map_err(said)?;
        let digest = format!("{:x}", HexOf(self.hash.finalize().as_slice()));
        storage.place(&self.path, &digest)?;
        Ok(Blob { digest: format!("sha256:{digest}"), size: self.size })
    }
}

impl Write for NewBlob {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.hash.update(&bytes[..count]);
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

/// Bytes in lower case hexadecimal.
struct HexOf<'a>(&'a [u8]);

impl std::fmt::LowerHex for HexOf<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
