//! Public keys in PEM (SubjectPublicKeyInfo, RFC 5280 section 4.1.2.7), and what they verify.

use aws_lc_rs::signature::{self, UnparsedPublicKey, VerificationAlgorithm};

/// A key that can verify signatures.
pub(crate) struct PublicKey {
    algorithm: &'static dyn VerificationAlgorithm,
    /// In the form that the algorithm takes.
    key: Vec<u8>,
}

// The values of the object identifiers, DER without tag and length.
const EC: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01]; // 1.2.840.10045.2.1
const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07]; // 1.2.840.10045.3.1.7
const P384: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x22]; // 1.3.132.0.34
const P521: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x23]; // 1.3.132.0.35
const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01]; // 1.2.840.113549.1.1.1
const ED25519: &[u8] = &[0x2b, 0x65, 0x70]; // 1.3.101.112

impl PublicKey {
    /// Reads a PEM file with one public key. The error continues "the key …".
    pub(crate) fn parse(pem: &[u8]) -> Result<PublicKey, &'static str> {
        const NO_KEY: &str = "is not a PEM public key (BEGIN PUBLIC KEY)";
        const OTHER: &str =
            "is of a kind that is not supported; there are ECDSA (P-256, P-384, P-521), Ed25519 and RSA";
        let der = pem_block(pem, "PUBLIC KEY").ok_or(NO_KEY)?;
        let (algorithm, parameters, key) = key_info(&der).ok_or(NO_KEY)?;
        // cosign hashes with SHA-256 whatever the curve.
        let algorithm: &'static dyn VerificationAlgorithm = match (algorithm, parameters) {
            (EC, P256) => &signature::ECDSA_P256_SHA256_ASN1,
            (EC, P384) => &signature::ECDSA_P384_SHA256_ASN1,
            (EC, P521) => &signature::ECDSA_P521_SHA256_ASN1,
            (ED25519, _) => &signature::ED25519,
            (RSA, _) => &signature::RSA_PKCS1_2048_8192_SHA256,
            _ => return Err(OTHER),
        };
        Ok(PublicKey { algorithm, key: key.to_vec() })
    }

    pub(crate) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(self.algorithm, &self.key).verify(message, signature).is_ok()
    }
}

/// The first PEM block with this label, decoded (RFC 7468).
pub(crate) fn pem_block(pem: &[u8], label: &str) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(pem).ok()?;
    let (begin, end) = (format!("-----BEGIN {label}-----"), format!("-----END {label}-----"));
    let (_, rest) = text.split_once(&begin)?;
    let (body, _) = rest.split_once(&end)?;
    crate::base64(body)
}

/// Algorithm, parameters (an object identifier, or empty) and key bits of a SubjectPublicKeyInfo.
fn key_info(der: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let (info, rest) = element(der, 0x30)?;
    let (algorithm, bits) = element(info, 0x30)?;
    let (name, parameters) = element(algorithm, 0x06)?;
    let curve = element(parameters, 0x06).map_or(&[][..], |(curve, _)| curve);
    let (bits, end) = element(bits, 0x03)?;
    // A bit string begins with the number of bits that its last byte does not use.
    let (unused, key) = bits.split_first()?;
    (rest.is_empty() && end.is_empty() && *unused == 0).then_some((name, curve, key))
}

/// The content of the DER element at the front, which must have `tag`, and what follows it.
pub(crate) fn element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (found, rest) = der.split_first()?;
    let (first, rest) = rest.split_first()?;
    let (length, rest) = match *first {
        short @ 0..=0x7f => (usize::from(short), rest),
        0x81 => (usize::from(*rest.first()?), rest.get(1..)?),
        0x82 => (usize::from(u16::from_be_bytes([*rest.first()?, *rest.get(1)?])), rest.get(2..)?),
        _ => return None,
    };
    (*found == tag && length <= rest.len()).then(|| rest.split_at(length))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_no_public_key_is_refused() {
        for bad in [
            "",
            "-----BEGIN PUBLIC KEY-----\n-----END PUBLIC KEY-----",
            "-----BEGIN PUBLIC KEY-----\nMA==\n-----END PUBLIC KEY-----",
            "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----",
        ] {
            assert!(PublicKey::parse(bad.as_bytes()).is_err(), "{bad}");
        }
        // SubjectPublicKeyInfo with the algorithm X25519, which signs nothing.
        let x25519 = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VuAyEAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n-----END PUBLIC KEY-----";
        let why = PublicKey::parse(x25519.as_bytes()).err().expect("no signatures");
        assert!(why.contains("not supported"), "{why}");
    }

    proptest! {
        #[test]
        fn no_bytes_panic(der in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = key_info(&der);
        }
    }
}
