//! The read-only drive that a run brings into the guest: test programs, programs under test, the job.
//!
//! An ext4 image made by mke2fs(8) from a folder: it takes a second, needs no server beside QEMU, and the
//! guest caches it as any disk.

use super::inside::DRIVE;
use super::job::{Job, Test};
use super::place::Passing;
use super::process::Process;
use super::programs::{Built, Program, strip};
use crate::build::Profile;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The programs that tests start.
const PROGRAMS: [&str; 4] = ["corten", "corten-shim", "corten-oci", "hello-web"];
/// How long making the image may take.
const PATIENCE: Duration = Duration::from_secs(180);
/// Of the image's size beside its files, for the file system itself: MiB.
const SPARE: u64 = 24;

/// The variables by which tests find the programs in the guest.
pub fn environment() -> Vec<(String, String)> {
    let at = |program: &str| (test_support::programs::variable(program), format!("{DRIVE}/bin/{program}"));
    let there = PROGRAMS.iter().filter(|program| Profile::Debug.dist().join(program).is_file());
    // What takes five hundred processes here takes as long with forty there.
    let crowd = ("CORTEN_CROWD".to_owned(), "40".to_owned());
    there.map(|program| at(program)).chain([crowd]).collect()
}

/// Where `CARGO_BIN_EXE_*` points on the host, and that program on the drive, for packages whose tests run.
pub fn links(built: &Built, tests: &[Test]) -> Vec<(String, String)> {
    let used = |package: &str| tests.iter().any(|test| test.program.split(' ').next() == Some(package));
    let programs = built.programs.iter().filter(|(package, _)| used(package));
    programs.map(|(_, path)| (path.display().to_string(), format!("{DRIVE}/bin/{}", name(path)))).collect()
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Makes the image in the run's folder and returns its path.
pub fn make(run: &Passing, job: &Job, programs: &[Program]) -> Result<PathBuf, String> {
    let (folder, image) = (run.path().join("drive"), run.path().join("drive.img"));
    for part in ["tests", "bin"] {
        let path = folder.join(part);
        std::fs::create_dir_all(&path).map_err(|said| format!("cannot make {}: {said}", path.display()))?;
    }
    for program in programs.iter().filter(|program| job.tests.iter().any(|test| test.file == program.file()))
    {
        strip(&program.path, &folder.join("tests").join(program.file()))?;
    }
    for program in PROGRAMS {
        let path = Profile::Debug.dist().join(program);
        if path.is_file() {
            strip(&path, &folder.join("bin").join(program))?;
        }
    }
    // Those of one package's tests alone, such as a hostile one for the inside of a container.
    for path in job.links.iter().map(|(path, _)| Path::new(path)) {
        let place = folder.join("bin").join(name(path));
        if !place.exists() {
            strip(path, &place)?;
        }
    }
    let own = std::env::current_exe().map_err(|said| format!("cannot tell where this program is: {said}"))?;
    strip(&own, &folder.join("xtask"))?;
    let text = folder.join("job.json");
    std::fs::write(&text, job.write()).map_err(|said| format!("cannot write {}: {said}", text.display()))?;
    let size = format!("{}M", (size(&folder) >> 20) * 11 / 10 + SPARE);
    let words = ["mke2fs", "-q", "-t", "ext4", "-m", "0", "-O", "^has_journal", "-E", "root_owner=0:0", "-d"];
    let words = words.into_iter().map(str::to_owned);
    let words = words.chain([folder.display().to_string(), image.display().to_string(), size]);
    // Without root it is not on everyone's path.
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    Process::start(words, &[("PATH", path)], &run.path().join("mke2fs.log"))?.succeed_within(PATIENCE)?;
    let _ = std::fs::remove_dir_all(&folder);
    Ok(image)
}

/// Bytes of all files, each rounded up to a block.
fn size(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(data) if data.is_dir() => size(&entry.path()),
            Ok(data) => data.len().next_multiple_of(4096),
            Err(_) => 0,
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_programs_of_packages_whose_tests_run_are_linked() {
        let program = |package: &str, path: &str| (package.to_owned(), PathBuf::from(path));
        let built = Built {
            tests: Vec::new(),
            programs: vec![
                program("corten-oci", "/t/debug/corten-oci"),
                program("corten", "/t/debug/corten"),
            ],
        };
        let test = Test {
            program: "corten-oci it".to_owned(),
            file: "corten-oci-it".to_owned(),
            name: "life::runs".to_owned(),
            limit: Duration::from_secs(1),
        };
        let found = links(&built, &[test]);
        assert_eq!(found, [("/t/debug/corten-oci".to_owned(), format!("{DRIVE}/bin/corten-oci"))]);
    }

    #[test]
    fn a_small_file_takes_a_block_too() {
        let folder = std::env::temp_dir().join(format!("xtask-drive-{}", std::process::id()));
        std::fs::create_dir_all(folder.join("deep")).expect("a folder");
        std::fs::write(folder.join("deep/one"), "1").expect("a file");
        std::fs::write(folder.join("two"), [0; 5000]).expect("a file");
        assert_eq!(size(&folder), 3 * 4096);
        std::fs::remove_dir_all(folder).expect("removed");
    }
}
