//! Pulls with progress, from a registry on the loopback.

use crate::Node;
use cri_api::corten_v1::{LayerState, PullRequest, pull_event::Event};
use cri_api::v1;
use std::collections::HashMap;
use std::time::Duration;
use test_support::image::{Image, Layer};
use test_support::registry::serve_oci;
use tokio::io::AsyncReadExt;
use tonic::{Code, Status};

/// Two layers; the lower one is the same in all.
fn app(top: &str) -> Image {
    Image::builder()
        .layer(Layer::new().file("base", 0o644, "a".repeat(100_000)))
        .layer(Layer::new().file(top, 0o644, "b"))
        .build()
        .expect("an image")
}

impl Node {
    async fn pull(&mut self, reference: &str) -> Result<Vec<Event>, Status> {
        let request = PullRequest { reference: reference.into(), auth: None };
        let mut stream = self.own.pull(request).await?.into_inner();
        let mut events = Vec::new();
        while let Some(event) = stream.message().await? {
            events.push(event.event.expect("every event is something"));
        }
        Ok(events)
    }

    async fn pull_by_cri(&mut self, reference: &str) -> Result<String, Status> {
        let image = Some(v1::ImageSpec { image: reference.into(), ..Default::default() });
        let request = v1::PullImageRequest { image, ..Default::default() };
        Ok(self.image.pull_image(request).await?.into_inner().image_ref)
    }
}

/// The layers' last states, sorted, after a look at the order of all events.
fn last_states(events: &[Event], id: &str) -> Vec<LayerState> {
    let Some((Event::Finished(finished), rest)) = events.split_last() else { panic!("{events:?}") };
    assert_eq!(finished.image_ref, id);
    let Some((Event::Resolved(resolved), rest)) = rest.split_first() else { panic!("{events:?}") };
    assert!(resolved.digest.starts_with("sha256:"), "{resolved:?}");
    let mut layers = HashMap::new();
    for event in rest {
        let Event::Layer(layer) = event else { panic!("{events:?}") };
        assert!(layer.done <= layer.total, "{layer:?}");
        layers.insert(&layer.digest, (layer.state(), layer.done, layer.total));
    }
    assert_eq!(resolved.layers as usize, layers.len());
    assert_eq!(resolved.bytes, layers.values().map(|(_, _, total)| total).sum::<u64>());
    assert!(layers.values().all(|(_, done, total)| done == total), "{layers:?}");
    let mut states: Vec<_> = layers.into_values().map(|(state, ..)| state).collect();
    states.sort_unstable_by_key(|state| std::cmp::Reverse(*state));
    states
}

#[tokio::test]
async fn a_pull_tells_what_it_found_then_every_layer_and_its_end_last() {
    let (one, two) = (app("one"), app("two"));
    let registry = serve_oci(&[("app", "1", &one), ("app", "2", &two)]).expect("a registry");
    let reference = registry.reference("app", "1");
    let mut node = Node::start().await;
    let events = node.pull(&reference).await.expect("pulled");
    let id = node.pull_by_cri(&reference).await.expect("it is there");
    assert_eq!(last_states(&events, &id), [LayerState::Done; 2]);
    let again = node.pull(&reference).await.expect("pulled again");
    assert!(matches!(&again[..], [Event::Finished(finished)] if finished.image_ref == id), "{again:?}");
    let reference = registry.reference("app", "2");
    let events = node.pull(&reference).await.expect("pulled");
    let id = node.pull_by_cri(&reference).await.expect("it is there");
    assert_eq!(last_states(&events, &id), [LayerState::Present, LayerState::Done]);
}

#[tokio::test]
async fn a_pull_fails_as_pull_image_does() {
    let image = app("one");
    let registry = serve_oci(&[("app", "1", &image)]).expect("a registry");
    let mut node = Node::start().await;
    for (reference, code) in [
        (registry.reference("app", "2"), Code::NotFound),
        ("a//b".into(), Code::InvalidArgument),
        ("a b".into(), Code::InvalidArgument),
        ("a".repeat(513), Code::InvalidArgument),
        (String::new(), Code::InvalidArgument),
    ] {
        let error = node.pull(&reference).await.expect_err("no such image");
        let by_cri = node.pull_by_cri(&reference).await.expect_err("no such image");
        assert_eq!((error.code(), by_cri.code()), (code, code), "{error:?} {by_cri:?}");
        assert_eq!(error.message(), by_cri.message().replace("image.image:", "reference:"));
    }
    let secret = "hunter2\r\nX: y";
    let auth = Some(v1::AuthConfig { registry_token: secret.into(), ..Default::default() });
    let request = PullRequest { reference: registry.reference("app", "1"), auth };
    let mut stream = node.own.pull(request).await.expect("a stream").into_inner();
    let error = stream.message().await.expect_err("two lines");
    assert_eq!(error.code(), Code::InvalidArgument);
    assert!(error.message().starts_with("auth.registry_token") && !error.message().contains("hunter2"));
    assert_eq!(stream.message().await.expect("the end"), None);
}

#[tokio::test]
async fn a_pull_ends_when_its_only_caller_goes_away() {
    // A registry that lets everybody in and says nothing.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let reference = format!("{}/app:1", silent.local_addr().expect("its address"));
    let mut node = Node::start().await;
    let request = PullRequest { reference, auth: None };
    let stream = node.own.pull(request).await.expect("a stream").into_inner();
    let (mut asked, _) = silent.accept().await.expect("the registry is asked");
    drop(stream);
    let ended = async { while asked.read(&mut [0; 1024]).await.is_ok_and(|bytes| bytes > 0) {} };
    tokio::time::timeout(Duration::from_secs(10), ended).await.expect("the question is taken back");
}
