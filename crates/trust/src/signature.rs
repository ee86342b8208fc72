//! Sigstore signatures as cosign keeps them in a registry: an image at the tag `sha256-<digest>.sig` whose layers
//! are the signed texts, each with its signature in an annotation (sigstore/cosign, specs/SIGNATURE_SPEC.md).

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use types::reference::shorten;
use types::{Digest, Error, ErrorKind, Result};

/// The most signatures of an image that are looked at.
pub const SIGNATURES_MAX: usize = 64;
/// The largest signed text, in bytes.
const PAYLOAD_MAX: u64 = 64 << 10;

const LAYER_TYPE: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
const ANNOTATION: &str = "dev.cosignproject.cosign/signature";
/// What the signed text says that it is.
const CLAIM_TYPE: &str = "cosign container image signature";

/// A signature that was fetched: the text, and who signed it is yet to be seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signature {
    /// The signed text.
    #[serde(with = "encoded")]
    pub payload: Vec<u8>,
    /// The signature over it, decoded.
    #[serde(with = "encoded")]
    pub signature: Vec<u8>,
}

/// Bytes in a record: as base64.
mod encoded {
    use base64::Engine as _;
    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&base64::engine::general_purpose::STANDARD.encode(bytes))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(deserializer)?;
        crate::base64(&text).ok_or_else(|| D::Error::custom("it is not base64"))
    }
}

/// A layer of a signature image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignatureLayer {
    /// Of the signed text.
    pub digest: Digest,
    /// Its length in bytes; at most 64 KiB.
    pub size: u64,
    /// The signature, decoded.
    pub signature: Vec<u8>,
}

/// What a signed text says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Claim {
    /// The manifest or index that is meant.
    pub digest: Digest,
    /// The name that it was signed under.
    pub reference: String,
}

/// The tag at which the signatures of `digest` are.
pub fn signature_tag(digest: &Digest) -> String {
    format!("{}-{}.sig", digest.algorithm_name(), digest.hex())
}

/// The signatures that the manifest at [`signature_tag`] lists; layers of other kinds are passed over.
pub fn signature_layers(manifest: &[u8]) -> Result<Vec<SignatureLayer>> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Layer {
        media_type: String,
        digest: Digest,
        size: u64,
        #[serde(default)]
        annotations: BTreeMap<String, String>,
    }
    #[derive(Deserialize)]
    struct Manifest {
        layers: Vec<Layer>,
    }
    let manifest: Manifest = serde_json::from_slice(manifest).map_err(|cause| {
        Error::with_source(
            ErrorKind::PermissionDenied,
            "the image's signatures are not an OCI manifest",
            cause,
        )
    })?;
    let layers = manifest.layers.into_iter().filter(|layer| layer.media_type == LAYER_TYPE);
    let signatures = layers.filter_map(|layer| {
        let signature = crate::base64(layer.annotations.get(ANNOTATION)?)?;
        let sized = (1..=PAYLOAD_MAX).contains(&layer.size);
        sized.then_some(SignatureLayer { digest: layer.digest, size: layer.size, signature })
    });
    let signatures: Vec<_> = signatures.take(SIGNATURES_MAX + 1).collect();
    if signatures.len() > SIGNATURES_MAX {
        return Err(Error::new(
            ErrorKind::PermissionDenied,
            format!("the image has more than {SIGNATURES_MAX} signatures; remove those that nobody needs"),
        ));
    }
    Ok(signatures)
}

impl Signature {
    /// Reads the signed text, as strictly as the policy: what is critical must be all understood.
    pub(crate) fn claim(&self) -> std::result::Result<Claim, String> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Text {
            critical: Critical,
            #[serde(rename = "optional")]
            _optional: Option<serde::de::IgnoredAny>,
        }
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Critical {
            identity: Identity,
            image: Image,
            r#type: String,
        }
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Identity {
            #[serde(rename = "docker-reference")]
            docker_reference: String,
        }
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Image {
            #[serde(rename = "docker-manifest-digest")]
            docker_manifest_digest: Digest,
        }
        let text: Text = serde_json::from_slice(&self.payload)
            .map_err(|why| format!("one has a signed text that is not a signature's ({why})"))?;
        let critical = text.critical;
        if critical.r#type != CLAIM_TYPE {
            return Err(format!("one is a {:?}, no image's signature", shorten(&critical.r#type)));
        }
        Ok(Claim {
            digest: critical.image.docker_manifest_digest,
            reference: critical.identity.docker_reference,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn layer(media_type: &str, size: u64, annotation: &str) -> String {
        let digest = "ab".repeat(32);
        format!(
            r#"{{"mediaType":"{media_type}","digest":"sha256:{digest}","size":{size},"annotations":{{{annotation}}}}}"#
        )
    }

    fn manifest(layers: &[String]) -> Vec<u8> {
        format!(r#"{{"schemaVersion":2,"layers":[{}]}}"#, layers.join(",")).into_bytes()
    }

    #[test]
    fn only_signatures_of_a_sane_size_are_taken() {
        let good = r#""dev.cosignproject.cosign/signature":"AQI=""#;
        let layers = [
            layer(LAYER_TYPE, 100, good),
            layer("application/vnd.oci.image.layer.v1.tar", 100, good),
            layer(LAYER_TYPE, 100, ""),
            layer(LAYER_TYPE, 100, r#""dev.cosignproject.cosign/signature":"%%%""#),
            layer(LAYER_TYPE, PAYLOAD_MAX + 1, good),
            layer(LAYER_TYPE, 0, good),
        ];
        let found = signature_layers(&manifest(&layers)).expect("manifest");
        assert_eq!((found.len(), found[0].signature.as_slice()), (1, &[1, 2][..]));
        let flood = vec![layer(LAYER_TYPE, 100, good); SIGNATURES_MAX + 1];
        assert!(signature_layers(&manifest(&flood)).is_err());
        assert!(signature_layers(b"{}").is_err());
    }

    #[test]
    fn a_signed_text_with_an_unknown_critical_part_or_of_another_kind_counts_for_nothing() {
        let digest = format!("sha256:{}", "ab".repeat(32));
        let text = |kind: &str, more: &str| {
            Signature {
            payload: format!(
                r#"{{"critical":{{"identity":{{"docker-reference":"h.io/a"}},"image":{{"docker-manifest-digest":"{digest}"}},"type":"{kind}"{more}}},"optional":null}}"#
            )
            .into_bytes(),
            signature: Vec::new(),
        }
        };
        let claim = text(CLAIM_TYPE, "").claim().expect("claim");
        assert_eq!((claim.reference.as_str(), claim.digest.as_str()), ("h.io/a", digest.as_str()));
        assert!(text("atomic container signature", "").claim().is_err());
        assert!(text(CLAIM_TYPE, r#","expires":1"#).claim().is_err());
    }

    proptest! {
        #[test]
        fn no_text_panics(payload in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = signature_layers(&payload);
            let _ = Signature { payload, signature: Vec::new() }.claim();
        }
    }
}
