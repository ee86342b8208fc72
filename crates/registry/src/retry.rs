//! When a failed request is made again, and after how long. Pure.

use http::{HeaderMap, StatusCode, header::RETRY_AFTER};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

/// Times that a throttled request is repeated.
const THROTTLED_MAX: u32 = 5;
/// Times that a request is repeated which the server failed to answer.
const FAILED_MAX: u32 = 2;
/// The longest wait that a pull takes upon itself; a longer one is the caller's to plan.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// What to do after an answer that is no success.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Repeat after this time.
    Wait(Duration),
    /// The server wants a longer wait than a pull may take.
    TooLong(Duration),
    /// Repeating does not help, or was done often enough.
    GiveUp,
}

/// What to do after `attempt` (0 is the first) was answered with `status`. `now` is in seconds since 1970.
pub fn after(status: StatusCode, headers: &HeaderMap, attempt: u32, now: i64) -> Next {
    let limit = match status.as_u16() {
        429 | 503 => THROTTLED_MAX,
        500 | 502 | 504 | 408 => FAILED_MAX,
        _ => return Next::GiveUp,
    };
    let asked = headers.get(RETRY_AFTER).and_then(|v| v.to_str().ok()).and_then(|v| seconds(v, now));
    match asked {
        Some(wait) if wait > WAIT_MAX => Next::TooLong(wait),
        _ if attempt >= limit => Next::GiveUp,
        // Never at once, or a server that says 0 is hammered; and never by all nodes at the same moment.
        Some(wait) => Next::Wait(jittered(wait.max(Duration::from_millis(100)), 1.0, 1.1)),
        None => Next::Wait(backoff(attempt)),
    }
}

/// About 0.5 s, 1 s, 2 s, …: between half and one and a half of it, so that nodes that were refused together do
/// not come back together.
pub fn backoff(attempt: u32) -> Duration {
    jittered(Duration::from_millis(500 << attempt.min(6)), 0.5, 1.5)
}

/// A time between `low` and `high` times this one.
fn jittered(time: Duration, low: f64, high: f64) -> Duration {
    // Every `RandomState` has keys of its own; for this that is random enough.
    let random = RandomState::new().build_hasher().finish() as f64 / u64::MAX as f64;
    time.mul_f64(low + (high - low) * random)
}

/// `Retry-After`: seconds, or a date of HTTP (RFC 9110 section 10.2.3).
fn seconds(text: &str, now: i64) -> Option<Duration> {
    let text = text.trim();
    if let Ok(seconds) = text.parse::<u32>() {
        return Some(Duration::from_secs(seconds.into()));
    }
    // "Sun, 06 Nov 1994 08:49:37 GMT"
    let mut parts = text.split_once(", ")?.1.split(' ');
    let day: i64 = parts.next()?.parse().ok()?;
    let month = parts.next()?;
    let month =
        "JanFebMarAprMayJunJulAugSepOctNovDec".find(month).filter(|_| month.len() == 3)? as i64 / 3 + 1;
    let year: i64 = parts.next()?.parse().ok()?;
    let mut clock = parts.next()?.split(':').map(|n| n.parse::<i64>().ok());
    let (hour, minute, second) = (clock.next()??, clock.next()??, clock.next()??);
    let clock = (0..=23).contains(&hour) && (0..=59).contains(&minute) && (0..=60).contains(&second);
    if !clock || !(1970..=9999).contains(&year) || !(1..=31).contains(&day) {
        return None;
    }
    // Days since 1970, the year taken to begin in March (as types::time does it the other way round).
    let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * y + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + day - 1 - 719_468;
    let at = days * 86_400 + hour * 3600 + minute * 60 + second;
    Some(Duration::from_secs(u64::try_from(at - now).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn next(status: u16, retry_after: Option<&str>, attempt: u32) -> Next {
        let mut headers = HeaderMap::new();
        if let Some(value) = retry_after {
            headers.insert(RETRY_AFTER, value.parse().expect("value"));
        }
        after(StatusCode::from_u16(status).expect("status"), &headers, attempt, 784_111_700)
    }

    /// Whether it is a wait of at least `low` and at most `high` milliseconds.
    fn waits(next: Next, low: u64, high: u64) -> bool {
        matches!(next, Next::Wait(wait) if (low..=high).contains(&(wait.as_millis() as u64)))
    }

    #[test]
    fn the_servers_wish_is_followed_within_bounds() {
        assert!(waits(next(429, Some("7"), 0), 7000, 7700));
        assert!(waits(next(503, Some("0"), 0), 100, 110));
        assert_eq!(next(429, Some("61"), 0), Next::TooLong(Duration::from_secs(61)));
        assert_eq!(next(429, Some("7"), 5), Next::GiveUp);
        assert!(waits(next(429, None, 1), 500, 1500));
        // 784111777 is the RFC's example, 08:49:37.
        assert!(waits(next(429, Some("Sun, 06 Nov 1994 08:48:37 GMT"), 0), 17_000, 18_700));
        assert_eq!(
            next(429, Some("Sun, 06 Nov 1994 08:49:37 GMT"), 0),
            Next::TooLong(Duration::from_secs(77))
        );
        assert!(waits(next(429, Some("Sun, 06 Nov 1970 08:49:37 GMT"), 0), 100, 110));
        for far in ["-9223372036854775808:00:00", "08:-9223372036854775808:00", "08:49:9223372036854775807"] {
            let date = format!("Sun, 06 Nov 1994 {far} GMT");
            assert!(waits(next(429, Some(&date), 1), 500, 1500), "{date}");
        }
    }

    #[test]
    fn waits_differ_so_that_nodes_do_not_come_back_together() {
        let waits: std::collections::HashSet<Duration> = (0..20).map(|_| backoff(0)).collect();
        assert!(waits.len() > 10, "{waits:?}");
        assert!(waits.iter().all(|w| (250..=750).contains(&w.as_millis())), "{waits:?}");
    }

    #[test]
    fn what_does_not_pass_is_not_repeated() {
        for status in [400, 401, 403, 404, 501] {
            assert_eq!(next(status, Some("1"), 0), Next::GiveUp);
        }
        assert!(waits(next(502, None, 1), 500, 1500));
        assert_eq!(next(502, None, 2), Next::GiveUp);
    }

    proptest! {
        #[test]
        fn no_header_panics(text in "[A-Za-z0-9,: ]{0,40}") {
            let _ = seconds(&text, 0);
        }
    }
}
