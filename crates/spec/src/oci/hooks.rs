//! Hooks that run inside the container (OCI runtime specification, "POSIX-platform Hooks"). The state that they are told
//! is for the caller to fill in.

use super::text;
use crate::limits;
use container::plan::{Hook, Hooks};
use oci_spec::runtime::{Hook as Written, Spec};
use types::{Error, Result};

/// The hooks of the container's own namespaces.
pub(super) fn inside(spec: &Spec) -> Result<Hooks> {
    let Some(hooks) = spec.hooks() else { return Ok(Hooks::default()) };
    let all = |name: &str, list: &Option<Vec<Written>>| -> Result<Vec<Hook>> {
        list.iter().flatten().map(|written| hook(name, written)).collect()
    };
    Ok(Hooks {
        create_container: all("createContainer", hooks.create_container())?,
        start_container: all("startContainer", hooks.start_container())?,
        state: String::new(),
    })
}

/// One hook of the list `name`.
pub fn hook(name: &str, written: &Written) -> Result<Hook> {
    let path = text("hook path", written.path())?;
    let refuse = |why: String| Err(Error::invalid(format!("the {name} hook {path:?}: {why}")));
    if !path.starts_with('/') {
        return refuse("its path is not absolute".into());
    }
    limits::path("hook path", path)?;
    let (args, env) = (written.args().clone().unwrap_or_default(), written.env().clone().unwrap_or_default());
    if args.iter().chain(&env).any(|text| text.contains('\0')) {
        return refuse("an argument or variable has a NUL byte in it".into());
    }
    if env.iter().any(|variable| variable.split_once('=').is_none_or(|(name, _)| name.is_empty())) {
        return refuse("its env has an entry that is not NAME=value".into());
    }
    let timeout = match written.timeout() {
        None => None,
        // "timeout MUST be greater than zero" (OCI config.md, "POSIX-platform Hooks").
        Some(seconds) => match u32::try_from(seconds) {
            Ok(seconds) if seconds > 0 => Some(seconds),
            _ => return refuse(format!("its timeout {seconds} is not a number of seconds above 0")),
        },
    };
    Ok(Hook { path: path.to_owned(), args, env, timeout })
}
