//! `corten daemon`: the flags; the daemon itself is wired in `crate::daemon`.

use super::Context;
use crate::daemon;
use std::path::PathBuf;
use std::process::ExitCode;
use types::Result;

/// Flags of `daemon`. Everything else is in the configuration file.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What survives a reboot, instead of the configuration's root
    #[arg(long, value_name = "FOLDER")]
    root: Option<PathBuf>,
    /// What does not, instead of the configuration's state; the socket moves with it unless it is set
    #[arg(long, value_name = "FOLDER")]
    state: Option<PathBuf>,
}

/// Runs until the daemon ends. `--endpoint` is where it serves.
pub async fn run(args: Args, context: Context) -> Result<ExitCode> {
    let mut config = context.config;
    let absolute = |path: PathBuf| {
        std::path::absolute(&path).map_err(|e| {
            types::Error::with_source(
                types::ErrorKind::InvalidArgument,
                format!("cannot use {}", path.display()),
                e,
            )
        })
    };
    if let Some(root) = args.root {
        config.root = absolute(root)?;
    }
    if let Some(state) = args.state {
        let state = absolute(state)?;
        if config.grpc.address == config.state.join("corten.sock") {
            config.grpc.address = state.join("corten.sock");
        }
        config.state = state;
    }
    if let Some(endpoint) = context.endpoint {
        config.grpc.address = absolute(endpoint)?;
    }
    daemon::run(config).await?;
    Ok(ExitCode::SUCCESS)
}
