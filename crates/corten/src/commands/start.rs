//! `corten start`: starts created containers.

use super::{CHANGE, Context, each, limited};
use crate::output;
use cri_api::v1::StartContainerRequest;
use std::process::ExitCode;
use types::Result;

/// Flags of `start`.
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
            let request = StartContainerRequest { container_id: id.clone() };
            limited(CHANGE, &format!("start container {id}"), api.start_container(request)).await?;
            output::print(&id)
        }
    })
    .await
}
