//! Running a hook: the container's state on its input, its own environment and nothing of ours, no descriptor but the
//! standard ones, and a bound on its time. When which hook runs is for others to say.

use crate::failure::{Failure, Step, Tried, describe};
use crate::plan::Hook;
use crate::report::{self, Report};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::{MemfdFlags, SeekFrom};
use rustix::io::Errno;
use rustix::process::{WaitId, WaitIdOptions, WaitIdStatus, waitid};
use std::convert::Infallible;
use std::ffi::CString;
use std::time::{Duration, Instant};
use sys::process::{Child, Fork, Image};

/// SIGKILL.
const KILL: i32 = 9;

/// Runs hooks inside the container, in their order; the first that fails ends it. `state` is the plan's, `status` the
/// container's, and `last` is what each hook's process does before it executes the hook.
pub(crate) fn run_inside(
    name: &str,
    hooks: &[Hook],
    state: &str,
    status: &str,
    last: impl Fn() -> Step,
) -> Step {
    for hook in hooks {
        // The id of the process as it counts itself (OCI config.md, "POSIX-platform Hooks").
        let pid = rustix::process::getpid().as_raw_nonzero();
        let state = format!("{state},\"status\":\"{status}\",\"pid\":{pid}}}");
        run_with(hook, &state, &last).map_err(|failure| Failure {
            message: format!("the {name} hook {} failed: {failure}", hook.path),
            ..failure
        })?;
    }
    Ok(())
}

/// Runs one hook in this process's namespaces and waits for its end.
pub fn run(hook: &Hook, state: &str) -> Step {
    run_with(hook, state, &|| Ok(()))
}

fn run_with(hook: &Hook, state: &str, last: &impl Fn() -> Step) -> Step {
    let text = |text: &str| {
        CString::new(text).map_err(|_| Failure::request("an argument or variable has a NUL byte in it"))
    };
    let path = text(&hook.path)?;
    let mut args = hook.args.iter().map(|arg| text(arg)).collect::<Step<Vec<_>>>()?;
    if args.is_empty() {
        args.push(path.clone());
    }
    let env = hook.env.iter().map(|variable| text(variable)).collect::<Step<Vec<_>>>()?;
    let image = Image::new(args, env);
    // A file in memory, so that a hook that never reads its input cannot hold us up.
    let input =
        rustix::fs::memfd_create("state", MemfdFlags::CLOEXEC).tried(|| "cannot make its input".into())?;
    rustix::io::write(&input, state.as_bytes())
        .and_then(|_| rustix::fs::seek(&input, SeekFrom::Start(0)))
        .tried(|| "cannot write its input".into())?;
    let (sender, receiver) = report::pair()?;
    match sys::process::fork(0, None).tried(|| "it cannot be forked".into())? {
        Fork::Child => {
            let failure = match become_hook(input.as_fd(), &path, &image, last, &sender) {
                Ok(never) => match never {},
                Err(failure) => failure,
            };
            let _ = sender.send(&Report::Failed(failure), None);
            sys::process::exit_now(1)
        }
        Fork::Parent(child) => {
            drop(sender);
            let ended = wait(&child, hook.timeout);
            // Our end of the report is the last thing that is left of the fork.
            if let Ok(Some(Some((Report::Failed(failure), _)))) = receiver.try_receive() {
                return Err(failure);
            }
            ended
        }
    }
}

fn become_hook(
    input: BorrowedFd<'_>,
    path: &CString,
    image: &Image,
    last: &impl Fn() -> Step,
    report: &report::Sender,
) -> Step<Infallible> {
    sys::process::set_stdio(input, 0).tried(|| "cannot give it its input".into())?;
    sys::signal::restore_defaults().tried(|| "cannot reset signals".into())?;
    sys::process::close_others_and(3, &[report.as_fd()], || {
        let failure = last().err().unwrap_or_else(|| {
            let errno = Errno::from_io_error(&image.exec(path)).unwrap_or(Errno::IO);
            Failure::request(format!("it cannot be executed: {}", describe(errno)))
        });
        let _ = report.send(&Report::Failed(failure), None);
        sys::process::exit_now(1)
    })
    .tried(|| "cannot close descriptors".into())
}

/// Waits for the end of a hook, and kills it when its time is over.
fn wait(child: &Child, seconds: Option<u32>) -> Step {
    let late = match seconds {
        Some(seconds) => !ends_within(child, Duration::from_secs(seconds.into())),
        None => false,
    };
    if late {
        let _ = sys::signal::send(child.pidfd.as_fd(), KILL);
    }
    let end = rustix::io::retry_on_intr(|| waitid(WaitId::PidFd(child.pidfd.as_fd()), WaitIdOptions::EXITED))
        .tried(|| "it cannot be waited for".into())?;
    match (late, seconds) {
        (true, Some(seconds)) => {
            Err(Failure::request(format!("it did not end within its timeout of {seconds} s, and was killed")))
        }
        _ => judge(end),
    }
}

fn judge(end: Option<WaitIdStatus>) -> Step {
    let Some(end) = end else { return Err(Failure::system("it cannot be waited for")) };
    match (end.exit_status(), end.terminating_signal()) {
        (Some(0), _) => Ok(()),
        (Some(code), _) => Err(Failure::request(format!("exit status {code}"))),
        (None, Some(signal)) => Err(Failure::request(format!("it was ended by signal {signal}"))),
        (None, None) => Err(Failure::request("it ended in an unknown way")),
    }
}

fn ends_within(child: &Child, timeout: Duration) -> bool {
    let start = Instant::now();
    loop {
        let Some(left) = timeout.checked_sub(start.elapsed()) else { return false };
        let left =
            Timespec { tv_sec: left.as_secs().min(1 << 30) as i64, tv_nsec: i64::from(left.subsec_nanos()) };
        match poll(&mut [PollFd::new(&child.pidfd, PollFlags::IN)], Some(&left)) {
            Ok(0) | Err(Errno::INTR) => {}
            _ => return true,
        }
    }
}
