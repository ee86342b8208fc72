//! Pushing (OCI distribution specification 1.1, "Push"): whether a blob is there, mounting it from another
//! repository, uploading it, and putting manifests. All of one push goes to one host, the first that may be
//! pushed to.
//!
//! A blob is uploaded in one request. Where that breaks, the registry is asked how much it has (`GET` of the
//! upload's location), and only the rest is sent; what the registry does not know any more is begun again.

use crate::error::{RegistryError, Words};
use crate::exchange::Ask;
use crate::payload::{BlobReader, Payload};
use crate::retry;
use crate::session::Session;
use crate::url::{Url, encode};
use bytes::Bytes;
use content::Hasher;
use http::header::{CONTENT_RANGE, LOCATION, RANGE};
use http::{HeaderName, Method, Response, StatusCode};
use hyper::body::Incoming;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use types::digest::Algorithm;
use types::{Digest, ErrorKind};

/// The host that is pushed to: [`Session::open_push`] keeps only hosts that may be.
const TARGET: usize = 0;
/// Times in a row that an upload is taken up again without one byte more at the registry.
const STALLS_MAX: u32 = 3;
/// Times that an upload is taken up again at all.
const RESUMES_MAX: u32 = 50;
/// Between two reports of progress.
const REPORT_EVERY: Duration = Duration::from_millis(100);
/// What is sent at once to a registry that refuses a blob in one piece, unless it asks for more. Registries
/// behind a proxy or function gateway mostly take 10 MB or more.
const CHUNK: u64 = 8 << 20;
/// The largest chunk that a registry may ask for: it is not held in memory, but resent as a whole.
const CHUNK_MAX: u64 = 1 << 30;

/// What a registry made of a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Put {
    /// The manifest's digest, computed here.
    pub digest: Digest,
    /// The manifest that this one refers to, where the registry lists it as a referrer (`OCI-Subject`).
    pub subject: Option<Digest>,
}

/// An upload that the registry knows.
struct Upload {
    location: Url,
    /// The smallest chunk that it takes, bytes (`OCI-Chunk-Min-Length`).
    chunk_min: u64,
}

impl Session {
    /// Whether the host that is pushed to has a blob in the repository.
    pub async fn blob_exists(&self, digest: &Digest) -> Result<bool, RegistryError> {
        let path = self.below(TARGET, &format!("blobs/{digest}"));
        match self.request(TARGET, Method::HEAD, &path, &[]).await {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Takes a blob over from another repository of the same registry, without sending it. `false` where the
    /// registry does not do that: then it has to be uploaded.
    pub async fn mount(&self, digest: &Digest, from: &str) -> Result<bool, RegistryError> {
        if from == self.hosts[TARGET].repository {
            return self.blob_exists(digest).await;
        }
        let fresh = self.sources.lock().unwrap_or_else(|e| e.into_inner()).insert(from.to_owned());
        let query = format!("mount={}&from={}", encode(digest.as_str()), encode(from));
        let path = self.below(TARGET, &format!("blobs/uploads/?{query}"));
        let answer = self.post(&path).await;
        match answer {
            Ok(response) if response.status() == StatusCode::CREATED => Ok(true),
            // It began an upload instead, which is given up; registries forget uploads after a while.
            Ok(response) => {
                if let Ok(upload) = self.upload(&response) {
                    let ask = Ask {
                        method: Method::DELETE,
                        url: upload.location,
                        headers: &[],
                        payload: Payload::Empty,
                    };
                    let _ = self.exchange(TARGET, &ask).await;
                }
                Ok(false)
            }
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::PermissionDenied | ErrorKind::NotFound | ErrorKind::Internal
                ) =>
            {
                // Not every user may read the other repository. A token is not asked for it again.
                if fresh {
                    self.sources.lock().unwrap_or_else(|e| e.into_inner()).remove(from);
                }
                tracing::debug!(%digest, from, error = %types::error::chain(&error), "the blob cannot be mounted");
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Uploads a blob of `size` bytes, whose content `open` gives from any offset on. `progress` is told bytes
    /// that were sent, now and then and at the end.
    pub async fn push_blob(
        &self,
        digest: &Digest,
        size: u64,
        open: &(dyn Fn(u64) -> io::Result<BlobReader> + Send + Sync),
        progress: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<(), RegistryError> {
        let mut upload = self.begin_upload().await?;
        let (mut at, mut stalls, mut resumes, mut chunked) = (0, 0, 0, false);
        loop {
            let sent = Arc::new(AtomicU64::new(at));
            let transfer = self.send_rest(&mut upload, digest, at, size, open, &sent, chunked);
            let error = match reporting(transfer, &sent, progress).await {
                Ok(()) => {
                    progress(size);
                    return Ok(());
                }
                Err(error) => error,
            };
            let wait = match &error {
                RegistryError::Status { status, .. }
                    if *status == StatusCode::PAYLOAD_TOO_LARGE && !chunked =>
                {
                    chunked = true;
                    Duration::ZERO
                }
                RegistryError::Status { wait: Some(wait), .. } => *wait,
                // The registry and we do not agree on what it has.
                RegistryError::Status { status, .. } if matches!(status.as_u16(), 404 | 416) => {
                    Duration::ZERO
                }
                RegistryError::Connect { .. } if error.led_astray() => return Err(error),
                RegistryError::Connect { .. } | RegistryError::Body { .. } => retry::backoff(stalls),
                _ => return Err(error),
            };
            resumes += 1;
            stalls += 1;
            if stalls > STALLS_MAX || resumes > RESUMES_MAX {
                return Err(error);
            }
            tracing::info!(%digest, error = %types::error::chain(&error), "the upload broke off and is taken up again");
            tokio::time::sleep(wait).await;
            // A registry may have put the blob in place before the answer was lost.
            if self.blob_exists(digest).await.unwrap_or(false) {
                progress(size);
                return Ok(());
            }
            match self.uploaded(&mut upload).await {
                // What has nothing, or says so of one byte, is begun again: a whole blob needs an empty upload.
                Some(have) if have > 0 && have <= size => {
                    if have > at {
                        stalls = 0;
                    }
                    at = have;
                }
                _ => {
                    upload = self.begin_upload().await?;
                    at = 0;
                }
            }
        }
    }

    /// Puts a manifest or index under a tag or its digest. What it refers to must be there.
    pub async fn put_manifest(
        &self,
        target: &str,
        media_type: &str,
        bytes: Bytes,
    ) -> Result<Put, RegistryError> {
        let host = self.hosts[TARGET].endpoint.authority.to_string();
        let wanted = Digest::parse(target).ok();
        let algorithm = wanted.as_ref().map_or(Algorithm::Sha256, Digest::algorithm);
        let digest = Hasher::of(algorithm, &bytes);
        if let Some(expected) = wanted.filter(|wanted| *wanted != digest) {
            return Err(RegistryError::Digest { host, expected, found: digest });
        }
        let url = self.url(TARGET, &self.below(TARGET, &format!("manifests/{target}")))?;
        let payload = Payload::Whole { media_type, bytes };
        let response =
            self.exchange(TARGET, &Ask { method: Method::PUT, url, headers: &[], payload }).await?;
        let said = |name: &'static str| {
            response.headers().get(name).and_then(|v| v.to_str().ok()).and_then(|v| Digest::parse(v).ok())
        };
        // What it stored under another digest is not what was sent.
        if let Some(found) =
            said("docker-content-digest").filter(|d| d.algorithm() == algorithm && *d != digest)
        {
            return Err(RegistryError::Digest { host, expected: digest, found });
        }
        Ok(Put { digest, subject: said("oci-subject") })
    }

    async fn post(&self, path: &str) -> Result<Response<Incoming>, RegistryError> {
        self.request(TARGET, Method::POST, path, &[]).await
    }

    async fn begin_upload(&self) -> Result<Upload, RegistryError> {
        let response = self.post(&self.below(TARGET, "blobs/uploads/")).await?;
        self.upload(&response)
    }

    /// Where an upload goes on, as the answer to its beginning, or to a part of it, says.
    fn upload(&self, response: &Response<Incoming>) -> Result<Upload, RegistryError> {
        let host = self.hosts[TARGET].endpoint.authority.to_string();
        let refuse = |what: &str| RegistryError::Setup { host: host.clone(), what: what.to_owned() };
        let location = response.headers().get(LOCATION).and_then(|v| v.to_str().ok());
        let location = location.ok_or_else(|| refuse("its answer to an upload, which has no Location,"))?;
        let base = self.url(TARGET, "")?;
        let location =
            base.join(location).map_err(|why| RegistryError::Redirect { from: host.clone(), why })?;
        if self.hosts[TARGET].https() && !location.https {
            let why = "the upload would go on by plain http".to_owned();
            return Err(RegistryError::Redirect { from: host, why });
        }
        let minimum =
            response.headers().get("oci-chunk-min-length").and_then(|v| v.to_str().ok()?.parse().ok());
        Ok(Upload { location, chunk_min: minimum.unwrap_or(0).min(CHUNK_MAX) })
    }

    /// Sends what is missing and closes the upload.
    #[allow(clippy::too_many_arguments)]
    async fn send_rest(
        &self,
        upload: &mut Upload,
        digest: &Digest,
        from: u64,
        size: u64,
        open: &(dyn Fn(u64) -> io::Result<BlobReader> + Send + Sync),
        sent: &Arc<AtomicU64>,
        chunked: bool,
    ) -> Result<(), RegistryError> {
        let closed = |location: &Url| {
            let mut url = location.clone();
            let separator = if url.path.contains('?') { '&' } else { '?' };
            url.path = format!("{}{separator}digest={}", url.path, encode(digest.as_str()));
            url
        };
        if from == 0 && !chunked {
            let payload = Payload::Part { open, start: 0, end: size, sent: sent.clone() };
            let ask = Ask { method: Method::PUT, url: closed(&upload.location), headers: &[], payload };
            return self.closes(&ask).await;
        }
        let mut start = from;
        while start < size {
            let chunk = if chunked { CHUNK.max(upload.chunk_min) } else { u64::MAX };
            let end = size.min(start.saturating_add(chunk));
            let range = format!("{start}-{}", end - 1);
            let headers = [(CONTENT_RANGE, range.as_str())];
            let payload = Payload::Part { open, start, end, sent: sent.clone() };
            let ask = Ask { method: Method::PATCH, url: upload.location.clone(), headers: &headers, payload };
            let response = self.exchange(TARGET, &ask).await?;
            // Every part moves the location: registries keep the state of an upload in it.
            upload.location = self.upload(&response)?.location;
            start = end;
        }
        let ask =
            Ask { method: Method::PUT, url: closed(&upload.location), headers: &[], payload: Payload::Empty };
        self.closes(&ask).await
    }

    /// The request that ends an upload. An answer that says "later" means that nothing is there yet.
    async fn closes(&self, ask: &Ask<'_>) -> Result<(), RegistryError> {
        let response = self.exchange(TARGET, ask).await?;
        let status = response.status();
        if matches!(status, StatusCode::OK | StatusCode::CREATED | StatusCode::NO_CONTENT) {
            return Ok(());
        }
        let (method, url, words) = (ask.method.clone(), self.shown(&ask.url), Words::default());
        Err(RegistryError::Status { method, url, status, words, wait: None })
    }

    /// How many bytes of an upload the registry has; `None` where it does not know it, or does not say.
    async fn uploaded(&self, upload: &mut Upload) -> Option<u64> {
        let headers: [(HeaderName, &str); 0] = [];
        let ask = Ask {
            method: Method::GET,
            url: upload.location.clone(),
            headers: &headers,
            payload: Payload::Empty,
        };
        let response = self.exchange(TARGET, &ask).await.ok()?;
        let have = match response.headers().get(RANGE).and_then(|v| v.to_str().ok()) {
            Some(range) => received(range)?,
            None => 0,
        };
        if let Ok(next) = self.upload(&response) {
            upload.location = next.location;
        }
        Some(have)
    }
}

/// Bytes that a registry has by its `Range: 0-N`, with or without `bytes=`. `0-0` is nothing: registries of the
/// distribution project say that for an upload without content.
fn received(range: &str) -> Option<u64> {
    let (start, last) = range.trim_start_matches("bytes=").split_once('-')?;
    let (start, last): (u64, u64) = (start.trim().parse().ok()?, last.trim().parse().ok()?);
    (start == 0).then(|| if last == 0 { 0 } else { last.saturating_add(1) })
}

/// Tells how far the sending is while it goes on.
async fn reporting<T>(
    transfer: impl Future<Output = T>,
    sent: &AtomicU64,
    progress: &(dyn Fn(u64) + Send + Sync),
) -> T {
    tokio::pin!(transfer);
    loop {
        match tokio::time::timeout(REPORT_EVERY, &mut transfer).await {
            Ok(done) => return done,
            Err(_) => progress(sent.load(Ordering::Relaxed)),
        }
    }
}
