//! How verbs show things: tables, JSON, YAML, times and sizes, as crictl prints them.

pub mod json;
pub mod progress;
pub mod table;
pub mod transfer;
pub mod words;

use std::io::Write;
use types::{Error, ErrorKind, Result};

/// `-o`
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// JSON
    Json,
    /// YAML
    Yaml,
    /// A table for people
    Table,
}

/// Writes a line to standard output; nothing for an empty text. A reader that went away gives [`ErrorKind::Cancelled`], which ends the
/// program without a word.
pub fn print(text: &str) -> Result<()> {
    bytes(text.as_bytes())
        .and_then(|()| if text.is_empty() || text.ends_with('\n') { Ok(()) } else { bytes(b"\n") })
}

/// Writes bytes to standard output as they are.
pub fn bytes(bytes: &[u8]) -> Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush()).map_err(|error| {
        let kind = if error.kind() == std::io::ErrorKind::BrokenPipe {
            ErrorKind::Cancelled
        } else {
            ErrorKind::Internal
        };
        Error::with_source(kind, "cannot write to standard output", error)
    })
}

/// Text for a terminal: names and labels come from images and pods, and may hold escape sequences.
pub fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' && c != '\t' { '?' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn escape_sequences_do_not_reach_the_terminal() {
        assert_eq!(super::clean("a\u{1b}[2Jb\n"), "a?[2Jb\n");
    }
}
