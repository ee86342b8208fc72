//! Whether a group is frozen. Never freezes: that is [`Group::freeze`].

use crate::layout::Version;
use crate::{Group, Result};
use std::path::PathBuf;

impl Group {
    /// Whether the group was told to stand still and does, or is about to. One that is gone is not frozen.
    pub fn frozen(&self) -> Result<bool> {
        let Some((hierarchy, file)) = self.freezing_file() else { return Ok(false) };
        Ok(hierarchy.read(self.relative(), file)?.is_some_and(|text| is_frozen(&text)))
    }

    /// The file whose text [`is_frozen`] understands, for those who look often; `None` without a freezer.
    pub fn frozen_file(&self) -> Option<PathBuf> {
        self.freezing_file().map(|(hierarchy, file)| hierarchy.shown(self.relative(), file))
    }

    /// The v1 freezer where it is, as [`Group::freeze`] does.
    fn freezing_file(&self) -> Option<(&crate::layout::Hierarchy, &'static str)> {
        let hierarchy = self.layout.with("freezer").or_else(|| self.layout.unified())?;
        let file = match hierarchy.version {
            Version::V1 => "freezer.state",
            Version::V2 => "cgroup.freeze",
        };
        Some((hierarchy, file))
    }
}

/// Reads `freezer.state` (admin-guide/cgroup-v1/freezer-subsystem.rst: THAWED, FREEZING, FROZEN) or `cgroup.freeze`
/// (admin-guide/cgroup-v2.rst: 0 or 1).
pub fn is_frozen(text: &str) -> bool {
    matches!(text.trim(), "FROZEN" | "FREEZING" | "1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_both_freezers_are_understood() {
        for frozen in ["FROZEN\n", "FREEZING\n", "1\n"] {
            assert!(is_frozen(frozen), "{frozen:?}");
        }
        for runs in ["THAWED\n", "0\n", "", "10"] {
            assert!(!is_frozen(runs), "{runs:?}");
        }
    }
}
