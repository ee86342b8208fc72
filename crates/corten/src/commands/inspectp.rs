//! `corten inspectp`: everything about pods.

use super::Context;
use super::inspect::{extra, pairs};
use crate::output::{self, Format, json, words};
use cri_api::v1::{PodSandboxState, PodSandboxStatus, PodSandboxStatusRequest};
use serde_json::Value;
use std::process::ExitCode;
use types::Result;

/// Flags of `inspectp`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The pods
    #[arg(value_name = "POD ID", required = true)]
    ids: Vec<String>,
    /// Form of the output
    #[arg(short, long, value_enum, default_value = "json")]
    output: Format,
    /// Leave out what the runtime tells beyond the standard
    #[arg(short, long)]
    quiet: bool,
}

/// Runs the verb.
pub async fn run(args: Args, context: &Context) -> Result<ExitCode> {
    let mut client = context.client().await?;
    let mut objects = Vec::new();
    for id in &args.ids {
        let request = PodSandboxStatusRequest { pod_sandbox_id: id.clone(), verbose: !args.quiet };
        let what = format!("look at pod {id}");
        let answer = context.look(&what, client.runtime.pod_sandbox_status(request)).await?;
        let status = answer.status.unwrap_or_default();
        if args.output == Format::Table {
            output::print(&output::clean(&(table(&status) + &extra(&answer.info))))?;
        } else {
            objects.push(json::with_info(Some(object(&status)?), &answer.info));
        }
    }
    if args.output != Format::Table {
        json::print_objects(objects, args.output == Format::Yaml)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn object(status: &PodSandboxStatus) -> Result<Value> {
    let mut value = json::value("PodSandboxStatus", status)?;
    value["createdAt"] = words::time(status.created_at).into();
    Ok(value)
}

fn table(status: &PodSandboxStatus) -> String {
    let metadata = status.metadata.clone().unwrap_or_default();
    let state = PodSandboxState::try_from(status.state).unwrap_or(PodSandboxState::SandboxNotready);
    let network = status.network.clone().unwrap_or_default();
    let mut text = format!(
        "ID: {}\nName: {}\nUID: {}\nNamespace: {}\nAttempt: {}\nStatus: {}\nCreated: {}\n",
        status.id,
        metadata.name,
        metadata.uid,
        metadata.namespace,
        metadata.attempt,
        state.as_str_name(),
        words::ago(status.created_at)
    );
    if !network.ip.is_empty() {
        text.push_str(&format!("IP Address: {}\n", network.ip));
    }
    for ip in &network.additional_ips {
        text.push_str(&format!("Additional IP: {}\n", ip.ip));
    }
    text + &pairs("Labels", &status.labels) + &pairs("Annotations", &status.annotations)
}
