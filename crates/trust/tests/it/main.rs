//! Policies, signatures and encrypted layers, with keys that openssl made and layers that skopeo encrypted.

mod encrypted;
mod signed;

use std::path::Path;
use std::process::Command;

/// Runs a program of the system; says what it said where it fails. False where it is not installed.
fn run(program: &str, arguments: &[&str]) -> bool {
    let output = match Command::new(program).args(arguments).output() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            eprintln!("skipped: {program} is not installed");
            return false;
        }
        other => other.expect("start"),
    };
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    true
}

/// The path as text.
fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}
