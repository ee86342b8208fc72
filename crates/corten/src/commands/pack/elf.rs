//! Whether a program runs in an image that holds nothing else: it is an ELF file for this machine that asks for no
//! interpreter and no library. Only headers are read, at offsets that are checked (System V ABI, "Object Files").

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use types::{Error, Result};

/// Program headers that are looked at; real programs have about a dozen.
const HEADERS_MAX: u16 = 256;
/// Entries of the dynamic section; real ones have some dozens.
const DYNAMIC_MAX: u64 = 4096;
/// Libraries that are named.
const NEEDED_MAX: usize = 64;

const PT_LOAD: u64 = 1;
const PT_DYNAMIC: u64 = 2;
const PT_INTERP: u64 = 3;
const DT_NEEDED: u64 = 1;
const DT_STRTAB: u64 = 5;

/// Refuses what would not start by itself, with what it lacks.
pub fn stands_alone(file: &File, path: &Path) -> Result<()> {
    let shown = path.display();
    let mut start = [0; 64];
    let known = read(file, 0, &mut start);
    if start.starts_with(b"#!") {
        let end = start[..known].iter().position(|b| *b == b'\n').unwrap_or(known);
        let interpreter = start[2..end].escape_ascii().to_string();
        return Err(Error::invalid(format!(
            "{shown} is a script for {}: name an image that has it with --base",
            interpreter.trim()
        )));
    }
    let Some(elf) = Elf::read(file, &start[..known]) else {
        return Err(Error::invalid(format!(
            "{shown} is no program: pack a folder, or name an image that can run it with --base"
        )));
    };
    if let Some(machine) = own_machine().filter(|own| *own != elf.machine) {
        return Err(Error::invalid(format!(
            "{shown} is a program for another machine (ELF machine {}, this one is {machine})",
            elf.machine
        )));
    }
    let Some(interpreter) = elf.interpreter() else { return Ok(()) };
    let needed = elf.needed();
    let libraries = if needed.is_empty() { String::new() } else { format!(" and {}", needed.join(", ")) };
    Err(Error::invalid(format!(
        "{shown} is linked dynamically and needs {interpreter}{libraries}: link it statically, or name an image that \
         has these with --base"
    )))
}

/// `e_machine` of this machine's programs (elf.h).
fn own_machine() -> Option<u16> {
    match std::env::consts::ARCH {
        "x86" => Some(3),
        "x86_64" => Some(62),
        "arm" => Some(40),
        "aarch64" => Some(183),
        "riscv64" => Some(243),
        "s390x" => Some(22),
        "powerpc64" => Some(21),
        _ => None,
    }
}

fn read(file: &File, offset: u64, buffer: &mut [u8]) -> usize {
    let mut known = 0;
    while known < buffer.len() {
        match file.read_at(&mut buffer[known..], offset.saturating_add(known as u64)) {
            Ok(0) | Err(_) => break,
            Ok(count) => known += count,
        }
    }
    known
}

/// A part of the file that a program header describes.
#[derive(Debug, Clone, Copy)]
struct Segment {
    kind: u64,
    offset: u64,
    address: u64,
    size: u64,
}

struct Elf<'f> {
    file: &'f File,
    wide: bool,
    big: bool,
    machine: u16,
    segments: Vec<Segment>,
}

impl<'f> Elf<'f> {
    fn read(file: &'f File, start: &[u8]) -> Option<Elf<'f>> {
        if start.len() < 52 || !start.starts_with(b"\x7fELF") {
            return None;
        }
        let (wide, big) = match (start[4], start[5]) {
            (class @ 1..=2, data @ 1..=2) => (class == 2, data == 2),
            _ => return None,
        };
        let mut elf = Elf { file, wide, big, machine: 0, segments: Vec::new() };
        // ET_EXEC or ET_DYN; the latter is what position-independent programs are.
        if !matches!(elf.number(start, 16, 2)?, 2 | 3) {
            return None;
        }
        elf.machine = u16::try_from(elf.number(start, 18, 2)?).ok()?;
        let (table, size, count) = if wide { (32, 54, 56) } else { (28, 42, 44) };
        let table = elf.number(start, table, elf.word())?;
        let size = elf.number(start, size, 2)?;
        let count = elf.number(start, count, 2)?.min(u64::from(HEADERS_MAX));
        for at in 0..count {
            let mut header = [0; 56];
            let length = if wide { 56 } else { 32 };
            if size < length as u64
                || read(file, table.checked_add(at * size)?, &mut header[..length]) < length
            {
                return None;
            }
            let header = &header[..length];
            let field =
                |wide_at, narrow_at| elf.number(header, if wide { wide_at } else { narrow_at }, elf.word());
            let segment = Segment {
                kind: elf.number(header, 0, 4)?,
                offset: field(8, 4)?,
                address: field(16, 8)?,
                size: field(32, 16)?,
            };
            elf.segments.push(segment);
        }
        Some(elf)
    }

    fn word(&self) -> usize {
        if self.wide { 8 } else { 4 }
    }

    fn number(&self, bytes: &[u8], at: usize, length: usize) -> Option<u64> {
        let field = bytes.get(at..at + length)?;
        let fold = |value: u64, byte: &u8| value << 8 | u64::from(*byte);
        Some(if self.big { field.iter().fold(0, fold) } else { field.iter().rev().fold(0, fold) })
    }

    fn segment(&self, kind: u64) -> Option<Segment> {
        self.segments.iter().copied().find(|segment| segment.kind == kind)
    }

    /// A text at an offset of the file, for people to read.
    fn text(&self, offset: u64) -> Option<String> {
        let mut buffer = [0; 256];
        let known = read(self.file, offset, &mut buffer);
        let end = buffer[..known].iter().position(|b| *b == 0)?;
        (end > 0).then(|| buffer[..end].escape_ascii().to_string())
    }

    fn interpreter(&self) -> Option<String> {
        let segment = self.segment(PT_INTERP)?;
        Some(self.text(segment.offset).unwrap_or_else(|| "an interpreter".to_owned()))
    }

    /// The libraries that the dynamic section names, as far as it can be read.
    fn needed(&self) -> Vec<String> {
        let Some(section) = self.segment(PT_DYNAMIC) else { return Vec::new() };
        let word = self.word();
        let (mut names, mut table) = (Vec::new(), None);
        for at in 0..(section.size / (2 * word as u64)).min(DYNAMIC_MAX) {
            let mut entry = [0; 16];
            let entry = &mut entry[..2 * word];
            let offset = section.offset.saturating_add(at * 2 * word as u64);
            if read(self.file, offset, entry) < entry.len() {
                break;
            }
            let fields = self.number(entry, 0, word).zip(self.number(entry, word, word));
            match fields {
                None | Some((0, _)) => break,
                Some((DT_NEEDED, name)) if names.len() < NEEDED_MAX => names.push(name),
                Some((DT_STRTAB, address)) => table = self.offset(address),
                Some(_) => {}
            }
        }
        let Some(table) = table else { return Vec::new() };
        names.into_iter().filter_map(|name| self.text(table.checked_add(name)?)).collect()
    }

    /// Where in the file an address of the program is.
    fn offset(&self, address: u64) -> Option<u64> {
        let holds = |s: &&Segment| s.kind == PT_LOAD && address >= s.address && address - s.address < s.size;
        let segment = self.segments.iter().find(holds)?;
        segment.offset.checked_add(address - segment.address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn judge(content: &[u8]) -> Result<()> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(content).unwrap();
        stands_alone(&file.reopen().unwrap(), Path::new("/x/app"))
    }

    #[test]
    fn a_dynamic_program_is_refused_with_what_it_needs() {
        // A test program of cargo is linked dynamically, where the target is gnu.
        let own = std::fs::read("/proc/self/exe").unwrap();
        if cfg!(target_env = "gnu") {
            let text = judge(&own).unwrap_err().chain();
            assert!(text.contains("ld-linux") && text.contains("libc.so.6"), "{text}");
        } else {
            judge(&own).unwrap();
        }
    }

    #[test]
    fn a_static_program_is_fine() {
        match std::fs::read("/bin/busybox") {
            Ok(busybox) => judge(&busybox).unwrap(),
            Err(_) => eprintln!("skipped: busybox-static is not installed"),
        }
    }

    #[test]
    fn what_is_no_program_is_refused_with_its_reason() {
        let of = |content: &[u8]| judge(content).unwrap_err().chain();
        assert!(of(b"#!/usr/bin/python3 -u\nprint()").contains("a script for /usr/bin/python3 -u"));
        assert!(of(b"hello").contains("is no program") && of(b"").contains("is no program"));
        let mut foreign = std::fs::read("/proc/self/exe").unwrap();
        foreign.truncate(4096);
        foreign[18] ^= 0x55;
        assert!(of(&foreign).contains("another machine") || of(&foreign).contains("no program"));
    }

    #[test]
    fn no_header_panics() {
        let mut own = std::fs::read("/proc/self/exe").unwrap();
        own.truncate(8192);
        let mut state = 1u32;
        for _ in 0..300 {
            let mut broken = own.clone();
            for _ in 0..8 {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let at = (state >> 8) as usize % 1024;
                broken[at] = state as u8;
            }
            let _ = judge(&broken);
        }
    }
}
