//! `corten reopen-log`: makes the runtime begin a new log file, which is the second half of a rotation.

use super::{CHANGE, Context, each, limited};
use crate::output;
use cri_api::v1::ReopenContainerLogRequest;
use std::process::ExitCode;
use types::Result;

/// Flags of `reopen-log`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The containers
    #[arg(value_name = "CONTAINER ID", required = true)]
    ids: Vec<String>,
}

/// Runs the verb.
pub async fn run(args: Args, context: &Context) -> Result<ExitCode> {
    let client = context.client().await?;
    each(&args.ids, |id| {
        let mut api = client.runtime.clone();
        async move {
            let request = ReopenContainerLogRequest { container_id: id.clone() };
            limited(CHANGE, &format!("reopen the log of container {id}"), api.reopen_container_log(request))
                .await?;
            output::print(&id)
        }
    })
    .await
}
