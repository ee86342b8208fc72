//! `corten images`: the list of images, and the verbs below it, which are ours: crictl has none of them.

mod check;
mod export;
mod import;
mod list;

pub use import::said;

use super::Context;
use std::process::ExitCode;
use types::Result;

/// Flags of `images`: those of the list, or a verb with its own.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Args {
    #[command(flatten)]
    list: list::Args,
    #[command(subcommand)]
    verb: Option<Verb>,
}

/// The verbs below `images`. A repository that is called like one is listed by `images -- NAME`.
#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Take images in from an archive or a folder
    Import(import::Args),
    /// Write images as one archive
    Export(export::Args),
    /// Look whether all that is recorded is there and whole
    Check(check::Args),
}

/// Runs the verb, or lists.
pub async fn run(args: Args, context: &Context) -> Result<ExitCode> {
    match args.verb {
        None => list::run(args.list, context).await,
        Some(Verb::Import(args)) => import::run(args, context).await,
        Some(Verb::Export(args)) => export::run(args, context).await,
        Some(Verb::Check(args)) => check::run(args, context).await,
    }
}
