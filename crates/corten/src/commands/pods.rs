//! `corten pods`: lists sandboxes.

use super::{Context, pair, pattern, selector};
use crate::output::{self, Format, json, table, words};
use cri_api::v1::{
    ListPodSandboxRequest, ListPodSandboxResponse, PodSandbox, PodSandboxFilter, PodSandboxState,
    PodSandboxStateValue,
};
use regex::Regex;
use std::process::ExitCode;
use types::Result;

/// Flags of `pods`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only the pod with this id
    #[arg(long)]
    id: Option<String>,
    /// Only pods whose name matches a regular expression
    #[arg(long, value_parser = pattern)]
    name: Option<Regex>,
    /// Only pods whose namespace matches a regular expression
    #[arg(long, value_parser = pattern)]
    namespace: Option<Regex>,
    /// Only pods in this state
    #[arg(short, long, value_enum, ignore_case = true)]
    state: Option<State>,
    /// Only pods with this label; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    label: Vec<(String, String)>,
    /// Only the newest pod
    #[arg(short, long)]
    latest: bool,
    /// Only the newest N pods
    #[arg(short = 'n', long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    last: usize,
    /// Print ids only
    #[arg(short, long)]
    quiet: bool,
    /// Do not cut ids
    #[arg(long)]
    no_trunc: bool,
    /// Print labels and annotations too
    #[arg(short, long)]
    verbose: bool,
    /// Form of the output
    #[arg(short, long, value_enum, default_value = "table")]
    output: Format,
}

/// `--state`
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum State {
    /// It runs
    Ready,
    /// It does not
    Notready,
}

/// Runs the verb.
pub async fn run(args: Args, context: &Context) -> Result<ExitCode> {
    let mut client = context.client().await?;
    let state = args.state.map(|state| PodSandboxStateValue {
        state: match state {
            State::Ready => PodSandboxState::SandboxReady,
            State::Notready => PodSandboxState::SandboxNotready,
        } as i32,
    });
    let filter = PodSandboxFilter {
        id: args.id.clone().unwrap_or_default(),
        state,
        label_selector: selector(&args.label),
    };
    let request = ListPodSandboxRequest { filter: Some(filter) };
    let mut pods = context.look("list pods", client.runtime.list_pod_sandbox(request)).await?.items;
    let matches = |pattern: &Option<Regex>, text: &str| pattern.as_ref().is_none_or(|p| p.is_match(text));
    pods.retain(|pod| {
        let metadata = pod.metadata.clone().unwrap_or_default();
        matches(&args.name, &metadata.name) && matches(&args.namespace, &metadata.namespace)
    });
    pods.sort_by_key(|pod| std::cmp::Reverse(pod.created_at));
    let most = if args.last > 0 {
        args.last
    } else if args.latest {
        1
    } else {
        usize::MAX
    };
    pods.truncate(most);
    match args.output {
        Format::Table => output::print(&shown(&args, &pods))?,
        other => json::print(
            "ListPodSandboxResponse",
            &ListPodSandboxResponse { items: pods },
            other == Format::Yaml,
        )?,
    }
    Ok(ExitCode::SUCCESS)
}

fn shown(args: &Args, pods: &[PodSandbox]) -> String {
    if args.quiet {
        return pods.iter().map(|pod| format!("{}\n", pod.id)).collect();
    }
    if args.verbose {
        return output::clean(&pods.iter().map(verbose).collect::<String>());
    }
    let rows = pods.iter().map(|pod| {
        let metadata = pod.metadata.clone().unwrap_or_default();
        let handler =
            if pod.runtime_handler.is_empty() { "(default)".into() } else { pod.runtime_handler.clone() };
        vec![
            if args.no_trunc { pod.id.clone() } else { words::short(&pod.id) },
            words::ago(pod.created_at),
            state(pod.state).into(),
            metadata.name,
            metadata.namespace,
            metadata.attempt.to_string(),
            handler,
        ]
    });
    table::table(&["POD ID", "CREATED", "STATE", "NAME", "NAMESPACE", "ATTEMPT", "RUNTIME"], rows.collect())
}

/// crictl's word for a sandbox' state.
pub fn state(state: i32) -> &'static str {
    if state == PodSandboxState::SandboxReady as i32 { "Ready" } else { "NotReady" }
}

fn verbose(pod: &PodSandbox) -> String {
    let metadata = pod.metadata.clone().unwrap_or_default();
    format!(
        "ID: {}\nName: {}\nUID: {}\nNamespace: {}\nAttempt: {}\nStatus: {}\nCreated: {}\n{}{}Runtime: {}\n\n",
        pod.id,
        metadata.name,
        metadata.uid,
        metadata.namespace,
        metadata.attempt,
        state(pod.state),
        words::ago(pod.created_at),
        super::inspect::pairs("Labels", &pod.labels),
        super::inspect::pairs("Annotations", &pod.annotations),
        if pod.runtime_handler.is_empty() { "(default)" } else { &pod.runtime_handler },
    )
}
