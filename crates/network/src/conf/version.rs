//! The versions of the CNI specification that are spoken here.

use std::fmt;

/// A version of the CNI specification.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CniVersion {
    /// Before chained plugins could be checked.
    V0_3_0,
    /// As 0.3.0.
    V0_3_1,
    /// Adds CHECK.
    V0_4_0,
    /// Removes `ips[].version`.
    V1_0_0,
    /// Adds GC and STATUS.
    V1_1_0,
}

impl CniVersion {
    const ALL: [(CniVersion, &'static str); 5] = [
        (CniVersion::V0_3_0, "0.3.0"),
        (CniVersion::V0_3_1, "0.3.1"),
        (CniVersion::V0_4_0, "0.4.0"),
        (CniVersion::V1_0_0, "1.0.0"),
        (CniVersion::V1_1_0, "1.1.0"),
    ];

    /// The version of that name, if it is spoken here.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, name)| *name == text).map(|(version, _)| *version)
    }

    /// Its name.
    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(version, _)| *version == self).map_or("1.0.0", |(_, name)| name)
    }

    /// Whether a result says of each address which IP version it has (CNI 0.3 and 0.4).
    pub fn names_ip_versions(self) -> bool {
        self < CniVersion::V1_0_0
    }
}

impl fmt::Display for CniVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
