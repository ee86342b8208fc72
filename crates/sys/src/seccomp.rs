//! Loading a seccomp filter (seccomp(2), `SECCOMP_SET_MODE_FILTER`).

use rustix::fd::{FromRawFd, OwnedFd};
use std::io;

const TSYNC: u32 = 1;
const NEW_LISTENER: u32 = 1 << 3;

/// Loads `program`, records of `struct sock_filter` (8 bytes, native order), for this thread.
///
/// Needs `no_new_privs` or CAP_SYS_ADMIN. Flags that make the call return a descriptor
/// (`SECCOMP_FILTER_FLAG_NEW_LISTENER`) are refused, for nobody here would own it.
pub fn load(program: &[u8], flags: u32) -> io::Result<()> {
    if flags & NEW_LISTENER != 0 {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    call(program, flags).map(|_| ())
}

/// As [`load`], with a new listener (seccomp_unotify(2)). The descriptor is the lowest that is free, close-on-exec.
pub fn load_with_listener(program: &[u8], flags: u32) -> io::Result<OwnedFd> {
    let fd = call(program, flags | NEW_LISTENER)?;
    // SAFETY: with this flag the kernel answers a new descriptor, which nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn call(program: &[u8], flags: u32) -> io::Result<i32> {
    let (records, rest) = program.as_chunks::<8>();
    if !rest.is_empty() || records.is_empty() || records.len() > 4096 || flags & TSYNC != 0 {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    let filter: Vec<libc::sock_filter> = records
        .iter()
        .map(|r| libc::sock_filter {
            code: u16::from_ne_bytes([r[0], r[1]]),
            jt: r[2],
            jf: r[3],
            k: u32::from_ne_bytes([r[4], r[5], r[6], r[7]]),
        })
        .collect();
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut() };
    // SAFETY: `program` points to `len` records that live for the call; the kernel copies and checks them.
    let done = unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, std::ptr::from_ref(&program))
    };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(done as i32) }
}
