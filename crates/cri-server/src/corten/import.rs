//! Import: takes images in from an archive that arrives in pieces. It hands the pieces on, bounded in number, and
//! tells how much was read and which layers are being unpacked.

use super::untold::Untold;
use super::{Answers, upload};
use crate::call::{change, concerns};
use crate::check;
use crate::convert::image;
use cri_api::corten_v1::import_event::Event;
use cri_api::corten_v1::import_request::Part;
use cri_api::corten_v1::{ImportEvent, ImportFinished, ImportOptions, ImportRead, ImportRequest, pull_event};
use engine::Engine;
use futures_util::stream::{self, StreamExt};
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::mpsc::{self, Sender};
use tokio::time::MissedTickBehavior;
use tonic::{Status, Streaming};
use types::{Error, Reference, Result};

/// What has changed is told this often.
const EVERY: Duration = Duration::from_millis(100);
/// Events on their way to the caller.
const QUEUE: usize = 32;

/// The import runs beside the answer and ends with it: half an archive is none.
pub fn call(engine: Engine, request: Streaming<ImportRequest>) -> Answers<ImportEvent> {
    let (caller, events) = mpsc::channel(QUEUE);
    tokio::spawn(async move {
        tokio::select! {
            () = answer(engine, request, &caller) => {}
            () = caller.closed() => {}
        }
    });
    stream::unfold(events, |mut events| async move { Some((events.recv().await?, events)) }).boxed()
}

async fn answer(
    engine: Engine,
    request: Streaming<ImportRequest>,
    caller: &Sender<Result<ImportEvent, Status>>,
) {
    let outcome = change("Import", import(&engine, request, caller)).await;
    let end = outcome.map(|finished| ImportEvent { event: Some(Event::Finished(finished.into_inner())) });
    // A caller that is gone needs no end.
    let _ = caller.send(end).await;
}

async fn import(
    engine: &Engine,
    mut request: Streaming<ImportRequest>,
    caller: &Sender<Result<ImportEvent, Status>>,
) -> Result<ImportFinished> {
    let patience = engine.images().patience();
    let first = upload::next(&mut request, patience).await?;
    let Some(Part::Options(options)) = first.and_then(|first| first.part) else {
        return Err(Error::invalid("the first message of an import must be its options"));
    };
    let options = read(options)?;
    let (taker, incoming) = mpsc::channel(upload::WAITING);
    let (progress, mut heard) = mpsc::unbounded_channel();
    let count = AtomicU64::new(0);
    let mut importing = pin!(engine.images().import(incoming, options, Some(progress)));
    let mut feeding = pin!(upload::feed(request, patience, taker, &count, |message| match message.part {
        Some(Part::Data(data)) => Ok(Some(data)),
        _ => Err(Error::invalid("an import has its options once, in its first message")),
    }));
    let mut untold = Untold::default();
    let (mut fed, mut told) = (false, 0);
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let images = loop {
        tokio::select! {
            Some(event) = heard.recv() => untold.add(event),
            () = &mut feeding, if !fed => fed = true,
            _ = tick.tick() => tell(&mut untold, count.load(Ordering::Relaxed), &mut told, caller),
            images = &mut importing => break images?,
        }
    };
    Ok(ImportFinished { images: images.into_iter().map(image::imported).collect() })
}

fn read(wire: ImportOptions) -> Result<images::ImportOptions> {
    check::word("name", &wire.name, image::NAME_MAX)?;
    check::text("select", &wire.select, image::NAME_MAX)?;
    concerns(&wire.name);
    let name = (!wire.name.is_empty()).then(|| Reference::parse(&wire.name)).transpose()?;
    let select = (!wire.select.is_empty()).then_some(wire.select);
    Ok(images::ImportOptions { name, select, all_platforms: wire.all_platforms })
}

/// Hands over what there is room for.
fn tell(untold: &mut Untold, read: u64, told: &mut u64, caller: &Sender<Result<ImportEvent, Status>>) {
    if read != *told
        && let Ok(room) = caller.try_reserve()
    {
        *told = read;
        room.send(Ok(ImportEvent { event: Some(Event::Read(ImportRead { bytes: read })) }));
    }
    while let Ok(room) = caller.try_reserve() {
        match untold.next().map(|event| event.event) {
            Some(Some(pull_event::Event::Layer(layer))) => {
                room.send(Ok(ImportEvent { event: Some(Event::Layer(layer)) }));
            }
            // What an image consists of is told with all images at the end.
            Some(_) => {}
            None => return,
        }
    }
}
