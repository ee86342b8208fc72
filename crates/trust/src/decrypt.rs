//! Encrypted layers as ocicrypt makes them: AES-256 in counter mode with an HMAC over the ciphertext, the key of
//! each layer in its descriptor's annotations, encrypted for the recipients (containers/ocicrypt, docs and
//! spec/spec.go).

use crate::jwe::Message;
use crate::keys::PrivateKeys;
use aws_lc_rs::cipher::{AES_256, DecryptionContext, StreamingDecryptingKey, UnboundCipherKey};
use aws_lc_rs::hmac;
use aws_lc_rs::iv::FixedLength;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Read};
use types::{Digest, Error, ErrorKind, Result};

const PREFIX: &str = "org.opencontainers.image.enc.keys.";
const JWE: &str = "org.opencontainers.image.enc.keys.jwe";
const PUBLIC: &str = "org.opencontainers.image.enc.pubopts";
const CIPHER: &str = "AES_256_CTR_HMAC_SHA256";
/// The longest annotation that is read, in bytes.
const ANNOTATION_MAX: usize = 2 << 20;
/// The most messages in one annotation.
const MESSAGES_MAX: usize = 64;
/// Bytes that are read and decrypted at once.
const PART: usize = 64 << 10;

/// What opens one layer.
pub struct LayerKey {
    key: Vec<u8>,
    nonce: [u8; 16],
    hmac: Vec<u8>,
}

impl fmt::Debug for LayerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LayerKey(hidden)")
    }
}

#[derive(Deserialize)]
struct Public {
    cipher: String,
    hmac: String,
}

#[derive(Deserialize)]
struct Private {
    symkey: String,
    cipheroptions: CipherOptions,
}

#[derive(Deserialize)]
struct CipherOptions {
    nonce: String,
}

/// Whether a layer of this media type is encrypted.
pub fn is_encrypted(media_type: &str) -> bool {
    media_type.split(';').next().unwrap_or_default().trim().ends_with("+encrypted")
}

impl LayerKey {
    /// Opens the key of the layer `digest` from its descriptor's annotations.
    ///
    /// # Errors
    /// `FailedPrecondition`, with the recipients' names, where no key of the folder opens it; `InvalidArgument`
    /// where the annotations are not ocicrypt's.
    pub fn open(
        digest: &Digest,
        annotations: &BTreeMap<String, String>,
        keys: &PrivateKeys,
    ) -> Result<LayerKey> {
        let broken =
            |what: &str| Error::invalid(format!("the encrypted layer {digest} cannot be read: {what}"));
        let text = annotations.get(JWE).map(String::as_str).unwrap_or_default();
        if text.len() > ANNOTATION_MAX {
            return Err(broken("its keys are longer than 2 MiB"));
        }
        let public = annotations.get(PUBLIC).filter(|p| p.len() <= ANNOTATION_MAX);
        let public = public.ok_or_else(|| broken("it has no annotation enc.pubopts"))?;
        let public: Public = crate::base64(public)
            .and_then(|json| serde_json::from_slice(&json).ok())
            .ok_or_else(|| broken("its annotation enc.pubopts is not ocicrypt's"))?;
        if public.cipher != CIPHER {
            let cipher = types::reference::shorten(&public.cipher);
            return Err(broken(&format!("its cipher is {cipher:?}; only {CIPHER} is known")));
        }
        let hmac = crate::base64(&public.hmac).ok_or_else(|| broken("its HMAC is not base64"))?;
        let mut recipients = Vec::new();
        for part in text.split(',').filter(|part| !part.is_empty()).take(MESSAGES_MAX) {
            let message = crate::base64(part).and_then(|json| Message::parse(&json));
            let message =
                message.ok_or_else(|| broken("its annotation enc.keys.jwe is not a JWE message"))?;
            if let Some(private) = message.open(keys.keys()) {
                return Self::from_private(&private, hmac)
                    .ok_or_else(|| broken("what its key message holds is not ocicrypt's"));
            }
            recipients.extend(message.recipients());
        }
        // Other ways of encrypting the key (pgp, pkcs7, pkcs11, provider.…) are named by their annotation.
        let others =
            annotations.keys().filter_map(|name| name.strip_prefix(PREFIX)).filter(|name| *name != "jwe");
        recipients.extend(others.map(|name| format!("{} (not supported)", types::reference::shorten(name))));
        if recipients.is_empty() {
            return Err(broken("it names no recipient"));
        }
        Err(Error::precondition(format!(
            "the layer {digest} is encrypted for {}, and none of the {} keys in {} opens it; put the private key \
             (PEM) there",
            recipients.join(", "),
            keys.keys().len(),
            keys.folder().display()
        )))
    }

    fn from_private(json: &[u8], hmac: Vec<u8>) -> Option<LayerKey> {
        let private: Private = serde_json::from_slice(json).ok()?;
        let key = crate::base64(&private.symkey).filter(|key| key.len() == 32)?;
        let nonce = crate::base64(&private.cipheroptions.nonce)?.try_into().ok()?;
        Some(LayerKey { key, nonce, hmac })
    }
}

/// A layer that is decrypted while it is read. Nothing of it may count before [`Decrypted::finish`].
pub struct Decrypted<R> {
    source: R,
    cipher: StreamingDecryptingKey,
    authenticator: hmac::Context,
    expected: Vec<u8>,
    encrypted: Vec<u8>,
    plain: Vec<u8>,
    /// What of `plain` has not been given away yet.
    left: std::ops::Range<usize>,
}

impl<R: Read> Decrypted<R> {
    /// Decrypts what `source` gives.
    pub fn new(source: R, key: &LayerKey) -> Result<Decrypted<R>> {
        let failed = |_| Error::new(ErrorKind::Internal, "AES-256 in counter mode cannot be used");
        let cipher = UnboundCipherKey::new(&AES_256, &key.key).map_err(failed)?;
        let context = DecryptionContext::Iv128(FixedLength::from(key.nonce));
        Ok(Decrypted {
            source,
            cipher: StreamingDecryptingKey::ctr(cipher, context).map_err(failed)?,
            authenticator: hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, &key.key)),
            expected: key.hmac.clone(),
            encrypted: vec![0; PART],
            // The cipher wants room for one block more.
            plain: vec![0; PART + 16],
            left: 0..0,
        })
    }

    /// Reads what is left, sees that the whole layer is what its maker encrypted, and gives back the source.
    pub fn finish(mut self) -> io::Result<R> {
        while self.fill()? {}
        let found = self.authenticator.sign();
        aws_lc_rs::constant_time::verify_slices_are_equal(found.as_ref(), &self.expected).map_err(|_| {
            io::Error::new(
                io::ErrorKind::InvalidData,
                "the encrypted layer's HMAC is wrong: it was changed, or its key belongs to another layer",
            )
        })?;
        Ok(self.source)
    }

    /// The next part; false at the end.
    fn fill(&mut self) -> io::Result<bool> {
        let count = loop {
            match self.source.read(&mut self.encrypted) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other?,
            }
        };
        let part = &self.encrypted[..count];
        self.authenticator.update(part);
        let written = match count {
            0 => 0,
            _ => self
                .cipher
                .update(part, &mut self.plain)
                .map_err(|_| io::Error::other("decrypting failed"))?
                .written()
                .len(),
        };
        self.left = 0..written;
        Ok(count > 0)
    }
}

impl<R: Read> Read for Decrypted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.left.is_empty() && !buffer.is_empty() {
            if !self.fill()? {
                return Ok(0);
            }
        }
        let count = self.left.len().min(buffer.len());
        buffer[..count].copy_from_slice(&self.plain[self.left.start..self.left.start + count]);
        self.left.start += count;
        Ok(count)
    }
}
