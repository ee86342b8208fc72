//! Archives in and out over a real connection, with callers that stop in the middle.

use crate::Node;
use cri_api::corten_v1::import_request::Part;
use cri_api::corten_v1::{ArchiveFormat, ExportRequest, ImportOptions, ImportRequest, PullRequest};
use futures_util::stream::{self, StreamExt};
use std::time::{Duration, Instant};
use test_support::image::{Image, Layer};
use test_support::registry::serve_oci;
use tonic::{Code, Status};

/// How long these nodes wait for a caller.
const PATIENCE: Duration = Duration::from_millis(700);

async fn node() -> Node {
    Node::start_with(images::Timeouts { idle: PATIENCE, ..images::Timeouts::default() }).await
}

/// Bytes that no compression makes less.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[0]
    };
    (0..length).map(|_| next()).collect()
}

impl Node {
    /// An image of 12 MiB that is here, far more than a connection holds on its way.
    async fn large(&mut self) -> String {
        let image = Image::builder().layer(Layer::new().file("f", 0o644, noise(12 << 20))).build();
        let registry = serve_oci(&[("app", "1", &image.expect("an image"))]).expect("a registry");
        let reference = registry.reference("app", "1");
        let request = PullRequest { reference: reference.clone(), auth: None };
        let mut pulled = self.own.pull(request).await.expect("a stream").into_inner();
        while pulled.message().await.expect("pulled").is_some() {}
        reference
    }

    /// Imports what `messages` says, and answers how that ended.
    async fn import(
        &mut self,
        messages: impl futures_util::Stream<Item = ImportRequest> + Send + 'static,
    ) -> Status {
        let mut events = self.own.import(messages).await.expect("a stream").into_inner();
        loop {
            match events.message().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("the import ended without a reason"),
                Err(status) => return status,
            }
        }
    }
}

fn options() -> ImportRequest {
    ImportRequest { part: Some(Part::Options(ImportOptions::default())) }
}

fn data(bytes: &[u8]) -> ImportRequest {
    ImportRequest { part: Some(Part::Data(bytes.to_vec())) }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_whose_caller_stops_reading_is_ended_with_a_reason() {
    let mut node = node().await;
    let reference = node.large().await;
    for format in [ArchiveFormat::Oci, ArchiveFormat::Docker] {
        let request = ExportRequest { images: vec![reference.clone()], format: format.into() };
        let mut chunks = node.own.export(request).await.expect("a stream").into_inner();
        let mut bytes = chunks.message().await.expect("a piece").expect("not the end").data.len();
        tokio::time::sleep(PATIENCE * 3).await;
        let status = loop {
            match chunks.message().await {
                Ok(chunk) => bytes += chunk.expect("a reason before the end").data.len(),
                Err(status) => break status,
            }
        };
        assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
        assert!(status.message().contains("nothing of the archive was taken for 0 s"), "{status}");
        assert!(bytes < 8 << 20, "it went on while nobody read: {bytes}");
        // One that reads on, slowly, gets all.
        let request = ExportRequest { images: vec![reference.clone()], format: format.into() };
        let mut chunks = node.own.export(request).await.expect("a stream").into_inner();
        let (mut bytes, mut read) = (0, 0_u32);
        while let Some(chunk) = chunks.message().await.expect("read on") {
            bytes += chunk.data.len();
            read += 1;
            if read % 16 == 0 {
                tokio::time::sleep(PATIENCE / 3).await;
            }
        }
        assert!(bytes > 12 << 20, "{bytes}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_whose_caller_stops_sending_is_ended_with_a_reason() {
    let mut node = node().await;
    let half = [0; 300].as_slice();
    for messages in [vec![], vec![options()], vec![options(), data(half)]] {
        let start = Instant::now();
        let status = node.import(stream::iter(messages).chain(stream::pending())).await;
        assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
        assert!(status.message().contains("nothing of the archive came for 0 s"), "{status}");
        assert!(start.elapsed() >= PATIENCE && start.elapsed() < PATIENCE * 10, "{:?}", start.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_whose_caller_has_nothing_to_send_yet_and_says_so_is_waited_for() {
    let mut node = node().await;
    let start = Instant::now();
    // Signs of life for three times as long as silence is borne, then something that is no archive.
    let signs = stream::unfold(0, |n| async move {
        tokio::time::sleep(PATIENCE / 3).await;
        (n < 9).then(|| (data(&[]), n + 1))
    });
    let messages = stream::iter([options()]).chain(signs).chain(stream::iter([data(b"no archive at all")]));
    let status = node.import(messages).await;
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    assert!(status.message().contains("cannot read the archive"), "{status}");
    assert!(start.elapsed() >= PATIENCE * 2);
}
