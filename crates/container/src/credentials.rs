//! Privileges of the new process: limits, groups, ids, capabilities, `no_new_privs`, labels, seccomp, in the
//! order in which each still has the right to be set.

use crate::failure::{Failure, Step, Tried, describe};
use crate::plan::{Capabilities, Process, ResolvedUser, Seccomp};
use crate::report::{Report, Sender};
use rustix::fd::{AsRawFd, IntoRawFd, OwnedFd};
use rustix::fs::{Gid, Uid};
use rustix::io::Errno;
use std::fs;

/// The highest capability number that can be dropped from the bounding set; the kernel answers EINVAL beyond its own.
const CAPABILITIES_MAX: u32 = 63;

/// Sets the OOM score, while `/proc` is still the node's. One that cannot be set is a warning: the daemon clamps to
/// what the node allows, and what is left to fail is not worth a container.
pub fn set_oom_score(process: &Process, report: &Sender) -> Step {
    let Some(score) = process.oom_score_adj else { return Ok(()) };
    match fs::write("/proc/self/oom_score_adj", score.to_string()) {
        Ok(()) => Ok(()),
        Err(error) => {
            report.send(&Report::Warning(format!("the OOM score {score} cannot be set: {error}")), None)
        }
    }
}

/// Sets limits while still privileged.
pub fn limits(process: &Process) -> Step {
    for limit in &process.rlimits {
        sys::process::set_rlimit(limit.resource, limit.soft, limit.hard).tried(|| {
            format!("cannot set resource limit {} to {}:{}", limit.resource, limit.soft, limit.hard)
        })?;
    }
    if let Some(mask) = process.umask {
        rustix::process::umask(rustix::fs::Mode::from_raw_mode(mask & 0o777));
    }
    Ok(())
}

/// Becomes the user with exactly the planned capabilities. Afterwards only exec is left to do.
///
/// A filter with a listener is loaded where there is a `report` to announce it on; a process without one inherits it.
pub fn drop_privileges(process: &Process, user: &ResolvedUser, report: Option<&Sender>) -> Step {
    // Without no_new_privs, loading a filter needs CAP_SYS_ADMIN (seccomp(2)), so it comes before the drop.
    if !process.no_new_privileges {
        load_seccomp(process.seccomp.as_ref(), report)?;
    }
    if let Some(caps) = &process.capabilities {
        drop_bounding(caps.bounding)?;
    }
    rustix::thread::set_keep_capabilities(true).tried(|| "cannot keep capabilities".into())?;
    become_user(user)?;
    rustix::thread::set_keep_capabilities(false).tried(|| "cannot stop keeping capabilities".into())?;
    if let Some(caps) = &process.capabilities {
        set_capabilities(caps)?;
    }
    if process.no_new_privileges {
        rustix::thread::set_no_new_privs(true).tried(|| "cannot set no_new_privs".into())?;
        load_seccomp(process.seccomp.as_ref(), report)?;
    }
    Ok(())
}

fn become_user(user: &ResolvedUser) -> Step {
    let groups: Vec<_> = user.groups.iter().map(|gid| Gid::from_raw(*gid)).collect();
    match rustix::thread::set_thread_groups(&groups) {
        // The user namespace of an ordinary user denies it (user_namespaces(7), "setgroups"): what it has, it keeps.
        Err(Errno::PERM) if groups.iter().all(|gid| gid.as_raw() == user.gid) => {}
        Err(Errno::PERM) => {
            return Err(Failure::request(format!(
                "cannot set the groups {:?}: the user namespace denies it; take process.user.additionalGids out, or map more groups",
                user.groups
            )));
        }
        Err(Errno::INVAL) => {
            return Err(Failure::request(format!(
                "cannot set the groups {:?}: one of them is not mapped in the user namespace",
                user.groups
            )));
        }
        other => other.tried(|| format!("cannot set the groups {:?}", user.groups))?,
    }
    let gid = Gid::from_raw(user.gid);
    rustix::thread::set_thread_res_gid(gid, gid, gid)
        .tried(|| format!("cannot become group {}", user.gid))?;
    let uid = Uid::from_raw(user.uid);
    rustix::thread::set_thread_res_uid(uid, uid, uid).tried(|| format!("cannot become user {}", user.uid))
}

fn drop_bounding(keep: u64) -> Step {
    for capability in 0..=CAPABILITIES_MAX {
        if keep & (1 << capability) != 0 {
            continue;
        }
        let one = rustix::thread::CapabilitySet::from_bits_retain(1 << capability);
        match rustix::thread::remove_capability_from_bounding_set(one) {
            Ok(()) => {}
            Err(Errno::INVAL) => break,
            Err(errno) => {
                return Err(Failure::system(format!(
                    "cannot drop capability {capability} from the bounding set: {}",
                    describe(errno)
                )));
            }
        }
    }
    Ok(())
}

fn set_capabilities(caps: &Capabilities) -> Step {
    sys::process::set_capabilities(caps.effective, caps.permitted, caps.inheritable).tried(|| {
        format!("cannot set capabilities (permitted {:#x}); does this node have them all?", caps.permitted)
    })?;
    rustix::thread::clear_ambient_capability_set().tried(|| "cannot clear ambient capabilities".into())?;
    for capability in (0..=CAPABILITIES_MAX).filter(|c| caps.ambient & (1 << c) != 0) {
        let one = rustix::thread::CapabilitySet::from_bits_retain(1 << capability);
        rustix::thread::configure_capability_in_ambient_set(one, true)
            .tried(|| format!("cannot make capability {capability} ambient"))?;
    }
    Ok(())
}

fn load_seccomp(filter: Option<&Seccomp>, report: Option<&Sender>) -> Step {
    let Some(filter) = filter else { return Ok(()) };
    match (filter.listener, report) {
        (false, _) => sys::seccomp::load(&filter.program, filter.flags)
            .tried(|| "cannot load the seccomp filter".into()),
        (true, Some(report)) => load_with_listener(filter, report),
        (true, None) => Ok(()),
    }
}

/// The supervisor takes the listener out of this process (pidfd_getfd(2)), for no system call after the load is sure to
/// be answered. Which descriptor it will be is said before: the kernel gives the lowest that is free.
fn load_with_listener(filter: &Seccomp, report: &Sender) -> Step {
    let next = rustix::io::fcntl_dupfd_cloexec(report, 0).tried(|| "cannot find a descriptor".into())?;
    let number = next.as_raw_fd();
    drop(next);
    report.send(&Report::Listener(number), None)?;
    let listener = sys::seccomp::load_with_listener(&filter.program, filter.flags).tried(|| {
        "cannot load the seccomp filter with a listener; is one loaded in this process already?".into()
    })?;
    // It closes with the exec, and until then there is no need for one more system call.
    let _ = listener.into_raw_fd();
    Ok(())
}

/// The labels of the program, and the files that take them.
#[derive(Debug, Default)]
pub struct Labels(Vec<(OwnedFd, &'static str, String)>);

/// Opens the files, while `/proc` is still the node's: in the container anything may be in their place, be it plain files
/// (CVE-2019-16884) or links to others of proc (CVE-2025-52881).
pub fn open_labels(process: &Process) -> Step<Labels> {
    let apparmor = process.apparmor.iter().map(|label| ("apparmor", format!("exec {label}")));
    let selinux = process.selinux.iter().map(|label| ("selinux", label.clone()));
    let open = |(module, label): (&'static str, String)| {
        // The attribute file of the module, or the shared one of kernels before Linux 5.8.
        let own = fs::OpenOptions::new().write(true).open(format!("/proc/self/attr/{module}/exec"));
        let file = own.or_else(|_| fs::OpenOptions::new().write(true).open("/proc/self/attr/exec"));
        let file = file.tried(|| format!("cannot set the {module} label {label:?}"))?;
        Ok((OwnedFd::from(file), module, label))
    };
    apparmor.chain(selinux).map(open).collect::<Step<Vec<_>>>().map(Labels)
}

/// Sets the labels for the next exec, of this process or of a child; only who opened the files may write to them.
pub fn set_labels(labels: &Labels) -> Step {
    for (file, module, label) in &labels.0 {
        rustix::io::write(file, label.as_bytes())
            .tried(|| format!("cannot set the {module} label {label:?}"))?;
    }
    Ok(())
}
