//! Writes archives byte by byte, also those that no honest writer makes.

/// One header block; `block` adds the checksum.
#[derive(Clone)]
pub struct Head {
    pub name: Vec<u8>,
    pub kind: u8,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub size: u64,
    pub mtime: u64,
    pub link: Vec<u8>,
    pub device: (u32, u32),
    pub magic: [u8; 8],
}

impl Head {
    pub fn new(kind: u8, name: &str) -> Self {
        Self {
            name: name.as_bytes().to_vec(),
            kind,
            mode: 0o644,
            uid: 0,
            gid: 0,
            size: 0,
            mtime: 1_600_000_000,
            link: Vec::new(),
            device: (0, 0),
            magic: *b"ustar\x0000",
        }
    }

    pub fn block(&self) -> [u8; 512] {
        let mut block = [0; 512];
        let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &self.name[..self.name.len().min(100)]);
        put(100, format!("{:07o}\0", self.mode).as_bytes());
        put(108, format!("{:07o}\0", self.uid).as_bytes());
        put(116, format!("{:07o}\0", self.gid).as_bytes());
        put(124, format!("{:011o}\0", self.size).as_bytes());
        put(136, format!("{:011o}\0", self.mtime).as_bytes());
        put(148, b"        ");
        put(156, &[self.kind]);
        put(157, &self.link[..self.link.len().min(100)]);
        put(257, &self.magic);
        put(329, format!("{:07o}\0", self.device.0).as_bytes());
        put(337, format!("{:07o}\0", self.device.1).as_bytes());
        seal(&mut block);
        block
    }
}

/// Writes the checksum of a block.
pub fn seal(block: &mut [u8; 512]) {
    block[148..156].copy_from_slice(b"        ");
    let sum: u32 = block.iter().map(|&b| u32::from(b)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

/// One extended header record.
pub fn record(key: &str, value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    [format!("{length} {key}=").as_bytes(), value, b"\n"].concat()
}

/// An archive in the making.
#[derive(Debug, Clone, Default)]
pub struct Builder(pub Vec<u8>);

impl Builder {
    pub fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    /// Data and the padding behind it.
    pub fn data(mut self, data: &[u8]) -> Self {
        self.0.extend_from_slice(data);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    pub fn head(self, head: &Head) -> Self {
        self.raw(&head.block())
    }

    pub fn with(self, kind: u8, name: &str, change: impl FnOnce(&mut Head)) -> Self {
        let mut head = Head::new(kind, name);
        change(&mut head);
        self.head(&head)
    }

    pub fn file(self, name: &str, data: &[u8]) -> Self {
        self.with(b'0', name, |h| h.size = data.len() as u64).data(data)
    }

    pub fn dir(self, name: &str, mode: u32) -> Self {
        self.with(b'5', name, |h| h.mode = mode)
    }

    pub fn symlink(self, name: &str, target: &str) -> Self {
        self.with(b'2', name, |h| h.link = target.as_bytes().to_vec())
    }

    pub fn hardlink(self, name: &str, target: &str) -> Self {
        self.with(b'1', name, |h| h.link = target.as_bytes().to_vec())
    }

    pub fn device(self, kind: u8, name: &str, major: u32, minor: u32) -> Self {
        self.with(kind, name, |h| h.device = (major, minor))
    }

    /// An extended header of the given type, `x` or `g`.
    pub fn pax(self, kind: u8, records: &[(&str, &[u8])]) -> Self {
        let data: Vec<u8> = records.iter().flat_map(|(key, value)| record(key, value)).collect();
        self.with(kind, "PaxHeaders/x", |h| h.size = data.len() as u64).data(&data)
    }

    /// A GNU long name (`L`) or long link (`K`).
    pub fn long(self, kind: u8, name: &[u8]) -> Self {
        let data = [name, b"\0"].concat();
        self.with(kind, "././@LongLink", |h| {
            h.size = data.len() as u64;
            h.magic = *b"ustar  \0";
        })
        .data(&data)
    }

    pub fn end(self) -> Vec<u8> {
        self.raw(&[0; 1024]).0
    }
}
