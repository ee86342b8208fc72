//! The test programs of the workspace: cargo builds them and tells where they are, they tell their tests.

use crate::steps::{cargo, read};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

/// One test program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// `corten-cgroups`
    pub package: String,
    /// `lib`, `bin/NAME`, or the name of an integration test.
    pub target: String,
    /// Where cargo has put it.
    pub path: PathBuf,
}

impl Program {
    /// Its name on the drive, which is one word.
    pub fn file(&self) -> String {
        format!("{}-{}", self.package, self.target.replace('/', "-"))
    }

    /// The names of its tests.
    pub fn tests(&self) -> Result<Vec<String>, String> {
        Ok(listed(&read(Command::new(&self.path).args(["--list", "--format", "terse"]))?))
    }
}

/// What cargo built.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Built {
    /// The test programs.
    pub tests: Vec<Program>,
    /// The programs of packages, which their integration tests know by `CARGO_BIN_EXE_*`, that is, by this
    /// very path: package and path.
    pub programs: Vec<(String, PathBuf)>,
}

/// Builds the tests of some packages, or of all.
pub fn build(packages: &[&str]) -> Result<Built, String> {
    let mut command = cargo(&["test", "--no-run", "--quiet"]);
    command.arg("--message-format=json-render-diagnostics");
    if packages.is_empty() {
        command.arg("--workspace");
    }
    for package in packages {
        command.args(["--package", package]);
    }
    command.stderr(std::process::Stdio::inherit());
    let output = command.stdin(std::process::Stdio::null()).output();
    let output = output.map_err(|said| format!("cannot start cargo: {said}"))?;
    if !output.status.success() {
        return Err("the tests do not build: the compiler's message is above".to_owned());
    }
    Ok(built(&String::from_utf8_lossy(&output.stdout)))
}

/// Cargo's messages, one JSON object on each line (The Cargo Book, "External tools").
fn built(messages: &str) -> Built {
    let mut found = Built::default();
    for message in messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
        let Some(path) = message["executable"].as_str().map(PathBuf::from) else { continue };
        let target = &message["target"];
        let package = package(message["package_id"].as_str().unwrap_or_default()).to_owned();
        let (kind, name) = (target["kind"][0].as_str(), target["name"].as_str().unwrap_or_default());
        if message["profile"]["test"] == Value::Bool(true) {
            let target = match kind {
                Some("test") => name.to_owned(),
                Some("bin") => format!("bin/{name}"),
                _ => "lib".to_owned(),
            };
            found.tests.push(Program { package, target, path });
        } else if kind == Some("bin") {
            found.programs.push((package, path));
        }
    }
    found
}

/// `path+file:///w/crates/x#corten-x@0.1.0`, or `path+file:///w/xtask#0.1.0` where the folder has its name.
fn package(id: &str) -> &str {
    let (place, fragment) = id.rsplit_once('#').unwrap_or((id, ""));
    match fragment.split_once('@') {
        Some((name, _)) => name,
        None => place.rsplit('/').next().unwrap_or(place),
    }
}

/// `module::name: test`, a line each.
fn listed(text: &str) -> Vec<String> {
    text.lines().filter_map(|line| line.strip_suffix(": test")).map(str::to_owned).collect()
}

/// Copies a program without what only a debugger reads, which is nine tenths of it.
pub fn strip(from: &Path, to: &Path) -> Result<(), String> {
    read(Command::new("strip").arg("-o").arg(to).arg(from)).map(drop).or_else(|why| {
        std::fs::copy(from, to)
            .map(drop)
            .map_err(|said| format!("cannot copy {}: {said}, and {why}", from.display()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_programs_and_programs_are_found_among_cargos_messages() {
        let messages = r#"{"reason":"compiler-artifact","package_id":"registry+x#serde@1.0.0","target":{"kind":["lib"],"name":"serde"},"profile":{"test":false},"executable":null}
{"reason":"compiler-artifact","package_id":"path+file:///w/crates/cgroups#corten-cgroups@0.1.0","target":{"kind":["lib"],"name":"cgroups"},"profile":{"test":true},"executable":"/t/cgroups-1"}
{"reason":"compiler-artifact","package_id":"path+file:///w/crates/cgroups#corten-cgroups@0.1.0","target":{"kind":["test"],"name":"it"},"profile":{"test":true},"executable":"/t/it-2"}
{"reason":"compiler-artifact","package_id":"path+file:///w/xtask#0.1.0","target":{"kind":["bin"],"name":"xtask"},"profile":{"test":true},"executable":"/t/xtask-3"}
{"reason":"compiler-artifact","package_id":"path+file:///w/crates/oci-cli#corten-oci@0.1.0","target":{"kind":["bin"],"name":"corten-oci"},"profile":{"test":false},"executable":"/t/corten-oci"}
not json
{"reason":"build-finished","success":true}"#;
        let found = built(messages);
        let names: Vec<_> = found.tests.iter().map(Program::file).collect();
        assert_eq!(names, ["corten-cgroups-lib", "corten-cgroups-it", "xtask-bin-xtask"]);
        assert_eq!(found.programs, [("corten-oci".to_owned(), PathBuf::from("/t/corten-oci"))]);
    }

    #[test]
    fn only_tests_are_listed() {
        assert_eq!(listed("a::b: test\nc: benchmark\n\n1 test, 1 benchmark\n"), ["a::b"]);
    }
}
