//! The pod's own namespaces. The shim leaves the node's and stays in the new ones, so that every child is
//! born in them and they live as long as the pod.

use container::Failure;
use container::failure::Tried;
use rustix::fs::{Mode, OFlags};
use shim_protocol::Configure;

/// Makes the namespaces, the host name and the kernel parameters.
pub fn apply(wanted: &Configure) -> Result<(), Failure> {
    if wanted.namespaces != 0 {
        sys::process::unshare(wanted.namespaces).tried(|| "cannot make the pod's namespaces".into())?;
    }
    if !wanted.hostname.is_empty() && wanted.namespaces & sys::process::namespace::UTS != 0 {
        rustix::system::sethostname(wanted.hostname.as_bytes())
            .tried(|| format!("cannot set the host name {:?}", wanted.hostname))?;
    }
    if !wanted.sysctls.is_empty() {
        let proc =
            rustix::fs::open("/proc", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
                .tried(|| "cannot open /proc".into())?;
        container::sysctl::write(&proc, &wanted.sysctls)?;
    }
    Ok(())
}
