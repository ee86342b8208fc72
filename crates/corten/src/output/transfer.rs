//! How far a transfer of known or unknown length is: one line on standard error, only where that is a terminal.

use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal;
use std::time::Duration;

const COUNTED: &str =
    "{spinner} {msg} {bar:18} {decimal_bytes:>8} / {decimal_total_bytes}  {decimal_bytes_per_sec}";
const UNCOUNTED: &str = "{spinner} {msg} {decimal_bytes:>8}  {decimal_bytes_per_sec}";

/// The line; it clears itself when dropped.
#[derive(Debug)]
pub struct Transfer(ProgressBar);

impl Transfer {
    /// Begins; `total` is 0 where nobody knows it.
    pub fn new(text: &str, total: u64) -> Self {
        if !std::io::stderr().is_terminal() {
            return Self(ProgressBar::hidden());
        }
        let bar = if total == 0 { ProgressBar::no_length() } else { ProgressBar::new(total) };
        // The templates are ours; one that were wrong would cost the look, not the transfer.
        if let Ok(style) = ProgressStyle::with_template(if total == 0 { UNCOUNTED } else { COUNTED }) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_message(super::clean(text));
        bar.enable_steady_tick(Duration::from_millis(100));
        Self(bar)
    }

    /// Bytes so far.
    pub fn at(&self, bytes: u64) {
        self.0.set_position(bytes);
    }

    /// Bytes so far, of so many.
    pub fn of(&self, bytes: u64, total: u64) {
        self.0.set_length(total);
        self.0.set_position(bytes);
    }

    /// What is done now.
    pub fn say(&self, text: &str) {
        self.0.set_message(super::clean(text));
    }
}

impl Drop for Transfer {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
