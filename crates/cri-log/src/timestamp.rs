//! RFC 3339 times of log records. Writes into a buffer of the caller's, and never allocates.

use types::time::civil_from_days;

/// The length of a written time: `2016-10-06T00:17:09.669794202Z`.
pub const STAMP_LEN: usize = 30;

const NANOS: i64 = 1_000_000_000;
const DAY: i64 = 86_400;

/// The time in UTC with nine digits of fraction, which every RFC 3339 reader takes and which sorts as text.
///
/// The argument counts nanoseconds since 1970 and so stays within the years 1677 to 2262.
pub fn stamp(nanos: i64) -> [u8; STAMP_LEN] {
    let mut out = *b"0000-00-00T00:00:00.000000000Z";
    let seconds = nanos.div_euclid(NANOS);
    let (year, month, day) = civil_from_days(seconds.div_euclid(DAY));
    let of_day = seconds.rem_euclid(DAY);
    digits(&mut out[0..4], year);
    digits(&mut out[5..7], month);
    digits(&mut out[8..10], day);
    digits(&mut out[11..13], of_day / 3600);
    digits(&mut out[14..16], of_day / 60 % 60);
    digits(&mut out[17..19], of_day % 60);
    digits(&mut out[20..29], nanos.rem_euclid(NANOS));
    out
}

/// Reads an RFC 3339 time, with or without fraction, with `Z` or a numeric offset, as nanoseconds since 1970.
///
/// `None` for everything else, and for times that do not fit.
pub fn parse_rfc3339(text: &[u8]) -> Option<i64> {
    if text.len() < 20 || text.len() > 64 {
        return None;
    }
    let number = |range: std::ops::Range<usize>| decimal(text.get(range)?);
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    let (hour, minute, second) = (number(11..13)?, number(14..16)?, number(17..19)?);
    let marks = text[4] == b'-' && text[7] == b'-' && text[13] == b':' && text[16] == b':';
    // RFC 3339 section 5.6 lets `T` and `Z` be lower case; a second of 60 is a leap second.
    if !marks || !matches!(text[10], b'T' | b't') || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    if !(1..=12).contains(&month) || day < 1 || day > days_of_month(year, month) {
        return None;
    }
    let mut rest = &text[19..];
    let mut nanos = 0;
    if rest[0] == b'.' {
        let count = rest[1..].iter().take_while(|b| b.is_ascii_digit()).count();
        if count == 0 {
            return None;
        }
        for place in 0..9 {
            nanos = nanos * 10 + if place < count { i64::from(rest[1 + place] - b'0') } else { 0 };
        }
        rest = &rest[1 + count..];
    }
    let offset = match rest {
        b"Z" | b"z" => 0,
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] => {
            let (hours, minutes) = (decimal(&[*h1, *h2])?, decimal(&[*m1, *m2])?);
            if hours > 23 || minutes > 59 {
                return None;
            }
            let seconds = hours * 3600 + minutes * 60;
            if *sign == b'-' { -seconds } else { seconds }
        }
        _ => return None,
    };
    let seconds =
        days_from_civil(year, month, day) * DAY + hour * 3600 + minute * 60 + second.min(59) - offset;
    seconds.checked_mul(NANOS)?.checked_add(nanos)
}

fn decimal(text: &[u8]) -> Option<i64> {
    text.iter().try_fold(0, |sum, b| b.is_ascii_digit().then(|| sum * 10 + i64::from(b - b'0')))
}

fn digits(out: &mut [u8], mut value: i64) {
    for place in out.iter_mut().rev() {
        *place = b'0' + (value % 10).unsigned_abs() as u8;
        value /= 10;
    }
}

fn days_of_month(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

/// The inverse of [`civil_from_days`], from the same source.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let from_march = if month > 2 { month - 3 } else { month + 9 };
    let of_year = (153 * from_march + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn times_are_written_as_containerd_writes_them() {
        for (nanos, text) in [
            (0, "1970-01-01T00:00:00.000000000Z"),
            (-1, "1969-12-31T23:59:59.999999999Z"),
            (1_475_712_429_669_794_202, "2016-10-06T00:07:09.669794202Z"),
            (951_782_400_000_000_000, "2000-02-29T00:00:00.000000000Z"),
            (i64::MAX, "2262-04-11T23:47:16.854775807Z"),
            (i64::MIN, "1677-09-21T00:12:43.145224192Z"),
        ] {
            assert_eq!(std::str::from_utf8(&stamp(nanos)), Ok(text));
            assert_eq!(parse_rfc3339(text.as_bytes()), if nanos == i64::MIN { None } else { Some(nanos) });
        }
    }

    #[test]
    fn other_writers_times_are_read() {
        for (text, nanos) in [
            ("1970-01-01T00:00:01Z", Some(NANOS)),
            ("1970-01-01T02:00:01.5+02:00", Some(NANOS * 3 / 2)),
            ("1969-12-31T23:00:01-01:00", Some(NANOS)),
            ("1970-01-01T00:00:01.0000000019Z", Some(NANOS + 1)),
            ("1970-02-29T00:00:00Z", None),
            ("1970-01-01T24:00:00Z", None),
            ("1970-01-01T00:00:00.Z", None),
            ("1970-01-01T00:00:00", None),
            ("1970-01-01 00:00:00Z", None),
            ("9999-01-01T00:00:00Z", None),
            ("", None),
        ] {
            assert_eq!(parse_rfc3339(text.as_bytes()), nanos, "{text}");
        }
    }

    proptest! {
        #[test]
        fn every_time_survives_a_round_trip(nanos in (i64::MIN + NANOS)..) {
            prop_assert_eq!(parse_rfc3339(&stamp(nanos)), Some(nanos));
        }

        #[test]
        fn no_text_panics(text in proptest::collection::vec(any::<u8>(), 0..70)) {
            let _ = parse_rfc3339(&text);
        }
    }
}
