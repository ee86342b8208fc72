//! From the registry into the channel of whoever reads a blob: in one piece; in several parts at once where the
//! network is what holds it up; taken up where it broke.
//!
//! Parts are asked for in order and handed on in order. It verifies nothing: the reader does.

use super::Job;
use super::layer::Report;
use super::queue::Sender as Parts;
use crate::manifest::Descriptor;
use crate::progress::LayerState;
use bytes::Bytes;
use futures_util::stream::{self, StreamExt};
use http::StatusCode;
use registry::{Arriving, RegistryError, Session, retry_wait};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

/// Times in a row that a broken transfer is taken up again without noticeable progress.
const STALLS_MAX: u32 = 3;
/// Times that a broken transfer is taken up again at all.
const RESUMES_MAX: u32 = 50;

/// Bytes a second that have to come on average over [`registry::Timeouts::idle`]. A transfer holds a place among those
/// that unpack, and perhaps a window: one that drips would keep them from all others. Eight at once fit through one
/// megabit a second.
const RATE_MIN: u64 = 16 << 10;

/// A blob is looked at for parts once so much of it has come,
const PROBE: u64 = 4 << 20;
/// while so much of it is still to come,
const REST: u64 = 16 << 20;
/// and where it comes more slowly than this, in bytes a second: faster connections are not what holds a pull up. On
/// loopback parts only cost more requests.
const FAST: u128 = 80 << 20;
/// One part in bytes, and how many are under way at once.
const PART: u64 = 1 << 20;
const LANES: usize = 4;
/// Blobs of the whole node that come in parts: what they hold in memory is `LANES * PART` each.
static SPLIT: LazyLock<Arc<Semaphore>> = LazyLock::new(|| Arc::new(Semaphore::new(3)));

/// Who sent the last of a blob.
pub(super) struct Sender {
    pub index: usize,
    pub name: String,
    /// What came before is another's, or some of it.
    pub mixed: bool,
}

/// How much comes in the time that is spent waiting for it.
struct Pace {
    /// What the average is taken over.
    window: Duration,
    /// Of the window that runs.
    waited: Duration,
    /// Bytes that came in it.
    came: Arc<AtomicU64>,
    /// Bytes that came in the window before.
    last: u64,
}

impl Pace {
    /// What `work` ends with; `None` where too little came meanwhile.
    async fn wait<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        let mut work = std::pin::pin!(work);
        loop {
            let start = Instant::now();
            let left = self.window.saturating_sub(self.waited);
            let done = tokio::time::timeout(left, &mut work).await;
            self.waited += start.elapsed();
            if self.waited >= self.window {
                let waited = std::mem::take(&mut self.waited);
                self.last = self.came.swap(0, Ordering::Relaxed);
                if u128::from(self.last) * 1000 < u128::from(RATE_MIN) * waited.as_millis() {
                    return None;
                }
            }
            if let Ok(done) = done {
                return Some(done);
            }
        }
    }
}

/// How a piece of the way ended.
enum End {
    /// All was sent, or the reader has given up: it knows why.
    Done,
    /// The rest is worth being fetched in parts.
    Slow,
    /// The server does not do parts.
    Whole,
    /// It broke.
    Broke(RegistryError),
}

struct Feed<'a> {
    session: &'a Session,
    d: &'a Descriptor,
    send: Parts,
    report: Report<'a>,
    sent: u64,
    sender: Option<Sender>,
    may_split: bool,
    pace: Pace,
}

/// Fetches a blob into `send`.
pub(super) async fn feed(
    job: &Job,
    session: &Session,
    d: &Descriptor,
    send: Parts,
) -> Result<Sender, RegistryError> {
    let report = Report::new(&job.listeners, d);
    let window = job.inner.config.timeouts.idle;
    let pace = Pace { window, waited: Duration::ZERO, came: Arc::default(), last: 0 };
    let mut feed = Feed { session, d, send, report, sent: 0, sender: None, may_split: true, pace };
    let (mut stalls, mut resumes) = (0, 0);
    let mut split = None;
    loop {
        let start = feed.sent;
        let end = match split {
            None => feed.in_one_piece().await?,
            Some(_) => feed.in_parts().await,
        };
        let broke = match end {
            End::Done => {
                feed.report.now(feed.sent.min(d.size), LayerState::Fetching);
                return feed.sender.ok_or_else(|| feed_error(session, d, feed.sent));
            }
            End::Slow => {
                // Where no memory is left for parts it goes on as it did.
                split = SPLIT.clone().try_acquire_owned().ok();
                feed.may_split = false;
                tracing::debug!(digest = %d.digest, at = feed.sent, parts = split.is_some(), "the transfer is slow");
                continue;
            }
            End::Whole => {
                split = None;
                continue;
            }
            End::Broke(error) => error,
        };
        // A host that makes no progress would make none the next time; another may.
        if broke.is_stalled() && !feed.sender.as_ref().is_some_and(|sender| session.leave(sender.index)) {
            return Err(broke);
        }
        stalls = if feed.sent >= start + registry::PROGRESS_MIN { 1 } else { stalls + 1 };
        resumes += 1;
        if stalls >= STALLS_MAX || resumes > RESUMES_MAX {
            return Err(broke);
        }
        tracing::info!(digest = %d.digest, at = feed.sent, error = %types::error::chain(&broke), "the transfer broke off and is taken up again");
        tokio::time::sleep(retry_wait(stalls)).await;
    }
}

/// The blob has another length than its manifest says.
fn feed_error(session: &Session, d: &Descriptor, found: u64) -> RegistryError {
    RegistryError::Size { host: session.name(), digest: d.digest.clone(), expected: d.size, found }
}

impl Feed<'_> {
    /// From where it is to its end, by one request. An error is one that asking again does not help against.
    async fn in_one_piece(&mut self) -> Result<End, RegistryError> {
        let mut arriving = match self.session.blob(&self.d.digest, self.sent).await {
            Ok(arriving) => arriving,
            // Asked for what comes after the end: the blob is shorter than its manifest says.
            Err(RegistryError::Status { status, .. }) if self.sent > 0 && status.as_u16() == 416 => {
                return Err(feed_error(self.session, self.d, self.sent));
            }
            Err(error) => return Err(error),
        };
        let (index, name) = (arriving.index, arriving.host.clone());
        let other = |before: &Sender| before.mixed || self.sent > 0 && before.index != index;
        let mixed = self.sender.as_ref().is_some_and(other);
        self.sender = Some(Sender { index, name, mixed });
        let (begin, mut waited) = (self.sent, Duration::ZERO);
        let came = self.pace.came.clone();
        loop {
            let asked = Instant::now();
            let next = if self.sent == begin && begin > 0 && !arriving.ranged {
                // It sends what is here already before it comes to the rest.
                let long = self.pace.window + Duration::from_secs(begin / RATE_MIN);
                tokio::time::timeout(long, next(&mut arriving, &came)).await.ok()
            } else {
                self.pace.wait(next(&mut arriving, &came)).await
            };
            waited += asked.elapsed();
            let Some(next) = next else { return Ok(End::Broke(self.stalled(arriving.ranged))) };
            match next {
                Ok(Some(data)) => {
                    if !self.hand_on(data).await {
                        return Ok(End::Done);
                    }
                    if self.may_split && self.is_slow(self.sent - begin, waited) {
                        return Ok(End::Slow);
                    }
                }
                Ok(None) if self.sent >= self.d.size => return Ok(End::Done),
                Ok(None) => {
                    let (host, digest) = (arriving.host.clone(), self.d.digest.clone());
                    let (expected, found) = (self.d.size, self.sent);
                    return Ok(End::Broke(RegistryError::Size { host, digest, expected, found }));
                }
                Err(error) => return Ok(End::Broke(error)),
            }
        }
    }

    /// `bytes` came while the network was waited for so long. What the reader takes its time for does not count.
    fn is_slow(&self, bytes: u64, waited: Duration) -> bool {
        let left = self.d.size.saturating_sub(self.sent);
        bytes >= PROBE && left >= REST && u128::from(bytes) * 1_000_000 < FAST * waited.as_micros()
    }

    /// From where it is to its end, some parts at once.
    async fn in_parts(&mut self) -> End {
        let (session, digest, size) = (self.session, &self.d.digest, self.d.size);
        let (from, came) = (self.sent, self.pace.came.clone());
        let came = &came;
        let starts = (0..(size - from).div_ceil(PART)).map(|at| from + at * PART);
        let parts = starts.map(|start| async move {
            let arriving = session.blob_range(digest, start, size.min(start + PART)).await?;
            let whole = !arriving.ranged;
            let sender = (arriving.index, arriving.host.clone());
            let bytes = if whole { Vec::new() } else { collect(arriving, came).await? };
            Ok((sender, whole, bytes))
        });
        let mut parts = std::pin::pin!(stream::iter(parts).buffered(LANES));
        loop {
            let Some(part) = self.pace.wait(parts.next()).await else {
                return End::Broke(self.stalled(true));
            };
            let Some(part) = part else { return End::Done };
            let ((index, host), whole, bytes) = match part {
                Ok(part) => part,
                Err(error) => return End::Broke(error),
            };
            // Parts of several hosts: where the whole is wrong, nobody could tell whose fault it is.
            if whole || self.sender.as_ref().is_some_and(|first| first.index != index) {
                return End::Whole;
            }
            let wanted = size.min(self.sent + PART) - self.sent;
            let came = bytes.iter().map(|data| data.len() as u64).sum::<u64>();
            for data in bytes {
                if !self.hand_on(data).await {
                    return End::Done;
                }
            }
            if came < wanted {
                let digest = digest.clone();
                return End::Broke(RegistryError::Size { host, digest, expected: size, found: self.sent });
            }
        }
    }

    /// Too little came.
    fn stalled(&self, ranged: bool) -> RegistryError {
        let bytes = self.pace.last;
        let host = self.sender.as_ref().map_or_else(|| self.session.name(), |sender| sender.name.clone());
        let status = if ranged { StatusCode::PARTIAL_CONTENT } else { StatusCode::OK };
        RegistryError::Stalled { host, status, bytes, after: self.pace.window }
    }

    /// False where nobody wants more.
    async fn hand_on(&mut self, data: Bytes) -> bool {
        self.sent += data.len() as u64;
        if !data.is_empty() && !self.send.send(data).await || self.sent > self.d.size {
            return false;
        }
        self.report.tell(self.sent, LayerState::Fetching);
        true
    }
}

/// The next bytes, counted.
async fn next(arriving: &mut Arriving, came: &AtomicU64) -> Result<Option<Bytes>, RegistryError> {
    let next = arriving.next().await;
    if let Ok(Some(data)) = &next {
        came.fetch_add(data.len() as u64, Ordering::Relaxed);
    }
    next
}

/// All of a part; [`Arriving`] gives no more than was asked for.
async fn collect(mut arriving: Arriving, came: &AtomicU64) -> Result<Vec<Bytes>, RegistryError> {
    let mut all = Vec::new();
    while let Some(data) = next(&mut arriving, came).await? {
        all.push(data);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_drip_ends_and_a_slow_reader_costs_nothing() {
        let window = Duration::from_millis(60);
        let mut pace = Pace { window, waited: Duration::ZERO, came: Arc::default(), last: 0 };
        let came = pace.came.clone();
        let flow = async |bytes: u64, times: u32| {
            for _ in 0..times {
                tokio::time::sleep(Duration::from_millis(10)).await;
                came.fetch_add(bytes, Ordering::Relaxed);
            }
        };
        assert!(pace.wait(flow(64 << 10, 20)).await.is_some(), "fast");
        assert!(pace.wait(flow(1, u32::MAX)).await.is_none(), "a drip");
        for _ in 0..10 {
            // What passes outside is the reader's.
            tokio::time::sleep(Duration::from_millis(20)).await;
            assert!(pace.wait(async { came.fetch_add(100, Ordering::Relaxed) }).await.is_some());
        }
        for at in 0.. {
            assert!(at < 100, "each part comes in time, and all are too little");
            if pace.wait(flow(1, 1)).await.is_none() {
                break;
            }
        }
    }
}
