//! Check: looks whether all images that are recorded are there and whole, and makes whole what is not.

use super::Answers;
use crate::call::{change, concerns};
use crate::convert::image;
use cri_api::corten_v1::{
    CheckEvent, CheckFinished, CheckProgress, CheckRequest, CheckedImage, Damage, check_event::Event,
};
use engine::Engine;
use futures_util::stream::{self, StreamExt};
use images::{CheckReport, Damaged};
use std::pin::pin;
use tokio::sync::mpsc::{self, Sender};
use tonic::{Response, Status};
use types::{Error, Result};

/// Events on their way to the caller.
const QUEUE: usize = 32;
/// The most images that one request names.
const IMAGES_MAX: usize = 1024;

/// The answer.
pub type Events = Answers<CheckEvent>;

/// Progress, then all damage; the end of the check is last. When the answer is dropped, for its caller has gone, the
/// check ends: what it has put in place stays.
pub async fn call(engine: Engine, request: CheckRequest) -> Result<Response<Events>, Status> {
    let (caller, events) = mpsc::channel(QUEUE);
    tokio::spawn(async move {
        tokio::select! {
            () = answer(engine, request, &caller) => {}
            () = caller.closed() => {}
        }
    });
    let events = stream::unfold(events, |mut events| async move { Some((events.recv().await?, events)) });
    Ok(Response::new(events.boxed()))
}

async fn answer(engine: Engine, request: CheckRequest, caller: &Sender<Result<CheckEvent, Status>>) {
    let outcome = change("Check", check(&engine, request, caller)).await;
    match outcome {
        Ok(report) => {
            let report = report.into_inner();
            for damage in &report.damages {
                let event = CheckEvent { event: Some(Event::Damage(to_wire(damage))) };
                if caller.send(Ok(event)).await.is_err() {
                    return;
                }
            }
            let event = CheckEvent { event: Some(Event::Finished(finished(&report))) };
            let _ = caller.send(Ok(event)).await;
        }
        Err(status) => {
            let _ = caller.send(Err(status)).await;
        }
    }
}

async fn check(
    engine: &Engine,
    request: CheckRequest,
    caller: &Sender<Result<CheckEvent, Status>>,
) -> Result<CheckReport> {
    if request.images.len() > IMAGES_MAX {
        return Err(Error::invalid(format!(
            "images: {} are named, and {IMAGES_MAX} are the most; name none for all",
            request.images.len()
        )));
    }
    for name in &request.images {
        image::named("images", name)?;
        concerns(name);
    }
    let auth = image::auth("auth", request.auth)?;
    // Unbounded, but always read below.
    let (progress, mut heard) = mpsc::unbounded_channel();
    let images = engine.images();
    let mut checking = pin!(images.check(&request.images, request.repair, auth, Some(progress)));
    loop {
        tokio::select! {
            Some(event) = heard.recv() => {
                if let images::CheckEvent::Progress { total, done } = event {
                    let event = CheckEvent { event: Some(Event::Progress(CheckProgress { total, done })) };
                    // A caller that does not read misses a step of the progress, and nothing else.
                    let _ = caller.try_send(Ok(event));
                }
            }
            outcome = &mut checking => return outcome,
        }
    }
}

fn to_wire(damage: &images::Damage) -> Damage {
    Damage {
        digest: damage.digest.to_string(),
        layer: damage.part == Damaged::Layer,
        images: damage.images.clone(),
        what: damage.what.clone(),
        repaired: damage.repaired,
        why_not: damage.why_not.clone().unwrap_or_default(),
        containers: damage.containers.clone(),
    }
}

fn finished(report: &CheckReport) -> CheckFinished {
    let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    let images = report.images.iter().map(|checked| {
        let image = &checked.image;
        let name = image.names.first().or(image.digests.first());
        CheckedImage {
            image_ref: image.id.to_string(),
            name: name.cloned().unwrap_or_else(|| image.id.to_string()),
            damaged: number(checked.damaged),
            repaired: number(checked.repaired),
        }
    });
    CheckFinished {
        images: images.collect(),
        blobs: number(report.blobs),
        layers: number(report.layers),
        bytes: report.bytes,
        measured: number(report.measured),
    }
}
