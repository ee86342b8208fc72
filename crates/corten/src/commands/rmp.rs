//! `corten rmp`: removes pods. A running one only with `--force`, which stops it first.

use super::run::{options, sweep};
use super::{CHANGE, Context, each, limited};
use crate::output;
use cri_api::v1::{
    ListPodSandboxRequest, PodSandboxState, PodSandboxStatusRequest, RemovePodSandboxRequest,
    StopPodSandboxRequest,
};
use runtime_manager::Manager;
use std::process::ExitCode;
use types::{Error, Result};

/// Flags of `rmp`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Stop running pods first
    #[arg(short, long)]
    force: bool,
    /// Every pod
    #[arg(short, long)]
    all: bool,
    /// The pods
    #[arg(value_name = "POD ID", required_unless_present = "all", conflicts_with = "all")]
    ids: Vec<String>,
}

/// Runs the verb.
pub async fn run(args: Args, context: &Context) -> Result<ExitCode> {
    let (channel, socket) = context.connect().await?;
    let manager = Manager::new(channel, options(context, &socket));
    let mut client = manager.client().clone();
    let mut ids = args.ids;
    if args.all {
        let call = client.runtime.list_pod_sandbox(ListPodSandboxRequest { filter: None });
        ids = context.look("list pods", call).await?.items.into_iter().map(|pod| pod.id).collect();
    }
    let force = args.force;
    let code = each(&ids, |id| {
        let mut api = client.runtime.clone();
        async move {
            let request = PodSandboxStatusRequest { pod_sandbox_id: id.clone(), verbose: false };
            let what = format!("look at pod {id}");
            let status =
                context.look(&what, api.pod_sandbox_status(request)).await?.status.unwrap_or_default();
            if status.state == PodSandboxState::SandboxReady as i32 {
                if !force {
                    return Err(Error::precondition(format!(
                        "pod {id} is running; stop it first, or add -f"
                    )));
                }
                let request = StopPodSandboxRequest { pod_sandbox_id: id.clone() };
                limited(CHANGE, &format!("stop pod {id}"), api.stop_pod_sandbox(request)).await?;
                output::print(&format!("Stopped sandbox {id}"))?;
            }
            let request = RemovePodSandboxRequest { pod_sandbox_id: id.clone() };
            limited(CHANGE, &format!("remove pod {id}"), api.remove_pod_sandbox(request)).await?;
            output::print(&format!("Removed sandbox {id}"))
        }
    })
    .await;
    // The volumes of pods that `corten run --detach` left.
    sweep(&manager).await;
    code
}
