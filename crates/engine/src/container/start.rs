//! StartContainer: the plan goes to the shim in one message.

use super::Container;
use super::exit::clean_cgroup;
use crate::api::ResolvedUser;
use crate::parts::{Shared, blocking};
use crate::record::{ContainerPhase, plan_name};
use crate::steps::{self, Step, nothing, step};
use cgroups::Entry;
use monitor::{PidNamespace, Start, Started};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use std::sync::Arc;
use sys::process::namespace;
use types::pod::NamespaceMode;
use types::time::now_nanos;
use types::{Error, ErrorKind, Result};

/// What happens, in order.
const STEPS: &[Step<Launch>] = &[
    step!("cgroup", Launch::make_cgroup, Launch::remove_cgroup),
    step!("log", Launch::make_log_folder, nothing),
    step!("launch", Launch::launch, nothing),
];

pub(crate) async fn start(shared: &Arc<Shared>, id: &str) -> Result<()> {
    let container = shared.registry.container(id)?;
    let shared = shared.clone();
    let flights = &shared.clone().flights;
    flights.join(format!("start/{}", container.id), move || start_once(shared, container)).await
}

async fn start_once(shared: Arc<Shared>, container: Arc<Container>) -> Result<()> {
    let _operation = container.operation.lock().await;
    match container.phase() {
        ContainerPhase::Created => {}
        ContainerPhase::Running => return Ok(()),
        phase => {
            return Err(Error::precondition(format!(
                "container {} cannot be started: it is {phase:?}, not created",
                container.id
            )));
        }
    }
    if !container.pod.is_ready() {
        return Err(Error::precondition(format!(
            "pod {} is not ready; its container cannot be started",
            container.pod.id
        )));
    }
    container.update(|record| record.phase = ContainerPhase::Starting)?;
    let mut launch =
        Launch { shared: shared.clone(), container: container.clone(), group: None, started: None };
    let outcome = steps::run("StartContainer", STEPS, &mut launch).await;
    match (outcome, launch.started) {
        (Ok(times), Some(started)) => record_running(&container, started, times),
        (outcome, _) => {
            let error = outcome.err().unwrap_or_else(|| Error::internal("the launch brought no process"));
            record_failure(&container, &error)?;
            Err(error)
        }
    }
}

fn record_running(container: &Container, started: Started, times: Vec<crate::api::StepTime>) -> Result<()> {
    for warning in &started.warnings {
        tracing::warn!(pod = %container.pod.id, container = %container.id, "{warning}");
    }
    container.update(|record| {
        // A short program may have ended already: its exit is not overwritten.
        if record.phase == ContainerPhase::Starting {
            record.phase = ContainerPhase::Running;
            record.pid = started.pid;
        }
        record.started_at =
            record.started_at.max(if record.finished_at == 0 { now_nanos() } else { record.finished_at });
        let user = started.user;
        record.user = Some(ResolvedUser { uid: user.uid, gid: user.gid, groups: user.groups });
        Arc::make_mut(&mut record.steps).extend(times);
    })
}

/// A container that could not be started has ended, with the reason; containerd's code for it is 128.
fn record_failure(container: &Container, error: &Error) -> Result<()> {
    container.note(|record| {
        record.phase = ContainerPhase::Exited;
        record.exit_code = 128;
        record.reason = "StartError".into();
        record.message = error.chain();
        record.finished_at = now_nanos();
    })?;
    container.ended.send_replace(true);
    Ok(())
}

/// A container on its way.
struct Launch {
    shared: Arc<Shared>,
    container: Arc<Container>,
    group: Option<(Entry, OwnedFd)>,
    started: Option<Started>,
}

impl Launch {
    /// The cgroup with its limits, before the process is born into it.
    async fn make_cgroup(&mut self) -> Result<()> {
        let (resources, rules) = {
            let record = self.container.record();
            (record.resources.clone(), record.device_rules.iter().map(device_rule).collect::<Vec<_>>())
        };
        let (shared, path) = (self.shared.clone(), self.container.cgroup());
        let (warnings, entry, oom) = blocking(move || {
            let group = shared.parts.cgroups.create(&path)?;
            let mut warnings = group.apply(&resources)?;
            warnings.extend(group.devices(&rules)?);
            Ok((warnings, group.entry()?, group.oom_file()?))
        })
        .await?;
        for warning in warnings {
            tracing::warn!(pod = %self.container.pod.id, container = %self.container.id, "{warning}");
        }
        self.group = Some((entry, oom));
        Ok(())
    }

    async fn remove_cgroup(&mut self) -> Result<()> {
        self.group = None;
        let (shared, container) = (self.shared.clone(), self.container.clone());
        blocking(move || clean_cgroup(&shared, &container)).await
    }

    /// The kubelet makes the folder of a container's log; other callers do not.
    async fn make_log_folder(&mut self) -> Result<()> {
        let Some((directory, path)) = self.container.log() else { return Ok(()) };
        let full = std::path::Path::new(&directory).join(&path);
        let Some(parent) = full.parent() else { return Ok(()) };
        match std::fs::create_dir_all(parent) {
            Ok(()) => Ok(()),
            Err(e) => Err(Error::with_source(
                ErrorKind::FailedPrecondition,
                format!("cannot make the log folder {}", parent.display()),
                e,
            )),
        }
    }

    async fn launch(&mut self) -> Result<()> {
        let container = &self.container;
        let monitor = container.pod.monitor().ok_or_else(|| {
            Error::new(
                ErrorKind::Unavailable,
                format!("the monitor of pod {} is gone; stop and remove the pod", container.pod.id),
            )
        })?;
        let (entry, oom) =
            self.group.take().ok_or_else(|| Error::internal("the container has no cgroup yet"))?;
        let path = container.pod.path.join(plan_name(&container.id));
        let plan =
            rustix::fs::open(&path, OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty())
                .map_err(|e| Error::with_source(ErrorKind::Internal, "the launch plan is missing", e))?;
        let (log_directory, log_path) = container.log().unwrap_or_default();
        let request = {
            let record = container.record();
            Start {
                container: container.id.to_string(),
                // The plan was made by `spec` with exactly these namespaces.
                namespaces: namespace::MOUNT,
                pid: pid_namespace(&record.config, &self.shared)?,
                log_directory,
                log_path,
                terminal: record.config.tty,
                stdin: record.config.stdin,
                has_oom_file: true,
                has_cgroup: entry.directory.is_some(),
                tasks: u8::try_from(entry.tasks.len())
                    .map_err(|_| Error::internal("this machine has too many cgroup hierarchies"))?,
                little_memory: container::warm::is_little(record.resources.memory_limit),
            }
        };
        let mut fds: Vec<BorrowedFd<'_>> = vec![plan.as_fd(), oom.as_fd()];
        fds.extend(entry.directory.as_ref().map(AsFd::as_fd));
        fds.extend(entry.tasks.iter().map(AsFd::as_fd));
        self.started = Some(monitor.start(request, &fds).await?);
        Ok(())
    }
}

fn pid_namespace(config: &types::ContainerConfig, shared: &Shared) -> Result<PidNamespace> {
    let namespaces = &config.security.namespaces;
    Ok(match namespaces.pid {
        NamespaceMode::Container => PidNamespace::Own,
        NamespaceMode::Node => PidNamespace::Node,
        NamespaceMode::Pod => PidNamespace::Pod,
        NamespaceMode::Target => {
            PidNamespace::Container(shared.registry.container(&namespaces.target_id)?.id.to_string())
        }
    })
}

fn device_rule(rule: &spec::DeviceRule) -> cgroups::DeviceRule {
    cgroups::DeviceRule {
        allow: rule.allow,
        kind: match rule.kind {
            spec::DeviceKind::All => cgroups::DeviceKind::All,
            spec::DeviceKind::Char => cgroups::DeviceKind::Char,
            spec::DeviceKind::Block => cgroups::DeviceKind::Block,
        },
        major: rule.major,
        minor: rule.minor,
        read: rule.read,
        write: rule.write,
        mknod: rule.mknod,
    }
}
