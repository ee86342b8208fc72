//! A pull on a terminal: a line for each layer that fits into its width. A CRI endpoint tells nothing until the
//! pull is done, so that all there is to show of that is the time. On standard error, and only when it is a terminal.

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

/// What is shown of a layer on a terminal of this width: a line that is wrapped cannot be drawn over.
pub fn template(columns: usize, fetching: bool) -> &'static str {
    match columns {
        80.. if fetching => {
            "  {prefix} {msg:8} {bar:18} {decimal_bytes:>9} / {decimal_total_bytes:9} {decimal_bytes_per_sec}"
        }
        68.. => "  {prefix} {msg:8} {bar:18} {decimal_bytes:>9} / {decimal_total_bytes:9}",
        50.. => "  {prefix} {msg:8} {decimal_bytes:>9} / {decimal_total_bytes:9}",
        26.. => "  {prefix} {msg:8}",
        _ => "{wide_msg}",
    }
}

/// Characters in a line of the terminal.
pub fn columns() -> usize {
    let size = rustix::termios::tcgetwinsize(std::io::stderr());
    // A terminal that does not know its size says 0 (ioctl_tty(2), TIOCGWINSZ).
    size.map_or(0, |size| usize::from(size.ws_col)).checked_sub(1).map_or(80, |columns| columns + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use indicatif::{ProgressDrawTarget, TermLike};
    use std::io::Result;
    use std::sync::{Arc, Mutex};

    /// Takes what is written to it.
    #[derive(Debug, Clone)]
    struct Terminal(u16, Arc<Mutex<String>>);

    impl TermLike for Terminal {
        fn width(&self) -> u16 {
            self.0
        }
        fn move_cursor_up(&self, _: usize) -> Result<()> {
            Ok(())
        }
        fn move_cursor_down(&self, _: usize) -> Result<()> {
            Ok(())
        }
        fn move_cursor_right(&self, _: usize) -> Result<()> {
            Ok(())
        }
        fn move_cursor_left(&self, _: usize) -> Result<()> {
            Ok(())
        }
        fn write_line(&self, text: &str) -> Result<()> {
            self.write_str(&format!("{text}\n"))
        }
        fn write_str(&self, text: &str) -> Result<()> {
            self.1.lock().expect("lock").push_str(text);
            Ok(())
        }
        fn clear_line(&self) -> Result<()> {
            Ok(())
        }
        fn flush(&self) -> Result<()> {
            Ok(())
        }
    }

    /// What a terminal of this width is sent for a layer that is being fetched.
    fn shown(columns: u16) -> String {
        let term = Terminal(columns, Arc::default());
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::term_like(Box::new(term.clone())));
        bar.set_style(ProgressStyle::with_template(template(usize::from(columns), true)).expect("template"));
        bar.set_prefix("0123456789abc");
        bar.set_message("fetching");
        bar.set_length(u64::MAX);
        bar.set_position(999_999_999_999);
        term.1.lock().expect("lock").clear();
        bar.abandon();
        let text = term.1.lock().expect("lock").clone();
        text.trim_end().to_owned()
    }

    #[test]
    fn a_layer_takes_one_line_whatever_the_terminals_width_is() {
        for columns in [1, 2, 7, 8, 10, 25, 26, 49, 50, 67, 68, 79, 80, 200, 1000, u16::MAX] {
            let text = shown(columns);
            assert!(text.lines().count() <= 1, "{columns}: {text:?}");
            assert!(text.chars().count() <= usize::from(columns), "{columns}: {text:?}");
        }
        let (wide, narrow) = (shown(100), shown(60));
        assert!(wide.contains("0123456789abc fetching"), "{wide}");
        assert!(wide.contains("/s") && wide.contains("1000.00 GB / 18.45 EB"), "{wide}");
        assert!(narrow.contains("0123456789abc fetching") && !narrow.contains("/s"), "{narrow}");
    }
}
