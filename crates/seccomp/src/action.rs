//! OCI actions as the values that a filter returns (linux/seccomp.h). Pure.

use oci_spec::runtime::LinuxSeccompAction as Action;

/// `SECCOMP_RET_KILL_PROCESS`.
pub(crate) const KILL_PROCESS: u32 = 0x8000_0000;
const KILL_THREAD: u32 = 0;
const TRAP: u32 = 0x0003_0000;
const ERRNO: u32 = 0x0005_0000;
const NOTIFY: u32 = 0x7fc0_0000;
const TRACE: u32 = 0x7ff0_0000;
const LOG: u32 = 0x7ffc_0000;
const ALLOW: u32 = 0x7fff_0000;

/// `SECCOMP_RET_ERRNO` with ENOSYS, which is 38 on x86 and Arm.
pub(crate) const ENOSYS: u32 = ERRNO | 38;
/// What an ERRNO rule without a number returns: EPERM (OCI config-linux.md, "Seccomp", `errnoRet`).
const EPERM: u32 = 1;
/// The kernel turns larger numbers into this one (MAX_ERRNO), which nobody means.
const LARGEST_ERRNO: u32 = 4095;

/// The value for an action. An error number belongs to ERRNO and TRACE; with another action it is a mistake that "the
/// runtime MUST" refuse (OCI config-linux.md, "Seccomp", `errnoRet`).
pub(crate) fn value(action: Action, errno: Option<u32>) -> Result<u32, String> {
    let errno = match errno {
        Some(errno) if errno > LARGEST_ERRNO => {
            return Err(format!("its error number {errno} is above 4095"));
        }
        Some(errno) if !matches!(action, Action::ScmpActErrno | Action::ScmpActTrace) => {
            return Err(format!("the error number {errno} is of no use with {action}: leave errnoRet out"));
        }
        errno => errno.unwrap_or(EPERM),
    };
    Ok(match action {
        Action::ScmpActKill | Action::ScmpActKillThread => KILL_THREAD,
        Action::ScmpActKillProcess => KILL_PROCESS,
        Action::ScmpActTrap => TRAP,
        Action::ScmpActErrno => ERRNO | errno,
        Action::ScmpActNotify => NOTIFY,
        Action::ScmpActTrace => TRACE | errno,
        Action::ScmpActLog => LOG,
        Action::ScmpActAllow => ALLOW,
    })
}

/// True for actions after which the call is made, or decided by somebody else who knows it.
///
/// As in runc (libcontainer/seccomp/patchbpf, `isAllowAction`): under such a default nothing becomes ENOSYS.
pub(crate) fn permits(action: Action) -> bool {
    matches!(action, Action::ScmpActAllow | Action::ScmpActLog | Action::ScmpActTrace)
}

/// True for the actions that grant something, NOTIFY included: its supervisor may grant it.
pub(crate) fn grants(action: Action) -> bool {
    permits(action) || action == Action::ScmpActNotify
}
