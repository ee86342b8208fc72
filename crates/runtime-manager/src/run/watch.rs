//! Watching a pod that runs: exits, restarts with back-off, the end. Stopping is `stop`'s.
//!
//! Containers are asked for every [`super::Options::poll`]; the runtime's event stream, where there is one,
//! wakes the loop early and lets it ask less often.

use super::{Control, Event, Manager, Outcome, Running, RunningContainer, Stop};
use crate::translate::Role;
use crate::{Error, Result};
use cri_api::v1::{ContainerState, GetEventsRequest, PodSandboxState};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use tokio_stream::StreamExt;

/// Longest delay between attempts (kubelet `MaxContainerBackOff`).
const MAX_DELAY: Duration = Duration::from_secs(300);
/// A container that ran this long starts again without the delays it had gathered (kubelet: 10 min).
const FORGIVEN: Duration = Duration::from_secs(600);
/// How often to look when events come by themselves.
const WITH_EVENTS: Duration = Duration::from_secs(2);
/// The first pause between two looks; each is twice as long, up to the usual one.
const SOONEST: Duration = Duration::from_millis(10);
/// How long an endpoint may be away, as a daemon is while it is upgraded, before the watch gives up.
const PATIENCE: Duration = Duration::from_secs(120);

/// Exit code of a container that the runtime lost (kubelet `ContainerStatusUnknown`).
const UNKNOWN_EXIT: i32 = 137;

impl Manager {
    /// Watches until every container ended for good, or the caller asks to stop, or the sandbox is lost.
    pub async fn wait(&self, running: &mut Running, control: &Control) -> Result<Outcome> {
        let news = Arc::new(Notify::new());
        let told = Arc::new(AtomicBool::new(false));
        let events = self.listen(&news, &told, running.pod_id.clone());
        let outcome = self.watch(running, control, &news, &told).await;
        events.abort();
        outcome
    }

    async fn watch(
        &self,
        running: &mut Running,
        control: &Control,
        news: &Notify,
        told: &AtomicBool,
    ) -> Result<Outcome> {
        let mut soon = SOONEST;
        let mut first_failure = 0;
        let mut away: Option<Instant> = None;
        loop {
            if control.asked() > Stop::No {
                return Ok(Outcome::Stopped);
            }
            self.rotate_logs(running, control).await;
            match self.round(running, control, &mut first_failure).await {
                Ok(Some(outcome)) => return Ok(outcome),
                Ok(None) => away = None,
                Err(error) if error.is_unavailable() => {
                    // The containers live without the daemon; only the watch is blind for a while.
                    let since = *away.get_or_insert_with(|| {
                        control
                            .emit(Event::Warning(format!("{error}; waiting for the runtime to come back")));
                        Instant::now()
                    });
                    if since.elapsed() > PATIENCE {
                        return Err(error);
                    }
                }
                Err(error) => return Err(error),
            }
            let due = running.containers.iter().filter_map(|c| c.due).min();
            // A pod that is just started may end at once, so the looks begin close together.
            let mut pause =
                if told.load(Ordering::Relaxed) { WITH_EVENTS } else { self.options.poll.min(soon) };
            soon = soon.saturating_mul(2).min(WITH_EVENTS);
            if let Some(due) = due {
                pause = pause.min(due.saturating_duration_since(Instant::now()));
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = news.notified() => {}
                () = control.stopped(Stop::Graceful) => {}
            }
        }
    }

    /// Looks at every container once and starts what is due.
    async fn round(
        &self,
        running: &mut Running,
        control: &Control,
        first_failure: &mut i32,
    ) -> Result<Option<Outcome>> {
        for index in 0..running.containers.len() {
            let entry = &running.containers[index];
            if entry.role == Role::Init || entry.exit.is_some() {
                continue;
            }
            let Some(code) = self.look(running, index, control).await? else { continue };
            if running.containers[index].role == Role::Main && code != 0 && *first_failure == 0 {
                *first_failure = code;
            }
            if !self.restarts(running, index, code) {
                continue;
            }
            let entry = &mut running.containers[index];
            let delay = self.next_delay(entry);
            entry.due = Some(Instant::now() + delay);
            control.emit(Event::BackOff { container: entry.name.clone(), delay });
        }
        let done = |c: &RunningContainer| c.role != Role::Main || (c.exit.is_some() && c.due.is_none());
        if running.containers.iter().all(done) {
            return Ok(Some(Outcome::Finished { code: final_code(running, *first_failure) }));
        }
        // An exit may be the sandbox's end: nothing can start in one that is not ready.
        if running.containers.iter().any(|c| c.exit.is_some()) && !self.sandbox_is_ready(running).await? {
            return Ok(Some(Outcome::SandboxLost));
        }
        for index in 0..running.containers.len() {
            if running.containers[index].due.is_some_and(|due| due <= Instant::now()) {
                self.again(running, index, control).await?;
            }
        }
        Ok(None)
    }

    /// The exit code of a container that ended since it was last looked at.
    pub(super) async fn look(
        &self,
        running: &mut Running,
        index: usize,
        control: &Control,
    ) -> Result<Option<i32>> {
        let entry = &running.containers[index];
        let (code, reason) = match self.client.status(&entry.id).await {
            Ok(status) if status.state == ContainerState::ContainerExited as i32 => {
                (status.exit_code, status.reason)
            }
            Ok(status) if status.state == ContainerState::ContainerUnknown as i32 => {
                (UNKNOWN_EXIT, "ContainerStatusUnknown".into())
            }
            Ok(_) => return Ok(None),
            Err(error) if error.code() == Some(tonic::Code::NotFound) => {
                (UNKNOWN_EXIT, "removed by someone else".into())
            }
            Err(error) => return Err(error),
        };
        let entry = &mut running.containers[index];
        entry.exit = Some(code);
        let (container, attempt) = (entry.name.clone(), entry.attempt);
        let message = running.work.message(&container, attempt);
        control.emit(Event::Exited { container, attempt, code, reason, message });
        Ok(Some(code))
    }

    fn restarts(&self, running: &Running, index: usize, code: i32) -> bool {
        if running.containers[index].role == Role::Sidecar {
            // A sidecar lives as long as the pod does.
            return true;
        }
        match running.pod.spec.as_ref().and_then(|spec| spec.restart_policy.as_deref()) {
            Some("Never") => false,
            Some("OnFailure") => code != 0,
            _ => true,
        }
    }

    /// The delay before the next attempt; the one after it is twice as long.
    pub(super) fn next_delay(&self, entry: &mut RunningContainer) -> Duration {
        if entry.started.is_some_and(|started| started.elapsed() >= FORGIVEN) {
            entry.delay = self.options.backoff;
        }
        let delay = entry.delay;
        entry.delay = delay.saturating_mul(2).min(MAX_DELAY.max(self.options.backoff));
        delay
    }

    /// Removes the attempt that ended and starts the next. A failing start is one more failed attempt.
    pub(super) async fn again(&self, running: &mut Running, index: usize, control: &Control) -> Result<()> {
        let entry = &mut running.containers[index];
        entry.due = None;
        let old = std::mem::take(&mut entry.id);
        entry.attempt = entry.attempt.saturating_add(1);
        let (name, attempt) = (entry.name.clone(), entry.attempt);
        if let Some(forgotten) = attempt.checked_sub(2) {
            self.forget_attempt(running, &name, forgotten);
        }
        if let Err(error) = self.client.remove(&old).await {
            control.emit(Event::Warning(error.to_string()));
        }
        match self.start_container(running, index, control).await {
            Ok(()) => Ok(()),
            Err(error @ Error::Call { .. }) if !error.is_unavailable() => {
                control.emit(Event::Warning(error.to_string()));
                let entry = &mut running.containers[index];
                let delay = self.next_delay(entry);
                entry.due = Some(Instant::now() + delay);
                control.emit(Event::BackOff { container: entry.name.clone(), delay });
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    async fn sandbox_is_ready(&self, running: &Running) -> Result<bool> {
        match self.client.pod_status(&running.pod_id).await {
            Ok(status) => Ok(status.state == PodSandboxState::SandboxReady as i32),
            Err(error) if error.code() == Some(tonic::Code::NotFound) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Wakes the watch at events of this pod, and says in `told` whether there are any: not before the stream
    /// stands, for a runtime without events takes a while to say so. The task ends with the stream.
    fn listen(&self, news: &Arc<Notify>, told: &Arc<AtomicBool>, pod: String) -> tokio::task::JoinHandle<()> {
        let (mut api, news, told) = (self.client.runtime.clone(), news.clone(), told.clone());
        tokio::spawn(async move {
            let Ok(stream) = api.get_container_events(GetEventsRequest {}).await else { return };
            told.store(true, Ordering::Relaxed);
            let mut stream = stream.into_inner();
            while let Some(Ok(event)) = stream.next().await {
                let about = event.pod_sandbox_status.as_ref().map(|status| status.id.as_str());
                if about.is_none_or(|id| id == pod) {
                    news.notify_one();
                }
            }
            told.store(false, Ordering::Relaxed);
        })
    }
}

/// 0 when every container's last attempt succeeded, else the code of the first failure.
fn final_code(running: &Running, first_failure: i32) -> i32 {
    let last = || running.containers.iter().filter(|c| c.role == Role::Main).filter_map(|c| c.exit);
    if last().all(|code| code == 0) {
        0
    } else if first_failure != 0 {
        first_failure
    } else {
        last().find(|c| *c != 0).unwrap_or(0)
    }
}
