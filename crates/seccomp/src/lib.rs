//! OCI seccomp profiles compiled to the kernel's filter programs, and the runtime's own default profile.
//!
//! Everything here is pure: profiles in, bytes out. Nothing is loaded into the kernel (that is for the process that
//! becomes the container), and nothing is read from disk.

mod action;
mod bpf;
mod cache;
mod default;
mod error;
mod mux;
mod profile;
mod program;
mod rules;
mod tables;

pub use cache::compile_cached;
pub use default::runtime_default;
pub use error::Error;
pub use profile::{load_profile, load_profile_for};
pub use tables::Abi;

use oci_spec::runtime::{Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompFilterFlag as Flag};
use types::Result;

/// A compiled filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    /// `struct sock_filter` records in the machine's byte order, 8 bytes each.
    pub program: Vec<u8>,
    /// Flags of seccomp(2), `SECCOMP_FILTER_FLAG_*`.
    pub flags: u32,
}

impl Filter {
    /// True when a rule asks somebody outside (NOTIFY): seccomp(2) then gives back a descriptor, which must reach
    /// the profile's `listenerPath` with its `listenerMetadata`. [`NEW_LISTENER`] is among the flags then.
    pub fn needs_listener(&self) -> bool {
        self.flags & NEW_LISTENER != 0
    }
}

/// `SECCOMP_FILTER_FLAG_NEW_LISTENER`: set when the profile has a NOTIFY rule.
pub const NEW_LISTENER: u32 = 1 << 3;

/// Compiles a profile for this machine.
///
/// # Errors
/// `InvalidArgument` for rules that cannot be, and for profiles whose program the kernel would not take (4096
/// instructions); `Unimplemented` on machines other than x86-64 and arm64.
pub fn compile(profile: &LinuxSeccomp) -> Result<Filter> {
    let native = match std::env::consts::ARCH {
        "x86_64" => Abi::X86_64,
        "aarch64" => Abi::Arm64,
        _ => return Err(Error::Machine.into()),
    };
    compile_for(native, profile)
}

/// Compiles a profile for a machine whose own ABI is `native` ([`Abi::X86_64`] or [`Abi::Arm64`]).
///
/// The native ABI is always in the filter, as with libseccomp; others are when the profile lists them. Those that
/// this kind of machine cannot run are passed over.
pub fn compile_for(native: Abi, profile: &LinuxSeccomp) -> Result<Filter> {
    let other = match native {
        Abi::X86_64 => [(Arch::ScmpArchX86, Abi::I386), (Arch::ScmpArchX32, Abi::X32)].as_slice(),
        Abi::Arm64 => [(Arch::ScmpArchArm, Abi::Arm)].as_slice(),
        _ => return Err(Error::Machine.into()),
    };
    let listed = profile.architectures().as_deref().unwrap_or_default();
    let mut abis = vec![(native, rules::lower(profile, native)?)];
    for (name, abi) in other {
        if listed.contains(name) {
            abis.push((*abi, rules::lower(profile, *abi)?));
        }
    }
    let flags = flags(profile)?;
    let value =
        action::value(profile.default_action(), profile.default_errno_ret()).map_err(Error::Profile)?;
    let newer = if action::permits(profile.default_action()) { value } else { action::ENOSYS };
    let code = program::program(&abis, program::Defaults { value, newer });
    if code.len() > bpf::LONGEST {
        return Err(Error::TooLong { length: code.len() }.into());
    }
    Ok(Filter { program: bpf::bytes(&code), flags })
}

fn flags(profile: &LinuxSeccomp) -> std::result::Result<u32, Error> {
    // linux/seccomp.h
    const LOG: u32 = 1 << 1;
    const SPEC_ALLOW: u32 = 1 << 2;
    const WAIT_KILLABLE_RECV: u32 = 1 << 5;
    let mut flags = match profile.flags() {
        // As runc and crun: kernels before 5.16 otherwise slow every process with a filter down (Speculative Store Bypass).
        None => SPEC_ALLOW,
        Some(flags) => flags.iter().fold(0, |flags, flag| {
            flags
                | match flag {
                    // For the other threads of a process; the one that becomes the container has none.
                    Flag::SeccompFilterFlagTsync => 0,
                    Flag::SeccompFilterFlagLog => LOG,
                    Flag::SeccompFilterFlagSpecAllow => SPEC_ALLOW,
                    Flag::SeccompFilterFlagWaitKillableRecv => WAIT_KILLABLE_RECV,
                }
        }),
    };
    if listens(profile)? {
        flags |= NEW_LISTENER;
    } else {
        // The kernel refuses it without a listener (kernel/seccomp.c, `seccomp_set_mode_filter`); libseccomp drops it too.
        flags &= !WAIT_KILLABLE_RECV;
    }
    Ok(flags)
}

/// Whether a rule needs a listener. Refused as in runc (libcontainer/seccomp/seccomp_linux.go, `InitSeccomp`): a supervisor
/// that must answer for everything, or for write(2), hangs the process that hands it its descriptor.
fn listens(profile: &LinuxSeccomp) -> std::result::Result<bool, Error> {
    let notify = LinuxSeccompAction::ScmpActNotify;
    if profile.default_action() == notify {
        return Err(Error::Profile("SCMP_ACT_NOTIFY cannot be used as default action".to_owned()));
    }
    let path = profile.listener_path().as_ref().filter(|path| !path.as_os_str().is_empty());
    // OCI config-linux.md, "Seccomp": it "MUST NOT be set if listenerPath is not set".
    if path.is_none() && profile.listener_metadata().as_ref().is_some_and(|text| !text.is_empty()) {
        return Err(Error::Profile("it has listenerMetadata but no listenerPath to send it to".to_owned()));
    }
    let mut asked = profile.syscalls().iter().flatten().filter(|rule| rule.action() == notify).peekable();
    if asked.peek().is_none() {
        return Ok(false);
    }
    for rule in asked {
        let refuse = |why: &str| Error::Rule { names: rules::shown(rule), why: why.to_owned() };
        if rule.names().iter().any(|name| name == "write") {
            return Err(refuse("SCMP_ACT_NOTIFY cannot be used for the write syscall"));
        }
        if path.is_none() {
            return Err(refuse("SCMP_ACT_NOTIFY needs a listenerPath, and none is set"));
        }
    }
    Ok(true)
}
