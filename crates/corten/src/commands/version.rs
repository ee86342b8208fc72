//! `corten version`: the runtime behind the endpoint, as crictl. `corten --version` is this program's own.

use super::Context;
use crate::output;
use cri_api::v1::VersionRequest;
use std::process::ExitCode;
use types::Result;

/// Flags of `version`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs the verb.
pub async fn run(_: Args, context: &Context) -> Result<ExitCode> {
    let mut client = context.client().await?;
    // The kubelet asks with this string, and runtimes answer it.
    let request = VersionRequest { version: "0.1.0".into() };
    let v = context.look("ask for the version", client.runtime.version(request)).await?;
    output::print(&output::clean(&format!(
        "Version:  {}\nRuntimeName:  {}\nRuntimeVersion:  {}\nRuntimeApiVersion:  {}\n",
        v.version, v.runtime_name, v.runtime_version, v.runtime_api_version
    )))?;
    Ok(ExitCode::SUCCESS)
}
