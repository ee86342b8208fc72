//! Checks of single values that came over the wire, each with its sentence. Nothing is looked up or converted here.
//!
//! `field` is the path of the value in the request as the CRI names it, so that a caller finds it.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;
use types::reference::shorten;
use types::{Error, Result};

/// Ids of pods and containers are 64 digits; twice that is enough for any caller's idea of one.
pub const ID_MAX: usize = 128;
/// PATH_MAX of Linux (limits.h), in bytes.
pub const PATH_MAX: usize = 4096;
/// Entries of one list or map of a request.
pub const ENTRIES_MAX: usize = 10_000;
/// Arguments and environment variables of one process.
pub const ARGUMENTS_MAX: usize = 100_000;
/// Bytes of one argument or variable: MAX_ARG_STRLEN of Linux (execve(2)).
pub const ARGUMENT_MAX: usize = 128 << 10;
/// Bytes of all labels, or of all annotations. Kubernetes allows 256 KiB of annotations (apimachinery,
/// `TotalAnnotationSizeLimitB`), and the kubelet adds its own.
pub const MAP_BYTES_MAX: usize = 1 << 20;
/// The longest wait that is asked for in earnest. It keeps `Instant` arithmetic from overflowing.
pub const SECONDS_MAX: u64 = 10 * 365 * 24 * 3600;
/// The largest user or group id; `u32::MAX` means "leave it" to chown(2) and setresuid(2).
pub const ID_NUMBER_MAX: i64 = u32::MAX as i64 - 1;

/// A refusal of the value of `field`.
pub fn refuse<T>(field: &str, why: impl std::fmt::Display) -> Result<T> {
    Err(Error::invalid(format!("{field}: {why}")))
}

/// The part of a request that may not be missing.
pub fn present<T>(field: &str, value: Option<T>) -> Result<T> {
    match value {
        Some(value) => Ok(value),
        None => refuse(field, "it is missing; fill it in"),
    }
}

/// Text of at most `max` bytes without NUL, which would cut it short in the kernel.
pub fn text(field: &str, value: &str, max: usize) -> Result<()> {
    if value.len() > max {
        return refuse(field, format_args!("{} bytes are too long; {max} are allowed", value.len()));
    }
    if value.contains('\0') {
        return refuse(field, "it contains a NUL byte; remove it");
    }
    Ok(())
}

/// Text on one line: no control characters, so that it cannot forge a line of a file or a log.
pub fn line(field: &str, value: &str, max: usize) -> Result<()> {
    text(field, value, max)?;
    if value.chars().any(char::is_control) {
        return refuse(field, format_args!("{:?} contains a control character; remove it", shorten(value)));
    }
    Ok(())
}

/// A word: a line without white space.
pub fn word(field: &str, value: &str, max: usize) -> Result<()> {
    line(field, value, max)?;
    if value.chars().any(char::is_whitespace) {
        return refuse(field, format_args!("{:?} contains white space; remove it", shorten(value)));
    }
    Ok(())
}

/// A value that is there.
pub fn filled(field: &str, value: &str) -> Result<()> {
    if value.is_empty() { refuse(field, "it is empty; fill it in") } else { Ok(()) }
}

/// The id of a pod or a container, or the beginning of one.
pub fn id(field: &str, value: &str) -> Result<()> {
    filled(field, value)?;
    prefix(field, value)
}

/// The beginning of an id in a filter; empty takes all.
pub fn prefix(field: &str, value: &str) -> Result<()> {
    word(field, value, ID_MAX)?;
    if value.contains('/') {
        return refuse(field, format_args!("{:?} is not an id: it contains a slash", shorten(value)));
    }
    Ok(())
}

/// A bounded list.
pub fn count(field: &str, entries: usize, max: usize) -> Result<()> {
    if entries > max {
        return refuse(field, format_args!("{entries} entries are too many; {max} are allowed"));
    }
    Ok(())
}

/// An absolute path.
pub fn absolute(field: &str, path: &str) -> Result<()> {
    filled(field, path)?;
    text(field, path, PATH_MAX)?;
    if !path.starts_with('/') {
        return refuse(field, format_args!("{:?} is relative; an absolute path is needed", shorten(path)));
    }
    Ok(())
}

/// An absolute path that never goes up.
pub fn absolute_straight(field: &str, path: &str) -> Result<()> {
    absolute(field, path)?;
    never_up(field, path)
}

/// A relative path that stays below where it starts.
pub fn relative_below(field: &str, path: &str) -> Result<()> {
    text(field, path, PATH_MAX)?;
    if path.starts_with('/') {
        return refuse(field, format_args!("{:?} is absolute; a relative path is needed", shorten(path)));
    }
    never_up(field, path)
}

fn never_up(field: &str, path: &str) -> Result<()> {
    if path.split('/').any(|part| part == "..") {
        return refuse(field, format_args!("{:?} goes up with \"..\"; it must not", shorten(path)));
    }
    Ok(())
}

/// A user or group id, 0 to `u32::MAX - 1`.
pub fn id_number(field: &str, number: i64) -> Result<i64> {
    if (0..=ID_NUMBER_MAX).contains(&number) {
        return Ok(number);
    }
    refuse(field, format_args!("{number} is not a user or group id; 0 to {ID_NUMBER_MAX} are"))
}

/// A number of at least `least`.
pub fn at_least(field: &str, number: i64, least: i64) -> Result<i64> {
    if number < least {
        return refuse(field, format_args!("{number} is too small; {least} is the least"));
    }
    Ok(number)
}

/// Seconds to wait. More than ten years are taken for ten years.
pub fn seconds(field: &str, seconds: i64) -> Result<Duration> {
    match u64::try_from(seconds) {
        Ok(seconds) => Ok(Duration::from_secs(seconds.min(SECONDS_MAX))),
        Err(_) => refuse(field, format_args!("{seconds} seconds is negative; give 0 or more")),
    }
}

/// An enum value of the wire.
pub fn one_of<E: TryFrom<i32>>(field: &str, value: i32) -> Result<E> {
    match E::try_from(value) {
        Ok(value) => Ok(value),
        Err(_) => refuse(field, format_args!("{value} is not one of the values that CRI v1 defines")),
    }
}

/// Labels or annotations: bounded, without NUL, in a fixed order from here on.
pub fn map(field: &str, map: HashMap<String, String>) -> Result<BTreeMap<String, String>> {
    count(field, map.len(), ENTRIES_MAX)?;
    let bytes: usize = map.iter().map(|(key, value)| key.len() + value.len()).sum();
    if bytes > MAP_BYTES_MAX {
        return refuse(field, format_args!("{bytes} bytes are too many; {MAP_BYTES_MAX} are allowed"));
    }
    for (key, value) in &map {
        if key.contains('\0') || value.contains('\0') {
            return refuse(field, format_args!("{:?} contains a NUL byte; remove it", shorten(key)));
        }
    }
    Ok(map.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use cri_api::v1::Protocol;
    use types::ErrorKind;

    #[track_caller]
    fn refused<T>(result: Result<T>, part: &str) {
        let Err(error) = result else { panic!("it was accepted; expected a refusal with {part:?}") };
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        assert!(error.message().starts_with("f: ") && error.message().contains(part), "{}", error.message());
    }

    #[test]
    fn missing_and_empty_values_are_refused() {
        refused(present::<()>("f", None), "missing");
        refused(filled("f", ""), "empty");
        refused(id("f", ""), "empty");
    }

    #[test]
    fn text_that_the_kernel_or_a_log_would_misread_is_refused() {
        refused(text("f", "a\0b", 10), "NUL");
        refused(text("f", "aaaa", 3), "3 are allowed");
        refused(line("f", "a\nb", 10), "control character");
        refused(word("f", "a b", 10), "white space");
        text("f", "a\nb", 10).expect("a new line is text");
    }

    #[test]
    fn ids_are_bounded_words_without_slashes() {
        refused(id("f", &"a".repeat(129)), "128 are allowed");
        refused(id("f", "../x"), "slash");
        refused(id("f", "a\nb"), "control");
        id("f", &"a".repeat(128)).expect("128 is allowed");
        prefix("f", "").expect("an empty prefix takes all");
    }

    #[test]
    fn paths_that_leave_their_place_are_refused() {
        refused(absolute("f", "a/b"), "relative");
        refused(absolute("f", &format!("/{}", "a".repeat(PATH_MAX))), "4096");
        refused(absolute_straight("f", "/a/../b"), "goes up");
        refused(relative_below("f", "/a"), "absolute");
        refused(relative_below("f", "a/../../b"), "goes up");
        refused(relative_below("f", ".."), "goes up");
        relative_below("f", "name/0..log").expect("two dots within a name are a name");
    }

    #[test]
    fn numbers_out_of_range_are_refused() {
        refused(id_number("f", -1), "not a user or group id");
        refused(id_number("f", i64::from(u32::MAX)), "not a user or group id");
        assert_eq!(id_number("f", ID_NUMBER_MAX).expect("the largest"), 4_294_967_294);
        refused(at_least("f", -2, -1), "too small");
        refused(seconds("f", -1), "negative");
        refused(one_of::<Protocol>("f", 3), "CRI v1");
        refused(count("f", 11, 10), "too many");
    }

    #[test]
    fn a_wait_of_any_length_fits_the_clock() {
        let longest = seconds("f", i64::MAX).expect("long is not wrong");
        assert!(std::time::Instant::now().checked_add(longest).is_some());
        assert_eq!(seconds("f", 30).expect("usual"), Duration::from_secs(30));
    }

    #[test]
    fn maps_are_bounded_in_entries_and_bytes() {
        let many = (0..=ENTRIES_MAX).map(|n| (n.to_string(), String::new())).collect();
        refused(map("f", many), "too many");
        refused(map("f", HashMap::from([("k".into(), "v".repeat(MAP_BYTES_MAX))])), "bytes are too many");
        refused(map("f", HashMap::from([("k".into(), "\0".into())])), "NUL");
    }
}
