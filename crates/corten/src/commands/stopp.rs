//! `corten stopp`: stops pods with everything in them.

use super::{CHANGE, Context, each, limited};
use crate::output;
use cri_api::v1::StopPodSandboxRequest;
use std::process::ExitCode;
use types::Result;

/// Flags of `stopp`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The pods
    #[arg(value_name = "POD ID", required = true)]
    ids: Vec<String>,
}

/// Runs the verb.
pub async fn run(args: Args, context: &Context) -> Result<ExitCode> {
    let client = context.client().await?;
    each(&args.ids, |id| {
        let mut api = client.runtime.clone();
        async move {
            let request = StopPodSandboxRequest { pod_sandbox_id: id.clone() };
            limited(CHANGE, &format!("stop pod {id}"), api.stop_pod_sandbox(request)).await?;
            output::print(&format!("Stopped sandbox {id}"))
        }
    })
    .await
}
