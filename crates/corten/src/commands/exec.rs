//! `corten exec`: runs a command in a container and passes its output and exit code on. It waits for the
//! command's end; streaming is not built yet.

use super::{Context, limited};
use cri_api::v1::ExecSyncRequest;
use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;
use types::{Error, ErrorKind, Result};

/// Flags of `exec`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Wait for the end and print the output then (the only way today)
    #[arg(short, long)]
    sync: bool,
    /// Give the command our standard input
    #[arg(short, long)]
    interactive: bool,
    /// Give the command a terminal
    #[arg(short, long)]
    tty: bool,
    /// Kill the command after so many seconds; 0 never does
    #[arg(
        long = "timeout",
        id = "exec_timeout",
        value_name = "SECONDS",
        default_value_t = 0,
        hide_default_value = true
    )]
    limit: u32,
    /// The container
    #[arg(value_name = "CONTAINER ID")]
    id: String,
    /// The command with its arguments
    #[arg(value_name = "COMMAND", required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

/// Runs the verb.
pub async fn run(args: Args, context: &Context) -> Result<ExitCode> {
    if args.interactive || args.tty {
        return Err(Error::new(
            ErrorKind::Unimplemented,
            "-i and -t need streaming, which is not built yet; leave them out to run a command without input",
        ));
    }
    let mut client = context.client().await?;
    let request = ExecSyncRequest {
        container_id: args.id.clone(),
        cmd: args.command.clone(),
        timeout: i64::from(args.limit),
    };
    let what = format!("run the command in container {}", args.id);
    let call = client.runtime.exec_sync(request);
    // Without a limit of its own the command may take any time.
    let limit = if args.limit == 0 { Duration::MAX } else { Duration::from_secs(u64::from(args.limit) + 30) };
    let answer = limited(limit, &what, call).await?;
    crate::output::bytes(&answer.stdout)?;
    // Where standard error is gone, the exit code still counts.
    let _ = std::io::stderr().lock().write_all(&answer.stderr);
    Ok(code(answer.exit_code))
}

/// An exit code of a container as ours. Codes beyond a byte, which the CRI can carry, become 255.
pub fn code(code: i32) -> ExitCode {
    ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX))
}
