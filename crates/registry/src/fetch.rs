//! What a pull asks a registry for: what a tag means, manifests, blobs as a whole and as a stream that can
//! start in the middle. Which host, with which credentials, is [`super`]'s business.

use crate::error::RegistryError;
use crate::session::Session;
use crate::transport::{self, Transport};
use bytes::Bytes;
use content::Hasher;
use http::header::{ACCEPT, CONTENT_RANGE, CONTENT_TYPE, RANGE};
use http::{Method, StatusCode};
use hyper::body::Incoming;
use std::sync::Arc;
use types::Digest;
use types::digest::Algorithm;

/// A manifest or an index, verified.
#[derive(Debug)]
pub struct Fetched {
    pub bytes: Vec<u8>,
    pub media_type: Option<String>,
    pub digest: Digest,
}

/// A blob that is arriving. `host` names its sender for messages.
pub struct Arriving {
    pub host: String,
    pub index: usize,
    body: Incoming,
    /// Bytes that were asked to be left out, and come all the same.
    skip: u64,
    transport: Arc<Transport>,
}

impl Session {
    /// What a tag or digest means now, without fetching it. `None` where no host tells.
    pub async fn head(&self, target: &str) -> Result<Option<Digest>, RegistryError> {
        let path = format!("{}/manifests/{target}", self.repository);
        let by_digest = target.contains(':');
        self.each(
            "resolve",
            |e| if by_digest { e.pull } else { e.resolve },
            |at| {
                let path = &path;
                async move {
                    let response =
                        self.request(at, Method::HEAD, path, &[(ACCEPT, crate::MANIFEST_ACCEPT)]).await?;
                    let header = response.headers().get("docker-content-digest");
                    Ok(header.and_then(|v| v.to_str().ok()).and_then(|v| Digest::parse(v).ok()))
                }
            },
        )
        .await
    }

    /// A manifest or index by tag or digest; its content is checked against the digest.
    pub async fn manifest(&self, target: &str) -> Result<Fetched, RegistryError> {
        let path = format!("{}/manifests/{target}", self.repository);
        let wanted = Digest::parse(target).ok();
        self.each(
            "resolve",
            |e| if wanted.is_some() { e.pull } else { e.resolve },
            |at| {
                let (path, wanted) = (&path, wanted.as_ref());
                async move {
                    let host = self.hosts[at].endpoint.authority.to_string();
                    let response =
                        self.request(at, Method::GET, path, &[(ACCEPT, crate::MANIFEST_ACCEPT)]).await?;
                    let text = |name: http::HeaderName| {
                        response.headers().get(name).and_then(|v| v.to_str().ok()).map(str::to_owned)
                    };
                    let media_type = text(CONTENT_TYPE);
                    let announced = text(http::HeaderName::from_static("docker-content-digest"))
                        .and_then(|v| Digest::parse(&v).ok());
                    let limit = crate::MANIFEST_MAX;
                    let timeouts = &self.transport.timeouts;
                    let bytes =
                        transport::collect(response.into_body(), timeouts, &host, "a manifest", limit)
                            .await?;
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
                let mut arriving = self.blob_from(at, digest, 0).await?;
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
                self.blob_from(at, digest, offset).await
            },
        )
        .await
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

    async fn blob_from(&self, at: usize, digest: &Digest, offset: u64) -> Result<Arriving, RegistryError> {
        let path = format!("{}/blobs/{digest}", self.repository);
        let range = format!("bytes={offset}-");
        let headers: &[_] = if offset > 0 { &[(RANGE, range.as_str())] } else { &[] };
        let response = self.request(at, Method::GET, &path, headers).await?;
        let host = self.hosts[at].endpoint.authority.to_string();
        // A server may ignore the range (RFC 9110 section 14.2), or choose another start.
        let start = if response.status() == StatusCode::PARTIAL_CONTENT {
            response
                .headers()
                .get(CONTENT_RANGE)
                .and_then(|v| v.to_str().ok()?.strip_prefix("bytes ")?.split('-').next()?.parse::<u64>().ok())
                .unwrap_or(offset)
        } else {
            0
        };
        let Some(skip) = offset.checked_sub(start) else {
            return Err(RegistryError::Setup {
                host,
                what: format!("a part that starts at {start}, not {offset},"),
            });
        };
        Ok(Arriving { host, index: at, body: response.into_body(), skip, transport: self.transport.clone() })
    }
}

impl Arriving {
    /// The next part; `None` at the end.
    pub async fn next(&mut self) -> Result<Option<Bytes>, RegistryError> {
        loop {
            let part = transport::next(&mut self.body, &self.transport.timeouts, &self.host).await?;
            let Some(mut data) = part else { return Ok(None) };
            if self.skip > 0 {
                let cut = usize::try_from(self.skip).unwrap_or(usize::MAX).min(data.len());
                self.skip -= cut as u64;
                data = data.split_off(cut);
                if data.is_empty() {
                    continue;
                }
            }
            return Ok(Some(data));
        }
    }
}
