//! `corten ps`: lists containers.

use super::{Context, pair, pattern, selector};
use crate::output::{self, Format, json, table, words};
use cri_api::v1::{
    Container, ContainerFilter, ContainerState, ContainerStateValue, ImageSpec, ImageStatusRequest,
    ListContainersRequest, ListContainersResponse,
};
use regex::Regex;
use runtime_manager::{Client, translate::keys};
use std::process::ExitCode;
use types::Result;

/// Flags of `ps`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Containers of any state, not only running ones
    #[arg(short, long)]
    all: bool,
    /// Only the container with this id
    #[arg(long)]
    id: Option<String>,
    /// Only containers whose name matches a regular expression
    #[arg(long, value_parser = pattern)]
    name: Option<Regex>,
    /// Only containers whose pod's namespace matches a regular expression
    #[arg(long, value_parser = pattern)]
    namespace: Option<Regex>,
    /// Only containers of the pod with this id
    #[arg(short, long, value_name = "POD ID")]
    pod: Option<String>,
    /// Only containers in this state
    #[arg(short, long, value_enum, ignore_case = true)]
    state: Option<State>,
    /// Only containers of this image
    #[arg(long)]
    image: Option<String>,
    /// Only containers with this label; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    label: Vec<(String, String)>,
    /// Only the newest container, in any state
    #[arg(short, long)]
    latest: bool,
    /// Only the newest N containers, in any state
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
    /// Made, not started
    Created,
    /// Running
    Running,
    /// Ended
    Exited,
    /// Lost
    Unknown,
}

/// Runs the verb.
pub async fn run(args: Args, context: &Context) -> Result<ExitCode> {
    let mut client = context.client().await?;
    let filter = ContainerFilter {
        id: args.id.clone().unwrap_or_default(),
        state: wanted(&args).map(|state| ContainerStateValue { state: state as i32 }),
        pod_sandbox_id: args.pod.clone().unwrap_or_default(),
        label_selector: selector(&args.label),
    };
    let request = ListContainersRequest { filter: Some(filter) };
    let mut containers =
        context.look("list containers", client.runtime.list_containers(request)).await?.containers;
    if let Some(image) = &args.image {
        let id = image_id(context, &client, image).await?;
        let mut kept = Vec::new();
        for container in containers {
            let own = container.image.clone().unwrap_or_default().image;
            if id.is_some()
                && (container.image_id == *id.as_deref().unwrap_or_default()
                    || image_id(context, &client, &own).await? == id)
            {
                kept.push(container);
            }
        }
        containers = kept;
    }
    let matches = |pattern: &Option<Regex>, text: &str| pattern.as_ref().is_none_or(|p| p.is_match(text));
    containers.retain(|c| {
        matches(&args.name, &c.metadata.clone().unwrap_or_default().name)
            && matches(&args.namespace, label(c, keys::POD_NAMESPACE))
    });
    containers.sort_by_key(|container| std::cmp::Reverse(container.created_at));
    let most = if args.last > 0 {
        args.last
    } else if args.latest {
        1
    } else {
        usize::MAX
    };
    containers.truncate(most);
    match args.output {
        Format::Table => output::print(&shown(&args, &containers))?,
        other => json::print(
            "ListContainersResponse",
            &ListContainersResponse { containers },
            other == Format::Yaml,
        )?,
    }
    Ok(ExitCode::SUCCESS)
}

/// crictl lists what runs, unless a state, all, or the newest are asked for.
fn wanted(args: &Args) -> Option<ContainerState> {
    if args.latest || args.last > 0 {
        return None;
    }
    match args.state {
        Some(State::Created) => Some(ContainerState::ContainerCreated),
        Some(State::Running) => Some(ContainerState::ContainerRunning),
        Some(State::Exited) => Some(ContainerState::ContainerExited),
        Some(State::Unknown) => Some(ContainerState::ContainerUnknown),
        None if args.all => None,
        None => Some(ContainerState::ContainerRunning),
    }
}

async fn image_id(context: &Context, client: &Client, image: &str) -> Result<Option<String>> {
    let mut images = client.images.clone();
    let spec = ImageSpec { image: image.into(), ..Default::default() };
    let request = ImageStatusRequest { image: Some(spec), verbose: false };
    let answer = context.look("look for the image", images.image_status(request)).await?;
    Ok(answer.image.map(|image| image.id))
}

fn label<'a>(container: &'a Container, key: &str) -> &'a str {
    container.labels.get(key).map_or("unknown", String::as_str)
}

fn shown(args: &Args, containers: &[Container]) -> String {
    if args.quiet {
        return containers.iter().map(|container| format!("{}\n", container.id)).collect();
    }
    if args.verbose {
        return output::clean(&containers.iter().map(verbose).collect::<String>());
    }
    let cut = |id: &str| if args.no_trunc { id.to_owned() } else { words::short(id) };
    let rows = containers.iter().map(|c| {
        let metadata = c.metadata.clone().unwrap_or_default();
        let image = c.image.clone().unwrap_or_default().image;
        vec![
            cut(&c.id),
            if image.starts_with("sha256:") { cut(&image) } else { image },
            words::ago(c.created_at),
            state(c.state).into(),
            metadata.name,
            metadata.attempt.to_string(),
            cut(&c.pod_sandbox_id),
            label(c, keys::POD_NAME).into(),
            label(c, keys::POD_NAMESPACE).into(),
        ]
    });
    let header = ["CONTAINER", "IMAGE", "CREATED", "STATE", "NAME", "ATTEMPT", "POD ID", "POD", "NAMESPACE"];
    table::table(&header, rows.collect())
}

/// crictl's word for a container's state.
pub fn state(state: i32) -> &'static str {
    match ContainerState::try_from(state) {
        Ok(ContainerState::ContainerCreated) => "Created",
        Ok(ContainerState::ContainerRunning) => "Running",
        Ok(ContainerState::ContainerExited) => "Exited",
        _ => "Unknown",
    }
}

fn verbose(c: &Container) -> String {
    let metadata = c.metadata.clone().unwrap_or_default();
    format!(
        "ID: {}\nPodID: {}\nNamespace: {}\nName: {}\nAttempt: {}\nState: {}\nImage: {}\nCreated: {}\n{}{}\n",
        c.id,
        c.pod_sandbox_id,
        label(c, keys::POD_NAMESPACE),
        metadata.name,
        metadata.attempt,
        state(c.state),
        c.image.clone().unwrap_or_default().image,
        words::ago(c.created_at),
        super::inspect::pairs("Labels", &c.labels),
        super::inspect::pairs("Annotations", &c.annotations),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn args(line: &str) -> Args {
        Line::parse_from(std::iter::once("ps").chain(line.split_whitespace())).args
    }

    #[test]
    fn only_running_containers_are_listed_unless_more_is_asked_for() {
        assert_eq!(wanted(&args("")), Some(ContainerState::ContainerRunning));
        assert_eq!(wanted(&args("-a")), None);
        assert_eq!(wanted(&args("-l")), None);
        assert_eq!(wanted(&args("--state Exited")), Some(ContainerState::ContainerExited));
    }

    #[test]
    fn the_table_has_crictls_columns() {
        let container = Container {
            id: "0123456789abcdef".into(),
            pod_sandbox_id: "fedcba9876543210".into(),
            image: Some(ImageSpec { image: "sha256:aaaaaaaaaaaaaaaaaaaaaaaa".into(), ..Default::default() }),
            created_at: types::time::now_nanos(),
            state: ContainerState::ContainerRunning as i32,
            ..Default::default()
        };
        let text = shown(&args(""), &[container]);
        let mut lines = text.lines();
        let header: Vec<_> = lines.next().unwrap().split_whitespace().collect();
        assert_eq!(
            header,
            ["CONTAINER", "IMAGE", "CREATED", "STATE", "NAME", "ATTEMPT", "POD", "ID", "POD", "NAMESPACE"]
        );
        let row = lines.next().unwrap();
        assert!(row.starts_with("0123456789abc   aaaaaaaaaaaaa   Less than a second ago   Running"), "{row}");
    }
}
