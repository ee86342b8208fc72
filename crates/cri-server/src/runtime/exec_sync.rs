//! ExecSync: runs one command in a container and answers with its output.

use crate::call::{concerns, within_limit};
use crate::check;
use crate::convert::container::arguments;
use cri_api::v1;
use engine::Engine;
use std::time::Duration;
use types::Result;

/// A command that outlives its timeout ends in DEADLINE_EXCEEDED, by which the kubelet knows a probe that
/// timed out; output above 16 MiB ends in RESOURCE_EXHAUSTED.
pub async fn call(engine: &Engine, request: v1::ExecSyncRequest) -> Result<v1::ExecSyncResponse> {
    concerns(&request.container_id);
    check::id("container_id", &request.container_id)?;
    let timeout = timeout(request.timeout)?;
    command(&request.cmd)?;
    let output = engine.exec_sync(&request.container_id, request.cmd, timeout).await?;
    within_limit(
        v1::ExecSyncResponse { stdout: output.stdout, stderr: output.stderr, exit_code: output.exit_code },
        "let the command print less, or use Exec, which streams",
    )
}

/// 0 waits for ever.
fn timeout(seconds: i64) -> Result<Option<Duration>> {
    let timeout = check::seconds("timeout", seconds)?;
    Ok((!timeout.is_zero()).then_some(timeout))
}

fn command(cmd: &[String]) -> Result<()> {
    if cmd.first().is_none_or(String::is_empty) {
        return check::refuse("cmd", "it names no program; give one");
    }
    arguments("cmd", cmd)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::convert::testing::refused;

    #[test]
    fn a_timeout_of_0_waits_for_ever_and_a_negative_one_is_refused() {
        assert_eq!(timeout(0).expect("sound"), None);
        assert_eq!(timeout(3).expect("sound"), Some(Duration::from_secs(3)));
        refused(timeout(-1), "timeout", "negative");
    }

    #[test]
    fn a_command_without_a_program_is_refused() {
        refused(command(&[]), "cmd", "names no program");
        refused(command(&[String::new()]), "cmd", "names no program");
        refused(command(&["sh".into(), "a\0b".into()]), "cmd[1]", "NUL");
        command(&["true".into()]).expect("sound");
    }
}
