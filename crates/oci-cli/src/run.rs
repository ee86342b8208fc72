//! `run`: create, start, and in the foreground wait for the end and delete.

use crate::arguments::Run;
use crate::bring_up::{Ready, bring_up};
use crate::foreground::Foreground;
use crate::hooks::{self, Moment};
use crate::{Context, launch, start, teardown};
use types::Result;

/// The verb. In the foreground the answer is the program's exit code.
pub fn run(context: &Context, asked: &Run) -> Result<u8> {
    // Before the fork, so that no signal is lost in between.
    let foreground = if asked.detach { None } else { Some(Foreground::enter(!asked.no_subreaper)?) };
    let ready = bring_up(context, &asked.create, foreground.is_some())?;
    let taken_down = |ready: &Ready| {
        let left = teardown::everything(&ready.folder, &ready.record, Some(&ready.bundle.spec), &context.log);
        for error in left {
            context.log.warn(&error.chain());
        }
    };
    let warm = start::warmed(&ready.record, Some(&ready.bundle.spec));
    let started = start::open_gate(&ready.folder, &ready.record)
        .and_then(|_| launch::until_executed(&ready.report, &context.log))
        .and_then(|()| hooks::run(Moment::Started, &ready.bundle.spec, &ready.record));
    drop(warm);
    if let Err(error) = started {
        taken_down(&ready);
        return Err(error);
    }
    let Some(foreground) = foreground else { return Ok(0) };
    let mut ready = ready;
    // Others may kill, exec and even delete it meanwhile.
    ready.folder.unlock();
    let code = foreground.wait(&ready.process, ready.terminal.take());
    if !asked.keep && ready.folder.lock().is_ok() {
        taken_down(&ready);
    }
    code
}
