//! How the demonstration reads: headings, sentences, and what commands printed.

use std::time::{Duration, Instant};

/// The most lines of one command that are shown.
const LINES: usize = 40;

/// A part of the story.
pub fn heading(text: &str) {
    println!("\n== {text}");
}

/// A sentence.
pub fn say(text: &str) {
    println!("   {text}");
}

/// A command and what it printed.
pub fn show(command: &str, output: &str) {
    println!("   $ {command}");
    let lines: Vec<_> = output.trim_end().lines().collect();
    lines.iter().take(LINES).for_each(|line| println!("     {line}"));
    if lines.len() > LINES {
        println!("     … and {} more lines", lines.len() - LINES);
    }
}

/// Tries until it succeeds or `patience` ends; then tells the last reason.
pub fn within<T>(
    patience: Duration,
    what: &str,
    mut attempt: impl FnMut() -> Result<T, String>,
) -> Result<T, String> {
    let end = Instant::now() + patience;
    loop {
        match attempt() {
            Ok(value) => return Ok(value),
            Err(why) if Instant::now() > end => return Err(format!("no {what} within {patience:?}: {why}")),
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}
