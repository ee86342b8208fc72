//! `corten config`: prints the default configuration, checks a file, shows what counts. Changes nothing.

use crate::config::{Config, DEFAULT};
use crate::output;
use std::path::PathBuf;
use std::process::ExitCode;
use types::Result;

/// Flags of `config`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Print the default configuration, with every key explained
    Default,
    /// Check a configuration file; prints nothing when it is fine
    Check {
        /// The file
        file: PathBuf,
    },
    /// Print where things are under the configuration in effect
    Show,
}

/// Runs the verb.
pub fn run(args: Args, named: Option<PathBuf>) -> Result<ExitCode> {
    match args.what {
        What::Default => output::print(DEFAULT)?,
        What::Check { file } => drop(Config::load(Some(&file))?),
        What::Show => output::print(&show(&Config::load(named.as_deref())?))?,
    }
    Ok(ExitCode::SUCCESS)
}

fn show(config: &Config) -> String {
    let network = match config.network.default_network {
        Some(true) => "made when there is none",
        Some(false) => "never made",
        None => "made for `corten run` without a daemon",
    };
    let rows = [
        ("root", config.root.display().to_string()),
        ("state", config.state.display().to_string()),
        ("socket", config.grpc.address.display().to_string()),
        ("CNI configurations", config.network.conf_dir.display().to_string()),
        ("default network", format!("{}, {network}", config.network.subnet)),
        ("registry hosts", config.registry.config_path.display().to_string()),
        ("streaming", config.streaming.address.to_string()),
        ("cgroup driver", format!("{:?}", config.cgroups.driver).to_lowercase()),
        ("snapshotter", config.snapshots.snapshotter.name().into()),
        ("shim", config.runtimes.native.shim_path().display().to_string()),
        ("log", format!("{}, {:?}", config.log.level.name(), config.log.format).to_lowercase()),
    ];
    rows.iter().map(|(name, value)| format!("{name:<20} {value}\n")).collect()
}
