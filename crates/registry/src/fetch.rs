//! What a pull asks a registry for: what a tag means, manifests, blobs as a whole and as a stream that can
//! start in the middle. Which host, with which credentials, is [`super`]'s business.

use crate::error::RegistryError;
use crate::session::Session;
use crate::transport::{self, Receiving, Transport};
use bytes::Bytes;
use content::Hasher;
use http::header::{ACCEPT, ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, RANGE};
use http::{Method, StatusCode};
use std::sync::Arc;
use types::digest::Algorithm;
use types::{Digest, ErrorKind};

/// A manifest or an index, verified.
#[derive(Debug)]
pub struct Fetched {
    pub bytes: Vec<u8>,
    pub media_type: Option<String>,
    pub digest: Digest,
}

/// A blob, or a part of one, that is arriving.
pub struct Arriving {
    /// Its sender, for messages.
    pub host: String,
    /// Its sender, for [`Session::lied`].
    pub index: usize,
    /// Whether the server sends the part that was asked for. Where it ignores ranges, what precedes the part
    /// is read and dropped, which costs as much as fetching it.
    pub ranged: bool,
    /// The size of the whole blob in bytes, where the server says it.
    pub total: Option<u64>,
    body: Receiving,
    /// Bytes that were asked to be left out, and come all the same.
    skip: u64,
    /// Bytes that are still to be given, at most.
    left: u64,
    transport: Arc<Transport>,
}

/// What a registry says about a blob without sending it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlobHead {
    /// Bytes.
    pub size: Option<u64>,
    /// The server says that it can send parts. One that says nothing may be able to as well.
    pub ranges: bool,
}

impl Session {
    /// What a tag or digest means now, without fetching it. `None` where no host tells.
    pub async fn head(&self, target: &str) -> Result<Option<Digest>, RegistryError> {
        let path = format!("manifests/{target}");
        let by_digest = target.contains(':');
        self.each(
            "resolve",
            |e| e.pull && (by_digest || e.resolve),
            |at| {
                let path = &path;
                async move {
                    let response = self
                        .request(at, Method::HEAD, &self.below(at, path), &[(ACCEPT, crate::MANIFEST_ACCEPT)])
                        .await?;
                    let header = response.headers().get("docker-content-digest");
                    Ok(header.and_then(|v| v.to_str().ok()).and_then(|v| Digest::parse(v).ok()))
                }
            },
        )
        .await
    }

    /// A manifest or index by tag or digest; its content is checked against the digest.
    pub async fn manifest(&self, target: &str) -> Result<Fetched, RegistryError> {
        let path = format!("manifests/{target}");
        let wanted = Digest::parse(target).ok();
        self.each(
            "resolve",
            |e| e.pull && (wanted.is_some() || e.resolve),
            |at| {
                let (path, wanted) = (&path, wanted.as_ref());
                async move {
                    let host = self.hosts[at].endpoint.authority.to_string();
                    let response = self
                        .request(at, Method::GET, &self.below(at, path), &[(ACCEPT, crate::MANIFEST_ACCEPT)])
                        .await?;
                    let text = |name: http::HeaderName| {
                        response.headers().get(name).and_then(|v| v.to_str().ok()).map(str::to_owned)
                    };
                    let media_type = text(CONTENT_TYPE);
                    let announced = text(http::HeaderName::from_static("docker-content-digest"))
                        .and_then(|v| Digest::parse(&v).ok());
                    let limit = crate::MANIFEST_MAX;
                    let timeouts = &self.transport.timeouts;
                    let bytes = transport::collect(response, timeouts, &host, "a manifest", limit).await?;
                    for expected in wanted.into_iter().chain(announced.as_ref()) {
                        let found = Hasher::of(expected.algorithm(), &bytes);
                        if found != *expected {
                            return Err(RegistryError::Digest { host, expected: expected.clone(), found });
                        }
                    }
                    let digest = wanted.cloned().unwrap_or_else(|| Hasher::of(Algorithm::Sha256, &bytes));
                    Ok(Fetched { bytes, media_type, digest })
                }
            },
        )
        .await
    }

    /// A small blob as a whole, checked.
    pub async fn small_blob(
        &self,
        digest: &Digest,
        size: u64,
        what: &'static str,
    ) -> Result<Vec<u8>, RegistryError> {
        self.each(
            "pull",
            |e| e.pull,
            |at| async move {
                let mut arriving = self.blob_from(at, digest, 0, None).await?;
                let mut bytes = Vec::new();
                while let Some(data) = arriving.next().await? {
                    if (bytes.len() + data.len()) as u64 > size {
                        return Err(RegistryError::TooLarge { host: arriving.host, what, limit: size });
                    }
                    bytes.extend_from_slice(&data);
                }
                let host = arriving.host;
                if bytes.len() as u64 != size {
                    let (digest, found) = (digest.clone(), bytes.len() as u64);
                    return Err(RegistryError::Size { host, digest, expected: size, found });
                }
                let found = Hasher::of(digest.algorithm(), &bytes);
                if found != *digest {
                    return Err(RegistryError::Digest { host, expected: digest.clone(), found });
                }
                Ok(bytes)
            },
        )
        .await
    }

    /// Starts a blob at `offset`, from the first host that has it.
    pub async fn blob(&self, digest: &Digest, offset: u64) -> Result<Arriving, RegistryError> {
        self.part(digest, offset, None).await
    }

    /// The bytes `start..end` of a blob, from the first host that has it. [`Arriving::ranged`] tells whether the
    /// server sends just these; no more than these are given in any case.
    pub async fn blob_range(&self, digest: &Digest, start: u64, end: u64) -> Result<Arriving, RegistryError> {
        self.part(digest, start, Some(end)).await
    }

    async fn part(&self, digest: &Digest, start: u64, end: Option<u64>) -> Result<Arriving, RegistryError> {
        self.each(
            "pull",
            |e| e.pull,
            |at| async move {
                if self.state(at).lied_about.contains(digest) {
                    let host = self.hosts[at].endpoint.authority.to_string();
                    return Err(RegistryError::Setup {
                        host,
                        what: "this blob, which it gave with wrong content,".into(),
                    });
                }
                self.blob_from(at, digest, start, end).await
            },
        )
        .await
    }

    /// What the first host that has a blob says about it; `None` where it is at no host.
    pub async fn blob_head(&self, digest: &Digest) -> Result<Option<BlobHead>, RegistryError> {
        let path = format!("blobs/{digest}");
        let answer = self
            .each(
                "pull",
                |e| e.pull,
                |at| {
                    let path = &path;
                    async move { self.request(at, Method::HEAD, &self.below(at, path), &[]).await }
                },
            )
            .await;
        match answer {
            Ok(response) => {
                let text = |name| response.headers().get(name).and_then(|v| v.to_str().ok());
                let size = text(CONTENT_LENGTH).and_then(|v| v.parse().ok());
                let ranges = text(ACCEPT_RANGES).is_some_and(|v| v.contains("bytes"));
                Ok(Some(BlobHead { size, ranges }))
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A host gave a blob with the wrong content: it is not asked for that blob again. Tells whether
    /// another host could be.
    pub fn lied(&self, at: usize, digest: &Digest) -> bool {
        self.state(at).lied_about.insert(digest.clone());
        (0..self.hosts.len()).any(|i| {
            let state = self.state(i);
            self.hosts[i].endpoint.pull && !state.condemned && !state.lied_about.contains(digest)
        })
    }

    /// A host made no progress: it is not asked any more, as long as there is another. Tells whether there is.
    pub fn leave(&self, at: usize) -> bool {
        self.state(at).condemned = true;
        (0..self.hosts.len()).any(|i| self.hosts[i].endpoint.pull && !self.state(i).condemned)
    }

    async fn blob_from(
        &self,
        at: usize,
        digest: &Digest,
        offset: u64,
        end: Option<u64>,
    ) -> Result<Arriving, RegistryError> {
        let path = format!("blobs/{digest}");
        let host = self.hosts[at].endpoint.authority.to_string();
        let range = match end {
            Some(end) if end <= offset => {
                let what = format!("a part of a blob from {offset} to {end}, which is empty,");
                return Err(RegistryError::Setup { host, what });
            }
            Some(end) => Some(format!("bytes={offset}-{}", end - 1)),
            None if offset > 0 => Some(format!("bytes={offset}-")),
            None => None,
        };
        let headers: Vec<_> = range.iter().map(|range| (RANGE, range.as_str())).collect();
        let response = self.request(at, Method::GET, &self.below(at, &path), &headers).await?;
        let text = |name| response.headers().get(name).and_then(|v| v.to_str().ok());
        // A server may ignore the range (RFC 9110 section 14.2), or choose another start.
        let ranged = response.status() == StatusCode::PARTIAL_CONTENT;
        let (start, total) = if ranged {
            let (start, total) = text(CONTENT_RANGE).and_then(content_range).unwrap_or((offset, None));
            (start, total)
        } else {
            (0, text(CONTENT_LENGTH).and_then(|v| v.parse().ok()))
        };
        let Some(skip) = offset.checked_sub(start) else {
            return Err(RegistryError::Setup {
                host,
                what: format!("a part that starts at {start}, not {offset},"),
            });
        };
        let left = end.map_or(u64::MAX, |end| end - offset);
        let (body, transport) = (Receiving::new(response, &host), self.transport.clone());
        Ok(Arriving { host, index: at, ranged, total, body, skip, left, transport })
    }
}

/// First byte and total size of a `Content-Range` (RFC 9110 section 14.4): `bytes 0-9/100`, `bytes 0-9/*`.
fn content_range(text: &str) -> Option<(u64, Option<u64>)> {
    let (span, total) = text.strip_prefix("bytes ")?.split_once('/')?;
    Some((span.split('-').next()?.trim().parse().ok()?, total.trim().parse().ok()))
}

impl Arriving {
    /// The next bytes; `None` at the end.
    pub async fn next(&mut self) -> Result<Option<Bytes>, RegistryError> {
        loop {
            if self.left == 0 {
                return Ok(None);
            }
            let part = self.body.next(&self.transport.timeouts).await?;
            let Some(mut data) = part else { return Ok(None) };
            if self.skip > 0 {
                let cut = usize::try_from(self.skip).unwrap_or(usize::MAX).min(data.len());
                self.skip -= cut as u64;
                data = data.split_off(cut);
            }
            data.truncate(usize::try_from(self.left).unwrap_or(usize::MAX));
            self.left -= data.len() as u64;
            if !data.is_empty() {
                return Ok(Some(data));
            }
        }
    }
}
