//! Identifiers of pods and containers: 64 lower-case hexadecimal digits, as containerd and CRI-O make them.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $noun:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// An id from 32 random bytes; the caller supplies them, for this crate does no I/O.
            pub fn from_random(bytes: [u8; 32]) -> Self {
                Self(hex(&bytes))
            }

            /// Accepts exactly 64 lower-case hexadecimal digits.
            pub fn parse(text: &str) -> Result<Self> {
                if text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
                    Ok(Self(text.to_owned()))
                } else {
                    Err(Error::invalid(format!(
                        "{:?} is not a {} id: 64 lower-case hexadecimal digits are expected",
                        crate::reference::shorten(text), $noun
                    )))
                }
            }

            /// The whole id.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// The first 13 digits, which tables show as crictl does.
            pub fn short(&self) -> &str {
                &self.0[..13]
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl TryFrom<String> for $name {
            type Error = Error;
            fn try_from(text: String) -> Result<Self> {
                Self::parse(&text)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0
            }
        }
    };
}

id!(
    /// Names one pod sandbox.
    PodId, "pod sandbox"
);
id!(
    /// Names one container.
    ContainerId, "container"
);

/// Lower-case hexadecimal digits of `bytes`.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(DIGITS[usize::from(byte >> 4)] as char);
        text.push(DIGITS[usize::from(byte & 15)] as char);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_64_lower_case_digits_and_nothing_else() {
        let id = PodId::from_random([0xab; 32]);
        assert_eq!(PodId::parse(id.as_str()).expect("its own text"), id);
        for bad in ["", "ab", "../../etc/passwd", &"g".repeat(64), &"A".repeat(64), &"a".repeat(65)] {
            assert!(PodId::parse(bad).is_err(), "{bad}");
        }
    }
}
