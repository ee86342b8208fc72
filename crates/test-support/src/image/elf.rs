//! Which shared libraries a program of this machine needs, as its own loader tells.

use crate::{Problem, Result, Tried};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The libraries and the loader, by the paths at which the program looks for them.
pub(super) fn libraries(program: &Path) -> Result<Vec<PathBuf>> {
    let output = Command::new("ldd").arg(program).output().tried("run ldd")?;
    if !output.status.success() {
        return Err(Problem::new(
            format_args!("ldd cannot read {}", program.display()),
            String::from_utf8_lossy(&output.stderr).trim(),
        ));
    }
    parse(&String::from_utf8_lossy(&output.stdout))
}

/// Lines are `name => path (address)`, `path (address)` for the loader, or `name (address)` for the vDSO.
fn parse(text: &str) -> Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for line in text.lines() {
        let right = line.split_once("=>").map_or(line, |(_, right)| right).trim();
        if right.starts_with("not found") {
            return Err(Problem(format!("a library is not installed: {}", line.trim())));
        }
        let path = right.split(" (").next().unwrap_or_default().trim();
        if path.starts_with('/') {
            paths.push(PathBuf::from(path));
        }
    }
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_and_the_loader_are_listed_and_the_vdso_is_not() {
        let text = "\tlinux-vdso.so.1 (0x00007f)\n\tlibz.so.1 => /lib/libz.so.1 (0x00007f)\n\t/lib64/ld.so.2 (0x7f)\n";
        let paths = parse(text).expect("paths");
        assert_eq!(paths, [PathBuf::from("/lib/libz.so.1"), PathBuf::from("/lib64/ld.so.2")]);
        assert!(parse("\tlibx.so => not found\n").is_err());
    }
}
