//! Where the programs under test are.
//!
//! Convention: `cargo xtask build --debug` puts `corten`, `corten-shim`, `corten-oci` and `hello-web`
//! into `target/dist-debug/` (the last three linked statically), `cargo xtask build` the released ones
//! into `target/dist/`. A program's variable (`CORTEN_SHIM` for `corten-shim`) overrules the folder.
//! Nothing is built from here.

use crate::{Problem, Result};
use std::path::{Path, PathBuf};

/// The monitor.
pub fn shim() -> Result<PathBuf> {
    find("corten-shim")
}

/// The daemon and command line.
pub fn corten() -> Result<PathBuf> {
    find("corten")
}

/// The OCI runtime.
pub fn oci() -> Result<PathBuf> {
    find("corten-oci")
}

/// The small web program of the demonstration.
pub fn hello_web() -> Result<PathBuf> {
    find("hello-web")
}

/// The environment variable that names `program`, as `CORTEN_SHIM` names `corten-shim`.
pub fn variable(program: &str) -> String {
    program.to_ascii_uppercase().replace('-', "_")
}

fn find(program: &str) -> Result<PathBuf> {
    let variable = variable(program);
    if let Some(path) = std::env::var_os(&variable).map(PathBuf::from) {
        return if path.is_file() {
            Ok(path)
        } else {
            Err(Problem(format!("{variable} names {}, which is no file", path.display())))
        };
    }
    let own =
        std::env::current_exe().map_err(|said| Problem::new("cannot tell where this program is", said))?;
    below_target(&own, program).ok_or_else(|| {
        Problem(format!(
            "{program} is not built: run `cargo xtask build --debug`, or set {variable} to the program's path"
        ))
    })
}

/// Test programs are `target/debug/deps/name-hash`, so the folder is beside one of our ancestors.
fn below_target(own: &Path, program: &str) -> Option<PathBuf> {
    own.ancestors()
        .skip(1)
        .take(4)
        .flat_map(|folder| ["dist-debug", "dist"].map(|dist| folder.join(dist).join(program)))
        .find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_found_beside_the_profile_folder() {
        let target = tempfile::tempdir().expect("a directory");
        let dist = target.path().join("dist-debug");
        std::fs::create_dir(&dist).expect("a folder");
        std::fs::write(dist.join("corten-shim"), b"").expect("a file");
        let own = target.path().join("debug/deps/it-0123");
        assert_eq!(below_target(&own, "corten-shim"), Some(dist.join("corten-shim")));
        assert_eq!(below_target(&own, "corten-oci"), None);
        assert_eq!(variable("corten-shim"), "CORTEN_SHIM");
    }
}
