//! One requirement of the policy. What the file may say and is not supported makes the file unusable: to skip
//! it would accept what it forbids.

use crate::identity::Identity;
use crate::public_key::PublicKey;
use crate::signature::Signature;
use serde::Deserialize;
use std::path::PathBuf;
use types::{Digest, Error, Reference, Result};

/// The largest public key file that is read, in bytes.
const KEY_MAX: u64 = 64 << 10;
/// The most keys of one requirement.
const KEYS_MAX: usize = 64;

/// A requirement.
#[derive(Debug, Deserialize)]
#[serde(try_from = "Raw")]
pub(crate) enum Requirement {
    AcceptAnything,
    Reject,
    SigstoreSigned { keys: Vec<KeySource>, identity: Identity },
}

/// Where a public key is.
#[derive(Debug)]
pub(crate) enum KeySource {
    /// A PEM file; it is read at each check.
    Path(PathBuf),
    /// PEM, in the policy itself.
    Data(Vec<u8>),
}

/// Every field that some requirement has.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Raw {
    r#type: String,
    key_type: Option<String>,
    key_path: Option<PathBuf>,
    key_paths: Option<Vec<PathBuf>>,
    key_data: Option<String>,
    key_datas: Option<Vec<String>>,
    signed_identity: Option<Identity>,
}

impl TryFrom<Raw> for Requirement {
    type Error = String;

    fn try_from(raw: Raw) -> std::result::Result<Self, String> {
        let keys = [
            raw.key_path.is_some(),
            raw.key_paths.is_some(),
            raw.key_data.is_some(),
            raw.key_datas.is_some(),
        ];
        let given = keys.iter().filter(|given| **given).count();
        let bare = given == 0 && raw.key_type.is_none() && raw.signed_identity.is_none();
        match raw.r#type.as_str() {
            "insecureAcceptAnything" if bare => Ok(Self::AcceptAnything),
            "reject" if bare => Ok(Self::Reject),
            "insecureAcceptAnything" | "reject" => Err(format!("{} takes no other field", raw.r#type)),
            "sigstoreSigned" => {
                if given != 1 || raw.key_type.is_some() {
                    return Err(
                        "sigstoreSigned needs exactly one of keyPath, keyPaths, keyData and keyDatas".into(),
                    );
                }
                let decode = |text: &String| {
                    crate::base64(text).map(KeySource::Data).ok_or("keyData is not base64 of a public key")
                };
                let mut keys: Vec<KeySource> = Vec::new();
                keys.extend(
                    raw.key_path.into_iter().chain(raw.key_paths.into_iter().flatten()).map(KeySource::Path),
                );
                for data in raw.key_data.iter().chain(raw.key_datas.iter().flatten()) {
                    keys.push(decode(data)?);
                }
                if keys.is_empty() || keys.len() > KEYS_MAX {
                    return Err(format!("sigstoreSigned takes 1 to {KEYS_MAX} keys"));
                }
                Ok(Self::SigstoreSigned { keys, identity: raw.signed_identity.unwrap_or_default() })
            }
            "signedBy" => Err("signedBy (OpenPGP signatures) is not supported; use sigstoreSigned".into()),
            other => Err(format!("there is no requirement {:?}", types::reference::shorten(other))),
        }
    }
}

impl Requirement {
    /// As the file calls it.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::AcceptAnything => "insecureAcceptAnything",
            Self::Reject => "reject",
            Self::SigstoreSigned { .. } => "sigstoreSigned",
        }
    }

    pub(crate) fn check(
        &self,
        image: &Reference,
        digests: &[Digest],
        signatures: &[Signature],
    ) -> Result<()> {
        match self {
            Self::AcceptAnything => Ok(()),
            Self::Reject => Err(denied("no image may be used there")),
            Self::SigstoreSigned { keys, identity } => {
                let keys = keys.iter().map(KeySource::read).collect::<Result<Vec<PublicKey>>>()?;
                if signatures.is_empty() {
                    return Err(denied("the image has no signature"));
                }
                let mut reasons = Vec::new();
                for signature in signatures {
                    match accept(signature, &keys, identity, image, digests) {
                        Ok(()) => return Ok(()),
                        Err(why) if reasons.contains(&why) => {}
                        Err(why) => reasons.push(why),
                    }
                }
                // Their number is bounded by the signatures that are fetched.
                Err(denied(format!(
                    "none of its {} signatures counts: {}",
                    signatures.len(),
                    reasons.join("; ")
                )))
            }
        }
    }
}

/// Whether one signature is made by one of the keys, for this content, under a name that is right.
fn accept(
    signature: &Signature,
    keys: &[PublicKey],
    identity: &Identity,
    image: &Reference,
    digests: &[Digest],
) -> std::result::Result<(), String> {
    // The key first: what nobody vouches for is not even parsed.
    if !keys.iter().any(|key| key.verifies(&signature.payload, &signature.signature)) {
        return Err("one is not made by a key of the policy".into());
    }
    let claim = signature.claim()?;
    if !digests.contains(&claim.digest) {
        return Err(format!("one is for {}, which is other content", claim.digest));
    }
    identity.check(&claim.reference, image)
}

impl KeySource {
    fn read(&self) -> Result<PublicKey> {
        match self {
            Self::Path(path) => {
                let pem = crate::read(path, KEY_MAX)?;
                PublicKey::parse(&pem)
                    .map_err(|why| Error::precondition(format!("the key {} {why}", path.display())))
            }
            Self::Data(pem) => {
                PublicKey::parse(pem).map_err(|why| Error::precondition(format!("the key in keyData {why}")))
            }
        }
    }
}

fn denied(why: impl Into<String>) -> Error {
    Error::new(types::ErrorKind::PermissionDenied, why)
}
