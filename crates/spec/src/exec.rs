//! One more process in a running container: the container's own process with another command. Gains nothing
//! that the container does not have (CVE-2025-27612 and its kin).

use crate::limits;
use container::plan::{ExecPlan, PLAN_VERSION, Process, ResolvedUser, User};
use types::{Error, Result};

/// The plan of an exec.
///
/// `process` is the container's own ([`container::plan::LaunchPlan::process`]); `user` is who it came to run
/// as, so that the look-up is not made again in files that the container may have changed since. With a
/// terminal `TERM` is set as containerd does (`container_execsync.go`, `execInternal`).
pub fn exec(
    container_id: &str,
    process: &Process,
    user: Option<&ResolvedUser>,
    cmd: &[String],
    tty: bool,
) -> Result<ExecPlan> {
    if cmd.first().is_none_or(String::is_empty) {
        return Err(Error::invalid(format!("exec in container {container_id}: no command was given")));
    }
    let mut process = process.clone();
    process.args = cmd.iter().map(|arg| arg.clone().into_bytes()).collect();
    process.terminal = tty;
    process.console_size = None;
    process.create_cwd = false;
    if tty {
        crate::process::set_env(&mut process.env, b"TERM", b"xterm");
    }
    if let Some(user) = user {
        process.user = User::Ids { uid: user.uid, gid: user.gid, groups: user.groups.clone() };
    }
    limits::arguments(&process.args, &process.env)?;
    Ok(ExecPlan { version: PLAN_VERSION, id: container_id.to_owned(), process })
}
