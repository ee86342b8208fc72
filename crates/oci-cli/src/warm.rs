//! Programs that are read into memory by this process before the container needs them. Only for containers with very little
//! memory; never fails, for a container may do without.
//!
//! The kernel charges a page of a file to the cgroup of whoever reads it first (admin-guide/cgroup-v1/memory.rst, "Shared
//! Page Accounting"), with all that it reads ahead: up to 8 MiB at once on some disks (`queue/read_ahead_kb`). Pages on
//! their way from the disk cannot be taken back. So a container of 512 KiB whose program was not in memory, as
//! after a time of much load, was killed while it executed it; as was the part of this program in it that became it.

use container::{beneath, program};
use oci_spec::runtime::Spec;
use rustix::fd::{AsFd, AsRawFd, OwnedFd};
use rustix::fs::{FileType, Mode, OFlags};
use std::os::unix::ffi::OsStrExt;
use sys::resident::Resident;

/// Containers with more memory have room for what is read ahead, twice.
const LITTLE: i64 = 16 << 20;
/// Most that is held of one file; a program that needs more than this at once does not run in so little memory.
const HELD_MOST: usize = 16 << 20;
/// How many programs one leads to: a script's interpreter, that one's loader, and no more than the kernel follows (fs/exec.c,
/// `exec_binprm`).
const LEADS_MOST: usize = 5;
/// The kernel looks for a script's first line in 256 bytes (`BINPRM_BUF_SIZE`); the name of a loader stands a bit later.
const HEAD: usize = 4096;

/// What stays in memory until this is dropped.
pub type Held = Vec<Resident>;

/// This program itself, for the child that it becomes a container's process in.
pub fn own(spec: &Spec) -> Held {
    if !has_little(spec) {
        return Held::new();
    }
    std::fs::File::open("/proc/self/exe").ok().as_ref().and_then(hold).into_iter().collect()
}

/// For a process of the container of `pid`, which has its root: the program of `spec`, what executes that, and what executes
/// it. A volume of the container that does not answer makes this wait as it makes the process wait.
pub fn program(spec: &Spec, pid: i32) -> Held {
    let mut held = own(spec);
    if !has_little(spec) {
        return held;
    }
    let Some(process) = spec.process() else { return held };
    let Some(command) = process.args().as_ref().and_then(|args| args.first()) else { return held };
    let env: Vec<_> = process.env().iter().flatten().map(|entry| entry.as_bytes().to_vec()).collect();
    let root = rustix::fs::open(
        format!("/proc/{pid}/root"),
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    );
    let Ok(root) = root else { return held };
    let cwd = process.cwd().as_os_str().as_bytes();
    let open_in = |path: &[u8]| {
        let whole = if path.starts_with(b"/") { path.to_vec() } else { [cwd, b"/", path].concat() };
        open(&root, std::str::from_utf8(&whole).ok()?)
    };
    let mut next = program::candidates(command.as_bytes(), &env).iter().find_map(|path| open_in(path));
    for _ in 0..LEADS_MOST {
        let Some(file) = next else { break };
        held.extend(hold(&file));
        next = leads_to(&head(&file)).and_then(open_in);
    }
    held
}

fn has_little(spec: &Spec) -> bool {
    let resources = spec.linux().as_ref().and_then(|linux| linux.resources().as_ref());
    let memory = resources.and_then(|resources| resources.memory().as_ref());
    memory.and_then(|memory| memory.limit()).is_some_and(|limit| (1..=LITTLE).contains(&limit))
}

fn hold(file: impl AsFd) -> Option<Resident> {
    Resident::hold(file, HELD_MOST).ok()
}

/// A plain file below the root, open for reading. It is looked at before, as opening a device or a FIFO does things; and so
/// does reading some files of proc and tracefs, which have no size.
fn open(root: &OwnedFd, path: &str) -> Option<OwnedFd> {
    let found = beneath::open_path(root, path).ok()?;
    let stat = rustix::fs::fstat(&found).ok()?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile || stat.st_size <= 0 {
        return None;
    }
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    rustix::fs::open(format!("/proc/self/fd/{}", found.as_raw_fd()), flags, Mode::empty()).ok()
}

fn head(file: &OwnedFd) -> Vec<u8> {
    let mut head = vec![0; HEAD];
    let length = rustix::io::pread(file, &mut head, 0).unwrap_or(0);
    head.truncate(length);
    head
}

/// What executes a file that begins so: a script's interpreter, or the loader of a dynamic program.
fn leads_to(head: &[u8]) -> Option<&[u8]> {
    if let Some(script) = head.strip_prefix(b"#!") {
        let blank = |byte: &u8| matches!(byte, b' ' | b'\t');
        let line = script.split(|byte| *byte == b'\n').next()?;
        return line.split(blank).find(|word| !word.is_empty());
    }
    loader(head)
}

/// `PT_INTERP` of a program of 64 bits in this machine's order of bytes (elf(5)).
fn loader(head: &[u8]) -> Option<&[u8]> {
    const PT_INTERP: u64 = 3;
    if !head.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    let number = |at: usize, length: usize| -> Option<usize> {
        let bytes = head.get(at..at.checked_add(length)?)?;
        let number = bytes.iter().rev().fold(0_u64, |all, byte| all << 8 | u64::from(*byte));
        usize::try_from(number).ok()
    };
    let (start, size, count) = (number(32, 8)?, number(54, 2)?, number(56, 2)?);
    (0..count).find_map(|index| {
        let at = start.checked_add(index.checked_mul(size)?)?;
        if number(at, 4)? as u64 != PT_INTERP {
            return None;
        }
        let (offset, length) = (number(at.checked_add(8)?, 8)?, number(at.checked_add(32)?, 8)?);
        head.get(offset..offset.checked_add(length)?)?.split(|byte| *byte == 0).next()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_and_dynamic_programs_lead_to_what_executes_them() {
        assert_eq!(leads_to(b"#!/bin/sh -e\nexit\n"), Some(&b"/bin/sh"[..]));
        assert_eq!(leads_to(b"#! \t/bin/env\tx"), Some(&b"/bin/env"[..]));
        assert_eq!(leads_to(b"#!\n/bin/sh"), None);
        assert_eq!(leads_to(b""), None);
        // This test is a program with a loader.
        let own = std::fs::read("/proc/self/exe").expect("this program");
        let loader = leads_to(&own[..HEAD]).map(String::from_utf8_lossy).expect("a loader");
        assert!(std::path::Path::new(&*loader).exists(), "{loader}");
    }

    #[test]
    fn a_hostile_program_leads_nowhere() {
        let mut head = vec![0xff; HEAD];
        head[..6].copy_from_slice(b"\x7fELF\x02\x01");
        assert_eq!(leads_to(&head), None);
        assert_eq!(leads_to(&head[..40]), None);
        assert_eq!(leads_to(b"\x7fELF"), None);
    }

    #[test]
    fn only_containers_with_little_memory_are_warmed() {
        let of = |memory: serde_json::Value| -> Spec {
            let json = serde_json::json!({
                "ociVersion": "1.0.2", "root": { "path": "r" }, "linux": { "resources": { "memory": memory } },
            });
            serde_json::from_value(json).expect("a specification")
        };
        assert!(has_little(&of(serde_json::json!({ "limit": 524_288 }))));
        assert_eq!(own(&of(serde_json::json!({ "limit": 524_288 }))).len(), 1);
        for much in [
            serde_json::json!({}),
            serde_json::json!({ "limit": -1 }),
            serde_json::json!({ "limit": 1 << 30 }),
        ] {
            assert!(!has_little(&of(much.clone())), "{much}");
        }
    }
}
