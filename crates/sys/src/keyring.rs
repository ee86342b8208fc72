//! The session keyring of a process (keyrings(7)): joined by name, or made. Holds no keys.

use std::ffi::CStr;
use std::io;

// linux/keyctl.h
const KEYCTL_JOIN_SESSION_KEYRING: i32 = 1;
const KEYCTL_SETPERM: i32 = 5;

/// Makes the session keyring of this name this process's own; it is made where no other that may be searched has
/// the name. Answers its serial number.
pub fn join_session(name: &CStr) -> io::Result<i32> {
    // SAFETY: keyctl(2) reads one NUL-terminated string that lives for the call.
    let serial = unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, name.as_ptr()) };
    if serial < 0 { Err(io::Error::last_os_error()) } else { Ok(serial as i32) }
}

/// Sets what possessor, owner, group and others may do with a key, one byte each (keyctl_setperm(3)).
pub fn set_permissions(serial: i32, permissions: u32) -> io::Result<()> {
    // SAFETY: three integers.
    let done = unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_SETPERM, serial, permissions) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
