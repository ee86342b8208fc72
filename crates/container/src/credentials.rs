//! Privileges of the new process: limits, groups, ids, capabilities, `no_new_privs`, labels, seccomp, in the
//! order in which each still has the right to be set.

use crate::failure::{Failure, Step, Tried, describe};
use crate::plan::{Capabilities, Process, ResolvedUser, Seccomp};
use crate::report::{Report, Sender};
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
pub fn drop_privileges(process: &Process, user: &ResolvedUser) -> Step {
    if let Some(label) = &process.apparmor {
        write_label("apparmor", "exec", &format!("exec {label}"))?;
    }
    if let Some(label) = &process.selinux {
        write_label("selinux", "exec", label)?;
    }
    // Without no_new_privs, loading a filter needs CAP_SYS_ADMIN (seccomp(2)), so it comes before the drop.
    if !process.no_new_privileges {
        load_seccomp(process.seccomp.as_ref())?;
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
        load_seccomp(process.seccomp.as_ref())?;
    }
    Ok(())
}

fn become_user(user: &ResolvedUser) -> Step {
    let groups: Vec<_> = user.groups.iter().map(|gid| Gid::from_raw(*gid)).collect();
    rustix::thread::set_thread_groups(&groups)
        .tried(|| format!("cannot set the groups {:?}", user.groups))?;
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

fn load_seccomp(filter: Option<&Seccomp>) -> Step {
    match filter {
        None => Ok(()),
        Some(filter) => sys::seccomp::load(&filter.program, filter.flags)
            .tried(|| "cannot load the seccomp filter".into()),
    }
}

/// The attribute file of the module, or the shared one of kernels before Linux 5.8. The file must be of proc
/// itself (CVE-2019-16884: a `/proc` that the image had mounted over).
fn write_label(module: &str, file: &str, value: &str) -> Step {
    let own = format!("/proc/self/attr/{module}/{file}");
    let path = if fs::exists(&own).unwrap_or(false) { own } else { format!("/proc/self/attr/{file}") };
    let stat = rustix::fs::statfs(path.as_str()).tried(|| format!("cannot examine {path}"))?;
    if stat.f_type as u64 != 0x9fa0 {
        return Err(Failure::system(format!(
            "{path} is not of a proc file system; the {module} label was not set"
        )));
    }
    fs::write(&path, value).tried(|| format!("cannot set the {module} label {value:?}"))
}
