//! Certificate files: those that a configuration names, and those that lie in a registry's folder in Docker's
//! layout (Docker docs, "Use certificates for repository client verification"; containers-certs.d(5)).

use super::{Tls, refuse};
use std::io::Read;
use std::path::{Path, PathBuf};
use types::{Error, ErrorKind, Result};

/// The largest configuration or certificate file that is read, in bytes.
const FILE_MAX: u64 = 1 << 20;
/// The most entries of a folder that are looked at.
const ENTRIES_MAX: usize = 1000;

/// Adds what lies in a registry's folder: `*.crt` are trusted, `*.cert` with the `*.key` of the same name is shown
/// to servers that ask for one. A `*.cert` without a key may hold it itself.
pub(super) fn beside(folder: &Path, tls: &mut Tls) -> Result<()> {
    let failed = |cause: std::io::Error| unreadable(folder, cause);
    let mut names: Vec<PathBuf> = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)?.take(ENTRIES_MAX) {
        names.push(entry.map_err(failed)?.path());
    }
    names.sort();
    for path in names.iter().filter(|path| !path.is_dir()) {
        match path.extension().and_then(|e| e.to_str()) {
            Some("crt") => tls.ca.push(named(path)?),
            Some("cert") => {
                let certificate = named(path)?;
                let key = match read(&path.with_extension("key"))? {
                    Some(key) => key,
                    None => certificate.clone(),
                };
                tls.client.push((certificate, key));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Reads a PEM file that must be there.
pub(super) fn named(path: &Path) -> Result<Vec<u8>> {
    read(path)?.ok_or_else(|| refuse(path, "it does not exist"))
}

/// Reads a file, 1 MiB at most; `None` where there is none.
pub(crate) fn read(path: &Path) -> Result<Option<Vec<u8>>> {
    let failed = |cause: std::io::Error| unreadable(path, cause);
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(cause) => return Err(failed(cause)),
    };
    if !file.metadata().map_err(failed)?.is_file() {
        return Err(refuse(path, "it is not a regular file"));
    }
    let mut bytes = Vec::new();
    file.take(FILE_MAX + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > FILE_MAX {
        return Err(refuse(path, "it is larger than 1 MiB"));
    }
    Ok(Some(bytes))
}

fn unreadable(path: &Path, cause: std::io::Error) -> Error {
    Error::with_source(ErrorKind::FailedPrecondition, format!("cannot read {}", path.display()), cause)
}
