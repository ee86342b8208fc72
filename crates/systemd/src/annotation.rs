//! `org.systemd.property.*` annotations: names, and values written as GVariant text. No I/O.

use crate::error::Error;
use zbus::zvariant::Value;

/// Longest value.
const MAX_TEXT: usize = 4096;
/// Most elements of an array.
const MAX_ELEMENTS: usize = 256;

/// One property from the name behind the prefix and its text.
pub(crate) fn property(name: &str, text: &str) -> Result<(String, Value<'static>), Error> {
    let refuse = |why| Error::Value {
        what: format!("the annotation org.systemd.property.{}", name.chars().take(100).collect::<String>()),
        value: text.chars().take(100).collect(),
        why,
    };
    // runc (`isValidResourceName` and its regular expression): three letters at least.
    if !(3..=64).contains(&name.len()) || !name.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return Err(refuse("a property's name has 3 to 64 letters"));
    }
    if text.len() > MAX_TEXT {
        return Err(refuse("it is longer than 4096 bytes"));
    }
    let value = value(text).ok_or_else(|| {
        refuse("it is no GVariant text; write it like 'text', true, uint64 5 or ['a', 'b']")
    })?;
    match name.strip_suffix("Sec") {
        // The bus knows times in microseconds only; those that are written so already stay.
        Some(stem) if !name.ends_with("USec") => {
            let micros = micros(&value).ok_or_else(|| refuse("seconds are a positive number"))?;
            Ok((format!("{stem}USec"), Value::from(micros)))
        }
        _ => Ok((name.to_owned(), value)),
    }
}

fn micros(value: &Value<'_>) -> Option<u64> {
    let whole = match value {
        Value::I16(n) => i128::from(*n),
        Value::I32(n) => i128::from(*n),
        Value::I64(n) => i128::from(*n),
        Value::U8(n) => i128::from(*n),
        Value::U16(n) => i128::from(*n),
        Value::U32(n) => i128::from(*n),
        Value::U64(n) => i128::from(*n),
        Value::F64(n) if n.is_finite() && *n >= 0.0 && *n < 1e12 => return Some((n * 1e6) as u64),
        _ => return None,
    };
    u64::try_from(whole.checked_mul(1_000_000)?).ok()
}

/// The forms that properties of units have: a string, a boolean, a number with or without its type, and an array of strings.
fn value(text: &str) -> Option<Value<'static>> {
    let text = text.trim();
    if let Some(inner) = text.strip_prefix('[') {
        return strings(inner.strip_suffix(']')?).map(Value::from);
    }
    if text.starts_with(['\'', '"']) {
        let (string, rest) = quoted(text)?;
        return rest.trim().is_empty().then(|| Value::from(string));
    }
    if let Some((kind, number)) = text.split_once(char::is_whitespace) {
        let number = number.trim();
        return match kind {
            "byte" => number.parse::<u8>().ok().map(Value::from),
            "int16" => number.parse::<i16>().ok().map(Value::from),
            "uint16" => number.parse::<u16>().ok().map(Value::from),
            "int32" => number.parse::<i32>().ok().map(Value::from),
            "uint32" => number.parse::<u32>().ok().map(Value::from),
            "int64" => number.parse::<i64>().ok().map(Value::from),
            "uint64" => number.parse::<u64>().ok().map(Value::from),
            "double" => number.parse::<f64>().ok().map(Value::from),
            "string" => {
                quoted(number).filter(|(_, rest)| rest.trim().is_empty()).map(|(s, _)| Value::from(s))
            }
            _ => None,
        };
    }
    match text {
        "true" => Some(Value::from(true)),
        "false" => Some(Value::from(false)),
        // A bare number is an int32 (GVariant text format, "Integers").
        text if text.contains('.') => text.parse::<f64>().ok().map(Value::from),
        text => text.parse::<i32>().ok().map(Value::from),
    }
}

fn strings(mut text: &str) -> Option<Vec<String>> {
    let mut all = Vec::new();
    text = text.trim();
    while !text.is_empty() {
        let (string, rest) = quoted(text)?;
        all.push(string);
        text = rest.trim_start();
        if !text.is_empty() {
            // A comma promises one more.
            text = text.strip_prefix(',')?.trim_start();
            if text.is_empty() {
                return None;
            }
        }
        if all.len() > MAX_ELEMENTS {
            return None;
        }
    }
    Some(all)
}

/// A string in quotes, and what follows it.
fn quoted(text: &str) -> Option<(String, &str)> {
    let quote = text.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
    let mut string = String::new();
    let mut rest = text[1..].char_indices();
    while let Some((at, c)) = rest.next() {
        match c {
            c if c == quote => return Some((string, &text[1 + at + 1..])),
            '\\' => match rest.next()?.1 {
                'n' => string.push('\n'),
                't' => string.push('\t'),
                c @ ('\\' | '\'' | '"') => string.push(c),
                _ => return None,
            },
            // The bus carries none (D-Bus specification, "Valid strings").
            '\0' => return None,
            c => string.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_forms_of_runcs_documentation_are_read() {
        for (name, text, want_name, want) in [
            ("TimeoutStopUSec", "uint64 123456789", "TimeoutStopUSec", Value::from(123_456_789_u64)),
            ("CollectMode", "'inactive-or-failed'", "CollectMode", Value::from("inactive-or-failed")),
            ("TimeoutStopSec", "10", "TimeoutStopUSec", Value::from(10_000_000_u64)),
            ("TimeoutStopSec", "0.5", "TimeoutStopUSec", Value::from(500_000_u64)),
            ("Delegate", "true", "Delegate", Value::from(true)),
            ("Before", "['a.service', \"b.service\"]", "Before", Value::from(vec!["a.service", "b.service"])),
            ("Description", "'it\\'s'", "Description", Value::from("it's")),
        ] {
            let (name, value) = property(name, text).unwrap();
            assert_eq!((name.as_str(), value), (want_name, want));
        }
    }

    #[test]
    fn other_names_and_values_are_refused() {
        for (name, text) in [
            ("", "1"),
            ("ab", "1"),
            ("a/bc", "1"),
            ("abc", ""),
            ("abc", "'open"),
            ("abc", "'a' b"),
            ("abc", "['a',]"),
            ("abc", "['a'"),
            ("abc", "uint64 -1"),
            ("abc", "uint8 5"),
            ("abc", "'\\x'"),
            ("TimeoutStopSec", "-1"),
            ("TimeoutStopSec", "'10'"),
            ("TimeoutStopSec", "uint64 18446744073709551615"),
        ] {
            assert!(property(name, text).is_err(), "{name} {text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(name in "[a-zA-Z]{0,8}(Sec)?", text in "(['\"\\[\\],\\\\ é]|[a-z]{1,6}|[0-9.\\-]{1,9}|\\PC){0,12}") {
            let _ = property(&name, &text);
        }
    }
}
