//! The phases of the benchmark. Where two runtimes are measured they take turns inside each phase, so
//! that what else the machine does falls on both.

use super::memory::{self, Memory, Usage};
use super::target::{Measure, Target};
use super::work::{self, Logs, Pod, Recipe};
use super::{Arguments, Error};
use cri_api::v1::{
    ContainerStatusRequest, ExecSyncRequest, ListContainersRequest, ListPodSandboxRequest,
    PodSandboxStatusRequest, RemoveImageRequest,
};
use futures_util::future::try_join_all;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use runtime_manager::Client;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// Pods before anything is timed.
const WARM: u32 = 3;
/// How often many pods are started at once.
const ROUNDS_AT_ONCE: u32 = 3;
/// Calls of ExecSync, of lists, of pulls.
const EXECS: u32 = 100;
const LISTS: u32 = 50;
const PULLS: u32 = 5;
/// How long pods rest before memory is read.
const REST: Duration = Duration::from_secs(1);
/// How many calls fill a runtime with pods side by side; what they take is not told.
const SIDE_BY_SIDE: usize = 8;

type Called<T> = runtime_manager::Result<T>;

/// All phases, in the order of the report.
pub async fn run(targets: &mut [Target], arguments: &Arguments, logs: &Logs) -> Result<(), Error> {
    let recipe = Recipe {
        image: arguments.image.clone(),
        cgroup_parent: arguments.cgroup_parent.clone(),
        handler: arguments.handler.clone(),
        logs: logs.path().to_owned(),
    };
    prepare(targets, &recipe).await?;
    one_by_one(targets, &recipe, arguments.pods).await?;
    at_once(targets, &recipe, arguments.at_once).await?;
    exec(targets, &recipe).await?;
    memory(targets, &recipe, arguments.memory_pods).await?;
    list(targets, &recipe, arguments.listed).await?;
    match &arguments.pull_image {
        Some(reference) => pull(targets, reference).await,
        None => Ok(()),
    }
}

/// The image is there, and everything has been used once.
async fn prepare(targets: &[Target], recipe: &Recipe) -> Result<(), Error> {
    eprintln!("getting ready");
    for target in targets {
        let failed = target.failed("get ready");
        let image = work::image(&recipe.image);
        if target.client.image_status(&image).await.map_err(&failed)?.is_none() {
            target.client.pull_image(image, None).await.map_err(&failed)?;
        }
        for _ in 0..WARM {
            let (pod, _) = work::start(&target.client, recipe).await.map_err(&failed)?;
            exec_true(&target.client, &pod).await.map_err(&failed)?;
            work::end(&target.client, &pod).await.map_err(&failed)?;
        }
    }
    Ok(())
}

async fn one_by_one(targets: &mut [Target], recipe: &Recipe, pods: u32) -> Result<(), Error> {
    eprintln!("{pods} pods, one by one");
    for _ in 0..pods {
        for target in &mut *targets {
            let failed = target.failed("one by one");
            let (pod, times) = work::start(&target.client, recipe).await.map_err(&failed)?;
            times.add_to(target);
            let (stop, remove) = work::end(&target.client, &pod).await.map_err(&failed)?;
            target.add(Measure::StopPod, stop);
            target.add(Measure::RemovePod, remove);
        }
    }
    Ok(())
}

async fn at_once(targets: &mut [Target], recipe: &Recipe, pods: u32) -> Result<(), Error> {
    if pods == 0 {
        return Ok(());
    }
    eprintln!("{pods} pods at once, {ROUNDS_AT_ONCE} times");
    for _ in 0..ROUNDS_AT_ONCE {
        for target in &mut *targets {
            let failed = target.failed("at once");
            let begin = Instant::now();
            let starts = (0..pods).map(|_| work::start(&target.client, recipe));
            let started = try_join_all(starts).await.map_err(&failed)?;
            let whole = begin.elapsed();
            end_all(&target.client, started.iter().map(|(pod, _)| pod)).await.map_err(&failed)?;
            target.add(Measure::AllAtOnce, whole);
            started.iter().for_each(|(_, times)| target.add(Measure::PodStartAtOnce, times.total()));
        }
    }
    Ok(())
}

async fn exec(targets: &mut [Target], recipe: &Recipe) -> Result<(), Error> {
    eprintln!("{EXECS} times ExecSync");
    let mut pods = Vec::new();
    for target in &*targets {
        pods.push(work::start(&target.client, recipe).await.map_err(target.failed("exec"))?.0);
    }
    for _ in 0..EXECS {
        for (target, pod) in targets.iter_mut().zip(&pods) {
            let call = work::timed(exec_true(&target.client, pod)).await;
            let ((), time) = call.map_err(target.failed("exec"))?;
            target.add(Measure::Exec, time);
        }
    }
    for (target, pod) in targets.iter().zip(&pods) {
        work::end(&target.client, pod).await.map_err(target.failed("exec"))?;
    }
    Ok(())
}

async fn memory(targets: &mut [Target], recipe: &Recipe, pods: u32) -> Result<(), Error> {
    eprintln!("memory with {pods} pods");
    for target in &mut *targets {
        let failed = target.failed("memory");
        let daemon_idle = target.daemon.and_then(Usage::of);
        let pods = start_many(&target.client, recipe, pods).await.map_err(&failed)?;
        tokio::time::sleep(REST).await;
        let (mut monitors, mut pauses) = (BTreeSet::new(), BTreeSet::new());
        for pod in &pods {
            let (container, sandbox) = processes(&target.client, pod).await.map_err(&failed)?;
            monitors.extend(container.and_then(memory::parent));
            // Where the runtime names the monitor itself as the pod's process there is no pause process.
            if let Some(pause) = sandbox.filter(|pid| container.and_then(memory::parent) != Some(*pid)) {
                monitors.extend(memory::parent(pause).filter(|pid| Some(*pid) != target.daemon));
                pauses.insert(pause);
            }
        }
        let daemon = target.daemon.and_then(Usage::of);
        let (monitors, pauses) = (Usage::sum(&monitors), Usage::sum(&pauses));
        target.memory = Some(Memory { pods: pods.len(), daemon_idle, daemon, monitors, pauses });
        end_all(&target.client, &pods).await.map_err(&failed)?;
    }
    Ok(())
}

async fn list(targets: &mut [Target], recipe: &Recipe, pods: u32) -> Result<(), Error> {
    if pods == 0 {
        return Ok(());
    }
    eprintln!("{LISTS} times both lists with {pods} pods");
    let mut all = Vec::new();
    for target in &*targets {
        all.push(start_many(&target.client, recipe, pods).await.map_err(target.failed("list"))?);
    }
    for _ in 0..LISTS {
        for target in &mut *targets {
            let call = work::timed(lists(&target.client)).await;
            let ((), time) = call.map_err(target.failed("list"))?;
            target.add(Measure::List, time);
        }
    }
    for (target, pods) in targets.iter().zip(&all) {
        end_all(&target.client, pods).await.map_err(target.failed("list"))?;
    }
    Ok(())
}

async fn pull(targets: &mut [Target], reference: &str) -> Result<(), Error> {
    eprintln!("{PULLS} times the pull of {reference}");
    for _ in 0..PULLS {
        for target in &mut *targets {
            // Other images keep their layers, so that each pull fetches the same.
            let failed = target.failed("pull");
            let image = work::image(reference);
            let request = RemoveImageRequest { image: Some(image.clone()) };
            let mut images = target.client.images.clone();
            images
                .remove_image(request)
                .await
                .map_err(|status| failed(called("remove the image", &status)))?;
            let (_, time) = work::timed(target.client.pull_image(image, None)).await.map_err(&failed)?;
            target.add(Measure::Pull, time);
        }
    }
    Ok(())
}

async fn start_many(client: &Client, recipe: &Recipe, pods: u32) -> Called<Vec<Pod>> {
    let starts = (0..pods).map(|_| async { Ok(work::start(client, recipe).await?.0) });
    stream::iter(starts).buffer_unordered(SIDE_BY_SIDE).try_collect().await
}

async fn end_all(client: &Client, pods: impl IntoIterator<Item = &Pod>) -> Called<()> {
    let ends = pods.into_iter().map(|pod| work::end(client, pod));
    stream::iter(ends).buffer_unordered(SIDE_BY_SIDE).try_for_each(|_| async { Ok(()) }).await
}

async fn exec_true(client: &Client, pod: &Pod) -> Called<()> {
    let what = "run true in the container";
    let request =
        ExecSyncRequest { container_id: pod.container.clone(), cmd: vec!["true".to_owned()], timeout: 10 };
    let mut api = client.runtime.clone();
    let answer = api.exec_sync(request).await.map_err(|status| called(what, &status))?.into_inner();
    if answer.exit_code == 0 {
        Ok(())
    } else {
        let text = format!("it ended with {}", answer.exit_code);
        Err(called(what, &tonic::Status::internal(text)))
    }
}

async fn lists(client: &Client) -> Called<()> {
    let mut api = client.runtime.clone();
    let pods = api.list_pod_sandbox(ListPodSandboxRequest::default()).await;
    pods.map_err(|status| called("list pods", &status))?;
    let containers = api.list_containers(ListContainersRequest::default()).await;
    containers.map(drop).map_err(|status| called("list containers", &status))
}

/// The processes of a pod's container and of the pod itself, where the runtime tells.
async fn processes(client: &Client, pod: &Pod) -> Called<(Option<i32>, Option<i32>)> {
    let mut api = client.runtime.clone();
    let request = ContainerStatusRequest { container_id: pod.container.clone(), verbose: true };
    let container =
        api.container_status(request).await.map_err(|status| called("look at a container", &status))?;
    let request = PodSandboxStatusRequest { pod_sandbox_id: pod.id.clone(), verbose: true };
    let sandbox = api.pod_sandbox_status(request).await.map_err(|status| called("look at a pod", &status))?;
    Ok((memory::pid(&container.into_inner().info), memory::pid(&sandbox.into_inner().info)))
}

fn called(what: &str, status: &tonic::Status) -> runtime_manager::Error {
    runtime_manager::Error::call(what, status)
}
