//! `cargo xtask build`: the programs, where tests and packages find them.
//!
//! `target/dist` holds released ones, `target/dist-debug` those of the dev profile, which tests use.
//! `corten-shim`, `corten-oci` and `hello-web` are linked statically: the first runs from a memfd beside
//! containers of any kind, the last alone in its image.

use crate::steps::{cargo, run};
use std::path::PathBuf;

/// Package, program, and whether it is linked statically.
const PROGRAMS: [(&str, &str, bool); 4] = [
    ("corten", "corten", false),
    ("corten-shim", "corten-shim", true),
    ("corten-oci", "corten-oci", true),
    ("hello-web", "hello-web", true),
];

/// What is built.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// For people and packages.
    Release,
    /// For tests.
    Debug,
}

impl Profile {
    /// Cargo's folder for it below the target folder.
    fn folder(self) -> &'static str {
        match self {
            Profile::Release => "release",
            Profile::Debug => "debug",
        }
    }

    /// Where the programs are put.
    pub fn dist(self) -> PathBuf {
        crate::target().join(match self {
            Profile::Release => "dist",
            Profile::Debug => "dist-debug",
        })
    }
}

/// The command.
pub fn command(arguments: &[&str]) -> Result<(), String> {
    let (profile, rest) = match arguments.split_first() {
        Some((&"--debug", rest)) => (Profile::Debug, rest),
        _ => (Profile::Release, arguments),
    };
    crate::no_arguments(rest)?;
    build(profile)?;
    println!("programs are in {}", profile.dist().display());
    Ok(())
}

/// Builds every program and copies it to its place.
pub fn build(profile: Profile) -> Result<(), String> {
    let dist = profile.dist();
    std::fs::create_dir_all(&dist).map_err(|said| format!("cannot make {}: {said}", dist.display()))?;
    for (package, program, fixed) in PROGRAMS {
        let mut command = cargo(&["rustc", "--quiet", "--package", package, "--bin", program]);
        if profile == Profile::Release {
            command.arg("--release");
        }
        if fixed {
            // Only the last step of this one program is changed; libraries are shared with all others.
            command.args(["--", "-C", "target-feature=+crt-static"]);
        }
        run(&mut command, "The compiler's message above says what to mend.")?;
        let built = crate::target().join(profile.folder()).join(program);
        // A program that runs cannot be written to, but it can be replaced; two builds may do so at once.
        let (placed, new) = (dist.join(program), dist.join(format!(".{program}.{}", std::process::id())));
        std::fs::copy(&built, &new)
            .and_then(|_| std::fs::rename(&new, &placed))
            .map_err(|said| format!("cannot put {} at {}: {said}", built.display(), placed.display()))?;
    }
    Ok(())
}
