//! Export: writes images as one archive, in pieces. A caller that reads slowly makes the writer wait; one that does not read
//! at all is waited for as long as a registry would be. Then the writer ends, and with it its hold on the images.

use super::Answers;
use crate::call::{concerns, read};
use crate::convert::image;
use cri_api::corten_v1::{ArchiveFormat, ExportChunk, ExportRequest};
use engine::Engine;
use futures_util::stream::{self, StreamExt};
use images::Exported;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::mpsc::{self, Sender};
use tonic::{Response, Status};
use types::{Error, ErrorKind, Result};

/// What cannot be written is refused before the first piece.
pub async fn call(engine: &Engine, request: ExportRequest) -> Result<Response<Answers<ExportChunk>>, Status> {
    let patience = engine.images().patience();
    let exported = read("Export", begin(engine, request)).await?.into_inner();
    Ok(Response::new(paced(exported, patience)))
}

/// The pieces for a caller that takes each of them within `patience`. Where it does not, what it gets next, if it reads on
/// after all, is the piece that lay ready, and then why there are no more.
fn paced(exported: Exported, patience: Duration) -> Answers<ExportChunk> {
    let (caller, chunks) = mpsc::channel(1);
    // What is said where the one that hands on comes to no end of its own.
    let end = Arc::new(Mutex::new(Some(Status::internal("the export ended early; ask for it again"))));
    let last = end.clone();
    tokio::spawn(async move {
        let ended = hand_over(exported, patience, &caller).await;
        // Before the channel closes, which is when it is looked for.
        *last.lock().unwrap_or_else(|e| e.into_inner()) = ended.err();
        drop(caller);
    });
    let chunks = stream::unfold((chunks, end), |(mut chunks, end)| async move {
        if let Some(chunk) = chunks.recv().await {
            return Some((Ok(chunk), (chunks, end)));
        }
        let status = end.lock().unwrap_or_else(|e| e.into_inner()).take()?;
        Some((Err(status), (chunks, end)))
    });
    chunks.boxed()
}

/// Hands the pieces over. A caller that is gone needs no reason.
async fn hand_over(
    exported: Exported,
    patience: Duration,
    caller: &Sender<ExportChunk>,
) -> std::result::Result<(), Status> {
    let mut parts = exported.parts;
    let mut total = exported.total.unwrap_or(0);
    let failed = |error: &Error| {
        let status = crate::status::of(error);
        tracing::warn!(rpc = "Export", error = status.message(), "failed");
        Err(status)
    };
    loop {
        let part = tokio::select! {
            part = parts.recv() => part,
            () = caller.closed() => return Ok(()),
        };
        let data = match part {
            None => return Ok(()),
            Some(Err(error)) => return failed(&error),
            Some(Ok(data)) => data.into(),
        };
        match tokio::time::timeout(patience, caller.send(ExportChunk { data, total })).await {
            Ok(Ok(())) => total = 0,
            Ok(Err(_)) => return Ok(()),
            Err(_) => {
                let text = format!(
                    "nothing of the archive was taken for {} s, so it is given up; export again and read on, or raise \
                     registry.progress_timeout",
                    patience.as_secs()
                );
                return failed(&Error::new(ErrorKind::DeadlineExceeded, text));
            }
        }
    }
}

async fn begin(engine: &Engine, request: ExportRequest) -> Result<Exported> {
    let format = match request.format() {
        ArchiveFormat::Unspecified | ArchiveFormat::Oci => images::ArchiveFormat::Oci,
        ArchiveFormat::Docker => images::ArchiveFormat::Docker,
    };
    if request.images.is_empty() {
        return Err(Error::invalid("images: none is named"));
    }
    request.images.iter().try_for_each(|name| image::named("images", name))?;
    concerns(&request.images.join(" "));
    engine.images().export(&request.images, format).await
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_millis(300);

    /// An export of 20 pieces, and whether its writer has ended.
    fn exported() -> (Exported, tokio::task::JoinHandle<u8>) {
        let (send, parts) = mpsc::channel(2);
        let writer = tokio::spawn(async move {
            for n in 0..20u8 {
                if send.send(Ok(vec![n].into())).await.is_err() {
                    return n;
                }
            }
            20
        });
        (Exported { total: Some(20), parts }, writer)
    }

    #[tokio::test]
    async fn an_export_whose_caller_stops_reading_ends_and_says_so_to_whoever_reads_on() {
        let (exported, writer) = exported();
        let mut chunks = paced(exported, PATIENCE);
        assert_eq!(chunks.next().await.expect("a piece").expect("no error").total, 20);
        // Nobody reads on: its writer ends all the same.
        let written = tokio::time::timeout(Duration::from_secs(10), writer).await.expect("ended");
        assert!(written.expect("no panic") < 20);
        assert_eq!(chunks.next().await.expect("a piece").expect("no error").data, [1]);
        let status = chunks.next().await.expect("a reason").expect_err("given up");
        assert_eq!(status.code(), tonic::Code::DeadlineExceeded);
        assert!(status.message().contains("nothing of the archive was taken"), "{status}");
        assert!(chunks.next().await.is_none());
    }

    #[tokio::test]
    async fn an_export_that_is_read_slowly_comes_whole() {
        let (exported, writer) = exported();
        let mut chunks = paced(exported, PATIENCE);
        for n in 0..20u8 {
            if n % 5 == 4 {
                tokio::time::sleep(PATIENCE / 3).await;
            }
            assert_eq!(chunks.next().await.expect("a piece").expect("no error").data, [n]);
        }
        assert!(chunks.next().await.is_none());
        assert_eq!(writer.await.expect("no panic"), 20);
    }
}
