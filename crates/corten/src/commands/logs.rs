//! `corten logs`: shows what a container wrote, by reading its log file as the kubelet does. The runtime is
//! only asked where the file is.

use super::{Context, limited};
use cri_api::v1::{ContainerState, ContainerStatusRequest};
use cri_log::Stream;
use cri_log::read::{Options, Reader};
use runtime_manager::Client;
use std::io::{BufWriter, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use types::{Error, ErrorKind, Result};

/// How often the runtime is asked whether a followed container still runs.
const POLL: Duration = Duration::from_millis(500);

/// Flags of `logs`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The container
    #[arg(value_name = "CONTAINER ID")]
    id: String,
    /// Wait for more until the container ends
    #[arg(short, long)]
    follow: bool,
    /// Only the last N lines
    #[arg(long, visible_alias = "lines", value_name = "N", allow_negative_numbers = true)]
    tail: Option<i64>,
    /// Only lines since a time, as 2026-01-31T12:00:00Z, or in the last 10m
    #[arg(long, value_name = "TIME", value_parser = since)]
    since: Option<i64>,
    /// Print the time of each line
    #[arg(short, long)]
    timestamps: bool,
    /// The container before the last restart
    #[arg(short, long)]
    previous: bool,
    /// Print at most so many bytes
    #[arg(long, value_name = "N")]
    limit_bytes: Option<u64>,
}

/// Reads an RFC 3339 time, or a duration back from now. Nanoseconds since 1970.
fn since(text: &str) -> Result<i64, String> {
    if let Some(nanos) = cri_log::parse_rfc3339(text.as_bytes()) {
        return Ok(nanos);
    }
    let back = super::duration(text)
        .map_err(|_| format!("{text:?} is no time; write it as 2026-01-31T12:00:00Z or 10m"))?;
    Ok(types::time::now_nanos().saturating_sub(i64::try_from(back.as_nanos()).unwrap_or(i64::MAX)))
}

/// Runs the verb.
pub async fn run(args: Args, context: &Context) -> Result<ExitCode> {
    let mut client = context.client().await?;
    let request = ContainerStatusRequest { container_id: args.id.clone(), verbose: false };
    let answer = context.look("look at the container", client.runtime.container_status(request)).await?;
    let status = answer.status.unwrap_or_default();
    let attempt = status.metadata.clone().unwrap_or_default().attempt;
    if status.log_path.is_empty() {
        return Err(Error::precondition(format!("container {} writes no log", args.id)));
    }
    let mut path = PathBuf::from(&status.log_path);
    if args.previous {
        let Some(before) = attempt.checked_sub(1) else {
            return Err(Error::not_found(format!("container {} was never restarted", args.id)));
        };
        path.set_file_name(format!("{before}.log"));
    }
    let running = Arc::new(AtomicBool::new(
        args.follow && !args.previous && status.state != ContainerState::ContainerExited as i32,
    ));
    let asking = tokio::spawn(ask(client, status.id, running.clone()));
    let timestamps = args.timestamps;
    let options = Options {
        tail: args.tail.and_then(|lines| u64::try_from(lines).ok()),
        since: args.since,
        limit_bytes: args.limit_bytes,
        stream: None,
    };
    let reading = tokio::task::spawn_blocking(move || show(&path, options, timestamps, &running));
    let outcome = tokio::select! {
        outcome = reading => outcome.unwrap_or_else(|_| Err(Error::internal("reading the log ended early"))),
        _ = tokio::signal::ctrl_c() => Ok(()),
    };
    asking.abort();
    outcome.map(|()| ExitCode::SUCCESS)
}

/// Keeps `running` up to date. What cannot be asked counts as ended.
async fn ask(mut client: Client, id: String, running: Arc<AtomicBool>) {
    while running.load(Ordering::Relaxed) {
        tokio::time::sleep(POLL).await;
        let request = ContainerStatusRequest { container_id: id.clone(), verbose: false };
        let answer = limited(Duration::from_secs(10), "look", client.runtime.container_status(request)).await;
        let state = answer.ok().and_then(|answer| answer.status).map(|status| status.state);
        running.store(
            state.is_some_and(|state| {
                state == ContainerState::ContainerRunning as i32
                    || state == ContainerState::ContainerCreated as i32
            }),
            Ordering::Relaxed,
        );
    }
}

fn show(path: &Path, options: Options, timestamps: bool, running: &AtomicBool) -> Result<()> {
    let failed = |error: cri_log::Error| {
        Error::with_source(ErrorKind::Internal, format!("cannot read the log {}", path.display()), error)
    };
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(Error::internal(format!("the runtime names no log file: {}", path.display())));
    };
    let mut reader = Reader::open(folder, Path::new(name), options).map_err(failed)?;
    let following = running.load(Ordering::Relaxed);
    let (mut out, mut err) =
        (BufWriter::new(std::io::stdout().lock()), BufWriter::new(std::io::stderr().lock()));
    let mut broken = None;
    let followed = reader.follow(
        || running.load(Ordering::Relaxed),
        |piece| {
            let mut to: &mut dyn Write = if piece.stream == Stream::Stderr { &mut err } else { &mut out };
            // Who follows wants to see a line at once; a whole log is faster in large writes.
            let shown =
                piece.print(&mut to, timestamps).and_then(|()| if following { to.flush() } else { Ok(()) });
            match shown {
                Ok(()) => ControlFlow::Continue(()),
                Err(error) => {
                    broken = Some(error);
                    ControlFlow::Break(())
                }
            }
        },
    );
    let broken = broken.or(out.flush().and(err.flush()).err());
    match broken {
        // Our reader went away: the same as its end.
        Some(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        Some(error) => Err(Error::with_source(ErrorKind::Internal, "cannot write the log", error)),
        None => followed.map_err(failed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn since_takes_a_time_or_a_duration() {
        assert_eq!(since("2020-09-13T12:26:40Z").unwrap(), 1_600_000_000_000_000_000);
        let then = since("10m").unwrap();
        let back = types::time::now_nanos() - then;
        assert!((600_000_000_000..601_000_000_000).contains(&back), "{back}");
        assert!(since("yesterday").is_err());
    }
}
