//! The folder of private keys that open encrypted layers: PEM files, one key each.

use crate::public_key::{element, pem_block};
use aws_lc_rs::agreement::{self, Algorithm, PrivateKey};
use aws_lc_rs::rsa::{OaepPrivateDecryptingKey, PrivateDecryptingKey};
use std::fmt;
use std::path::{Path, PathBuf};
use types::{Error, ErrorKind, Result};

/// The largest key file that is read, in bytes.
const KEY_MAX: u64 = 64 << 10;
/// The most files of a folder that are looked at.
const FILES_MAX: usize = 256;

/// The keys of a folder, in the order of their files' names.
pub struct PrivateKeys {
    folder: PathBuf,
    keys: Vec<Key>,
}

/// One private key.
pub(crate) enum Key {
    Rsa(OaepPrivateDecryptingKey),
    /// With the curve's name as JSON Web Keys spell it.
    Ec(PrivateKey, &'static str),
}

/// The curves, by their names in JSON Web Keys (RFC 7518, section 6.2.1.1).
pub(crate) const CURVES: [(&str, &Algorithm); 3] =
    [("P-256", &agreement::ECDH_P256), ("P-384", &agreement::ECDH_P384), ("P-521", &agreement::ECDH_P521)];

impl PrivateKeys {
    /// Reads a folder. One that is not there holds no key; a file that is no key is passed over with a warning, so
    /// that it does not take the others' use away.
    pub fn read(folder: &Path) -> Result<PrivateKeys> {
        let failed = |cause| {
            let what = format!("cannot read the folder of decryption keys {}", folder.display());
            Error::with_source(ErrorKind::FailedPrecondition, what, cause)
        };
        let mut paths = Vec::new();
        match std::fs::read_dir(folder) {
            Ok(entries) => {
                for entry in entries {
                    paths.push(entry.map_err(failed)?.path());
                }
            }
            Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => {}
            Err(cause) => return Err(failed(cause)),
        }
        if paths.len() > FILES_MAX {
            return Err(Error::precondition(format!(
                "the folder of decryption keys {} holds more than {FILES_MAX} files",
                folder.display()
            )));
        }
        paths.sort();
        let mut keys = Vec::new();
        for path in paths.iter().filter(|path| path.is_file()) {
            match crate::read(path, KEY_MAX).map(|pem| parse(&pem)) {
                Ok(Some(key)) => keys.push(key),
                Ok(None) => {
                    tracing::warn!(file = %path.display(), "this is not an unencrypted RSA or EC private key in PEM; it opens no layer");
                }
                Err(error) => tracing::warn!(error = %error.chain(), "this decryption key cannot be used"),
            }
        }
        Ok(PrivateKeys { folder: folder.to_owned(), keys })
    }

    pub(crate) fn keys(&self) -> &[Key] {
        &self.keys
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }
}

impl fmt::Debug for PrivateKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PrivateKeys").field("folder", &self.folder).field("keys", &self.keys.len()).finish()
    }
}

/// PKCS #8, PKCS #1 and SEC 1, as openssl writes them.
fn parse(pem: &[u8]) -> Option<Key> {
    if let Some(der) = pem_block(pem, "PRIVATE KEY") {
        return rsa(&der).or_else(|| ec(&der));
    }
    if let Some(der) = pem_block(pem, "RSA PRIVATE KEY") {
        return rsa(&wrapped_rsa(&der)?);
    }
    ec(&pem_block(pem, "EC PRIVATE KEY")?)
}

fn rsa(pkcs8: &[u8]) -> Option<Key> {
    let key = PrivateDecryptingKey::from_pkcs8(pkcs8).ok()?;
    OaepPrivateDecryptingKey::new(key).ok().map(Key::Rsa)
}

fn ec(der: &[u8]) -> Option<Key> {
    CURVES
        .iter()
        .find_map(|(name, curve)| Some(Key::Ec(PrivateKey::from_private_key_der(curve, der).ok()?, name)))
}

/// A PKCS #1 key inside the frame of PKCS #8 (RFC 5208, section 5).
fn wrapped_rsa(pkcs1: &[u8]) -> Option<Vec<u8>> {
    // version 0; rsaEncryption with NULL parameters.
    const FRAME: [u8; 18] = [
        0x02, 0x01, 0x00, 0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05,
        0x00,
    ];
    element(pkcs1, 0x30)?;
    let octets = with_length(0x04, pkcs1)?;
    with_length(0x30, &[&FRAME[..], &octets].concat())
}

/// A DER element with a length of two bytes, which is what any RSA key has.
fn with_length(tag: u8, content: &[u8]) -> Option<Vec<u8>> {
    let length = u16::try_from(content.len()).ok()?.to_be_bytes();
    // Shorter lengths have a shorter form in DER; no key of a size that is safe has them.
    (content.len() > 255).then(|| [&[tag, 0x82, length[0], length[1]][..], content].concat())
}
