//! `corten create`: creates a container in a pod from CRI config files, as crictl.

use super::runp::pod_config;
use super::{CHANGE, Context, failed, limited};
use crate::output::{self, json, progress::Spinner};
use cri_api::v1::{ContainerConfig, CreateContainerRequest, PullImageRequest};
use std::path::PathBuf;
use std::process::ExitCode;
use types::{Error, Result};

/// Flags of `create`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Pull the image first
    #[arg(long)]
    with_pull: bool,
    #[command(flatten)]
    credentials: super::pull::Credentials,
    /// The pod
    #[arg(value_name = "POD ID")]
    pod: String,
    /// A CRI ContainerConfig in JSON or YAML
    #[arg(value_name = "CONTAINER CONFIG")]
    container: PathBuf,
    /// The CRI PodSandboxConfig that the pod was made from
    #[arg(value_name = "POD CONFIG")]
    sandbox: PathBuf,
}

/// Runs the verb.
pub async fn run(args: Args, context: &Context) -> Result<ExitCode> {
    let config: ContainerConfig = json::read("ContainerConfig", &args.container)?;
    let sandbox = pod_config(&args.sandbox)?;
    let image = config.image.clone().unwrap_or_default();
    if config.metadata.clone().unwrap_or_default().name.is_empty() || image.image.is_empty() {
        let file = args.container.display();
        return Err(Error::invalid(format!("{file}: metadata.name and image.image are needed")));
    }
    let mut client = context.client().await?;
    if args.with_pull {
        let name = image.image.clone();
        let spinner = Spinner::new(&format!("pulling {name}"));
        let auth = args.credentials.for_image(&name)?;
        let request = PullImageRequest { image: Some(image), auth, sandbox_config: Some(sandbox.clone()) };
        client.images.pull_image(request).await.map_err(|status| failed(&format!("pull {name}"), &status))?;
        drop(spinner);
    }
    let request = CreateContainerRequest {
        pod_sandbox_id: args.pod,
        config: Some(config),
        sandbox_config: Some(sandbox),
    };
    let answer = limited(CHANGE, "create the container", client.runtime.create_container(request)).await?;
    output::print(&answer.container_id)?;
    Ok(ExitCode::SUCCESS)
}
