//! Times, sizes and ids in crictl's words.

use std::time::Duration;

/// `5 minutes ago`, for a time in nanoseconds since 1970.
pub fn ago(nanos: i64) -> String {
    let past = types::time::now_nanos().saturating_sub(nanos).max(0);
    format!("{} ago", duration(Duration::from_nanos(past.unsigned_abs())))
}

/// A duration in one unit, as `HumanDuration` of docker/go-units, which crictl uses.
fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let minutes = seconds / 60;
    let hours = (duration.as_secs_f64() / 3600.0).round() as u64;
    match (seconds, minutes, hours) {
        (0, ..) => "Less than a second".into(),
        (1, ..) => "1 second".into(),
        (s, ..) if s < 60 => format!("{s} seconds"),
        (_, 1, _) => "About a minute".into(),
        (_, m, _) if m < 60 => format!("{m} minutes"),
        (_, _, 1) => "About an hour".into(),
        (_, _, h) if h < 48 => format!("{h} hours"),
        (_, _, h) if h < 24 * 7 * 2 => format!("{} days", h / 24),
        (_, _, h) if h < 24 * 30 * 2 => format!("{} weeks", h / 24 / 7),
        (_, _, h) if h < 24 * 365 * 2 => format!("{} months", h / 24 / 30),
        (_, _, h) => format!("{} years", h / 24 / 365),
    }
}

/// A size with three digits and decimal units, as `HumanSizeWithPrecision(size, 3)` of docker/go-units.
pub fn size(bytes: u64) -> String {
    let mut value = bytes as f64;
    let mut units = ["B", "kB", "MB", "GB", "TB", "PB", "EB"].iter();
    let mut unit = units.next().unwrap_or(&"B");
    while value >= 1000.0 {
        let Some(next) = units.next() else { break };
        value /= 1000.0;
        unit = next;
    }
    let digits = if value >= 100.0 {
        0
    } else if value >= 10.0 {
        1
    } else {
        2
    };
    let text = format!("{value:.digits$}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text}{unit}")
}

/// The first 13 characters of an id, without `sha256:`.
pub fn short(id: &str) -> String {
    id.strip_prefix("sha256:").unwrap_or(id).chars().take(13).collect()
}

/// RFC 3339 with as many digits of fraction as needed, as Go's RFC3339Nano. 0 is "never".
pub fn time(nanos: i64) -> String {
    if nanos == 0 {
        // Go's zero time, which scripts compare with.
        return "0001-01-01T00:00:00Z".into();
    }
    let full = types::time::rfc3339_nanos(nanos);
    let cut = full.trim_end_matches('Z').trim_end_matches('0').trim_end_matches('.');
    format!("{cut}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_crictls() {
        let of = |seconds| duration(Duration::from_secs(seconds));
        assert_eq!(of(0), "Less than a second");
        assert_eq!(of(1), "1 second");
        assert_eq!(of(59), "59 seconds");
        assert_eq!(of(60), "About a minute");
        assert_eq!(of(300), "5 minutes");
        assert_eq!(of(3600), "About an hour");
        assert_eq!(of(3 * 3600), "3 hours");
        assert_eq!(of(3 * 86_400), "3 days");
        assert_eq!(of(21 * 86_400), "3 weeks");
        assert_eq!(of(90 * 86_400), "3 months");
        assert_eq!(of(1000 * 86_400), "2 years");
    }

    #[test]
    fn sizes_have_three_digits() {
        assert_eq!(size(0), "0B");
        assert_eq!(size(999), "999B");
        assert_eq!(size(4_863_451), "4.86MB");
        assert_eq!(size(2_000_000), "2MB");
        assert_eq!(size(748_200), "748kB");
        assert_eq!(size(12_340_000_000), "12.3GB");
    }

    #[test]
    fn times_are_utc_without_needless_zeros() {
        assert_eq!(time(1_600_000_000_500_000_000), "2020-09-13T12:26:40.5Z");
        assert_eq!(time(1_600_000_000_000_000_000), "2020-09-13T12:26:40Z");
        assert_eq!(time(0), "0001-01-01T00:00:00Z");
    }
}
