//! A pull on a terminal. A CRI endpoint tells nothing until the pull is done, so that all there is to show
//! is the time. On standard error, and only when it is a terminal.

use indicatif::{ProgressBar, ProgressStyle};
use std::time::Duration;

/// A line that shows that something goes on; it clears itself when dropped.
#[derive(Debug)]
pub struct Spinner(ProgressBar);

impl Spinner {
    /// Begins to turn.
    pub fn new(text: &str) -> Self {
        let bar = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} ({elapsed})") {
            bar.set_style(style);
        }
        bar.set_message(super::clean(text));
        bar.enable_steady_tick(Duration::from_millis(100));
        Self(bar)
    }
}

impl Drop for Spinner {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
