//! `corten runp`: starts a sandbox from a CRI config file, as crictl. `corten run` takes Kubernetes manifests.

use super::{CHANGE, Context, limited};
use crate::output::{self, json};
use cri_api::v1::{PodSandboxConfig, RunPodSandboxRequest};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use types::{Error, Result};

/// Flags of `runp`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The runtime handler; the default is the runtime's own
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    runtime: String,
    /// A CRI PodSandboxConfig in JSON or YAML
    #[arg(value_name = "POD CONFIG")]
    file: PathBuf,
}

/// Runs the verb.
pub async fn run(args: Args, context: &Context) -> Result<ExitCode> {
    let config = pod_config(&args.file)?;
    let mut client = context.client().await?;
    let request = RunPodSandboxRequest { config: Some(config), runtime_handler: args.runtime };
    let answer = limited(CHANGE, "start the pod", client.runtime.run_pod_sandbox(request)).await?;
    output::print(&answer.pod_sandbox_id)?;
    Ok(ExitCode::SUCCESS)
}

/// Reads and checks a pod config.
pub fn pod_config(path: &Path) -> Result<PodSandboxConfig> {
    let config: PodSandboxConfig = json::read("PodSandboxConfig", path)?;
    let metadata = config.metadata.clone().unwrap_or_default();
    if metadata.name.is_empty() || metadata.namespace.is_empty() || metadata.uid.is_empty() {
        return Err(Error::invalid(format!("{}: metadata needs name, namespace and uid", path.display())));
    }
    Ok(config)
}
