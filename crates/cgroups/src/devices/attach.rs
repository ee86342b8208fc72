//! Putting the program of device rules on a group of the unified hierarchy.
//!
//! Programs of others stay: a service manager's, for example. The kernel allows an access only when all programs of
//! the group and of the groups above allow it. The kernel lets go of the program when the group is removed.

use super::DeviceRule;
use super::program::compile;
use crate::error::Error;
use crate::layout::Hierarchy;
use rustix::fs::OFlags;
use rustix::io::Errno;
use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use sys::bpf;

/// How ours are known, in lists of programs too.
const NAME: &CStr = c"corten_devices";
/// How often another that replaces our program at the same time is waited for.
const TRIES: usize = 20;

/// Builds, loads and attaches, in place of the program that an earlier call attached.
pub(super) fn apply(hierarchy: &Hierarchy, group: &str, rules: &[DeviceRule]) -> Result<(), Error> {
    let Some(program) = compile(rules) else {
        return Err(Error::Value {
            what: "device rules".to_owned(),
            value: format!("{} rules", rules.len()),
            why: "they make a program of more than 16384 instructions; use wider rules",
        });
    };
    let folder = hierarchy
        .open(group, "", OFlags::RDONLY | OFlags::DIRECTORY)
        .map_err(|errno| Error::io("open the cgroup", hierarchy.shown(group, ""), errno))?;
    let fail = |what: &'static str, log: String, source: io::Error| Error::Devices {
        what,
        path: hierarchy.shown(group, ""),
        why: why(what, &source),
        log,
        source,
    };
    let program =
        bpf::load_device_program(&program, NAME).map_err(|error| fail(LOAD, error.log, error.source))?;
    let mut tries = TRIES;
    loop {
        let mut earlier = ours(&folder).map_err(|error| fail(LIST, String::new(), error))?.into_iter();
        let replace = earlier.next();
        match bpf::attach_device_program(
            folder.as_fd(),
            program.as_fd(),
            replace.as_ref().map(OwnedFd::as_fd),
        ) {
            Ok(()) => {}
            Err(error) if replace.is_some() && gone(&error) && tries > 1 => {
                tries -= 1;
                continue;
            }
            Err(error) => return Err(fail(ATTACH, String::new(), error)),
        }
        // There is more than one only when two calls met.
        for more in earlier {
            match bpf::detach_device_program(folder.as_fd(), more.as_fd()) {
                Err(error) if !gone(&error) => return Err(fail(DETACH, String::new(), error)),
                _ => {}
            }
        }
        return Ok(());
    }
}

/// Our programs on this very group, the first first.
fn ours(folder: &OwnedFd) -> io::Result<Vec<OwnedFd>> {
    let mut found = Vec::new();
    for id in bpf::attached_device_programs(folder.as_fd())? {
        match bpf::program_by_id(id) {
            Ok(program) if bpf::program_name(program.as_fd())? == NAME.to_bytes() => found.push(program),
            Ok(_) => {}
            Err(error) if gone(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

fn gone(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::NOENT.raw_os_error())
}

const LOAD: &str = "load the device rules for";
const LIST: &str = "list the device programs of";
const ATTACH: &str = "attach the device rules to";
const DETACH: &str = "take earlier device rules off";

/// What an answer of the kernel means at this step, and what to do.
fn why(what: &str, error: &io::Error) -> &'static str {
    let is = |errno: Errno| error.raw_os_error() == Some(errno.raw_os_error());
    if is(Errno::NOSYS) {
        "this kernel is built without bpf(2) (CONFIG_BPF_SYSCALL), and cgroup v2 has no other way to limit devices"
    } else if is(Errno::PERM) && what == ATTACH {
        "bpf(2) is not permitted: either CAP_BPF and CAP_NET_ADMIN are missing, or a program that allows no second \
         one beside or below it is attached to this group or above it"
    } else if is(Errno::PERM) {
        "bpf(2) is not permitted: give the runtime CAP_SYS_ADMIN, or CAP_BPF and CAP_NET_ADMIN to load and attach, \
         and a seccomp profile and security module that let bpf(2) through"
    } else if is(Errno::INVAL) && what != LIST {
        "the kernel refused the program: it may be built without CONFIG_CGROUP_BPF, or be older than Linux 5.6"
    } else {
        "the container would run without its device rules, so it is not started"
    }
}
