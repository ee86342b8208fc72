//! The events of a pull that its caller has not been told yet: for each layer the latest. It sends nothing and
//! knows no time.

use cri_api::corten_v1::{self as wire, pull_event::Event};
use images::{LayerState, Progress};
use std::collections::{HashMap, VecDeque};
use types::Digest;

/// As an iterator it gives, and forgets, the events: the resolution first, then layers in the order in which they
/// were first heard of. At most one for each layer is kept, and an image has a bounded number of these.
#[derive(Debug, Default)]
pub struct Untold {
    resolved: Option<wire::Resolved>,
    order: VecDeque<Digest>,
    layers: HashMap<Digest, wire::Layer>,
}

impl Untold {
    /// Keeps an event; an older one of the same layer is forgotten.
    pub fn add(&mut self, progress: Progress) {
        match progress {
            Progress::Resolved { digest, layers, bytes, .. } => {
                self.resolved = Some(wire::Resolved {
                    digest: digest.to_string(),
                    layers: u32::try_from(layers).unwrap_or(u32::MAX),
                    bytes,
                });
            }
            Progress::Layer { digest, total, done, state } => {
                let layer =
                    wire::Layer { digest: digest.to_string(), total, done, state: to_wire(state).into() };
                if self.layers.insert(digest.clone(), layer).is_none() {
                    self.order.push_back(digest);
                }
            }
            // The caller is told with the image's id, which is the answer of the pull itself.
            Progress::Done => {}
        }
    }
}

impl Iterator for Untold {
    type Item = wire::PullEvent;

    fn next(&mut self) -> Option<wire::PullEvent> {
        let event = match self.resolved.take() {
            Some(resolved) => Event::Resolved(resolved),
            None => Event::Layer(self.order.pop_front().and_then(|digest| self.layers.remove(&digest))?),
        };
        Some(wire::PullEvent { event: Some(event) })
    }
}

fn to_wire(state: LayerState) -> wire::LayerState {
    match state {
        LayerState::Waiting => wire::LayerState::Waiting,
        LayerState::Fetching => wire::LayerState::Fetching,
        LayerState::Unpacked => wire::LayerState::Unpacked,
        LayerState::Done => wire::LayerState::Done,
        LayerState::Present => wire::LayerState::Present,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(n: u8, done: u64, state: LayerState) -> Progress {
        Progress::Layer { digest: Digest::sha256(&[n; 32]), total: 10, done, state }
    }

    #[test]
    fn the_resolution_is_first_and_layers_keep_their_order_and_their_last_state() {
        let mut untold = Untold::default();
        let digest = Digest::sha256(&[9; 32]);
        untold.add(layer(2, 0, LayerState::Waiting));
        untold.add(layer(1, 0, LayerState::Waiting));
        untold.add(layer(2, 10, LayerState::Done));
        untold.add(Progress::Resolved {
            reference: "app:1".into(),
            digest: digest.clone(),
            layers: 2,
            bytes: 20,
        });
        untold.add(Progress::Done);
        let events: Vec<Event> = untold.by_ref().filter_map(|event| event.event).collect();
        let wired = |n: u8, done, state: wire::LayerState| {
            let digest = Digest::sha256(&[n; 32]).to_string();
            Event::Layer(wire::Layer { digest, total: 10, done, state: state.into() })
        };
        let resolved = wire::Resolved { digest: digest.to_string(), layers: 2, bytes: 20 };
        assert_eq!(
            events,
            [
                Event::Resolved(resolved),
                wired(2, 10, wire::LayerState::Done),
                wired(1, 0, wire::LayerState::Waiting),
            ]
        );
        untold.add(layer(2, 10, LayerState::Present));
        assert_eq!(untold.count(), 1, "what was given is forgotten, and a later event is a new one");
    }
}
