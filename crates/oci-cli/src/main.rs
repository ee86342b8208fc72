//! runc's command line on the container library: one process, one verb, one thread, then it leaves.
//!
//! What a specification asks for and this program cannot do is refused by its name; nothing is left out in
//! silence. It is no daemon: what lives on is the container's process, its cgroup and its state folder.

mod arguments;
mod bring_up;
mod bundle;
mod capabilities;
mod console;
mod delete;
mod device_rules;
mod events;
mod exec;
mod features;
mod folder;
mod foreground;
mod group;
mod hooks;
mod id;
mod identity;
mod intel_rdt;
mod kill;
mod launch;
mod limits;
mod list;
mod listener;
mod log;
mod net_devices;
mod pause;
mod pid_file;
mod ps;
mod record;
mod run;
mod sealed;
mod socket;
mod spec_file;
mod start;
mod teardown;
mod terminal;
mod update;
mod user;
mod warm;

use arguments::{Arguments, Switch, Verb};
use log::{Level, Log};
use std::path::PathBuf;
use std::process::ExitCode;
use types::{Error, Result};

/// The version of the specification that this program is written after.
const SPECIFICATION: &str = "1.3.0";

/// What every verb has at hand.
struct Context {
    /// The folder that holds one folder for each container.
    root: PathBuf,
    log: Log,
    /// Systemd makes the cgroups of new containers.
    systemd_cgroup: bool,
    /// `--rootless`.
    rootless: Switch,
}

impl Context {
    /// Whether new containers may go without cgroups that this user may not make.
    fn rootless(&self) -> bool {
        match self.rootless {
            Switch::Yes => true,
            Switch::No => false,
            Switch::Auto => user::is_rootless(),
        }
    }
}

fn main() -> ExitCode {
    sealed::protect_early();
    let arguments = match Arguments::read(std::env::args_os()) {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version are "errors" of the parser, too. A reader that is gone is no reason to panic.
            let _ = error.print();
            if error.use_stderr() {
                log_usage(&error.to_string());
            }
            return ExitCode::from(u8::from(error.use_stderr()));
        }
    };
    let log = match Log::open(arguments.log.as_deref(), arguments.log_format, arguments.debug) {
        Ok(log) => log,
        Err(error) => {
            eprintln!("{}", error.chain());
            return ExitCode::FAILURE;
        }
    };
    let failed = if matches!(arguments.verb, Verb::Exec(_)) { 255 } else { 1 };
    let context = Context {
        root: arguments.root.unwrap_or_else(folder::default_root),
        log,
        systemd_cgroup: arguments.systemd_cgroup,
        rootless: arguments.rootless,
    };
    match dispatch(&context, arguments.verb) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            context.log.write(Level::Error, &error.chain());
            // As runc's: a container's exit code is told apart from a failure of the program (`exec.go`).
            ExitCode::from(failed)
        }
    }
}

/// Callers read the log for the reason of a failure, this one too. Its first line is the reason.
fn log_usage(message: &str) {
    let Some((path, format)) = Arguments::log_of(std::env::args_os()) else { return };
    let line = message.lines().next().unwrap_or_default();
    if let Ok(log) = Log::open(Some(&path), format, false) {
        log.record(Level::Error, line.strip_prefix("error: ").unwrap_or(line));
    }
}

fn dispatch(context: &Context, verb: Verb) -> Result<u8> {
    let fine = |()| 0;
    match verb {
        Verb::Create(a) => {
            sealed::protect(a.preserve_fds)?;
            bring_up::create(context, &a).map(fine)
        }
        Verb::Run(a) => {
            sealed::protect(a.create.preserve_fds)?;
            run::run(context, &a)
        }
        Verb::Exec(a) => {
            sealed::protect(a.preserve_fds)?;
            exec::exec(context, &a)
        }
        Verb::Start(a) => start::start(context, &a.id).map(fine),
        Verb::Kill(a) => kill::kill(context, &a).map(fine),
        Verb::Delete(a) => delete::delete(context, &a).map(fine),
        Verb::Pause(a) => pause::pause(context, &a.id).map(fine),
        Verb::Resume(a) => pause::resume(context, &a.id).map(fine),
        Verb::Update(a) => update::update(context, &a).map(fine),
        Verb::State(a) => list::state(context, &a.id).map(fine),
        Verb::List(a) => list::list(context, &a).map(fine),
        Verb::Ps(a) => ps::ps(context, &a).map(fine),
        Verb::Events(a) => events::events(context, &a).map(fine),
        Verb::Spec(a) => spec_file::write(&a).map(fine),
        Verb::Features => features::print_features().map(fine),
        Verb::Checkpoint(_) | Verb::Restore(_) => Err(Error::new(
            types::ErrorKind::Unimplemented,
            "checkpoint and restore are not offered: nothing here speaks to CRIU; use runc where they are needed",
        )),
    }
}

/// Prints to standard output; a reader that is gone is an error, not a panic.
fn print(text: &str) -> Result<()> {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(|e| Error::with_source(types::ErrorKind::Internal, "cannot write to standard output", e))
}
