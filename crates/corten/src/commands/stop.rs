//! `corten stop`: stops containers.

use super::{CHANGE, Context, each, limited};
use crate::output;
use cri_api::v1::StopContainerRequest;
use std::process::ExitCode;
use std::time::Duration;
use types::Result;

/// Flags of `stop`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Seconds that a container gets to end by itself before it is killed
    #[arg(short, long = "timeout", id = "grace", value_name = "SECONDS", default_value_t = 0)]
    timeout: u32,
    /// The containers
    #[arg(value_name = "CONTAINER ID", required = true)]
    ids: Vec<String>,
}

/// Runs the verb.
pub async fn run(args: Args, context: &Context) -> Result<ExitCode> {
    let client = context.client().await?;
    let grace = args.timeout;
    each(&args.ids, |id| {
        let mut api = client.runtime.clone();
        async move {
            let request = StopContainerRequest { container_id: id.clone(), timeout: i64::from(grace) };
            let limit = CHANGE + Duration::from_secs(u64::from(grace));
            limited(limit, &format!("stop container {id}"), api.stop_container(request)).await?;
            output::print(&id)
        }
    })
    .await
}
