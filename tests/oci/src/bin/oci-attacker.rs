//! The hostile program that tests put into a container: it has what any process there has, and no more.
//!
//! `overwrite`, `peek` and `climb` watch for processes that are not the container's own yet and try to get at the runtime
//! through them; what they got is a line in `/out/<mode>`. `swap` puts the folder `/fake` over `/proc` and takes it away again.
//! They end when `/out/stop` is there, and then say in `/out/turns` how often they had their chance: processes that they
//! saw come in, and swaps. Never harms the machine on purpose: a program that can be overwritten is a copy made by
//! the test.

use rustix::fd::{AsRawFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;

/// No race takes that long. A test that was killed cannot say stop, and nobody else ends this.
const LONGEST: std::time::Duration = std::time::Duration::from_secs(600);

/// What the container itself executes: everything else that is seen is a process on its way in.
const OWN: [&str; 2] = ["/bin/busybox", "/oci-attacker"];

fn main() {
    let mode = std::env::args().nth(1).unwrap_or_default();
    let attack: fn() -> usize = match mode.as_str() {
        "overwrite" => overwrite,
        "peek" => peek,
        "climb" => climb,
        "swap" => swap,
        _ => {
            eprintln!("overwrite, peek, climb or swap");
            std::process::exit(2);
        }
    };
    std::thread::spawn(|| {
        std::thread::sleep(LONGEST);
        std::process::exit(3)
    });
    // Two, so that one tries while the other is in the middle of a look.
    let second = std::thread::spawn(attack);
    let first = attack();
    note("turns", &first.to_string());
    note("turns", &second.join().unwrap_or(0).to_string());
    note("ended", "whole");
}

fn stopped() -> bool {
    Path::new("/out/stop").exists()
}

fn note(file: &str, line: &str) {
    let opened = std::fs::OpenOptions::new().append(true).create(true).open(format!("/out/{file}"));
    if let Ok(mut opened) = opened {
        let _ = writeln!(opened, "{line}");
    }
}

fn processes() -> Vec<u32> {
    let own = std::process::id();
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbers = entries.filter_map(|entry| entry.file_name().to_str().and_then(|name| name.parse().ok()));
    numbers.filter(|pid| *pid != own && *pid != 1).collect()
}

fn open(path: &str, flags: OFlags) -> Option<OwnedFd> {
    rustix::fs::open(path, flags | OFlags::CLOEXEC | OFlags::NONBLOCK, Mode::empty()).ok()
}

/// CVE-2019-5736: holds the program of an entering process open for reading, and opens it for writing through
/// the own descriptor once it is no longer executed (until then the kernel answers `ETXTBSY`).
fn overwrite() -> usize {
    let mut came = BTreeSet::new();
    let mut held: Vec<OwnedFd> = Vec::new();
    let mut seen = BTreeSet::new();
    let mut identities: Vec<(u64, u64)> = OWN
        .iter()
        .filter_map(|path| rustix::fs::stat(*path).ok())
        .map(|stat| (stat.st_dev, stat.st_ino))
        .collect();
    while !stopped() {
        for pid in processes() {
            came.insert(pid);
            let Some(exe) = open(&format!("/proc/{pid}/exe"), OFlags::RDONLY) else { continue };
            let Ok(stat) = rustix::fs::fstat(&exe) else { continue };
            let identity = (stat.st_dev, stat.st_ino);
            if !identities.contains(&identity) {
                identities.push(identity);
                if seen.insert(identity) {
                    note("held", &format!("{pid}"));
                }
                held.push(exe);
            }
        }
        held.retain(|exe| {
            let path = format!("/proc/self/fd/{}", exe.as_raw_fd());
            let Some(file) = open(&path, OFlags::WRONLY) else { return true };
            match rustix::io::write(&file, b"#!/overwritten\n") {
                Ok(_) => note("overwrite", "wrote to the program of an entering process"),
                // A sealed file in memory can be opened for writing and not be written.
                Err(errno) => note("refused", &format!("{errno:?}")),
            }
            false
        });
    }
    came.len()
}

/// CVE-2016-9962: reads the memory, descriptors and folders of a process that is still the runtime.
fn peek() -> usize {
    let mut came = BTreeSet::new();
    while !stopped() {
        for pid in processes() {
            came.insert(pid);
            let mut got = Vec::new();
            if open(&format!("/proc/{pid}/mem"), OFlags::RDWR).is_some() {
                got.push("memory".to_owned());
            }
            for entry in std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten() {
                let target = std::fs::read_link(entry.path()).unwrap_or_default();
                got.push(format!("descriptor {}", target.display()));
            }
            for link in ["root", "cwd"] {
                if open(&format!("/proc/{pid}/{link}/."), OFlags::RDONLY | OFlags::DIRECTORY).is_some() {
                    got.push(link.to_owned());
                }
            }
            if std::fs::read(format!("/proc/{pid}/environ")).is_ok_and(|text| !text.is_empty()) {
                got.push("environment".to_owned());
            }
            if got.is_empty() {
                continue;
            }
            // Looked at last: an exec goes one way only, so what is the runtime now was the runtime before.
            let Ok(exe) = std::fs::read_link(format!("/proc/{pid}/exe")) else { continue };
            if !OWN.iter().any(|own| exe == Path::new(own)) {
                note("peek", &format!("{}: {}", exe.display(), got.join(", ")));
            }
        }
    }
    came.len()
}

/// Looks for a file of the node (`/out/witness` has its path) through the root of an entering process, which takes `CAP_SYS_PTRACE`.
fn climb() -> usize {
    let mut came = BTreeSet::new();
    let witness = std::fs::read_to_string("/out/witness").unwrap_or_default();
    while !stopped() {
        for pid in processes() {
            came.insert(pid);
            if !witness.is_empty() && Path::new(&format!("/proc/{pid}/root{witness}")).exists() {
                note("climb", &format!("process {pid} leads to {witness}"));
            }
        }
    }
    came.len()
}

/// CVE-2025-52881: what is at `/proc` is another one at every moment. Takes `CAP_SYS_ADMIN`.
fn swap() -> usize {
    let mut swaps = 0;
    while !stopped() {
        if rustix::mount::mount_bind("/fake", "/proc").is_ok() {
            swaps += 1;
            std::thread::yield_now();
            let _ = rustix::mount::unmount("/proc", rustix::mount::UnmountFlags::DETACH);
        }
    }
    swaps
}
