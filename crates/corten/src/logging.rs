//! Where diagnostics go: standard error, as the configuration says for the daemon, quiet for verbs.

use crate::config::{Log, LogFormat};
use tracing_subscriber::EnvFilter;

/// The variable that overrides the level, in tracing's filter language.
const VARIABLE: &str = "CORTEN_LOG";

/// For the daemon. Called once; a second call changes nothing.
pub fn daemon(log: &Log, debug: bool) {
    let level = if debug { "debug" } else { log.level.name() };
    let builder = tracing_subscriber::fmt().with_env_filter(filter(level)).with_writer(std::io::stderr);
    let done = match log.format {
        LogFormat::Text => builder.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
    // The only failure is that a subscriber is set already.
    drop(done);
}

/// For verbs: warnings, or everything of ours with `--debug`.
pub fn verb(debug: bool) {
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter(if debug { "debug" } else { "warn" }))
        .with_writer(std::io::stderr)
        .without_time()
        .with_target(debug);
    drop(builder.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).try_init());
}

fn filter(level: &str) -> EnvFilter {
    // The transports' own debug lines would bury ours.
    let quiet = format!("{level},h2=warn,hyper=warn,hyper_util=warn,tower=warn,rustls=warn");
    EnvFilter::try_from_env(VARIABLE).unwrap_or_else(|_| EnvFilter::new(quiet))
}
