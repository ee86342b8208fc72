//! Kernel parameters of the calling thread's network namespace, below `/proc/sys/net`: the kernel
//! shows each thread those of its own namespace there.

use rustix::io::Errno;
use std::io::{Read, Write};

/// Whether `/proc/sys/net/<name>` says `value`; `None` where the parameter does not exist, as those
/// of IPv6 on a kernel without it.
pub fn is(name: &str, value: &str) -> Result<Option<bool>, Errno> {
    let mut now = [0; 64];
    match std::fs::File::open(format!("/proc/sys/net/{name}")).and_then(|mut file| file.read(&mut now)) {
        Ok(length) => Ok(Some(now[..length].trim_ascii() == value.as_bytes())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(errno(&error)),
    }
}

/// Sets `/proc/sys/net/<name>` if it says otherwise. One that does not exist is left alone.
pub fn set(name: &str, value: &str) -> Result<(), Errno> {
    if is(name, value)? != Some(false) {
        return Ok(());
    }
    let file = std::fs::OpenOptions::new().write(true).open(format!("/proc/sys/net/{name}"));
    file.and_then(|mut file| file.write_all(value.as_bytes())).map_err(|error| errno(&error))
}

fn errno(error: &std::io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}
