//! `corten bench`: the same work on one CRI endpoint, or on two in turns, timed call by call.
//!
//! It speaks only CRI, so that any runtime can be measured. It starts no daemon, configures no network,
//! and leaves no pod behind: not after a failure and not after Ctrl-C.

mod clean;
mod images;
mod memory;
mod phases;
mod report;
mod samples;
mod target;
mod work;

use std::path::{Path, PathBuf};

/// What is measured, and how it is shown.
#[derive(Debug, Clone, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Arguments {
    #[command(subcommand)]
    what: Option<What>,
    /// A second endpoint: both do the same work in turns, and the ratios are printed
    #[arg(long, value_name = "ENDPOINT")]
    pub vs: Option<PathBuf>,
    /// An image with `sleep` and `true`; pulled once where it is missing
    #[arg(long, value_name = "REFERENCE", default_value = "docker.io/library/busybox:latest")]
    pub image: String,
    /// Pods that are started one by one
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub pods: u32,
    /// Pods that are started at once
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(0..=1_000))]
    pub at_once: u32,
    /// Pods that run while lists are timed
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(0..=10_000))]
    pub listed: u32,
    /// Pods that run while memory is read
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub memory_pods: u32,
    /// An image that is removed and pulled, five times
    #[arg(long, value_name = "REFERENCE")]
    pub pull_image: Option<String>,
    /// The cgroup that pods go below, in the form of the runtime's driver
    #[arg(long, value_name = "PATH", default_value = "")]
    pub cgroup_parent: String,
    /// The runtime handler; the default is the runtime's own
    #[arg(long, value_name = "NAME", default_value = "")]
    pub handler: String,
    /// Print JSON
    #[arg(long, conflicts_with = "markdown")]
    pub json: bool,
    /// Print a Markdown table
    #[arg(long)]
    pub markdown: bool,
}

/// Something else than pods.
#[derive(Debug, Clone, clap::Subcommand)]
enum What {
    /// Time pulls of images
    Images(images::Arguments),
}

/// Why nothing could be measured.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A call to the runtime failed.
    #[error("the benchmark ended at {endpoint}, in phase {phase:?}")]
    Call {
        /// Which runtime.
        endpoint: String,
        /// What was being measured.
        phase: &'static str,
        /// The failed call.
        #[source]
        source: runtime_manager::Error,
    },
    /// A file of ours could not be used.
    #[error("cannot {action} {}", path.display())]
    File {
        /// `make`, `read`, …
        action: &'static str,
        /// Which one.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The user ended it.
    #[error("interrupted; its pods have been removed")]
    Interrupted,
}

/// Runs everything and returns the report as text in the form that was asked for.
///
/// `endpoint` is the path of a CRI socket. Progress goes to standard error.
pub async fn run(endpoint: &Path, arguments: &Arguments) -> Result<String, Error> {
    if let Some(What::Images(arguments)) = &arguments.what {
        return images::run(endpoint, arguments).await;
    }
    let logs = work::Logs::new()?;
    let mut targets = vec![target::Target::connect(endpoint).await?];
    if let Some(other) = &arguments.vs {
        targets.push(target::Target::connect(other).await?);
    }
    // What an earlier run left, when it was killed, would be measured as well.
    clean::all(&targets).await?;
    let outcome = tokio::select! {
        outcome = phases::run(&mut targets, arguments, &logs) => outcome,
        _ = tokio::signal::ctrl_c() => Err(Error::Interrupted),
    };
    let cleaned = clean::all(&targets).await;
    outcome?;
    cleaned?;
    Ok(match (arguments.json, arguments.markdown) {
        (true, _) => report::json(&targets),
        (_, true) => report::markdown(&targets),
        _ => report::text(&targets),
    })
}
