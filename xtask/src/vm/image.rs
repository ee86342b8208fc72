//! Makes a guest by its recipe: root file system, kernel, initrd.
//!
//! Everything happens in a folder that is thrown away unless it is whole, and in namespaces of its own: a
//! build that is killed leaves neither mounts nor processes.

use super::place::{Passing, Place};
use super::process::Process;
use super::{mirror, recipe};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long all packages may take.
const PACKAGES: Duration = Duration::from_secs(900);
/// How long any other step may take.
const STEP: Duration = Duration::from_secs(180);
/// Programs of the build, with their packages.
const NEEDED: &[(&str, &str)] = &[
    ("debootstrap", "debootstrap"),
    ("mke2fs", "e2fsprogs"),
    ("unshare", "util-linux"),
    ("setpriv", "util-linux"),
    ("qemu-system-x86_64", "qemu-system-x86"),
];

/// The guest's files.
#[derive(Clone)]
pub struct Image {
    /// Where they are.
    pub folder: PathBuf,
}

impl Image {
    /// The kernel.
    pub fn kernel(&self) -> PathBuf {
        self.folder.join("vmlinuz")
    }

    /// What it starts with.
    pub fn initrd(&self) -> PathBuf {
        self.folder.join("initrd")
    }

    /// The root file system, never written to.
    pub fn root(&self) -> PathBuf {
        self.folder.join("root.img")
    }
}

/// The guest of this recipe; makes it where it is not there. The caller holds the place's lock.
pub fn provide(place: &Place, anew: bool) -> Result<Image, String> {
    let key = recipe::key();
    let image = Image { folder: place.guest(&key) };
    if anew {
        let _ = std::fs::remove_dir_all(&image.folder);
    }
    if !image.folder.is_dir() {
        let begin = Instant::now();
        build(place, &image.folder)?;
        println!("vm: the guest is built, in {} s", begin.elapsed().as_secs());
    }
    // For the choice of the guests that stay.
    let _ = std::fs::File::open(&image.folder)
        .and_then(|folder| folder.set_modified(std::time::SystemTime::now()));
    place.remove_old(&key);
    Ok(image)
}

/// The programs that a guest needs and this machine lacks, as one sentence.
pub fn missing() -> Option<String> {
    let there = |program: &str| {
        let paths = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&paths)
            .chain(["/usr/sbin".into(), "/sbin".into()])
            .any(|folder| folder.join(program).is_file())
    };
    let gone: Vec<_> = NEEDED.iter().filter(|(program, _)| !there(program)).collect();
    let packages: Vec<_> = gone.iter().map(|(_, package)| *package).collect();
    let names: Vec<_> = gone.iter().map(|(program, _)| *program).collect();
    (!gone.is_empty())
        .then(|| format!("{} is not installed: apt-get install {}", names.join(" and "), packages.join(" ")))
}

fn build(place: &Place, finished: &Path) -> Result<(), String> {
    if !crate::install::is_root() {
        return Err(
            "only root can build the guest (debootstrap makes device nodes and changes its root)".to_owned()
        );
    }
    let mirror = mirror::configured().ok_or(
        "apt's configuration names no mirror of Debian: set CORTEN_VM_MIRROR to one to build the guest from",
    )?;
    let log = place.build_log();
    let _ = std::fs::remove_file(&log);
    println!("vm: building the guest, 1 to 6 minutes, once; its log is {}", log.display());
    let work = place.passing("build")?;
    let build = Build { work: &work, root: work.path().join("root"), log };
    build.packages(&mirror, &place.packages())?;
    build.configure()?;
    build.finish(finished)
}

struct Build<'a> {
    work: &'a Passing,
    root: PathBuf,
    log: PathBuf,
}

impl Build<'_> {
    fn packages(&self, mirror: &str, kept: &Path) -> Result<(), String> {
        std::fs::create_dir_all(kept).map_err(|said| format!("cannot make {}: {said}", kept.display()))?;
        let words = [
            "debootstrap".to_owned(),
            "--variant=minbase".to_owned(),
            format!("--cache-dir={}", kept.display()),
            format!("--include={}", recipe::PACKAGES.join(",")),
            recipe::SUITE.to_owned(),
            self.root.display().to_string(),
            mirror.to_owned(),
        ];
        self.step(&words, PACKAGES)
    }

    fn configure(&self) -> Result<(), String> {
        for (path, text, program) in recipe::FILES {
            self.file(path, text, *program)?;
        }
        let root = self.root.display().to_string();
        for step in recipe::STEPS {
            let words = ["chroot", &root].into_iter().chain(step.iter().copied());
            self.step(&words.map(str::to_owned).collect::<Vec<_>>(), STEP)?;
        }
        // systemd compares these with /usr to tell whether to update caches while it boots.
        for folder in ["etc", "var"] {
            self.file(&format!("{folder}/.updated"), "# made with the guest\n", false)?;
        }
        Ok(())
    }

    /// Kernel, initrd and root image into one folder, which then gets its name.
    fn finish(&self, finished: &Path) -> Result<(), String> {
        let done = self.work.path().join("done");
        std::fs::create_dir(&done).map_err(|said| format!("cannot make {}: {said}", done.display()))?;
        for (prefix, name) in [("vmlinuz-", "vmlinuz"), ("initrd.img-", "initrd")] {
            let from = self.in_boot(prefix)?;
            std::fs::copy(&from, done.join(name))
                .map_err(|said| format!("cannot copy {}: {said}", from.display()))?;
        }
        let words =
            ["mke2fs", "-q", "-t", "ext4", "-m", "0", "-O", "^has_journal", "-E", "root_owner=0:0", "-d"];
        let mut words: Vec<_> = words.into_iter().map(str::to_owned).collect();
        words.push(self.root.display().to_string());
        words.push(done.join("root.img").display().to_string());
        words.push(recipe::SIZE.to_owned());
        self.step(&words, STEP)?;
        std::fs::rename(&done, finished)
            .map_err(|said| format!("cannot put the guest at {}: {said}", finished.display()))
    }

    fn in_boot(&self, prefix: &str) -> Result<PathBuf, String> {
        let entries = std::fs::read_dir(self.root.join("boot")).into_iter().flatten().flatten();
        let found = entries.map(|entry| entry.path()).find(|path| {
            path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(prefix))
        });
        found.ok_or_else(|| format!("the kernel's package has put no {prefix}* into /boot"))
    }

    fn file(&self, path: &str, text: &str, program: bool) -> Result<(), String> {
        use std::os::unix::fs::PermissionsExt;
        let path = self.root.join(path);
        let write = || {
            std::fs::create_dir_all(path.parent().unwrap_or(&self.root))?;
            // What is there may be a link that leads out of the guest.
            let _ = std::fs::remove_file(&path);
            std::fs::write(&path, text)?;
            let mode = if program { 0o755 } else { 0o644 };
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode))
        };
        write().map_err(|said| format!("cannot write {}: {said}", path.display()))
    }

    /// One command in new mount and process namespaces: when unshare ends, all that it started is gone.
    fn step(&self, words: &[String], patience: Duration) -> Result<(), String> {
        let around = ["unshare", "--mount", "--pid", "--fork", "--kill-child=KILL", "--mount-proc", "--"];
        let all = around.into_iter().map(str::to_owned).chain(words.iter().cloned());
        let mut environment = vec![
            ("DEBIAN_FRONTEND", "noninteractive".to_owned()),
            ("LC_ALL", "C".to_owned()),
            ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned()),
        ];
        if std::env::var_os("http_proxy").is_none() {
            environment.extend(mirror::proxy().map(|proxy| ("http_proxy", proxy)));
        }
        let name = words.first().map_or("a step", String::as_str);
        Process::start(all, &environment, &self.log)?
            .succeed_within(patience)
            .map_err(|why| format!("the guest cannot be built, {name} failed: {why}"))
    }
}
