//! `corten info`: the runtime's own view of itself, as crictl prints it.

use super::Context;
use crate::output::{Format, json, table};
use cri_api::v1::StatusRequest;
use std::process::ExitCode;
use types::Result;

/// Flags of `info`.
#[derive(Debug, clap::Args)]
pub struct Args {
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
    let request = StatusRequest { verbose: !args.quiet };
    let answer = context.look("ask for the runtime's status", client.runtime.status(request)).await?;
    let status = answer.status.clone().unwrap_or_default();
    if args.output == Format::Table {
        let rows = status.conditions.iter();
        let rows =
            rows.map(|c| vec![c.r#type.clone(), c.status.to_string(), c.reason.clone(), c.message.clone()]);
        crate::output::print(&table::table(&["CONDITION", "STATUS", "REASON", "MESSAGE"], rows.collect()))?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut value = json::with_info(Some(json::value("RuntimeStatus", &status)?), &answer.info);
    let handlers: Result<Vec<_>> =
        answer.runtime_handlers.iter().map(|h| json::value("RuntimeHandler", h)).collect();
    value["runtimeHandlers"] = handlers?.into();
    if let Some(features) = &answer.features {
        value["features"] = json::value("RuntimeFeatures", features)?;
    }
    json::print_objects(vec![value], args.output == Format::Yaml)?;
    Ok(ExitCode::SUCCESS)
}
