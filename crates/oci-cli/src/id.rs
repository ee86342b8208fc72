//! Names of containers, which become names of folders and cgroups. No I/O.

use types::reference::shorten;
use types::{Error, Result};

/// A checked name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerName(String);

/// The longest name, in bytes: what a folder's name may have (`NAME_MAX` of `linux/limits.h`).
const LONGEST: usize = 255;

impl ContainerName {
    /// Takes what runc takes (`libcontainer/factory_linux.go`, `validateID`): letters, digits and `_ + - .`,
    /// but not `.` and `..`; nor a leading dash, which is an option to every tool.
    pub fn parse(text: &str) -> Result<Self> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'+' | b'-' | b'.');
        let good = !text.is_empty()
            && text.len() <= LONGEST
            && text.bytes().all(plain)
            && text != "."
            && text != ".."
            && !text.starts_with('-');
        if good {
            return Ok(Self(text.to_owned()));
        }
        Err(Error::invalid(format!(
            "container id {:?}: 1 to {LONGEST} letters, digits, '_', '+', '-' and '.' are expected, not '.' or '..', and no '-' in front",
            shorten(text)
        )))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_no_plain_file_names_are_refused() {
        for good in ["a", "A_b-c+d.e", "...", "0", &"x".repeat(255)] {
            assert!(ContainerName::parse(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "../a", "a b", "a\n", "a\0", "ä", "-a", &"x".repeat(256)] {
            assert!(ContainerName::parse(bad).is_err(), "{bad:?}");
        }
    }
}
