//! Stop signals: the wire has names as an enum, the engine a name on the way in and a number on the way out.

use cri_api::v1;

/// Signals of Linux on x86-64 and arm64 (signal(7), "Signal numbering for standard signals").
/// The first name of a number is the one that a number turns into.
const STANDARD: [(i32, v1::Signal); 34] = [
    (1, v1::Signal::Sighup),
    (2, v1::Signal::Sigint),
    (3, v1::Signal::Sigquit),
    (4, v1::Signal::Sigill),
    (5, v1::Signal::Sigtrap),
    (6, v1::Signal::Sigabrt),
    (6, v1::Signal::Sigiot),
    (7, v1::Signal::Sigbus),
    (8, v1::Signal::Sigfpe),
    (9, v1::Signal::Sigkill),
    (10, v1::Signal::Sigusr1),
    (11, v1::Signal::Sigsegv),
    (12, v1::Signal::Sigusr2),
    (13, v1::Signal::Sigpipe),
    (14, v1::Signal::Sigalrm),
    (15, v1::Signal::Sigterm),
    (16, v1::Signal::Sigstkflt),
    (17, v1::Signal::Sigchld),
    (17, v1::Signal::Sigcld),
    (18, v1::Signal::Sigcont),
    (19, v1::Signal::Sigstop),
    (20, v1::Signal::Sigtstp),
    (21, v1::Signal::Sigttin),
    (22, v1::Signal::Sigttou),
    (23, v1::Signal::Sigurg),
    (24, v1::Signal::Sigxcpu),
    (25, v1::Signal::Sigxfsz),
    (26, v1::Signal::Sigvtalrm),
    (27, v1::Signal::Sigprof),
    (28, v1::Signal::Sigwinch),
    (29, v1::Signal::Sigio),
    (29, v1::Signal::Sigpoll),
    (30, v1::Signal::Sigpwr),
    (31, v1::Signal::Sigsys),
];

/// SIGRTMIN of glibc; the kernel's own two lower ones belong to its threads (signal(7)).
const RTMIN: i32 = 34;
/// SIGRTMAX.
const RTMAX: i32 = 64;

/// The name that the engine takes, as `SIGTERM` or `SIGRTMIN+3`; empty for the default.
pub fn name(signal: v1::Signal) -> String {
    if signal == v1::Signal::RuntimeDefault {
        return String::new();
    }
    let wire = signal.as_str_name();
    wire.strip_prefix("SIGNAL_").unwrap_or(wire).replace("MINUS", "-").replace("PLUS", "+")
}

/// The wire's signal for a number; the default where the wire has none for it.
pub fn from_number(number: i32) -> v1::Signal {
    if let Some((_, signal)) = STANDARD.iter().find(|(standard, _)| *standard == number) {
        return *signal;
    }
    if !(RTMIN..=RTMAX).contains(&number) {
        return v1::Signal::RuntimeDefault;
    }
    // The enum counts them as the numbers do, from SIGRTMIN to SIGRTMAX without a gap.
    let offset = number - RTMIN + v1::Signal::Sigrtmin as i32;
    v1::Signal::try_from(offset).unwrap_or(v1::Signal::RuntimeDefault)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> impl Iterator<Item = v1::Signal> {
        (0..=65).map(|number| v1::Signal::try_from(number).expect("the enum has no gap"))
    }

    #[test]
    fn every_signal_has_the_name_that_people_write() {
        assert_eq!(name(v1::Signal::RuntimeDefault), "");
        assert_eq!(name(v1::Signal::Sigterm), "SIGTERM");
        assert_eq!(name(v1::Signal::Sigusr1), "SIGUSR1");
        assert_eq!(name(v1::Signal::Sigrtminplus15), "SIGRTMIN+15");
        assert_eq!(name(v1::Signal::Sigrtmaxminus14), "SIGRTMAX-14");
        assert!(all().skip(1).all(|signal| name(signal).starts_with("SIG")));
    }

    #[test]
    fn real_time_signals_have_the_numbers_of_glibc() {
        assert_eq!(from_number(34), v1::Signal::Sigrtmin);
        assert_eq!(from_number(49), v1::Signal::Sigrtminplus15);
        assert_eq!(from_number(50), v1::Signal::Sigrtmaxminus14);
        assert_eq!(from_number(64), v1::Signal::Sigrtmax);
    }

    #[test]
    fn every_number_names_one_signal_and_others_the_default() {
        assert_eq!(from_number(15), v1::Signal::Sigterm);
        assert_eq!(from_number(6), v1::Signal::Sigabrt);
        for number in [-1, 0, 32, 33, 65, i32::MAX] {
            assert_eq!(from_number(number), v1::Signal::RuntimeDefault, "{number}");
        }
        let mut seen: Vec<_> =
            (1..=64).map(from_number).filter(|s| *s != v1::Signal::RuntimeDefault).collect();
        assert_eq!(seen.len(), 62);
        seen.sort_by_key(|signal| *signal as i32);
        seen.dedup();
        assert_eq!(seen.len(), 62, "two numbers share a signal");
    }
}
