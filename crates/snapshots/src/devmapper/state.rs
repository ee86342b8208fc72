//! What a thin pool says of itself, and what that means for who wants something new in it. Words only.

use types::ErrorKind;

/// A pool's status line.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct State {
    /// It answers nothing any more.
    failed: bool,
    read_only: bool,
    full: bool,
    needs_check: bool,
    /// Used and all blocks of metadata.
    metadata: (u64, u64),
    /// Used and all blocks of data.
    data: (u64, u64),
}

impl State {
    /// Of the line that `thin-provisioning.rst` describes under "Status". What is not understood is passed over.
    pub fn parse(text: &str) -> Self {
        let words: Vec<&str> = text.split_whitespace().collect();
        if matches!(words.first(), Some(&"Fail" | &"Error")) {
            return Self { failed: true, ..Self::default() };
        }
        let pair = |at: usize| {
            let (used, all) = words.get(at)?.split_once('/')?;
            Some((used.parse().ok()?, all.parse().ok()?))
        };
        let has = |word: &str| words.iter().skip(3).any(|found| *found == word);
        Self {
            failed: false,
            read_only: has("ro"),
            full: has("out_of_data_space"),
            needs_check: has("needs_check"),
            metadata: pair(1).unwrap_or_default(),
            data: pair(2).unwrap_or_default(),
        }
    }

    /// Why nothing new can be made in it, and what to do.
    pub fn complaint(&self, name: &str) -> Option<(ErrorKind, String)> {
        let ((metadata, most), (used, all)) = (self.metadata, self.data);
        if self.failed {
            let words = format!(
                "the thin pool {name} has failed; see the kernel's log, take it down, and repair its metadata with \
                 thin_check and thin_repair"
            );
            return Some((ErrorKind::FailedPrecondition, words));
        }
        if self.needs_check {
            let words = format!(
                "the thin pool {name} wants to be checked (needs_check); take it down and run thin_check, then \
                 thin_check --clear-needs-check-flag or thin_repair on its metadata"
            );
            return Some((ErrorKind::FailedPrecondition, words));
        }
        if self.full || (all > 0 && used >= all) {
            let words = format!(
                "the thin pool {name} is full ({used} of {all} data blocks); extend it, or remove images"
            );
            return Some((ErrorKind::ResourceExhausted, words));
        }
        if most > 0 && metadata >= most {
            let words = format!(
                "the metadata of the thin pool {name} is full ({metadata} of {most} blocks); extend its metadata device"
            );
            return Some((ErrorKind::ResourceExhausted, words));
        }
        if self.read_only {
            let words = format!(
                "the thin pool {name} is read-only; see the kernel's log for why, and check its metadata with thin_check"
            );
            return Some((ErrorKind::FailedPrecondition, words));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pools_state_is_told_in_words() {
        let good = "0 10/2048 5/100 - rw discard_passdown queue_if_no_space - 1024";
        assert_eq!(State::parse(good).complaint("p"), None);
        let cases = [
            ("Fail", ErrorKind::FailedPrecondition, "has failed"),
            ("Error", ErrorKind::FailedPrecondition, "has failed"),
            (
                "0 10/2048 5/100 - ro discard_passdown error_if_no_space needs_check 1024",
                ErrorKind::FailedPrecondition,
                "thin_check",
            ),
            (
                "0 10/2048 5/100 - ro discard_passdown error_if_no_space - 1024",
                ErrorKind::FailedPrecondition,
                "read-only",
            ),
            (
                "0 10/2048 100/100 - out_of_data_space no_discard_passdown error_if_no_space - 1024",
                ErrorKind::ResourceExhausted,
                "is full (100 of 100",
            ),
            (
                "0 10/2048 100/100 - rw discard_passdown queue_if_no_space - 1024",
                ErrorKind::ResourceExhausted,
                "is full",
            ),
            (
                "0 2048/2048 5/100 - ro discard_passdown queue_if_no_space - 1024",
                ErrorKind::ResourceExhausted,
                "metadata",
            ),
        ];
        for (text, kind, part) in cases {
            let (found, words) = State::parse(text).complaint("pool").expect(text);
            assert!(found == kind && words.contains(part) && words.contains("pool"), "{text}: {words}");
        }
        // Whatever it says, it is no panic.
        for text in ["", "x", "0 /  -", "0 99999999999999999999/1 1/1", "1 2 3 4 5 6 7 8 9"] {
            let _ = State::parse(text).complaint("p");
        }
    }
}
