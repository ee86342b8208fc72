//! A session keyring of the container's own, so that it does not see the caller's keys (keyrings(7)).

use crate::failure::{Failure, Step, Tried};
use crate::plan::Process;
use rustix::io::Errno;
use std::ffi::CString;

/// All for the possessor, and for the owner to see, read, search and link: an exec finds the keyring by its name
/// only when it may search it (security/keys/keyring.c, `find_keyring_by_name`).
const PERMISSIONS: u32 = 0x3f1b_0000;

/// Joins the keyring of the container; it is made where it is not there.
pub(crate) fn join(process: &Process) -> Step {
    let Some(name) = &process.keyring else { return Ok(()) };
    let name =
        CString::new(name.as_str()).map_err(|_| Failure::system("the keyring's name has a NUL byte"))?;
    match sys::keyring::join_session(&name) {
        Ok(serial) => sys::keyring::set_permissions(serial, PERMISSIONS)
            .tried(|| "cannot set who may use the session keyring".into()),
        // Not built into the kernel, or forbidden where we are a container ourselves: keyrings protect little (runc
        // tolerates it, `standard_init_linux.go`).
        Err(error) if matches!(Errno::from_io_error(&error), Some(Errno::NOSYS | Errno::PERM)) => Ok(()),
        Err(error) => {
            Err(error).tried(|| "cannot join a session keyring; --no-new-keyring does without".into())
        }
    }
}
