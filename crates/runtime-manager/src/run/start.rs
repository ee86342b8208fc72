//! Bringing a pod up. What is made is made in this order, and a failure takes it back in the other.

use super::workdir::{Workdir, make_dir_all};
use super::{Control, Event, Manager, Running, RunningContainer, Stop};
use crate::translate::{self, Identity, Role, container, sandbox, volumes};
use crate::{Error, Result};
use k8s_openapi::api::core::v1::Pod;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// When an init container is looked at first; the pause doubles from there.
const FIRST_LOOK: Duration = Duration::from_millis(4);

impl Manager {
    /// Starts a pod: images, sandbox, init containers to their end, then the containers.
    ///
    /// On failure, and on a request to stop, everything that was made is removed before this returns.
    pub async fn start(&self, pod: &Pod, control: &Control) -> Result<Running> {
        let identity =
            Identity::of(pod).map_err(|e| Error::file("read random bytes for", "metadata.uid", e))?;
        let log_dir = self.options.log_dir.join(identity.log_folder());
        let sandbox = sandbox::config(pod, &identity, &self.options.node, &log_dir);
        let spec = pod.spec.clone().unwrap_or_default();
        let containers =
            translate::containers(&spec).into_iter().map(|(role, c)| self.waiting(role, &c.name)).collect();
        let work = Workdir::create(self, &identity, &log_dir)?;
        let mut running = Running {
            pod_id: String::new(),
            identity,
            ips: Vec::new(),
            containers,
            steps: Vec::new(),
            log_dir,
            pod: pod.clone(),
            sandbox,
            volumes: volumes::Volumes::new(),
            images: Default::default(),
            work,
            rotate_after: None,
            began: Instant::now(),
        };
        match self.bring_up(&mut running, control).await {
            Ok(()) => Ok(running),
            Err(error) => Err(self.undo(&mut running, control, error).await),
        }
    }

    async fn bring_up(&self, running: &mut Running, control: &Control) -> Result<()> {
        self.ensure_images(running, control).await?;
        let spec = running.pod.spec.clone().unwrap_or_default();
        let begin = Instant::now();
        running.volumes = volumes::prepare(&spec, &running.work.volumes())?;
        for source in running.volumes.values_mut() {
            // By what was fetched, as containers are made: a tag may move meanwhile.
            if let volumes::Source::Image(name) = source
                && let Some((reference, _)) = running.images.get(name)
            {
                name.clone_from(reference);
            }
        }
        make_dir_all(&running.log_dir)?;
        running.note(control, "prepare volumes", begin);
        go_on(control)?;
        self.start_sandbox(running, control).await?;
        for index in 0..running.containers.len() {
            go_on(control)?;
            self.start_container(running, index, control).await?;
            if running.containers[index].role == Role::Init {
                self.finish_init(running, index, control).await?;
            }
        }
        Ok(())
    }

    async fn start_sandbox(&self, running: &mut Running, control: &Control) -> Result<()> {
        let spec = running.pod.spec.clone().unwrap_or_default();
        let handler = spec.runtime_class_name.clone().unwrap_or_else(|| self.options.runtime_handler.clone());
        let made = self.client.run_pod(running.sandbox.clone(), &handler);
        running.pod_id = running.step(control, "start the sandbox", made).await?;
        let status = self.client.pod_status(&running.pod_id).await?;
        if spec.host_network == Some(true) {
            // The runtime knows the machine's hosts file better than we do.
            return Ok(());
        }
        let network = status.network.unwrap_or_default();
        let more = network.additional_ips.into_iter().map(|ip| ip.ip);
        running.ips = std::iter::once(network.ip).chain(more).filter(|ip| !ip.is_empty()).collect();
        let hostname = sandbox::hostname(&spec, &running.identity);
        running.work.write_hosts(&spec, &hostname, &running.ips).map(drop)
    }

    /// Creates and starts the next attempt of a container.
    pub(super) async fn start_container(
        &self,
        running: &mut Running,
        index: usize,
        control: &Control,
    ) -> Result<()> {
        let spec = running.pod.spec.clone().unwrap_or_default();
        let all = translate::containers(&spec);
        let (role, manifest) = all[index];
        let init = spec.init_containers.as_ref().map_or(0, Vec::len);
        let path = match index.checked_sub(init) {
            Some(main) => format!("spec.containers[{main}]"),
            None => format!("spec.initContainers[{index}]"),
        };
        let attempt = running.containers[index].attempt;
        let log = container::log_path(&manifest.name, attempt);
        let log_path = running.log_dir.join(&log);
        make_dir_all(log_path.parent().unwrap_or(Path::new("/")))?;
        let termination_file = running.work.message_file(&manifest.name, attempt)?;
        let hosts: Option<PathBuf> = running.work.hosts();
        let image = manifest.image.clone().unwrap_or_default();
        let (image_ref, record) = running.images.get(&image).cloned().unwrap_or_default();
        let config = container::config(&container::Inputs {
            pod: &running.pod,
            container: manifest,
            role,
            path: &path,
            identity: &running.identity,
            node: &self.options.node,
            image_ref: &image_ref,
            image: &record,
            attempt,
            ips: &running.ips,
            volumes: &running.volumes,
            hosts: hosts.as_deref(),
            termination_file: &termination_file,
        })?;
        let name = manifest.name.clone();
        let begin = Instant::now();
        let id = self.client.create(&running.pod_id, config, &running.sandbox).await?;
        running.note(control, format!("create container {name}"), begin);
        running.containers[index].id.clone_from(&id);
        running.containers[index].log_path.clone_from(&log_path);
        running.step(control, format!("start container {name}"), self.client.start(&id, &name)).await?;
        let entry = &mut running.containers[index];
        entry.exit = None;
        entry.started = Some(Instant::now());
        control.emit(Event::Started { container: name, role, attempt, id, log_path });
        Ok(())
    }

    /// Waits for an init container, and tries again as the restart policy says.
    async fn finish_init(&self, running: &mut Running, index: usize, control: &Control) -> Result<()> {
        let begin = Instant::now();
        let never = running.pod.spec.as_ref().and_then(|s| s.restart_policy.as_deref()) == Some("Never");
        let name = running.containers[index].name.clone();
        loop {
            let code = self.until_exit(running, index, control).await?;
            if code == 0 {
                running.note(control, format!("run init container {name}"), begin);
                return Ok(());
            }
            if never {
                return Err(Error::Init { name, code });
            }
            let mut delay = self.next_delay(&mut running.containers[index]);
            control.emit(Event::BackOff { container: name.clone(), delay });
            loop {
                tokio::select! {
                    () = tokio::time::sleep(delay) => {}
                    () = control.stopped(Stop::Graceful) => return Err(Error::Stopped),
                }
                self.again(running, index, control).await?;
                // Set when the attempt could not even be started.
                let Some(due) = running.containers[index].due.take() else { break };
                delay = due.saturating_duration_since(Instant::now());
            }
        }
    }

    /// Waits for a container's end. Init containers are often short, so that the first looks come quickly.
    async fn until_exit(&self, running: &mut Running, index: usize, control: &Control) -> Result<i32> {
        let mut pause = FIRST_LOOK;
        loop {
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = control.stopped(Stop::Graceful) => return Err(Error::Stopped),
            }
            if let Some(code) = self.look(running, index, control).await? {
                return Ok(code);
            }
            pause = pause.saturating_mul(2).min(self.options.poll);
        }
    }

    /// Takes back a failed start. The first error is what the user reads.
    async fn undo(&self, running: &mut Running, control: &Control, first: Error) -> Error {
        if running.pod_id.is_empty() {
            // The runtime may have made the sandbox and failed to tell us.
            if let Ok(pods) =
                self.client.pods_with_label(translate::keys::POD_UID, &running.identity.uid).await
            {
                running.pod_id = pods.into_iter().next().map(|pod| pod.id).unwrap_or_default();
            }
        }
        let mut failed = Vec::new();
        // A pod that never came up has nothing to save, but its containers still get to hear of it.
        let grace = if control.asked() == Stop::Now { Duration::ZERO } else { Duration::from_secs(2) };
        if let Err(error) = self.stop(running, Some(grace), control).await {
            failed.push(error.to_string());
        }
        if let Err(error) = self.remove(running).await {
            failed.push(error.to_string());
        }
        if failed.is_empty() { first } else { Error::Undo { first: Box::new(first), undo: failed } }
    }

    fn waiting(&self, role: Role, name: &str) -> RunningContainer {
        RunningContainer {
            name: name.into(),
            role,
            id: String::new(),
            attempt: 0,
            log_path: PathBuf::new(),
            exit: None,
            started: None,
            delay: self.options.backoff,
            due: None,
        }
    }
}

fn go_on(control: &Control) -> Result<()> {
    if control.asked() == Stop::No { Ok(()) } else { Err(Error::Stopped) }
}
