//! ExecSync: one more process, its output brought back, bounded in size and time.

use super::Container;
use crate::api::ExecOutput;
use crate::parts::{Shared, blocking};
use crate::record::{ContainerPhase, plan_name};
use cgroups::{Entry, Scope};
use container::plan::{LaunchPlan, PLAN_MAX, ResolvedUser};
use monitor::{Exec, ExecStdio, Monitor};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::pipe::{PipeFlags, pipe_with};
use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;
use types::{Error, ErrorKind, Result};

/// The most output that is brought back, both streams together, in bytes: what one gRPC message holds.
const OUTPUT_MAX: usize = (16 << 20) - (64 << 10);
/// How long output is awaited after the command has ended: a background child may hold the pipes open for
/// ever (CVE-2026-53495), but what the command itself wrote is in them already.
const DRAIN_LIMIT: Duration = Duration::from_millis(100);

pub(crate) async fn exec_sync(
    shared: &Arc<Shared>,
    id: &str,
    cmd: Vec<String>,
    timeout: Option<Duration>,
) -> Result<ExecOutput> {
    let container = shared.registry.container(id)?;
    if container.phase() != ContainerPhase::Running {
        return Err(Error::precondition(format!("container {} does not run", container.id)));
    }
    let monitor = container.pod.monitor().ok_or_else(|| Error::precondition("the pod's monitor is gone"))?;
    let number = container.execs.fetch_add(1, Ordering::Relaxed);
    let (plan, scope) = {
        let (shared, container) = (shared.clone(), container.clone());
        blocking(move || prepare(&shared, &container, &cmd, number)).await?
    };
    let mut leash = Leash { scope: Some(scope), finished: false };
    let run = run(&container, &monitor, number, plan, leash.entry()?);
    let output = match timeout {
        None => run.await,
        Some(limit) => tokio::time::timeout(limit, run).await.unwrap_or_else(|_| {
            Err(Error::new(
                ErrorKind::DeadlineExceeded,
                format!(
                    "the command in container {} did not end within {} s and was killed",
                    container.id,
                    limit.as_secs_f64()
                ),
            ))
        }),
    };
    leash.finished = output.is_ok();
    output
}

/// The cgroup of one command. Where its caller went away, its time is up or it wrote too much, everything that
/// it started is killed, whatever session it moved to. What a command that ended left in the background stays,
/// and goes with the container.
struct Leash {
    scope: Option<Scope>,
    finished: bool,
}

impl Leash {
    fn entry(&self) -> Result<Entry> {
        match &self.scope {
            Some(scope) => scope.entry(),
            None => Err(Error::internal("the command has no cgroup")),
        }
    }
}

impl Drop for Leash {
    fn drop(&mut self) {
        let Some(scope) = self.scope.take() else { return };
        let finished = self.finished;
        tokio::task::spawn_blocking(move || {
            let killed = if finished { Ok(()) } else { scope.kill() };
            if let Err(error) = killed.and_then(|()| scope.remove()) {
                tracing::warn!(cgroup = scope.path(), error = %error.chain(), "the cgroup of a command stays until its container goes");
            }
        });
    }
}

/// The plan as a memory file, and a cgroup for the command below the container's.
fn prepare(shared: &Shared, container: &Container, cmd: &[String], number: u64) -> Result<(OwnedFd, Scope)> {
    let path = container.pod.path.join(plan_name(&container.id));
    let fail =
        |e: std::io::Error| Error::with_source(ErrorKind::Internal, "the container's plan cannot be read", e);
    let mut bytes = Vec::new();
    std::fs::File::open(&path).map_err(fail)?.take(PLAN_MAX as u64).read_to_end(&mut bytes).map_err(fail)?;
    let plan = LaunchPlan::decode(&bytes)
        .map_err(|e| Error::internal(format!("the container's plan cannot be read: {e}")))?;
    let user = container.record().user.as_ref().map(|u| ResolvedUser {
        uid: u.uid,
        gid: u.gid,
        groups: u.groups.clone(),
    });
    let exec = spec::exec(container.id.as_str(), &plan.process, user.as_ref(), cmd, false)?;
    let encoded = exec.encode().map_err(|e| Error::internal(format!("cannot encode the exec plan: {e}")))?;
    let memory = memfd_create("exec-plan", MemfdFlags::CLOEXEC).map_err(|e| fail(e.into()))?;
    let mut file = std::fs::File::from(memory);
    file.write_all(&encoded).map_err(fail)?;
    let group = shared.parts.cgroups.open(&container.cgroup())?;
    let group = group.ok_or_else(|| Error::precondition(format!("container {} has ended", container.id)))?;
    Ok((file.into(), group.scope(&format!("exec-{number}"))?))
}

async fn run(
    container: &Container,
    monitor: &Monitor,
    number: u64,
    plan: OwnedFd,
    entry: Entry,
) -> Result<ExecOutput> {
    let (stdout, stdout_end) = pipe()?;
    let (stderr, stderr_end) = pipe()?;
    let request = Exec {
        container: container.id.to_string(),
        exec: number,
        stdio: ExecStdio { stdin: false, stdout: true, stderr: true },
        has_cgroup: entry.directory.is_some(),
        tasks: u8::try_from(entry.tasks.len())
            .map_err(|_| Error::internal("this machine has too many cgroup hierarchies"))?,
        little_memory: container::warm::is_little(container.record().resources.memory_limit),
    };
    let mut fds: Vec<BorrowedFd<'_>> = vec![plan.as_fd(), stdout_end.as_fd(), stderr_end.as_fd()];
    fds.extend(entry.directory.as_ref().map(AsFd::as_fd));
    fds.extend(entry.tasks.iter().map(AsFd::as_fd));
    let (_, exit) = monitor.exec(request, &fds).await?;
    drop((stdout_end, stderr_end, entry, plan));
    let mut output = Output { stdout: Vec::new(), stderr: Vec::new() };
    let exit_code = output.collect(stdout, stderr, exit).await?;
    Ok(ExecOutput { stdout: output.stdout, stderr: output.stderr, exit_code })
}

struct Output {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

impl Output {
    /// Reads both streams until the command has ended and they are empty.
    async fn collect(
        &mut self,
        mut out: Receiver,
        mut err: Receiver,
        exit: tokio::sync::oneshot::Receiver<i32>,
    ) -> Result<i32> {
        let (stdout, stderr) = (&mut self.stdout, &mut self.stderr);
        let mut reading =
            Box::pin(
                async move { tokio::try_join!(read(&mut out, stdout), read(&mut err, stderr)).map(|_| ()) },
            );
        let mut exit = exit;
        let mut read_to_the_end = false;
        let code = loop {
            tokio::select! {
                result = &mut reading, if !read_to_the_end => {
                    result?;
                    read_to_the_end = true;
                }
                code = &mut exit => break code.map_err(|_| Error::new(ErrorKind::Unavailable, "the pod's monitor ended during the command"))?,
            }
        };
        if !read_to_the_end && let Ok(result) = tokio::time::timeout(DRAIN_LIMIT, &mut reading).await {
            result?;
        }
        Ok(code)
    }
}

async fn read(from: &mut Receiver, into: &mut Vec<u8>) -> Result<()> {
    let mut buffer = vec![0; 16 << 10];
    loop {
        match from.read(&mut buffer).await {
            Ok(0) => return Ok(()),
            // Half for each stream, so that both together stay within one message.
            Ok(count) if into.len() + count > OUTPUT_MAX / 2 => {
                return Err(Error::new(
                    ErrorKind::ResourceExhausted,
                    format!(
                        "the command wrote more than {} MiB to one stream and was killed",
                        (OUTPUT_MAX / 2) >> 20
                    ),
                ));
            }
            Ok(count) => into.extend_from_slice(&buffer[..count]),
            Err(e) => {
                return Err(Error::with_source(ErrorKind::Internal, "cannot read the command's output", e));
            }
        }
    }
}

fn pipe() -> Result<(Receiver, OwnedFd)> {
    let fail = |e: std::io::Error| {
        Error::with_source(ErrorKind::Internal, "cannot make a pipe for the command's output", e)
    };
    let (read, write) = pipe_with(PipeFlags::CLOEXEC).map_err(|e| fail(e.into()))?;
    rustix::fs::fcntl_setfl(&read, rustix::fs::OFlags::NONBLOCK).map_err(|e| fail(e.into()))?;
    Ok((Receiver::from_owned_fd(read).map_err(fail)?, write))
}
