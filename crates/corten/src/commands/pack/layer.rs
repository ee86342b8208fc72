//! A folder or a program as a layer: entries in the order of their names, owned by root, all of one time, so that
//! the same files are the same bytes. The folder is walked by descriptor and no link in it is followed.

use super::elf;
use crate::commands::upload::Upload;
use cri_api::corten_v1::PackRequest;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, openat, readlinkat, statat};
use sha2::{Digest as _, Sha256};
use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};
use tar::{Builder, EntryType, Header};
use types::{Error, ErrorKind, Result};

/// Folders in folders.
const DEPTH_MAX: usize = 128;

/// `--compression`
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Compression {
    /// Every registry and tool reads it
    Gzip,
    /// Smaller and faster; tools since about 2020 read it
    Zstd,
    /// As it is
    None,
}

/// How the layer is made.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The folder of the image that the files go to.
    pub at: PathBuf,
    /// Seconds since 1970, for all entries.
    pub time: u64,
    /// How it is compressed.
    pub compression: Compression,
}

/// What is packed.
#[derive(Debug)]
pub enum Source {
    /// Everything below a folder.
    Folder(OwnedFd),
    /// One program, and its name.
    Program(File, PathBuf),
}

impl Source {
    /// Opens what is to be packed. Without a base, a program has to run by itself.
    pub fn open(path: &Path, base: bool) -> Result<Source> {
        let wrong = |cause: io::Error| {
            Error::with_source(ErrorKind::InvalidArgument, format!("cannot read {}", path.display()), cause)
        };
        let file = File::open(path).map_err(wrong)?;
        let facts = file.metadata().map_err(wrong)?;
        if facts.is_dir() {
            if path.join("oci-layout").is_file() {
                return Err(Error::invalid(format!(
                    "{0} is an image layout already: take it in by `corten images import {0}`",
                    path.display()
                )));
            }
            return Ok(Source::Folder(file.into()));
        }
        if !facts.is_file() {
            return Err(Error::invalid(format!("{} is neither a folder nor a program", path.display())));
        }
        let name =
            path.file_name().ok_or_else(|| Error::invalid(format!("{} has no name", path.display())))?;
        if !base {
            elf::stands_alone(&file, path)?;
        }
        Ok(Source::Program(file, name.into()))
    }
}

/// Where a file of this name goes, as a path of the image.
pub fn place(at: &Path, name: &Path) -> Result<PathBuf> {
    Ok(Path::new("/").join(relative(at)?).join(name))
}

/// A path of the image without the slash before it.
fn relative(at: &Path) -> Result<PathBuf> {
    let mut path = PathBuf::new();
    for part in at.components() {
        match part {
            Component::RootDir | Component::CurDir => {}
            Component::Normal(name) => path.push(name),
            Component::ParentDir | Component::Prefix(_) => {
                return Err(Error::invalid(format!("--at {}: `..` leads out of the image", at.display())));
            }
        }
    }
    Ok(path)
}

/// Sends the layer, and gives its diff id.
pub fn write(
    source: &Source,
    plan: &Plan,
    upload: Upload<PackRequest>,
) -> io::Result<(Upload<PackRequest>, String)> {
    let out = match plan.compression {
        Compression::None => Packed::None(upload),
        // No time and no system in the header (RFC 1952): the same input is the same output.
        Compression::Gzip => Packed::Gzip(
            flate2::GzBuilder::new()
                .mtime(0)
                .operating_system(255)
                .write(upload, flate2::Compression::default()),
        ),
        Compression::Zstd => Packed::Zstd(zstd::stream::write::Encoder::new(upload, 3)?),
    };
    let mut hashed = Hashed { out, hasher: Sha256::new() };
    let mut tar = Layer { tar: Builder::new(&mut hashed), time: plan.time, links: HashMap::new() };
    let at = relative(&plan.at).map_err(io::Error::other)?;
    let mut parent = PathBuf::new();
    for part in at.components() {
        parent.push(part);
        tar.entry(&parent, EntryType::Directory, 0o755, 0, io::empty())?;
    }
    match source {
        Source::Folder(folder) => tar.folder(folder, &at, DEPTH_MAX)?,
        Source::Program(file, name) => {
            let size = file.metadata()?.len();
            tar.entry(&at.join(name), EntryType::Regular, 0o755, size, file)?;
        }
    }
    tar.tar.finish()?;
    drop(tar);
    let diff_id = format!("sha256:{}", types::id::hex(&hashed.hasher.finalize()));
    Ok((hashed.out.finish()?, diff_id))
}

/// The tar that is being written.
struct Layer<W: Write> {
    tar: Builder<W>,
    time: u64,
    /// Files with several names, by device and inode: the first name that was met.
    links: HashMap<(u64, u64), PathBuf>,
}

impl<W: Write> Layer<W> {
    fn header(&self, kind: EntryType, mode: u32, size: u64) -> Header {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode & 0o7777);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(self.time);
        header.set_size(size);
        header
    }

    /// An entry of exactly `size` bytes.
    fn entry(
        &mut self,
        name: &Path,
        kind: EntryType,
        mode: u32,
        size: u64,
        data: impl Read,
    ) -> io::Result<()> {
        let mut header = self.header(kind, mode, size);
        let mut counted = Counted { inner: data.take(size), count: 0 };
        self.tar.append_data(&mut header, name, &mut counted)?;
        if counted.count != size {
            return Err(io::Error::other(format!("{} became shorter while it was read", name.display())));
        }
        Ok(())
    }

    /// Everything below a folder, in the order of the names' bytes.
    fn folder(&mut self, folder: impl AsFd, at: &Path, depth: usize) -> io::Result<()> {
        let mut names: Vec<OsString> = Vec::new();
        for entry in Dir::read_from(&folder)? {
            let name = entry?.file_name().to_bytes().to_vec();
            if name != b"." && name != b".." {
                names.push(OsString::from_vec(name));
            }
        }
        names.sort_by(|a, b| a.as_bytes().cmp(b.as_bytes()));
        for name in names {
            let path = at.join(&name);
            self.one(&folder, &name, &path, depth)
                .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))?;
        }
        Ok(())
    }

    fn one(&mut self, folder: impl AsFd, name: &OsStr, path: &Path, depth: usize) -> io::Result<()> {
        let facts = statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let mode = facts.st_mode;
        let kind = FileType::from_raw_mode(mode);
        if name.as_bytes().starts_with(b".wh.") {
            return Err(io::Error::other(
                "a layer cannot hold this name: it would remove a file of the image below",
            ));
        }
        if kind != FileType::Directory && facts.st_nlink > 1 {
            let inode = (facts.st_dev, facts.st_ino);
            if let Some(first) = self.links.get(&inode) {
                let mut header = self.header(EntryType::Link, mode, 0);
                let first = first.clone();
                return self.tar.append_link(&mut header, path, first);
            }
            self.links.insert(inode, path.to_owned());
        }
        match kind {
            FileType::Directory => {
                if depth == 0 {
                    return Err(io::Error::other(format!("folders lie deeper in folders than {DEPTH_MAX}")));
                }
                self.entry(path, EntryType::Directory, mode, 0, io::empty())?;
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                self.folder(openat(&folder, name, flags, Mode::empty())?, path, depth - 1)
            }
            FileType::RegularFile => {
                // Not to wait where it was replaced by a pipe since.
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
                let file = File::from(openat(&folder, name, flags, Mode::empty())?);
                let now = file.metadata()?;
                if !now.is_file() {
                    return Err(io::Error::other("it was replaced while it was read"));
                }
                self.entry(path, EntryType::Regular, mode, now.len(), file)
            }
            FileType::Symlink => {
                let target = readlinkat(&folder, name, Vec::new())?;
                let mut header = self.header(EntryType::Symlink, 0o777, 0);
                self.tar.append_link(&mut header, path, OsStr::from_bytes(target.to_bytes()))
            }
            FileType::Fifo => self.entry(path, EntryType::Fifo, mode, 0, io::empty()),
            FileType::Socket => {
                eprintln!(
                    "corten: {}: a socket is left out",
                    crate::output::clean(&path.display().to_string())
                );
                Ok(())
            }
            _ => Err(io::Error::other("a device cannot be packed; remove it, or pack another folder")),
        }
    }
}

struct Counted<R> {
    inner: R,
    count: u64,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.count += count as u64;
        Ok(count)
    }
}

/// The way through a compressor.
enum Packed {
    None(Upload<PackRequest>),
    Gzip(flate2::write::GzEncoder<Upload<PackRequest>>),
    Zstd(zstd::stream::write::Encoder<'static, Upload<PackRequest>>),
}

impl Packed {
    fn finish(self) -> io::Result<Upload<PackRequest>> {
        match self {
            Packed::None(upload) => Ok(upload),
            Packed::Gzip(gzip) => gzip.finish(),
            Packed::Zstd(zstd) => zstd.finish(),
        }
    }
}

struct Hashed {
    out: Packed,
    hasher: Sha256,
}

impl Write for Hashed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = match &mut self.out {
            Packed::None(upload) => upload.write(bytes),
            Packed::Gzip(gzip) => gzip.write(bytes),
            Packed::Zstd(zstd) => zstd.write(bytes),
        }?;
        self.hasher.update(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
