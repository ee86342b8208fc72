//! `--pid-file`: written beside its name and renamed, so that a reader never sees half a number.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use types::{Error, ErrorKind, Result};

/// Writes the process id where a file is asked for.
pub fn write(path: Option<&Path>, pid: i32) -> Result<()> {
    let Some(path) = path else { return Ok(()) };
    let fail = |e: std::io::Error| {
        Error::with_source(ErrorKind::Internal, format!("cannot write the pid file {}", path.display()), e)
    };
    let name = path
        .file_name()
        .ok_or_else(|| Error::invalid(format!("the pid file {} has no name", path.display())))?;
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(name);
    let temporary = path.with_file_name(hidden);
    // What a killed one left is not ours to write through: it may be a link by now.
    let _ = std::fs::remove_file(&temporary);
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o644)
        .open(&temporary)
        .map_err(fail)?;
    let done = file.write_all(pid.to_string().as_bytes()).and_then(|()| std::fs::rename(&temporary, path));
    if done.is_err() {
        let _ = std::fs::remove_file(&temporary);
    }
    done.map_err(fail)
}
