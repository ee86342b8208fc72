//! Content digests, `algorithm:hex` (OCI image specification, "Digests").

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fmt;

/// A checked digest. Only registered algorithms that verify are accepted: sha256 and sha512.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(String);

/// The registered algorithms that are accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// 32 bytes.
    Sha256,
    /// 64 bytes.
    Sha512,
}

impl Digest {
    /// Accepts `sha256:` with 64 or `sha512:` with 128 lower-case hexadecimal digits.
    pub fn parse(text: &str) -> Result<Self> {
        let digits = match text.split_once(':') {
            Some(("sha256", hex)) if hex.len() == 64 => hex,
            Some(("sha512", hex)) if hex.len() == 128 => hex,
            _ => "",
        };
        if !digits.is_empty() && digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            Ok(Self(text.to_owned()))
        } else {
            Err(Error::invalid(format!(
                "{:?} is not a digest: sha256: and 64, or sha512: and 128, lower-case hexadecimal digits are expected",
                crate::reference::shorten(text)
            )))
        }
    }

    /// From the raw output of SHA-256.
    pub fn sha256(raw: &[u8; 32]) -> Self {
        Self(format!("sha256:{}", crate::id::hex(raw)))
    }

    /// From the raw output of SHA-512.
    pub fn sha512(raw: &[u8; 64]) -> Self {
        Self(format!("sha512:{}", crate::id::hex(raw)))
    }

    /// The whole digest, `algorithm:hex`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Which algorithm makes it.
    pub fn algorithm(&self) -> Algorithm {
        if self.0.starts_with("sha256") { Algorithm::Sha256 } else { Algorithm::Sha512 }
    }

    /// The part before the colon.
    pub fn algorithm_name(&self) -> &str {
        &self.0[..6]
    }

    /// The digits after the colon.
    pub fn hex(&self) -> &str {
        &self.0[7..]
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for Digest {
    type Error = Error;
    fn try_from(text: String) -> Result<Self> {
        Self::parse(&text)
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> String {
        digest.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_of_other_lengths_algorithms_and_cases_are_refused() {
        let good = format!("sha256:{}", "0a".repeat(32));
        let digest = Digest::parse(&good).expect("well formed");
        assert_eq!((digest.algorithm_name(), digest.hex()), ("sha256", &good[7..]));
        for bad in [
            "",
            "sha256:",
            "sha256:0A",
            "md5:0123",
            "sha256:../../../../etc/passwd",
            &good[1..],
            &format!("{good}0"),
        ] {
            assert!(Digest::parse(bad).is_err(), "{bad}");
        }
    }
}
