//! The Debian packages that tests use, in one list, and their installation where that is allowed. A machine
//! that cannot install them runs the other tests.
//!
//! Only tests need them: building and the demonstration need none.

use crate::steps::{read, run};
use std::process::Command;

/// Package and what it is for.
const PACKAGES: &[(&str, &str)] = &[
    ("busybox-static", "the image of most tests"),
    ("nginx-light", "an image with shared libraries, users and a stop signal"),
    ("docker-registry", "a registry that is not ours"),
    ("containernetworking-plugins", "CNI plugins that ours must agree with"),
    ("procps", "ps(1), which `corten-oci ps` shows"),
    ("iproute2", "reading links and addresses as a person would"),
    ("nftables", "reading rules as a person would"),
    ("iptables", "rules of the other plugins"),
    ("runc", "an OCI runtime that ours must agree with"),
    ("crun", "an OCI runtime that ours must agree with"),
    ("podman", "a client of our OCI runtime"),
    ("tinyproxy-bin", "a proxy that our registry client goes through"),
    ("skopeo", "a reader and writer of image archives that ours must agree with"),
    ("umoci", "another one"),
    ("conmon", "what podman keeps beside a container"),
    ("uidmap", "ranges of ids for containers without root"),
    ("dbus", "a bus to ask systemd on"),
    ("strace", "counting system calls"),
    ("libseccomp-dev", "the compiler of filters that ours must agree with"),
    ("containerd", "the runtime that is measured beside ours, and a client of our OCI runtime"),
    ("libc6-dev", "linking statically"),
    ("qemu-system-x86", "the guest with systemd and cgroup v2"),
    ("debootstrap", "making that guest"),
    ("e2fsprogs", "making its disks"),
    ("erofs-utils", "reading EROFS images that are ours"),
    ("openssl", "keys of signatures and of encrypted layers"),
    ("btrfs-progs", "a disk whose state at any moment can be kept, for power cuts"),
    ("xfsprogs", "a disk with the other common file system"),
    ("kmod", "loading modules that tests ask for"),
    ("golang-go", "building the stargz snapshotter"),
    (
        "golang-github-containerd-stargz-snapshotter-dev",
        "a snapshotter that fetches files when they are read",
    ),
];

/// Installs what is missing (as root), or names it.
pub fn packages(allowed: bool) -> Result<(), String> {
    if Command::new("dpkg-query").arg("--version").output().is_err() {
        println!("this is no Debian: tests whose programs are missing skip, and say so");
        return Ok(());
    }
    let missing: Vec<_> = PACKAGES.iter().filter(|(package, _)| !installed(package)).collect();
    if missing.is_empty() {
        println!("all {} packages are installed", PACKAGES.len());
        return Ok(());
    }
    for (package, purpose) in &missing {
        println!("missing: {package} ({purpose})");
    }
    let names: Vec<_> = missing.iter().map(|(package, _)| *package).collect();
    if !allowed || !is_root() {
        println!("to have every test run: apt-get install {}", names.join(" "));
        return Ok(());
    }
    let outcome = install(&names).or_else(|_| {
        // The lists of a fresh machine are empty or old.
        run(&mut apt(&["update", "-qq"]), "Is there a way to the package mirror?")?;
        install(&names)
    });
    if let Err(why) = outcome {
        println!("{why}\ngoing on without: tests that need these packages skip, and are listed in the end");
    }
    Ok(())
}

fn installed(package: &str) -> bool {
    let query = ["--show", "--showformat=${db:Status-Status}", package];
    read(Command::new("dpkg-query").args(query)).is_ok_and(|status| status.trim() == "installed")
}

fn install(names: &[&str]) -> Result<(), String> {
    // invoke-rc.d(8) starts no service in runlevel 1: nginx and a registry must not run on a developer's machine.
    let mut command = apt(&["install", "-y", "-qq", "--no-install-recommends"]);
    command.args(names).env("RUNLEVEL", "1");
    run(&mut command, "apt's words are above.")
}

fn apt(arguments: &[&str]) -> Command {
    let mut command = Command::new("apt-get");
    command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive");
    command
}

/// Whether we may do everything.
pub fn is_root() -> bool {
    // The owner of our own process folder is who we are (proc(5)).
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}
