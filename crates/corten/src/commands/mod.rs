//! The verbs, one file each. A verb is a CRI client: it decides nothing that the runtime decides, and works
//! on any runtime.

pub mod config;
pub mod create;
pub mod daemon;
pub mod exec;
pub mod imagefsinfo;
pub mod images;
pub mod info;
pub mod inspect;
pub mod inspecti;
pub mod inspectp;
pub mod logs;
pub mod pack;
pub mod pods;
pub mod ps;
pub mod pull;
pub mod push;
pub mod reopen_log;
pub mod rm;
pub mod rmi;
pub mod rmp;
pub mod run;
pub mod runp;
pub mod start;
pub mod stop;
pub mod stopp;
pub mod upload;
pub mod version;

mod run_output;

use crate::cli::{Cli, Command};
use crate::config::Config;
use crate::endpoint::{self, Connection};
use crate::node::InProcess;
use crate::{bench, logging};
use runtime_manager::Client;
use std::collections::HashMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::Duration;
use tonic::transport::Channel;
use tonic::{Code, Response, Status};
use types::{Error, ErrorKind, Result};

/// Limit of a call that changes something; stopping and pulling have their own.
pub const CHANGE: Duration = Duration::from_secs(240);

/// What every verb needs.
pub struct Context {
    /// The configuration, read once.
    pub config: Config,
    /// The endpoint that was named.
    pub endpoint: Option<PathBuf>,
    /// Limit of a call that looks.
    pub timeout: Duration,
    /// The engine in this process, once a verb needed one.
    node: Mutex<Option<InProcess>>,
}

impl Context {
    /// Connects as [`endpoint::open`] says. An engine in this process lives until the verb has ended.
    pub async fn connect(&self) -> Result<(Channel, PathBuf)> {
        let Connection { channel, socket, node } =
            endpoint::open(self.endpoint.as_deref(), &self.config).await?;
        if let Ok(mut slot) = self.node.lock() {
            *slot = node;
        }
        Ok((channel, socket))
    }

    /// Connects, for verbs that need only the two services.
    pub async fn client(&self) -> Result<Client> {
        Ok(Client::new(self.connect().await?.0))
    }

    /// A call that looks.
    pub async fn look<T>(
        &self,
        what: &str,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T> {
        limited(self.timeout, what, call).await
    }
}

/// Runs the verb that was typed.
pub async fn run(cli: Cli) -> Result<ExitCode> {
    if let Command::Config(args) = cli.command {
        // It reports on configurations, and so must run with a broken one.
        return config::run(args, cli.config);
    }
    let context = Context {
        config: Config::load(cli.config.as_deref())?,
        endpoint: cli.endpoint,
        timeout: cli.timeout,
        node: Mutex::new(None),
    };
    if let Command::Daemon(args) = cli.command {
        logging::daemon(&context.config.log, cli.debug);
        return daemon::run(args, context).await;
    }
    logging::verb(cli.debug);
    let outcome = verb(cli.command, &context).await;
    if let Some(node) = context.node.into_inner().ok().flatten() {
        node.close().await?;
    }
    outcome
}

async fn verb(command: Command, context: &Context) -> Result<ExitCode> {
    match command {
        // Both were answered above.
        Command::Config(_) | Command::Daemon(_) => Ok(ExitCode::SUCCESS),
        Command::Run(args) => run::run(args, context).await,
        Command::Pods(args) => pods::run(args, context).await,
        Command::Ps(args) => ps::run(args, context).await,
        Command::Images(args) => images::run(args, context).await,
        Command::Pull(args) => pull::run(args, context).await,
        Command::Push(args) => push::run(args, context).await,
        Command::Pack(args) => pack::run(args, context).await,
        Command::Logs(args) => logs::run(args, context).await,
        Command::Exec(args) => exec::run(args, context).await,
        Command::Inspect(args) => inspect::run(args, context).await,
        Command::Inspectp(args) => inspectp::run(args, context).await,
        Command::Inspecti(args) => inspecti::run(args, context).await,
        Command::Runp(args) => runp::run(args, context).await,
        Command::Create(args) => create::run(args, context).await,
        Command::Start(args) => start::run(args, context).await,
        Command::Stop(args) => stop::run(args, context).await,
        Command::Stopp(args) => stopp::run(args, context).await,
        Command::Rm(args) => rm::run(args, context).await,
        Command::Rmp(args) => rmp::run(args, context).await,
        Command::Rmi(args) => rmi::run(args, context).await,
        Command::Imagefsinfo(args) => imagefsinfo::run(args, context).await,
        Command::ReopenLog(args) => reopen_log::run(args, context).await,
        Command::Info(args) => info::run(args, context).await,
        Command::Version(args) => version::run(args, context).await,
        Command::Bench(args) => {
            let endpoint = context.endpoint.as_deref().unwrap_or(&context.config.grpc.address);
            let report = bench::run(endpoint, &args)
                .await
                .map_err(|error| Error::with_source(ErrorKind::Internal, "cannot measure", error))?;
            crate::output::print(&report)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Waits for a call no longer than `limit`, and turns a status into an error with a kind.
pub async fn limited<T>(
    limit: Duration,
    what: &str,
    call: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<T> {
    match tokio::time::timeout(limit, call).await {
        Ok(outcome) => outcome.map(Response::into_inner).map_err(|status| failed(what, &status)),
        Err(_) => Err(Error::new(
            ErrorKind::DeadlineExceeded,
            format!("cannot {what}: the runtime did not answer within {limit:?}"),
        )),
    }
}

/// The error of a call, in one sentence. The status' own text already names what the runtime tried.
pub fn failed(what: &str, status: &Status) -> Error {
    let kind = match status.code() {
        Code::NotFound => ErrorKind::NotFound,
        Code::InvalidArgument | Code::OutOfRange => ErrorKind::InvalidArgument,
        Code::AlreadyExists => ErrorKind::AlreadyExists,
        Code::FailedPrecondition => ErrorKind::FailedPrecondition,
        Code::PermissionDenied | Code::Unauthenticated => ErrorKind::PermissionDenied,
        Code::ResourceExhausted => ErrorKind::ResourceExhausted,
        Code::DeadlineExceeded => ErrorKind::DeadlineExceeded,
        Code::Unavailable => ErrorKind::Unavailable,
        Code::Unimplemented => ErrorKind::Unimplemented,
        _ => ErrorKind::Internal,
    };
    Error::new(kind, format!("cannot {what}: {}", status.message()))
}

/// Does something for each id. Every failure is printed, and one makes the verb fail.
pub async fn each<F: Future<Output = Result<()>>>(
    ids: &[String],
    mut work: impl FnMut(String) -> F,
) -> Result<ExitCode> {
    let mut code = ExitCode::SUCCESS;
    for id in ids {
        match work(id.clone()).await {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::Cancelled => return Err(error),
            Err(error) => {
                eprintln!("corten: {}", crate::output::clean(&error.chain()));
                code = ExitCode::FAILURE;
            }
        }
    }
    Ok(code)
}

/// Reads `500ms`, `2s`, `1m30s`, `2h`, or seconds without a unit, as Go's durations.
pub fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no duration; write it as 500ms, 10s or 1m30s");
    if let Ok(seconds) = text.parse::<u64>() {
        return Ok(Duration::from_secs(seconds));
    }
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
        let number: f64 = rest[..digits].parse().map_err(|_| wrong())?;
        rest = &rest[digits..];
        let end = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let unit = match &rest[..end] {
            "ms" => 0.001,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            "d" => 86_400.0,
            _ => return Err(wrong()),
        };
        rest = &rest[end..];
        let part = Duration::try_from_secs_f64(number * unit).map_err(|_| wrong())?;
        total = total.checked_add(part).ok_or_else(wrong)?;
    }
    if text.is_empty() { Err(wrong()) } else { Ok(total) }
}

/// Reads `key=value`.
pub fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(format!("{text:?} must be KEY=VALUE")),
    }
}

/// Pairs as the map of a label selector.
pub fn selector(pairs: &[(String, String)]) -> HashMap<String, String> {
    pairs.iter().cloned().collect()
}

/// A filter by regular expression, as crictl's `--name`.
pub fn pattern(text: &str) -> Result<regex::Regex, String> {
    regex::RegexBuilder::new(text).size_limit(1 << 20).build().map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_gos() {
        assert_eq!(duration("10").unwrap(), Duration::from_secs(10));
        assert_eq!(duration("1m30s").unwrap(), Duration::from_secs(90));
        assert_eq!(duration("1.5h").unwrap(), Duration::from_secs(5400));
        assert_eq!(duration("500ms").unwrap(), Duration::from_millis(500));
        for bad in ["", "s", "10x", "1h2", "-1s", "9e99s", "1..2s"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_pair_needs_a_key() {
        assert_eq!(pair("a=b=c").unwrap(), ("a".into(), "b=c".into()));
        assert!(pair("a").is_err() && pair("=b").is_err());
    }
}
