//! A time as Go writes it: `5s`, `500ms`, `1m30s`, `1.5h`. No I/O.

use std::time::Duration;
use types::reference::shorten;
use types::{Error, Result};

/// Longest time that is taken: a day.
const LONGEST: f64 = 86_400.0;

/// A time above 0.
pub fn parse(text: &str) -> Result<Duration> {
    match seconds(text) {
        Some(time) if time > 0.0 => Ok(Duration::from_secs_f64(time.clamp(0.001, LONGEST))),
        // The words are runc's.
        Some(_) => Err(Error::invalid("duration interval must be greater than 0: give --interval as 5s")),
        None => Err(Error::invalid(format!(
            "--interval {:?}: a time as 5s, 500ms or 1m30s is expected",
            shorten(text)
        ))),
    }
}

fn seconds(text: &str) -> Option<f64> {
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, text.strip_prefix('+').unwrap_or(text)),
    };
    // The only number that needs no unit (Go, `time.ParseDuration`).
    if rest == "0" {
        return Some(0.0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut sum = 0.0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..end].parse().ok()?;
        rest = &rest[end..];
        let end = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        sum += number
            * match &rest[..end] {
                "ns" => 1e-9,
                "us" | "µs" | "μs" => 1e-6,
                "ms" => 1e-3,
                "s" => 1.0,
                "m" => 60.0,
                "h" => 3600.0,
                _ => return None,
            };
        rest = &rest[end..];
    }
    Some(sign * sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_as_go_writes_them() {
        for (text, millis) in [
            ("5s", 5000),
            ("500ms", 500),
            ("1m30s", 90_000),
            ("1.5h", 5_400_000),
            ("+2s", 2000),
            ("2000us", 2),
        ] {
            assert_eq!(parse(text).expect(text).as_millis(), millis, "{text}");
        }
        for bad in ["", "0", "0s", "-5s", "5", "s", "5x", "1..5s", "5s5", "ms5", "-", "5 s"] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }
}
