//! Where systemd can be talked to: the sockets of a bus. Reads the environment and `/proc/self/uid_map`; connects to
//! nothing.
//!
//! Systemd's own socket (`/run/systemd/private`) is no second way: it signs its messages with a name that is none on a
//! bus, which zbus does not take.

use crate::error::Error;
use crate::scope::Bus;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// Longest address that is read.
const MAX_ADDRESS: usize = 4096;

/// The sockets to try, in this order: paths, or abstract names that start with a zero byte, as tokio takes them.
pub(crate) fn sockets(bus: Bus) -> Result<Vec<PathBuf>, Error> {
    let environment = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    of(bus, &environment, Path::new("/run/systemd/system").is_dir())
}

fn of(bus: Bus, environment: &dyn Fn(&str) -> Option<String>, booted: bool) -> Result<Vec<PathBuf>, Error> {
    match bus {
        Bus::System => {
            if let Some(address) = environment("DBUS_SYSTEM_BUS_ADDRESS") {
                return parse(&address, "DBUS_SYSTEM_BUS_ADDRESS");
            }
            // sd_booted(3).
            if !booted {
                return Err(Error::Absent {
                    why:
                        "this machine was not started with systemd (there is no /run/systemd/system); leave \
                          --systemd-cgroup out"
                            .to_owned(),
                });
            }
            Ok(vec!["/run/dbus/system_bus_socket".into()])
        }
        Bus::User => {
            let runtime = environment("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|path| path.is_absolute());
            if let Some(address) = environment("DBUS_SESSION_BUS_ADDRESS") {
                return parse(&address, "DBUS_SESSION_BUS_ADDRESS");
            }
            let Some(runtime) = runtime else {
                return Err(Error::Absent {
                    why: "neither DBUS_SESSION_BUS_ADDRESS nor XDG_RUNTIME_DIR is set, so the user's systemd cannot be \
                          found; log in again, or leave --systemd-cgroup out"
                        .to_owned(),
                });
            };
            Ok(vec![runtime.join("bus")])
        }
    }
}

/// The Unix sockets of a bus address (D-Bus specification, "Server Addresses"). Other transports are refused: TCP would
/// leave the machine, and `unixexec` runs a program.
fn parse(address: &str, variable: &str) -> Result<Vec<PathBuf>, Error> {
    let refuse = || Error::Absent {
        why: format!(
            "{variable} is {:?}, and only addresses as unix:path=/run/dbus/system_bus_socket are taken",
            address.chars().take(200).collect::<String>()
        ),
    };
    if address.len() > MAX_ADDRESS {
        return Err(refuse());
    }
    let mut sockets = Vec::new();
    for one in address.split(';') {
        let Some(pairs) = one.strip_prefix("unix:") else { continue };
        for (key, value) in pairs.split(',').filter_map(|pair| pair.split_once('=')) {
            let value = unescaped(value).filter(|value| !value.is_empty()).ok_or_else(refuse)?;
            let socket = match key {
                "path" if value.starts_with(b"/") && !value.contains(&0) => value,
                "abstract" => [b"\0".as_slice(), &value].concat(),
                _ => continue,
            };
            sockets.push(OsString::from_vec(socket).into());
        }
    }
    if sockets.is_empty() { Err(refuse()) } else { Ok(sockets) }
}

/// `%2f` and the like.
fn unescaped(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        rest = tail;
        if first != b'%' {
            bytes.push(first);
            continue;
        }
        let digits = std::str::from_utf8(rest.get(..2)?).ok()?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        rest = &rest[2..];
    }
    Some(bytes)
}

/// Our user as the bus sees it, when that is not the number we have ourselves: it looks from outside of our
/// user namespace. Line of `uid_map`: first inside, first outside, count (user_namespaces(7)).
pub(crate) fn outer_user() -> Option<u32> {
    let text = std::fs::read_to_string("/proc/self/uid_map").ok()?;
    outer(&text, rustix::process::geteuid().as_raw())
}

fn outer(map: &str, own: u32) -> Option<u32> {
    let found = map.lines().take(340).find_map(|line| {
        let mut numbers = line.split_whitespace().map(|number| number.parse::<u32>().ok());
        let (inside, outside, count) = (numbers.next()??, numbers.next()??, numbers.next()??);
        let offset = own.checked_sub(inside).filter(|offset| *offset < count)?;
        outside.checked_add(offset)
    })?;
    Some(found).filter(|found| *found != own)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn none(_: &str) -> Option<String> {
        None
    }

    #[test]
    fn a_machine_without_systemd_is_told_so() {
        let error = of(Bus::System, &none, false).unwrap_err();
        assert!(error.to_string().contains("not started with systemd"), "{error}");
        assert_eq!(of(Bus::System, &none, true).unwrap().len(), 1);
    }

    #[test]
    fn the_users_bus_comes_from_the_address_else_from_the_runtime_folder() {
        let all = |name: &str| match name {
            "DBUS_SESSION_BUS_ADDRESS" => Some("unix:path=/tmp/a%20b,guid=1".to_owned()),
            _ => Some("/run/user/7".to_owned()),
        };
        assert_eq!(of(Bus::User, &all, false).unwrap(), [PathBuf::from("/tmp/a b")]);
        let folder = |name: &str| (name == "XDG_RUNTIME_DIR").then(|| "/run/user/7".to_owned());
        assert_eq!(of(Bus::User, &folder, false).unwrap()[0], Path::new("/run/user/7/bus"));
        assert!(of(Bus::User, &none, true).unwrap_err().to_string().contains("XDG_RUNTIME_DIR"));
    }

    #[test]
    fn only_sockets_are_taken_as_addresses() {
        assert_eq!(parse("unix:abstract=x", "A").unwrap()[0], Path::new("\0x"));
        assert_eq!(parse("tcp:host=h;unix:path=/b", "A").unwrap().len(), 1);
        for bad in [
            "",
            "tcp:host=evil,port=1",
            "unixexec:path=/bin/sh",
            "unix:path=rel",
            "unix:path=%",
            "unix:",
            &"u".repeat(5000),
        ] {
            assert!(parse(bad, "A").is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_number_outside_of_a_user_namespace_is_found() {
        assert_eq!(
            outer("         0       1000          1\n         1     100000      65536\n", 0),
            Some(1000)
        );
        assert_eq!(outer("0 1000 1\n1 100000 65536\n", 5), Some(100_004));
        assert_eq!(outer("0 0 4294967295\n", 0), None);
        assert_eq!(outer("4294967295 4294967295 4294967295", u32::MAX), None);
        assert_eq!(outer("0 4294967295 10", 5), None);
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parsers_panic(text in "(unix:|path=|abstract=|%|;|,|/|\\PC){0,20}", own in any::<u32>()) {
            let _ = parse(&text, "A");
            let _ = outer(&text, own);
        }
    }
}
