//! The saved guest: booted once, then stopped and written to a file, so that a run begins in seconds.
//!
//! It is kept beside its guest under the machine's name. Where it cannot be made or does not go on, the guest
//! boots.

use super::guest::Guest;
use super::image::{self, Image};
use super::machine::{self, Accelerator, Disk};
use super::place::{Passing, Place};
use super::process::Process;
use crate::steps::interrupted;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How long copying the root image may take.
const COPY: Duration = Duration::from_secs(300);

/// Builds and saves the guest where that was not done yet.
pub fn prepare(place: &Place, anew: bool) -> Result<(), String> {
    let _lock = place.lock()?;
    let image = image::provide(place, anew)?;
    for accelerator in accelerators() {
        let folder = folder(&image, accelerator)?;
        if folder.is_dir() {
            return Ok(());
        }
        match save(place, &image, accelerator) {
            Ok(()) => return Ok(()),
            Err(why) if interrupted() => return Err(why),
            Err(why) => println!("vm: the guest is not saved ({accelerator:?}): {why}"),
        }
    }
    println!("vm: each run boots the guest");
    Ok(())
}

/// A guest that is up, and how it came up.
pub fn start<'a>(place: &Place, run: &'a Passing) -> Result<(Guest<'a>, &'static str), String> {
    // Until QEMU has all files open, nobody may remove them.
    let _lock = place.lock()?;
    let image = image::provide(place, false)?;
    let mut why = String::new();
    for accelerator in accelerators() {
        let saved = folder(&image, accelerator)?;
        if saved.is_dir() {
            match Guest::resume(&image, &saved, accelerator, run) {
                Ok(guest) => return Ok((guest, "from its saved state")),
                Err(said) if interrupted() => return Err(said),
                Err(said) => {
                    println!(
                        "vm: the saved guest does not go on, so it boots; the next run saves it anew: {said}"
                    );
                    let _ = std::fs::remove_dir_all(&saved);
                }
            }
        }
        let root = image.root();
        match Guest::boot(&image, &Disk { path: &root, lasting: false }, accelerator, run) {
            Ok(guest) => return Ok((guest, "by booting")),
            Err(said) => why = said,
        }
        if interrupted() {
            break;
        }
    }
    Err(why)
}

/// Where KVM is there but does not work, the interpreter does.
fn accelerators() -> impl Iterator<Item = Accelerator> {
    let kvm = Accelerator::here() == Accelerator::Kvm;
    kvm.then_some(Accelerator::Kvm).into_iter().chain([Accelerator::Interpreter])
}

fn folder(image: &Image, accelerator: Accelerator) -> Result<PathBuf, String> {
    Ok(image.folder.join(format!("saved-{}", machine::key(accelerator)?)))
}

fn save(place: &Place, image: &Image, accelerator: Accelerator) -> Result<(), String> {
    let begin = Instant::now();
    let run = place.passing("save")?;
    let done = run.path().join("done");
    std::fs::create_dir(&done).map_err(|said| format!("cannot make {}: {said}", done.display()))?;
    // cp(1) keeps the holes.
    let disk = done.join("root.img");
    let words = [
        "cp".as_ref(),
        "--sparse=always".as_ref(),
        "--reflink=auto".as_ref(),
        image.root().as_os_str().to_owned().as_os_str(),
        disk.as_os_str(),
    ]
    .map(std::ffi::OsStr::to_owned);
    Process::start(words, &[], &run.path().join("cp.log"))?.succeed_within(COPY)?;
    let guest = Guest::boot(image, &Disk { path: &disk, lasting: true }, accelerator, &run)?;
    guest.save(&done.join("state"))?;
    let folder = folder(image, accelerator)?;
    std::fs::rename(&done, &folder)
        .map_err(|said| format!("cannot put it at {}: {said}", folder.display()))?;
    println!("vm: the guest has booted and is saved, after {} s", begin.elapsed().as_secs());
    Ok(())
}
