//! JSON Web Encryption (RFC 7516) as far as ocicrypt uses it: the JSON serializations, RSA-OAEP and ECDH-ES with
//! AES key wrap (RFC 7518, section 4), AES-GCM.

use crate::keys::{CURVES, Key};
use aws_lc_rs::aead::{self, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::agreement::{UnparsedPublicKey, agree};
use aws_lc_rs::kdf::{SskdfDigestAlgorithmId, get_sskdf_digest_algorithm, sskdf_digest};
use aws_lc_rs::key_wrap::{AES_128, AES_256, AesKek, KeyWrap as _};
use aws_lc_rs::rsa::{OAEP_SHA1_MGF1SHA1, OAEP_SHA256_MGF1SHA256};
use base64::Engine as _;
use serde::Deserialize;
use serde_json::{Map, Value};

/// The largest message that is read, in bytes.
const MESSAGE_MAX: usize = 1 << 20;
/// The most recipients that are tried.
const RECIPIENTS_MAX: usize = 64;

/// An encrypted message, read.
pub(crate) struct Message {
    aad: Vec<u8>,
    iv: Vec<u8>,
    /// With the tag at its end.
    sealed: Vec<u8>,
    recipients: Vec<Recipient>,
}

/// For whom it is, and the content key for them.
struct Recipient {
    header: Map<String, Value>,
    encrypted_key: Vec<u8>,
}

#[derive(Deserialize)]
struct Raw {
    protected: Option<String>,
    unprotected: Option<Map<String, Value>>,
    header: Option<Map<String, Value>>,
    encrypted_key: Option<String>,
    recipients: Option<Vec<RawRecipient>>,
    aad: Option<String>,
    iv: String,
    ciphertext: String,
    tag: String,
}

#[derive(Deserialize)]
struct RawRecipient {
    header: Option<Map<String, Value>>,
    encrypted_key: Option<String>,
}

fn decode(text: &str) -> Option<Vec<u8>> {
    base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(text).ok()
}

impl Message {
    /// Reads the general or the flattened JSON serialization.
    pub(crate) fn parse(json: &[u8]) -> Option<Message> {
        if json.len() > MESSAGE_MAX {
            return None;
        }
        let raw: Raw = serde_json::from_slice(json).ok()?;
        let protected_text = raw.protected.unwrap_or_default();
        let mut shared: Map<String, Value> = match protected_text.as_str() {
            "" => Map::new(),
            text => serde_json::from_slice(&decode(text)?).ok()?,
        };
        shared.extend(raw.unprotected.unwrap_or_default());
        // Extensions that have to be understood, and compressed content, are not ocicrypt's.
        if shared.contains_key("crit") || shared.contains_key("zip") {
            return None;
        }
        let all = match raw.recipients {
            Some(all) => all,
            None => vec![RawRecipient { header: raw.header, encrypted_key: raw.encrypted_key }],
        };
        if all.len() > RECIPIENTS_MAX {
            return None;
        }
        let mut recipients = Vec::with_capacity(all.len());
        for one in all {
            let mut header = shared.clone();
            header.extend(one.header.unwrap_or_default());
            let encrypted_key = decode(&one.encrypted_key.unwrap_or_default())?;
            recipients.push(Recipient { header, encrypted_key });
        }
        let mut aad = protected_text.into_bytes();
        if let Some(more) = raw.aad {
            aad.push(b'.');
            aad.extend_from_slice(more.as_bytes());
        }
        let mut sealed = decode(&raw.ciphertext)?;
        sealed.extend(decode(&raw.tag)?);
        Some(Message { aad, iv: decode(&raw.iv)?, sealed, recipients })
    }

    /// What the recipients are called, for a message.
    pub(crate) fn recipients(&self) -> Vec<String> {
        let name = |recipient: &Recipient| {
            let algorithm = recipient.text("alg").unwrap_or("no algorithm");
            let curve = recipient.ephemeral().and_then(|k| k.get("crv")?.as_str());
            let id = recipient.text("kid");
            let mut name = format!("jwe {}", types::reference::shorten(algorithm));
            for more in [curve, id].into_iter().flatten() {
                name = format!("{name} {}", types::reference::shorten(more));
            }
            name
        };
        self.recipients.iter().map(name).collect()
    }

    /// Opens the message with the first key that fits a recipient.
    pub(crate) fn open(&self, keys: &[Key]) -> Option<Vec<u8>> {
        let pairs = self.recipients.iter().flat_map(|recipient| keys.iter().map(move |key| (recipient, key)));
        pairs.into_iter().find_map(|(recipient, key)| {
            let content_key = recipient.content_key(key)?;
            self.unseal(recipient.text("enc")?, &content_key)
        })
    }

    fn unseal(&self, encryption: &str, key: &[u8]) -> Option<Vec<u8>> {
        let algorithm = match encryption {
            "A128GCM" => &aead::AES_128_GCM,
            "A192GCM" => &aead::AES_192_GCM,
            "A256GCM" => &aead::AES_256_GCM,
            _ => return None,
        };
        let key = LessSafeKey::new(UnboundKey::new(algorithm, key).ok()?);
        let nonce = Nonce::try_assume_unique_for_key(&self.iv).ok()?;
        let mut content = self.sealed.clone();
        let length = key.open_in_place(nonce, Aad::from(&self.aad), &mut content).ok()?.len();
        content.truncate(length);
        Some(content)
    }
}

impl Recipient {
    fn text(&self, name: &str) -> Option<&str> {
        self.header.get(name)?.as_str()
    }

    fn ephemeral(&self) -> Option<&Map<String, Value>> {
        self.header.get("epk")?.as_object()
    }

    /// The key of the content, where `key` is this recipient's.
    fn content_key(&self, key: &Key) -> Option<Vec<u8>> {
        match (key, self.text("alg")?) {
            (Key::Rsa(key), algorithm @ ("RSA-OAEP" | "RSA-OAEP-256")) => {
                let padding =
                    if algorithm == "RSA-OAEP" { &OAEP_SHA1_MGF1SHA1 } else { &OAEP_SHA256_MGF1SHA256 };
                let mut room = vec![0; key.min_output_size()];
                Some(key.decrypt(padding, &self.encrypted_key, &mut room, None).ok()?.to_vec())
            }
            (Key::Ec(key, curve), algorithm) => {
                // Derived directly the key is named after the content's algorithm (RFC 7518, section 4.6.2).
                let (id, length) = match algorithm {
                    "ECDH-ES" => (self.text("enc")?, gcm_key_length(self.text("enc")?)?),
                    "ECDH-ES+A128KW" => (algorithm, 16),
                    "ECDH-ES+A256KW" => (algorithm, 32),
                    _ => return None,
                };
                let derived = self.agree(key, curve, id, length)?;
                match algorithm {
                    "ECDH-ES" => Some(derived),
                    _ => unwrap(&derived, &self.encrypted_key),
                }
            }
            _ => None,
        }
    }

    /// Elliptic curve Diffie-Hellman with the Concat KDF.
    fn agree(
        &self,
        key: &aws_lc_rs::agreement::PrivateKey,
        curve: &str,
        id: &str,
        length: usize,
    ) -> Option<Vec<u8>> {
        let peer = self.ephemeral()?;
        let coordinate = |name: &str| decode(peer.get(name)?.as_str()?);
        if peer.get("crv")?.as_str()? != curve {
            return None;
        }
        let (_, algorithm) = CURVES.iter().find(|(name, _)| *name == curve)?;
        // An uncompressed point (SEC 1, section 2.3.3).
        let point = [vec![4], coordinate("x")?, coordinate("y")?].concat();
        let info = |name: &str| self.text(name).map_or(Some(Vec::new()), decode);
        let mut fixed = Vec::new();
        for part in [id.as_bytes(), &info("apu")?, &info("apv")?] {
            fixed.extend(u32::try_from(part.len()).ok()?.to_be_bytes());
            fixed.extend_from_slice(part);
        }
        fixed.extend(u32::try_from(length * 8).ok()?.to_be_bytes());
        agree(key, UnparsedPublicKey::new(algorithm, point), (), |secret| {
            let digest = get_sskdf_digest_algorithm(SskdfDigestAlgorithmId::Sha256).ok_or(())?;
            let mut derived = vec![0; length];
            sskdf_digest(digest, secret, &fixed, &mut derived).map_err(|_| ())?;
            Ok(derived)
        })
        .ok()
    }
}

fn gcm_key_length(encryption: &str) -> Option<usize> {
    match encryption {
        "A128GCM" => Some(16),
        "A192GCM" => Some(24),
        "A256GCM" => Some(32),
        _ => None,
    }
}

/// AES key unwrap (RFC 3394).
fn unwrap(key: &[u8], wrapped: &[u8]) -> Option<Vec<u8>> {
    let cipher = if key.len() == 16 { &AES_128 } else { &AES_256 };
    let mut room = vec![0; wrapped.len()];
    let length = AesKek::new(cipher, key).ok()?.unwrap(wrapped, &mut room).ok()?.len();
    room.truncate(length);
    Some(room)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_no_message_or_asks_for_what_is_not_understood_is_not_read() {
        let good = r#"{"protected":"e30","encrypted_key":"AA","iv":"AA","ciphertext":"AA","tag":"AA"}"#;
        assert!(Message::parse(good.as_bytes()).is_some());
        for bad in [
            "",
            "{}",
            r#"{"protected":"%","encrypted_key":"AA","iv":"AA","ciphertext":"AA","tag":"AA"}"#,
            r#"{"protected":"e30","unprotected":{"crit":["x"]},"iv":"AA","ciphertext":"AA","tag":"AA"}"#,
            r#"{"protected":"e30","unprotected":{"zip":"DEF"},"iv":"AA","ciphertext":"AA","tag":"AA"}"#,
        ] {
            assert!(Message::parse(bad.as_bytes()).is_none(), "{bad}");
        }
        let one = r#"{"encrypted_key":"AA"}"#;
        let many = vec![one; RECIPIENTS_MAX + 1].join(",");
        let flood = format!(r#"{{"recipients":[{many}],"iv":"AA","ciphertext":"AA","tag":"AA"}}"#);
        assert!(Message::parse(flood.as_bytes()).is_none());
    }

    proptest! {
        #[test]
        fn no_bytes_panic(json in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Message::parse(&json);
        }
    }
}
