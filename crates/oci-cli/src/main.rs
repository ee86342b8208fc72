//! runc's command line on the container library: one process, one verb, one thread, then it leaves.
//!
//! What a specification asks for and this program cannot do is refused by its name; nothing is left out in
//! silence. It is no daemon: what lives on is the container's process, its cgroup and its state folder.

mod arguments;
mod bring_up;
mod bundle;
mod console;
mod delete;
mod device_rules;
mod exec;
mod features;
mod folder;
mod foreground;
mod hooks;
mod id;
mod identity;
mod kill;
mod launch;
mod limits;
mod list;
mod log;
mod pid_file;
mod ps;
mod record;
mod run;
mod sealed;
mod spec_file;
mod start;
mod teardown;

use arguments::{Arguments, Verb};
use clap::Parser;
use log::{Level, Log};
use std::path::PathBuf;
use std::process::ExitCode;
use types::{Error, Result};

/// What every verb has at hand.
struct Context {
    /// The folder that holds one folder for each container.
    root: PathBuf,
    log: Log,
}

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version are "errors" of the parser, too. A reader that is gone is no reason to panic.
            let _ = error.print();
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
    let context = Context { root: arguments.root, log };
    match dispatch(&context, arguments.verb, arguments.systemd_cgroup) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            context.log.write(Level::Error, &error.chain());
            // As runc's: a container's exit code is told apart from a failure of the program (`exec.go`).
            ExitCode::from(failed)
        }
    }
}

fn dispatch(context: &Context, verb: Verb, systemd_cgroup: bool) -> Result<u8> {
    if systemd_cgroup {
        return Err(Error::new(
            types::ErrorKind::Unimplemented,
            "--systemd-cgroup: systemd's scopes are not built yet; leave it out, and give the caller its cgroupfs driver",
        ));
    }
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
        Verb::State(a) => list::state(context, &a.id).map(fine),
        Verb::List(a) => list::list(context, &a).map(fine),
        Verb::Ps(a) => ps::ps(context, &a).map(fine),
        Verb::Spec(a) => spec_file::write(&a).map(fine),
        Verb::Features => features::print_features().map(fine),
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
