//! One program for people and for the node: the CRI daemon, `corten run`, and crictl's verbs.
//!
//! This file parses the command line and prints the last error. What a verb does is in `commands`; how the
//! parts of the daemon are put together is in `daemon` and `node`.

mod bench;
mod cli;
mod commands;
mod config;
mod daemon;
mod endpoint;
mod logging;
mod node;
mod output;

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    // Before there is a second thread. Pulls of any image take a bounded amount of memory, and give it back.
    sys::memory::bound_heap();
    let cli = cli::Cli::parse();
    let debug = cli.debug;
    match start(cli) {
        Ok(code) => code,
        // The reader of our output went away, as `| head` does.
        Err(error) if error.kind() == types::ErrorKind::Cancelled => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("corten: {}", output::clean(&error.chain()));
            if debug {
                eprintln!("corten: kind {:?}", error.kind());
            }
            ExitCode::FAILURE
        }
    }
}

fn start(cli: cli::Cli) -> types::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| types::Error::with_source(types::ErrorKind::Internal, "cannot start", error))?;
    let code = runtime.block_on(commands::run(cli));
    // A follower of a log may sit in a sleep; nothing is lost by leaving it.
    runtime.shutdown_timeout(std::time::Duration::from_millis(50));
    code
}
