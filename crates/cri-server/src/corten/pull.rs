//! Pull: fetches an image as PullImage does, and tells on the way how far it is. A caller that reads slowly
//! holds nothing up and makes nobody remember more than one event for each layer.

use super::untold::Untold;
use crate::call::{change, concerns};
use crate::convert::image;
use cri_api::corten_v1::{Finished, PullEvent, PullRequest, pull_event::Event};
use engine::Engine;
use futures_util::stream::{self, BoxStream, StreamExt};
use std::pin::pin;
use std::time::Duration;
use tokio::sync::mpsc::{self, Sender};
use tokio::time::MissedTickBehavior;
use tonic::Status;
use types::Result;

/// What has changed is told this often.
const EVERY: Duration = Duration::from_millis(100);
/// Events on their way to the caller.
const QUEUE: usize = 32;

/// The answer.
pub type Events = BoxStream<'static, Result<PullEvent, Status>>;

/// The pull runs beside the answer, so that it is listened to even where nobody reads the answer. When the answer is
/// dropped, for its caller has gone, our share in the pull goes too.
pub fn call(engine: Engine, request: PullRequest) -> Events {
    let (caller, events) = mpsc::channel(QUEUE);
    tokio::spawn(async move {
        tokio::select! {
            () = answer(engine, request, &caller) => {}
            () = caller.closed() => {}
        }
    });
    stream::unfold(events, |mut events| async move { Some((events.recv().await?, events)) }).boxed()
}

/// Everything that the caller gets; the end of the pull is last. A refusal comes as the end, too.
async fn answer(engine: Engine, request: PullRequest, caller: &Sender<Result<PullEvent, Status>>) {
    let mut untold = Untold::default();
    let outcome = change("Pull", pull(&engine, request, &mut untold, caller)).await;
    let rest = untold.map(Ok).collect::<Vec<_>>();
    let end = outcome.map(|finished| PullEvent { event: Some(Event::Finished(finished.into_inner())) });
    for event in rest.into_iter().chain([end]) {
        if caller.send(event).await.is_err() {
            return;
        }
    }
}

async fn pull(
    engine: &Engine,
    request: PullRequest,
    untold: &mut Untold,
    caller: &Sender<Result<PullEvent, Status>>,
) -> Result<Finished> {
    image::named("reference", &request.reference)?;
    concerns(&request.reference);
    let auth = image::auth("auth", request.auth)?;
    // Unbounded, but always read below.
    let (progress, mut heard) = mpsc::unbounded_channel();
    let mut pulling = pin!(engine.images().pull_named(&request.reference, auth, Some(progress)));
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let outcome = loop {
        tokio::select! {
            Some(event) = heard.recv() => untold.add(event),
            _ = tick.tick() => tell(untold, caller),
            outcome = &mut pulling => break outcome,
        }
    };
    // The pull ends after it has told everything.
    while let Ok(event) = heard.try_recv() {
        untold.add(event);
    }
    Ok(Finished { image_ref: outcome?.id.to_string() })
}

/// Hands over what there is room for; the rest stays and may be overtaken by later events of the same layer.
fn tell(untold: &mut Untold, caller: &Sender<Result<PullEvent, Status>>) {
    while let Ok(room) = caller.try_reserve() {
        match untold.next() {
            Some(event) => room.send(Ok(event)),
            None => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use images::{LayerState, Progress};
    use types::Digest;

    #[tokio::test]
    async fn a_caller_that_does_not_read_gets_the_latest_of_each_layer_later() {
        let (caller, mut events) = mpsc::channel(1);
        let mut untold = Untold::default();
        let mut layer = |n: u8, done: u64| {
            let digest = Digest::sha256(&[n; 32]);
            untold.add(Progress::Layer { digest, total: 1000, done, state: LayerState::Fetching });
            tell(&mut untold, &caller);
        };
        for done in 0..1000 {
            layer(1, done);
            layer(2, done);
        }
        let mut done = Vec::new();
        while let Ok(event) = events.try_recv() {
            let Some(Event::Layer(layer)) = event.expect("no error").event else { panic!("only layers") };
            done.push(layer.done);
            tell(&mut untold, &caller);
        }
        assert_eq!(done, [0, 999, 999]);
    }
}
