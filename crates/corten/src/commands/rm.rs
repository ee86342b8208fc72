//! `corten rm`: removes containers. A running one only with `--force`, which stops it first.

use super::{CHANGE, Context, each, limited};
use crate::output;
use cri_api::v1::{
    ContainerState, ContainerStatusRequest, ListContainersRequest, RemoveContainerRequest,
    StopContainerRequest,
};
use std::process::ExitCode;
use types::{Error, Result};

/// Flags of `rm`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Stop running containers first
    #[arg(short, long)]
    force: bool,
    /// Every container
    #[arg(short, long)]
    all: bool,
    /// The containers
    #[arg(value_name = "CONTAINER ID", required_unless_present = "all", conflicts_with = "all")]
    ids: Vec<String>,
}

/// Runs the verb.
pub async fn run(args: Args, context: &Context) -> Result<ExitCode> {
    let mut client = context.client().await?;
    let mut ids = args.ids;
    if args.all {
        let call = client.runtime.list_containers(ListContainersRequest { filter: None });
        ids = context.look("list containers", call).await?.containers.into_iter().map(|c| c.id).collect();
    }
    let force = args.force;
    each(&ids, |id| {
        let mut api = client.runtime.clone();
        async move {
            let request = ContainerStatusRequest { container_id: id.clone(), verbose: false };
            let what = format!("look at container {id}");
            let status = context.look(&what, api.container_status(request)).await?.status.unwrap_or_default();
            if status.state == ContainerState::ContainerRunning as i32 {
                if !force {
                    return Err(Error::precondition(format!(
                        "container {id} is running; stop it first, or add -f"
                    )));
                }
                let request = StopContainerRequest { container_id: id.clone(), timeout: 0 };
                limited(CHANGE, &format!("stop container {id}"), api.stop_container(request)).await?;
            }
            let request = RemoveContainerRequest { container_id: id.clone() };
            limited(CHANGE, &format!("remove container {id}"), api.remove_container(request)).await?;
            output::print(&id)
        }
    })
    .await
}
