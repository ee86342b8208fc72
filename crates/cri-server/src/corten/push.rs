//! Push: sends an image to a registry, and tells how far each blob is. A caller that reads slowly holds nothing up and
//! makes nobody remember more than one event for each blob.

use super::Answers;
use crate::call::{change, concerns};
use crate::convert::image;
use cri_api::corten_v1::push_event::Event;
use cri_api::corten_v1::{PushEvent, PushFinished, PushRequest, PushedBlob};
use engine::Engine;
use futures_util::stream::{self, StreamExt};
use images::{PushProgress, PushState};
use std::collections::VecDeque;
use std::pin::pin;
use std::time::Duration;
use tokio::sync::mpsc::{self, Sender};
use tokio::time::MissedTickBehavior;
use tonic::Status;
use types::{Reference, Result};

/// What has changed is told this often.
const EVERY: Duration = Duration::from_millis(100);
/// Events on their way to the caller.
const QUEUE: usize = 32;

/// The push ends with its caller; blobs that the registry has by then are not sent again the next time.
pub fn call(engine: Engine, request: PushRequest) -> Answers<PushEvent> {
    let (caller, events) = mpsc::channel(QUEUE);
    tokio::spawn(async move {
        tokio::select! {
            () = answer(engine, request, &caller) => {}
            () = caller.closed() => {}
        }
    });
    stream::unfold(events, |mut events| async move { Some((events.recv().await?, events)) }).boxed()
}

async fn answer(engine: Engine, request: PushRequest, caller: &Sender<Result<PushEvent, Status>>) {
    let mut untold = VecDeque::new();
    let outcome = change("Push", push(&engine, request, &mut untold, caller)).await;
    let rest = untold.into_iter().map(|event| Ok(to_wire(event)));
    let end = outcome.map(|finished| PushEvent { event: Some(Event::Finished(finished.into_inner())) });
    for event in rest.chain([end]) {
        if caller.send(event).await.is_err() {
            return;
        }
    }
}

async fn push(
    engine: &Engine,
    request: PushRequest,
    untold: &mut VecDeque<PushProgress>,
    caller: &Sender<Result<PushEvent, Status>>,
) -> Result<PushFinished> {
    image::named("image", &request.image)?;
    concerns(&request.image);
    let destination = match request.destination.as_str() {
        "" => None,
        name => {
            image::named("destination", name)?;
            Some(Reference::parse(name)?)
        }
    };
    let auth = image::auth("auth", request.auth)?;
    // Unbounded, but always read below.
    let (progress, mut heard) = mpsc::unbounded_channel();
    let mut pushing = pin!(engine.images().push(&request.image, destination, auth, Some(progress)));
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let outcome = loop {
        tokio::select! {
            Some(event) = heard.recv() => add(untold, event),
            _ = tick.tick() => tell(untold, caller),
            outcome = &mut pushing => break outcome,
        }
    };
    while let Ok(event) = heard.try_recv() {
        add(untold, event);
    }
    let pushed = outcome?;
    Ok(PushFinished {
        reference: pushed.reference.to_string(),
        digest: pushed.digest.to_string(),
        note: pushed.note.unwrap_or_default(),
    })
}

/// Of each blob the latest is kept.
fn add(untold: &mut VecDeque<PushProgress>, event: PushProgress) {
    match untold.iter_mut().find(|known| known.digest == event.digest) {
        Some(known) => *known = event,
        None => untold.push_back(event),
    }
}

/// Hands over what there is room for.
fn tell(untold: &mut VecDeque<PushProgress>, caller: &Sender<Result<PushEvent, Status>>) {
    while !untold.is_empty()
        && let Ok(room) = caller.try_reserve()
    {
        if let Some(event) = untold.pop_front() {
            room.send(Ok(to_wire(event)));
        }
    }
}

fn to_wire(event: PushProgress) -> PushEvent {
    use cri_api::corten_v1::PushState as Wire;
    let state = match event.state {
        PushState::Waiting => Wire::Waiting,
        PushState::Sending => Wire::Sending,
        PushState::Done => Wire::Done,
        PushState::Present => Wire::Present,
        PushState::Mounted => Wire::Mounted,
    };
    let blob = PushedBlob {
        digest: event.digest.to_string(),
        total: event.total,
        done: event.done,
        state: state.into(),
    };
    PushEvent { event: Some(Event::Blob(blob)) }
}
