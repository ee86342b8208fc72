//! Signals by name and number.

use types::reference::shorten;
use types::{Error, Result};

/// SIGTERM, which stops a container when neither caller nor image say another.
const DEFAULT: i32 = 15;
/// The kernel's numbers of the real-time signals that programs may use (signal(7); 32 and 33 are glibc's own).
const RTMIN: i32 = 34;
const RTMAX: i32 = 64;

/// x86-64 and arm64 agree on these (signal(7), "Standard signals").
const NAMES: [(&str, i32); 33] = [
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("TRAP", 5),
    ("ABRT", 6),
    ("IOT", 6),
    ("BUS", 7),
    ("FPE", 8),
    ("KILL", 9),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("STKFLT", 16),
    ("CHLD", 17),
    ("CLD", 17),
    ("CONT", 18),
    ("STOP", 19),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("XCPU", 24),
    ("XFSZ", 25),
    ("VTALRM", 26),
    ("PROF", 27),
    ("WINCH", 28),
    ("IO", 29),
    ("PWR", 30),
    ("SYS", 31),
];

/// The number of `SIGTERM`, `term`, `15`, `SIGRTMIN+3`, and of the CRI's `SIGRTMINPLUS3` and `SIGRTMAXMINUS2`.
pub fn signal_number(text: &str) -> Option<i32> {
    if text.is_empty() || text.len() > 32 {
        return None;
    }
    if text.bytes().all(|b| b.is_ascii_digit()) {
        return text.parse().ok().filter(|n| (1..=RTMAX).contains(n));
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    match name {
        "POLL" => return Some(29),
        "RTMIN" => return Some(RTMIN),
        "RTMAX" => return Some(RTMAX),
        _ => {}
    }
    if let Some((_, number)) = NAMES.iter().find(|(known, _)| *known == name) {
        return Some(*number);
    }
    let digits = |rest: &str| -> Option<i32> {
        (!rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit())).then(|| rest.parse().ok())?
    };
    let number = if let Some(rest) = name.strip_prefix("RTMIN+").or_else(|| name.strip_prefix("RTMINPLUS")) {
        RTMIN.checked_add(digits(rest)?)?
    } else {
        let rest = name.strip_prefix("RTMAX-").or_else(|| name.strip_prefix("RTMAXMINUS"))?;
        RTMAX.checked_sub(digits(rest)?)?
    };
    (RTMIN..=RTMAX).contains(&number).then_some(number)
}

/// The signal that asks a container to stop: the caller's, else the image's, else SIGTERM.
///
/// A caller's unknown signal is refused; an image's is passed over with a warning, for the user of a cluster
/// cannot mend the image.
pub fn stop_signal(asked: &str, image: Option<&str>, warnings: &mut Vec<String>) -> Result<i32> {
    if !matches!(asked, "" | "RUNTIME_DEFAULT") {
        return signal_number(asked).ok_or_else(|| {
            Error::invalid(format!(
                "stop signal {:?}: a name as SIGTERM or a number from 1 to 64 is expected",
                shorten(asked)
            ))
        });
    }
    match image.filter(|name| !name.is_empty()) {
        None => Ok(DEFAULT),
        Some(name) => Ok(signal_number(name).unwrap_or_else(|| {
            warnings
                .push(format!("the image's stop signal {:?} is not known; SIGTERM is used", shorten(name)));
            DEFAULT
        })),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_numbers_and_real_time_signals_are_known() {
        for (text, number) in [
            ("SIGQUIT", 3),
            ("QUIT", 3),
            ("quit", 3),
            ("3", 3),
            ("SIGRTMIN", 34),
            ("SIGRTMIN+3", 37),
            ("SIGRTMINPLUS15", 49),
            ("SIGRTMAXMINUS14", 50),
            ("RTMAX-1", 63),
            ("64", 64),
            ("SIGPOLL", 29),
        ] {
            assert_eq!(signal_number(text), Some(number), "{text}");
        }
        for bad in
            ["", "0", "65", "-1", "SIG", "SIGFOO", "SIGRTMIN+31", "SIGRTMAX-", "SIGRTMAX--1", "99999999999"]
        {
            assert_eq!(signal_number(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_caller_wins_over_the_image_and_the_image_over_sigterm() {
        let mut warnings = Vec::new();
        assert_eq!(stop_signal("SIGUSR1", Some("SIGQUIT"), &mut warnings).ok(), Some(10));
        assert_eq!(stop_signal("", Some("SIGQUIT"), &mut warnings).ok(), Some(3));
        assert_eq!(stop_signal("RUNTIME_DEFAULT", None, &mut warnings).ok(), Some(15));
        assert!(warnings.is_empty());
        assert_eq!(stop_signal("", Some("SIGNONE"), &mut warnings).ok(), Some(15));
        assert_eq!(warnings.len(), 1);
        assert!(stop_signal("SIGNONE", None, &mut warnings).is_err());
    }
}
