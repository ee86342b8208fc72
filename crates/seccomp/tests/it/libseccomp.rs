//! libseccomp, through a small C program (`libseccomp.c`) that is compiled for the test.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// The compiled program; `None`, said once, where it cannot be made.
pub fn available() -> Option<&'static Path> {
    static BUILT: OnceLock<Option<PathBuf>> = OnceLock::new();
    BUILT.get_or_init(build).as_deref()
}

fn build() -> Option<PathBuf> {
    if !Path::new("/usr/include/seccomp.h").is_file() {
        eprintln!("skipped: libseccomp's header is not installed (libseccomp-dev)");
        return None;
    }
    compile("libseccomp", &["-lseccomp"])
}

/// A C program beside this file, compiled; `None`, said, without a compiler.
pub fn compile(name: &str, libraries: &[&str]) -> Option<PathBuf> {
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it").join(name).with_extension("c");
    // Two test runs at once do not write to one file, and a program that runs is not written to.
    let fresh = program.with_extension(std::process::id().to_string());
    let done = Command::new("cc").arg("-O1").arg("-o").arg(&fresh).arg(&source).args(libraries).output();
    match done {
        Err(why) => {
            eprintln!("skipped: there is no C compiler: {why}");
            None
        }
        Ok(output) => {
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            std::fs::rename(&fresh, &program).unwrap();
            Some(program)
        }
    }
}

/// What the program answers to `text`, in lines. It is started once for each call.
pub fn ask(program: &Path, text: String) -> Vec<String> {
    let mut child = Command::new(program).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let writer = std::thread::spawn(move || stdin.write_all(text.as_bytes()).unwrap());
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    assert!(output.status.success(), "libseccomp's side ended with {}", output.status);
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

/// The bytes of a program in hexadecimal digits.
pub fn bytes(digits: &str) -> Vec<u8> {
    (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()).collect()
}
