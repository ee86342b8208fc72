//! Reads the entries of a tar archive: ustar, GNU long names, pax extended headers, sparse files.
//!
//! A reader of our own. The crate `tar-core` 0.1.0 was looked at first: a careful parser with good limits, but
//! it hands out global headers unread, knows no time before 1970 nor a fraction of a second, and wants a whole chain of extended headers in one buffer that it parses
//! anew whenever more bytes come. What is left of use would be two hundred lines, so they are ours.
//!
//! Where programs read the same bytes differently (CVE-2025-62518 and its kin), this reader takes what Go's
//! `archive/tar` takes, because registries, scanners and builders use that, or refuses. It never seeks, never
//! touches a file system, and never allocates by a declared size. It is public for fuzzing and for inspection.

use crate::error::{Error, REBUILD, Result, Shown};
use crate::header::Header;
use crate::pax::{self, Records};
use crate::sparse;
pub use crate::sparse::Segment;
use crate::stream::{BLOCK, Stream};
use crate::{Compression, UnpackLimits};
use std::collections::BTreeMap;
use std::io::Read;

/// What an entry makes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A regular file; its data follows.
    File,
    /// A directory.
    Directory,
    /// A symbolic link to this text.
    Symlink(Vec<u8>),
    /// Another name of an earlier entry.
    Hardlink(Vec<u8>),
    /// A named pipe.
    Fifo,
    /// A character device, major and minor.
    Char(u32, u32),
    /// A block device, major and minor.
    Block(u32, u32),
}

/// One entry, long names and extended headers applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The path as written: not cleaned, not to be trusted; never empty, without NUL, within `max_path`.
    pub path: Vec<u8>,
    /// What it makes.
    pub kind: Kind,
    /// Permission bits with set-uid, set-gid and sticky.
    pub mode: u32,
    /// Owner, never `u32::MAX` (which chown(2) takes as "leave it").
    pub uid: u32,
    /// Group, never `u32::MAX`.
    pub gid: u32,
    /// Modification time, seconds (may be negative) and nanoseconds.
    pub mtime: (i64, u32),
    /// The file's length with its holes; 0 for everything but files.
    pub size: u64,
    /// The parts that a sparse file has data for; what [`Archive::data`] gives is these, one behind the other.
    /// `None` where all of the file is there.
    pub map: Option<Vec<Segment>>,
    /// Extended attributes by name.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// A stream of entries.
pub struct Archive<'r> {
    stream: Stream<'r>,
    limits: UnpackLimits,
    globals: Records,
    headers: u64,
    /// Data of the entry at hand that is still to come, and the padding behind it.
    left: u64,
    padding: u64,
    /// Bytes of all holes so far.
    holes: u64,
    ended: bool,
}

/// Extended headers that wait for their entry.
#[derive(Default)]
struct Waiting {
    records: Option<Records>,
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
}

impl<'r> Archive<'r> {
    /// Over a compressed stream.
    pub fn open(
        reader: impl Read + Send + 'r,
        compression: Compression,
        limits: &UnpackLimits,
    ) -> types::Result<Archive<'r>> {
        Ok(Self::new(reader, compression, limits)?)
    }

    pub(crate) fn new(
        reader: impl Read + Send + 'r,
        compression: Compression,
        limits: &UnpackLimits,
    ) -> Result<Archive<'r>> {
        Ok(Archive {
            stream: Stream::new(reader, compression, limits)?,
            limits: limits.clone(),
            globals: Records::default(),
            headers: 0,
            left: 0,
            padding: 0,
            holes: 0,
            ended: false,
        })
    }

    /// Passes over the rest of the entry at hand, then gives the next one; `None` at the end of the archive.
    pub fn next_entry(&mut self) -> types::Result<Option<Entry>> {
        Ok(self.next()?)
    }

    /// A piece of the entry's data, straight from the buffer; empty at its end.
    pub fn data(&mut self) -> types::Result<&[u8]> {
        Ok(self.chunk()?)
    }

    /// Reads the stream to its very end and gives its hash.
    pub fn digest(self) -> types::Result<types::Digest> {
        Ok(self.finish()?)
    }

    pub(crate) fn refuse(&self, what: impl Into<String>) -> Error {
        self.stream.refuse(what)
    }

    /// Decodes and hashes on threads of `scope` from now on.
    pub(crate) fn spread<'scope>(&mut self, scope: &'scope std::thread::Scope<'scope, '_>) -> Result<()>
    where
        'r: 'scope,
    {
        self.stream.spread(scope)
    }

    pub(crate) fn chunk(&mut self) -> Result<&[u8]> {
        self.chunk_of(u64::MAX)
    }

    /// At most `most` bytes of the entry's data.
    pub(crate) fn chunk_of(&mut self, most: u64) -> Result<&[u8]> {
        let chunk = self.stream.chunk(self.left.min(most))?;
        self.left -= chunk.len() as u64;
        Ok(chunk)
    }

    pub(crate) fn finish(self) -> Result<types::Digest> {
        self.stream.finish()
    }

    pub(crate) fn next(&mut self) -> Result<Option<Entry>> {
        if self.ended {
            return Ok(None);
        }
        self.stream.skip(std::mem::take(&mut self.left))?;
        self.stream.skip(std::mem::take(&mut self.padding))?;
        let mut waiting = Waiting::default();
        loop {
            let Some(header) = self.header()? else {
                self.ended = true;
                if waiting.records.is_some() || waiting.name.is_some() || waiting.link.is_some() {
                    return Err(self.refuse("the archive ends behind an extended header; it was cut off"));
                }
                return Ok(None);
            };
            match header.kind() {
                b'x' | b'X' if waiting.records.is_none() => {
                    let data = self.extension(&header)?;
                    waiting.records = Some(Records::parse(&data).map_err(|why| self.refuse(why))?);
                }
                b'L' if waiting.name.is_none() => waiting.name = Some(self.long(&header)?),
                b'K' if waiting.link.is_none() => waiting.link = Some(self.long(&header)?),
                b'x' | b'X' | b'L' | b'K' => {
                    return Err(self.refuse("two extended headers of one kind for one entry"));
                }
                b'g' if waiting.records.is_none() && waiting.name.is_none() && waiting.link.is_none() => {
                    self.global(&header)?;
                }
                b'g' => return Err(self.refuse("a global header between an extended header and its entry")),
                _ => return self.entry(&header, waiting).map(Some),
            }
        }
    }

    /// The next header, or `None` at the end: two blocks of zeros, or the end of the stream (which Go's and
    /// GNU's readers accept too).
    fn header(&mut self) -> Result<Option<Header>> {
        let Some(block) = self.stream.block()? else { return Ok(None) };
        if block == [0; BLOCK] {
            return match self.stream.block()? {
                None => Ok(None),
                Some(second) if second == [0; BLOCK] => Ok(None),
                Some(_) => Err(self.refuse("a block of zeros lies between entries")),
            };
        }
        self.headers += 1;
        if self.headers > self.limits.max_entries {
            let what = format!("it has more than {} entries", self.limits.max_entries);
            return Err(Error::TooLarge { what, advice: REBUILD });
        }
        Header::check(block).map(Some).map_err(|why| self.refuse(why))
    }

    /// The data of an extended header. Its own header's size counts: a pax size is for the entry behind it.
    fn extension(&mut self, header: &Header) -> Result<Vec<u8>> {
        let size = header.size().map_err(|why| self.refuse(why))?;
        if size > pax::MAX {
            let what = format!("an extended header has {size} bytes");
            return Err(Error::TooLarge { what, advice: REBUILD });
        }
        let mut data = Vec::new();
        while (data.len() as u64) < size {
            let left = size - data.len() as u64;
            data.extend_from_slice(self.stream.chunk(left)?);
        }
        self.stream.skip(padding(size))?;
        Ok(data)
    }

    fn long(&mut self, header: &Header) -> Result<Vec<u8>> {
        let mut name = self.extension(header)?;
        let end = name.iter().position(|&b| b == 0).unwrap_or(name.len());
        name.truncate(end);
        Ok(name)
    }

    /// Global records hold for all entries behind them. Those that would move or resize every entry have no use
    /// in a layer, and Go's reader passes over them: refused. Attributes and comments are passed over.
    fn global(&mut self, header: &Header) -> Result<()> {
        let data = self.extension(header)?;
        let records = Records::parse(&data).map_err(|why| self.refuse(why))?;
        let sparse = records.sparse != sparse::Records::default();
        if records.path.is_some() || records.link.is_some() || records.size.is_some() || sparse {
            return Err(self.refuse("a global header gives every entry the same path or size"));
        }
        self.globals.uid = records.uid.or(self.globals.uid);
        self.globals.gid = records.gid.or(self.globals.gid);
        self.globals.mtime = records.mtime.or(self.globals.mtime);
        Ok(())
    }

    fn entry(&mut self, header: &Header, waiting: Waiting) -> Result<Entry> {
        let bad = |why| self.stream.refuse(why);
        let mut records = waiting.records.unwrap_or_default();
        // The name of a sparse file stands in a record of its own; `path` is made up then.
        let own_name = records.sparse.name.take();
        let path = self.one_of(waiting.name, own_name.or(records.path), || header.path())?;
        let link = self.one_of(waiting.link, records.link, || header.link())?;
        // The size of the extended header wins wherever a size is used: for the data and for the next header.
        let mut size = match records.size {
            Some(size) => size,
            None => header.size().map_err(bad)?,
        };
        let kind = match header.kind() {
            // Before ustar a directory was a file with a slash at its end.
            0 if path.ends_with(b"/") && size == 0 => Kind::Directory,
            0 if path.ends_with(b"/") => return Err(bad("a directory that has data".to_owned())),
            0 | b'0' | b'7' | b'S' => Kind::File,
            b'1' => Kind::Hardlink(link),
            b'2' => Kind::Symlink(link),
            b'3' => {
                let (major, minor) = header.device().map_err(bad)?;
                Kind::Char(major, minor)
            }
            b'4' => {
                let (major, minor) = header.device().map_err(bad)?;
                Kind::Block(major, minor)
            }
            b'5' => Kind::Directory,
            b'6' => Kind::Fifo,
            other => {
                return Err(bad(format!(
                    "{} has the type \"{}\", which no layer may have",
                    Shown(&path),
                    other.escape_ascii()
                )));
            }
        };
        if kind != Kind::File {
            // POSIX: what the size of these means is open, data does not follow. Go's reader does the same.
            size = 0;
        }
        let owner = |id: u64, name: &str| match u32::try_from(id) {
            Ok(id) if id != u32::MAX => Ok(id),
            _ => Err(self.stream.refuse(format!("{} belongs to the impossible {name} {id}", Shown(&path)))),
        };
        let number = |record: Option<u64>, field: Result<u64, String>| match record {
            Some(value) => Ok(value),
            None => field.map_err(|why| self.stream.refuse(why)),
        };
        let uid = owner(number(records.uid.or(self.globals.uid), header.uid())?, "user")?;
        let gid = owner(number(records.gid.or(self.globals.gid), header.gid())?, "group")?;
        let mtime = match records.mtime.or(self.globals.mtime) {
            Some(time) => time,
            None => (header.mtime().map_err(bad)?, 0),
        };
        let mode = header.mode().map_err(bad)?;
        let bytes: usize = records.xattrs.iter().map(|(name, value)| name.len() + value.len()).sum();
        if bytes > self.limits.max_xattr_bytes {
            let what = format!("{} has {bytes} bytes of extended attributes", Shown(&path));
            return Err(Error::TooLarge { what, advice: REBUILD });
        }
        self.left = size;
        self.padding = padding(size);
        let map = match (header.kind(), records.sparse.place().map_err(bad)?) {
            (b'S', sparse::Place::Nowhere) => Some(self.old_map(header)?),
            (_, sparse::Place::Nowhere) => None,
            (0 | b'0' | b'7', sparse::Place::Here(map, size)) => Some((map, size)),
            (0 | b'0' | b'7', sparse::Place::InData(size)) => Some((self.map_in_data()?, size)),
            _ => return Err(self.refuse("a sparse file has two maps, or something else than a file has one")),
        };
        let map = map.map(|(map, whole)| self.fit(map, whole, &mut size)).transpose()?;
        Ok(Entry { path, kind, mode, uid, gid, mtime, size, map, xattrs: records.xattrs })
    }

    /// A map of GNU tar's old format: a table in the header, and more of it in blocks behind the header.
    fn old_map(&mut self, header: &Header) -> Result<(Vec<Segment>, u64)> {
        let mut map = Vec::new();
        let (table, mut more, size) = header.old_sparse().map_err(|why| self.refuse(why))?;
        sparse::table(table, Header::sparse_number, &mut map).map_err(|why| self.refuse(why))?;
        while more {
            let Some(block) = self.stream.block()? else {
                return Err(
                    self.refuse("the stream ends in the middle of a sparse file's map; it was cut off")
                );
            };
            let table = sparse::table(&block[..504], Header::sparse_number, &mut map);
            table.map_err(|why| self.refuse(why))?;
            more = block[504] != 0;
        }
        Ok((map, size))
    }

    /// A map at the beginning of the data, padded to whole records.
    fn map_in_data(&mut self) -> Result<Vec<Segment>> {
        let mut lines = sparse::Lines::default();
        loop {
            if self.left < BLOCK as u64 {
                return Err(self.refuse("a sparse file's data is shorter than its map"));
            }
            let Some(block) = self.stream.block()? else {
                return Err(
                    self.refuse("the stream ends in the middle of a sparse file's map; it was cut off")
                );
            };
            self.left -= BLOCK as u64;
            if lines.take(&block).map_err(|why| self.refuse(why))? {
                return lines.map().map_err(|why| self.refuse(why));
            }
        }
    }

    /// Judges a map and counts the holes: they take no space, but whoever copies the file may fill them.
    fn fit(&mut self, map: Vec<Segment>, whole: u64, size: &mut u64) -> Result<Vec<Segment>> {
        let map = sparse::check(map, whole, self.left).map_err(|why| self.refuse(why))?;
        // Not below 0: the parts lie within the file and are as long as the data.
        self.holes = self.holes.saturating_add(whole.saturating_sub(self.left));
        if self.holes > self.limits.max_bytes || i64::try_from(whole).is_err() {
            return Err(Error::TooLarge {
                what: format!("its sparse files have holes of more than {} bytes", self.limits.max_bytes),
                advice: "raise images.max_layer_bytes if the image is wanted",
            });
        }
        *size = whole;
        Ok(map)
    }

    /// A name from a GNU long name, a pax record, or the header. Go prefers the first, others the second:
    /// where both are there they must agree.
    fn one_of(
        &self,
        long: Option<Vec<u8>>,
        record: Option<Vec<u8>>,
        header: impl FnOnce() -> Vec<u8>,
    ) -> Result<Vec<u8>> {
        let name = match (long, record) {
            (Some(long), Some(record)) if long != record => {
                let both = format!("an entry has the names {} and {}", Shown(&long), Shown(&record));
                return Err(self.refuse(both));
            }
            (Some(name), _) | (None, Some(name)) => name,
            (None, None) => header(),
        };
        if name.len() > self.limits.max_path {
            let what = format!("the path {} is too long", Shown(&name));
            return Err(Error::TooLarge { what, advice: REBUILD });
        }
        Ok(name)
    }
}

fn padding(size: u64) -> u64 {
    (BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64
}
