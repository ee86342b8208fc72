//! `corten run`: runs the pods of a manifest here and now, shows their output, and removes them at the end.
//! What the fields of a pod mean is `runtime_manager`'s; this file is the terminal around it.

use super::{Context, run_output};
use crate::output::{self, table};
use runtime_manager::{
    Control, Error as RunError, Manager, Manifest, Options, Outcome, Running, Step, Stop, manifest,
};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use types::{Error, ErrorKind, Result};

const LONG: &str = "\
Runs the pods of a YAML file and shows their output, each line after the name of its container.

The pods run by the daemon when one answers, else by an engine in this process; nothing needs to be set up. \
Ctrl-C stops them with their grace period and removes them, a second one kills them. The exit code is 0 when \
every container succeeded, else that of the first that failed.

Fields of a pod that are not supported are refused by their path and never ignored; --fields lists what is \
supported. A pod without a seccomp profile gets the runtime's default one.";

/// Flags of `run`.
#[derive(Debug, clap::Args)]
#[command(long_about = LONG)]
pub struct Args {
    /// The manifest: one or more v1 Pods; - reads standard input
    #[arg(value_name = "POD.yaml", required_unless_present = "fields")]
    file: Option<PathBuf>,
    /// Leave the pods running, and print their ids and addresses
    #[arg(short, long)]
    detach: bool,
    /// Do not remove the pods when they have ended
    #[arg(long, conflicts_with = "detach")]
    keep: bool,
    /// Print where the time of the start went
    #[arg(long)]
    timings: bool,
    /// Do not write the name of the container before each line
    #[arg(long, conflicts_with = "detach")]
    no_prefix: bool,
    /// The runtime handler of pods without runtimeClassName
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    runtime: String,
    /// List the fields of a pod that are honoured, without effect, or refused
    #[arg(long)]
    fields: bool,
}

/// Runs the verb.
pub async fn run(args: Args, context: &Context) -> Result<ExitCode> {
    if args.fields {
        let rows = manifest::schema::describe().into_iter().map(|(field, rule)| vec![field, rule]).collect();
        output::print(&table::table(&["FIELD", "WHAT IS DONE WITH IT"], rows))?;
        return Ok(ExitCode::SUCCESS);
    }
    let file = args.file.clone().unwrap_or_default();
    let manifests = manifest::read(&file).map_err(refused)?;
    for manifest in &manifests {
        manifest.warnings.iter().for_each(|warning| say(&format!("warning: {warning}")));
    }
    let (channel, socket) = context.connect().await?;
    let manager =
        Manager::new(channel, Options { runtime_handler: args.runtime.clone(), ..options(context, &socket) });
    sweep(&manager).await;
    let (ask, asked) = watch::channel(Stop::No);
    let ask = Arc::new(ask);
    let last_signal = Arc::new(AtomicI32::new(0));
    let signals = tokio::spawn(listen(ask.clone(), last_signal.clone()));
    let many = manifests.len() > 1;
    let code = if args.detach {
        detached(&manager, &manifests, &args, asked).await?
    } else {
        let all =
            manifests.iter().map(|manifest| attached(&manager, manifest, &args, many, asked.clone(), &ask));
        let codes = futures_util::future::join_all(all).await;
        let signal = last_signal.load(Ordering::Relaxed);
        // A shell's way to say that a signal ended it.
        if signal != 0 { 128 + signal } else { codes.into_iter().find(|code| *code != 0).unwrap_or(0) }
    };
    signals.abort();
    Ok(super::exec::code(code))
}

/// Where runs at this endpoint keep volumes and logs.
pub fn options(context: &Context, socket: &Path) -> Options {
    Options::for_this_node(&context.config.root.join("run"), &socket.display().to_string())
}

/// Removes volumes and logs whose pods are gone. What cannot be removed now stays for the next time.
pub async fn sweep(manager: &Manager) {
    if let Err(error) = manager.sweep().await {
        tracing::debug!("the remains of earlier runs stay: {error}");
    }
}

/// One pod from start to removal. Errors are printed here, so that they stand beside the pod's name.
async fn attached(
    manager: &Manager,
    manifest: &Manifest,
    args: &Args,
    many: bool,
    stop: watch::Receiver<Stop>,
    ask: &watch::Sender<Stop>,
) -> i32 {
    let name = manifest.pod.metadata.name.clone().unwrap_or_default();
    let label = many.then(|| name.clone());
    let (send, events) = mpsc::unbounded_channel();
    let control = Control { events: Some(send), stop };
    let showing = tokio::spawn(run_output::show(events, label, !args.no_prefix));
    let mut running = match manager.start(&manifest.pod, &control).await {
        Ok(running) => running,
        Err(error) => {
            drop(control);
            let _ = showing.await;
            if !matches!(error, RunError::Stopped) {
                say(&format!("pod {name}: {}", chain(&error)));
                // The pods of a file belong together.
                ask.send_if_modified(|asked| {
                    std::mem::replace(asked, (*asked).max(Stop::Graceful)) == Stop::No
                });
            }
            return if let RunError::Init { code, .. } = error { code } else { 1 };
        }
    };
    up(&running, args);
    let mut code = match manager.wait(&mut running, &control).await {
        Ok(Outcome::Finished { code }) => code,
        Ok(Outcome::Stopped) => 0,
        Ok(Outcome::SandboxLost) => {
            say(&format!("pod {name}: its sandbox is gone, so that its containers cannot be restarted"));
            1
        }
        Err(error) => {
            say(&format!("pod {name}: {}", chain(&error)));
            1
        }
    };
    if let Err(error) = manager.stop(&running, None, &control).await {
        say(&format!("pod {name}: {}", chain(&error)));
        code = code.max(1);
    }
    // The output is read to its end before the logs are removed.
    drop(control);
    let _ = showing.await;
    if args.keep {
        say(&format!("pod {name} is kept: remove it with `corten rmp {}`", running.pod_id));
    } else if let Err(error) = manager.remove(&running).await {
        say(&format!("pod {name}: {}", chain(&error)));
        code = code.max(1);
    }
    code
}

/// Starts every pod and leaves them; when one fails, those that are up are taken down again.
async fn detached(
    manager: &Manager,
    manifests: &[Manifest],
    args: &Args,
    stop: watch::Receiver<Stop>,
) -> Result<i32> {
    let control = Control { events: None, stop };
    let mut up_now: Vec<Running> = Vec::new();
    for manifest in manifests {
        match manager.start(&manifest.pod, &control).await {
            Ok(running) => {
                up(&running, args);
                up_now.push(running);
            }
            Err(error) => {
                for running in &up_now {
                    let grace = Some(Duration::from_secs(2));
                    if let Err(error) = manager.stop(running, grace, &control).await {
                        say(&chain(&error));
                    }
                    if let Err(error) = manager.remove(running).await {
                        say(&chain(&error));
                    }
                }
                return Err(refused(error));
            }
        }
    }
    for (running, manifest) in up_now.iter().zip(manifests) {
        let ip = running.ips.first().map_or("-", String::as_str);
        output::print(&format!("{}  {ip}", running.pod_id))?;
        let policy = manifest.pod.spec.as_ref().and_then(|spec| spec.restart_policy.as_deref());
        if policy != Some("Never") {
            say(&format!(
                "nothing restarts the containers of {} once this command has ended",
                running.identity.name
            ));
        }
    }
    Ok(0)
}

/// Tells that a pod is up.
fn up(running: &Running, args: &Args) {
    if args.timings {
        eprint!("{}", timings(&running.steps));
    } else if !args.detach && std::io::IsTerminal::is_terminal(&std::io::stderr()) {
        let end = running.steps.iter().map(|step| step.at + step.took).max().unwrap_or_default();
        let at = running.ips.first().map_or(String::new(), |ip| format!(" at {ip}"));
        say(&format!("pod {} is up{at} after {}", running.identity.name, millis(end)));
    }
}

/// The steps of a start: what, how long, and its share of the whole.
fn timings(steps: &[Step]) -> String {
    let end = steps.iter().map(|step| step.at + step.took).max().unwrap_or_default();
    let share = |took: Duration| format!("{:.0} %", 100.0 * took.as_secs_f64() / end.as_secs_f64().max(1e-9));
    let mut rows: Vec<Vec<String>> =
        steps.iter().map(|step| vec![step.name.clone(), millis(step.took), share(step.took)]).collect();
    let sum: Duration = steps.iter().map(|step| step.took).sum();
    if let Some(rest) = end.checked_sub(sum) {
        rows.push(vec!["between steps".into(), millis(rest), share(rest)]);
    }
    rows.push(vec!["whole start".into(), millis(end), "100 %".into()]);
    table::table(&["STEP", "TIME", "SHARE"], rows)
}

fn millis(time: Duration) -> String {
    if time >= Duration::from_secs(10) {
        format!("{:.1} s", time.as_secs_f64())
    } else {
        format!("{:.1} ms", time.as_secs_f64() * 1000.0)
    }
}

/// The first signal asks to stop, the second to kill. Later ones change nothing.
async fn listen(ask: Arc<watch::Sender<Stop>>, last: Arc<AtomicI32>) {
    // A closed terminal (SIGHUP) asks as well: nobody would see the pod any more.
    let (Ok(mut interrupt), Ok(mut terminate), Ok(mut hangup)) =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()), signal(SignalKind::hangup()))
    else {
        return say("cannot listen for signals; Ctrl-C will leave the pods running");
    };
    loop {
        let kind = tokio::select! {
            _ = interrupt.recv() => SignalKind::interrupt(),
            _ = terminate.recv() => SignalKind::terminate(),
            _ = hangup.recv() => SignalKind::hangup(),
        };
        let first = last.swap(kind.as_raw_value(), Ordering::Relaxed) == 0;
        if first {
            say("stopping; once more to kill");
        }
        let level = if first { Stop::Graceful } else { Stop::Now };
        ask.send_modify(|asked| *asked = (*asked).max(level));
    }
}

/// A line of ours among the containers' lines.
pub fn say(text: &str) {
    // A terminal that is gone must not end the command before it has stopped its pod.
    let _ = writeln!(std::io::stderr(), "corten: {}", output::clean(text));
}

fn chain(error: &RunError) -> String {
    types::error::chain(error)
}

/// A failure of the manager as ours.
fn refused(error: RunError) -> Error {
    let kind = match &error {
        RunError::File { .. } => ErrorKind::NotFound,
        RunError::Syntax { .. } | RunError::Manifest { .. } | RunError::Refused { .. } => {
            ErrorKind::InvalidArgument
        }
        _ => ErrorKind::Internal,
    };
    Error::new(kind, chain(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_timings_add_up_to_the_whole_start() {
        let ms = Duration::from_millis;
        let steps = [
            Step { name: "pull image a".into(), at: ms(0), took: ms(60) },
            Step { name: "start the sandbox".into(), at: ms(70), took: ms(30) },
        ];
        let text = timings(&steps);
        let wanted = "STEP                TIME       SHARE\npull image a        60.0 ms    60 %\nstart the sandbox   30.0 ms    30 %\nbetween steps       10.0 ms    10 %\nwhole start         100.0 ms   100 %\n";
        assert_eq!(text, wanted);
    }
}
