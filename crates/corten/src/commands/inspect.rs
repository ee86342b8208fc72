//! `corten inspect`: everything about containers.

use super::Context;
use crate::output::{self, Format, json, words};
use cri_api::v1::{ContainerState, ContainerStatus, ContainerStatusRequest};
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::process::ExitCode;
use types::Result;

/// Flags of `inspect`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The containers
    #[arg(value_name = "CONTAINER ID", required = true)]
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
        let request = ContainerStatusRequest { container_id: id.clone(), verbose: !args.quiet };
        let what = format!("look at container {id}");
        let answer = context.look(&what, client.runtime.container_status(request)).await?;
        let status = answer.status.unwrap_or_default();
        if args.output == Format::Table {
            output::print(&output::clean(&table(&status, &answer.info)))?;
        } else {
            objects.push(json::with_info(Some(object(&status)?), &answer.info));
        }
    }
    if args.output != Format::Table {
        json::print_objects(objects, args.output == Format::Yaml)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The status with times as text, as crictl shows them.
fn object(status: &ContainerStatus) -> Result<Value> {
    let mut value = json::value("ContainerStatus", status)?;
    let started = status.state != ContainerState::ContainerCreated as i32;
    value["createdAt"] = words::time(status.created_at).into();
    value["startedAt"] = words::time(if started { status.started_at } else { 0 }).into();
    value["finishedAt"] = words::time(status.finished_at).into();
    Ok(value)
}

fn table(status: &ContainerStatus, info: &HashMap<String, String>) -> String {
    let metadata = status.metadata.clone().unwrap_or_default();
    let mut text = format!("ID: {}\nName: {}\n", status.id, metadata.name);
    if metadata.attempt > 0 {
        text.push_str(&format!("Attempt: {}\n", metadata.attempt));
    }
    let state = ContainerState::try_from(status.state).unwrap_or(ContainerState::ContainerUnknown);
    text.push_str(&format!("State: {}\nCreated: {}\n", state.as_str_name(), words::ago(status.created_at)));
    if state != ContainerState::ContainerCreated {
        text.push_str(&format!("Started: {}\n", words::ago(status.started_at)));
    }
    if state == ContainerState::ContainerExited {
        text.push_str(&format!(
            "Finished: {}\nExit Code: {}\n",
            words::ago(status.finished_at),
            status.exit_code
        ));
    }
    text.push_str(&pairs("Labels", &status.labels));
    text.push_str(&pairs("Annotations", &status.annotations));
    text + &extra(info)
}

/// What the runtime adds, for the table form.
pub fn extra(info: &HashMap<String, String>) -> String {
    info.iter()
        .collect::<BTreeMap<_, _>>()
        .iter()
        .map(|(key, value)| format!("Info: {key}: {value}\n"))
        .collect()
}

/// Labels or annotations, sorted.
pub fn pairs(title: &str, map: &HashMap<String, String>) -> String {
    if map.is_empty() {
        return String::new();
    }
    let sorted: BTreeMap<_, _> = map.iter().collect();
    let lines: String = sorted.iter().map(|(key, value)| format!("\t{key} -> {value}\n")).collect();
    format!("{title}:\n{lines}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_text_and_what_has_not_been_is_gos_zero_time() {
        let status = ContainerStatus { created_at: 1_600_000_000_000_000_000, ..Default::default() };
        let got = object(&status).unwrap();
        assert_eq!(got["createdAt"], "2020-09-13T12:26:40Z");
        assert_eq!(got["finishedAt"], "0001-01-01T00:00:00Z");
        assert_eq!(got["state"], "CONTAINER_CREATED");
        assert_eq!(got["exitCode"], 0);
    }
}
