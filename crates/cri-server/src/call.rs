//! What every RPC has in common: its span, its line in the log, and its error turned into a status.
//! It knows no RPC in particular and never prints a request, for requests carry secrets.

use crate::status;
use prost::Message;
use std::future::Future;
use std::time::Instant;
use tonic::{Response, Status};
use tracing::{Instrument, Span, debug, field, info, warn};
use types::reference::shorten;
use types::{Error, ErrorKind, Result};

/// The largest message either way, as the kubelet and containerd have it
/// (kubernetes `cri-client/pkg/utils.go`, `maxMsgSize`).
pub const MESSAGE_MAX: usize = 16 << 20;

/// Whether an RPC changes anything; it decides how loud the log is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Effect {
    Reads,
    Changes,
}

/// Says in the log what the running RPC is about: an id, or a name that is not one line yet.
pub fn concerns(subject: &str) {
    Span::current().record("on", field::debug(shorten(subject)));
}

/// An RPC that changes nothing.
pub async fn read<T>(
    rpc: &'static str,
    work: impl Future<Output = Result<T>>,
) -> Result<Response<T>, Status> {
    let span = span(rpc);
    finish(rpc, Effect::Reads, Instant::now(), work).instrument(span).await
}

/// An RPC that changes something.
pub async fn change<T>(
    rpc: &'static str,
    work: impl Future<Output = Result<T>>,
) -> Result<Response<T>, Status> {
    let span = span(rpc);
    finish(rpc, Effect::Changes, Instant::now(), work).instrument(span).await
}

/// Warn is the level of the loudest line in it; with a quieter span that line would lose its fields
/// wherever the log is set to warnings.
fn span(rpc: &'static str) -> Span {
    tracing::warn_span!("cri", rpc, on = field::Empty)
}

/// Says so in the log where a caller goes before its answer is there: tonic drops the RPC then. What the
/// engine had begun goes on in a task of the engine's.
struct Caller {
    rpc: &'static str,
    there: bool,
}

impl Drop for Caller {
    fn drop(&mut self) {
        if self.there {
            info!(rpc = self.rpc, "its caller hung up");
        }
    }
}

async fn finish<T>(
    rpc: &'static str,
    effect: Effect,
    start: Instant,
    work: impl Future<Output = Result<T>>,
) -> Result<Response<T>, Status> {
    let mut caller = Caller { rpc, there: true };
    let result = work.await;
    caller.there = false;
    let duration_ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
    match result {
        Ok(answer) => {
            match effect {
                Effect::Changes => info!(rpc, duration_ms, "done"),
                Effect::Reads => debug!(rpc, duration_ms, "done"),
            }
            Ok(Response::new(answer))
        }
        Err(error) => {
            let status = status::of(&error);
            // Callers poll the status of what they removed until it is gone: that answer is no trouble.
            if effect == Effect::Reads && error.kind() == ErrorKind::NotFound {
                debug!(rpc, duration_ms, error = status.message(), "not found");
            } else {
                warn!(rpc, duration_ms, error = status.message(), kind = ?error.kind(), "failed");
            }
            Err(status)
        }
    }
}

/// An answer that fits one message, or the sentence that says what to do about it.
pub fn within_limit<T: Message>(answer: T, advice: &str) -> Result<T> {
    let size = answer.encoded_len();
    if size <= MESSAGE_MAX {
        return Ok(answer);
    }
    Err(Error::new(
        ErrorKind::ResourceExhausted,
        format!("the answer has {size} bytes, more than the {MESSAGE_MAX} of one message; {advice}"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use cri_api::v1::ExecSyncResponse;
    use tonic::Code;

    #[test]
    fn an_answer_above_the_limit_becomes_a_sentence() {
        let answer = ExecSyncResponse { stdout: vec![0; MESSAGE_MAX], ..Default::default() };
        let error = within_limit(answer, "let the command print less").expect_err("too large");
        assert_eq!(error.kind(), ErrorKind::ResourceExhausted);
        assert!(error.message().ends_with("let the command print less"));
        within_limit(ExecSyncResponse::default(), "").expect("an empty answer fits");
    }

    #[tokio::test]
    async fn errors_come_out_as_statuses() {
        let missing = read::<()>("X", async { Err(Error::not_found("no container \"a\"")) }).await;
        assert_eq!(missing.expect_err("an error").code(), Code::NotFound);
        let wrong = change::<()>("X", async { Err(Error::invalid("config: it is missing")) }).await;
        assert_eq!(wrong.expect_err("an error").code(), Code::InvalidArgument);
    }
}
