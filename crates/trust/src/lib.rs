//! Whether an image may be used, and with which keys its layers open: the policy file in the form of
//! containers-policy.json(5), sigstore signatures, and encrypted layers in ocicrypt's form.
//!
//! It judges bytes that others fetched, and reads the policy and the keys from the disk each time they are
//! needed, so that a change counts at once. It contacts nobody and writes nothing.

mod decrypt;
mod identity;
mod jwe;
mod keys;
mod policy;
mod public_key;
mod requirement;
mod signature;

pub use decrypt::{Decrypted, LayerKey, is_encrypted};
pub use keys::PrivateKeys;
pub use policy::{Policy, Rule};
pub use signature::{SIGNATURES_MAX, Signature, SignatureLayer, signature_layers, signature_tag};

use std::io::Read;
use std::path::Path;
use types::{Error, ErrorKind, Result};

/// Reads a file of at most `limit` bytes; a longer one, and what is no regular file, is refused.
fn read(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let failed = |cause| {
        Error::with_source(ErrorKind::FailedPrecondition, format!("cannot read {}", path.display()), cause)
    };
    let file = std::fs::File::open(path).map_err(failed)?;
    if !file.metadata().map_err(failed)?.is_file() {
        return Err(Error::precondition(format!("{} is not a regular file", path.display())));
    }
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > limit {
        return Err(Error::precondition(format!("{} is larger than {limit} bytes", path.display())));
    }
    Ok(bytes)
}

/// Standard base64 with or without line breaks, as configuration files and annotations hold it.
fn base64(text: &str) -> Option<Vec<u8>> {
    use base64::Engine as _;
    let compact: String = text.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    base64::engine::general_purpose::STANDARD.decode(compact).ok()
}
