//! What a repository lists: its tags, and what refers to a manifest (OCI distribution specification 1.1,
//! "Listing Tags" and "Listing Referrers"). Lists are bounded, however many pages a registry offers.

use crate::error::RegistryError;
use crate::exchange::Ask;
use crate::payload::Payload;
use crate::session::Session;
use crate::transport;
use crate::url::{Url, encode};
use http::header::{ACCEPT, CONTENT_TYPE, LINK};
use http::{HeaderMap, Method};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::collections::{BTreeMap, HashSet};
use types::{Digest, ErrorKind};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// The largest page that is read, in bytes; the specification has registries bound it by 4 MiB.
const PAGE_MAX: u64 = 4 << 20;
/// The most bytes of all pages together.
const LIST_MAX: usize = 16 << 20;
/// The most pages of one list.
const PAGES_MAX: usize = 100;
/// The most referrers that are given.
const REFERRERS_MAX: usize = 1000;

/// A manifest that refers to another, as the registry lists it. Nothing of it is verified but the form of the
/// digest: fetch the manifest by it and look at its `subject`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Referrer {
    /// Of the referring manifest.
    pub digest: Digest,
    /// Its bytes.
    pub size: u64,
    /// Its media type.
    pub media_type: String,
    /// What it is: a signature, a bill of materials, …
    pub artifact_type: Option<String>,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Tags {
    tags: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct Index {
    manifests: Option<Vec<Descriptor>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    #[serde(default)]
    media_type: String,
    digest: String,
    #[serde(default)]
    size: u64,
    artifact_type: Option<String>,
    annotations: Option<BTreeMap<String, String>>,
}

impl Session {
    /// The first `max` tags of the repository.
    pub async fn tags(&self, max: usize) -> Result<Vec<String>, RegistryError> {
        let path = format!("tags/list?n={}", max.clamp(1, 1000));
        let pages = |pages: Vec<Tags>| {
            pages.into_iter().flat_map(|page| page.tags.unwrap_or_default()).take(max).collect::<Vec<_>>()
        };
        self.each(
            "resolve",
            |e| e.pull && e.resolve,
            |at| {
                let path = &path;
                async move {
                    self.pages(at, path, None, |all: &Vec<Tags>| {
                        all.iter().filter_map(|p| p.tags.as_ref()).map(Vec::len).sum::<usize>() >= max
                    })
                    .await
                    .map(pages)
                }
            },
        )
        .await
    }

    /// What refers to the manifest `digest`, of one artifact type or of all; from the referrers API, or where a
    /// registry has none, from the tag that stands in for it. A thousand at most.
    pub async fn referrers(
        &self,
        digest: &Digest,
        artifact_type: Option<&str>,
    ) -> Result<Vec<Referrer>, RegistryError> {
        let filter =
            artifact_type.map(|wanted| format!("?artifactType={}", encode(wanted))).unwrap_or_default();
        let path = format!("referrers/{digest}{filter}");
        let enough = |all: &Vec<Index>| {
            all.iter().filter_map(|p| p.manifests.as_ref()).map(Vec::len).sum::<usize>() >= REFERRERS_MAX
        };
        let listed = self
            .each(
                "resolve",
                |e| e.pull && e.resolve,
                |at| {
                    let path = &path;
                    async move { self.pages(at, path, Some(INDEX), enough).await }
                },
            )
            .await;
        let pages = match listed {
            Ok(pages) => pages,
            // No such API (404 for the path), or none that this registry's proxy lets through.
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Internal) => {
                let tag = format!("{}-{}", digest.algorithm_name(), digest.hex());
                match self.manifest(&tag).await {
                    Ok(fetched) => vec![self.read(&self.name(), &fetched.bytes)?],
                    Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
                    Err(error) => return Err(error),
                }
            }
            Err(error) => return Err(error),
        };
        let mut seen = HashSet::new();
        let all = pages.into_iter().flat_map(|page| page.manifests.unwrap_or_default());
        Ok(all
            .filter_map(|d| {
                let digest = Digest::parse(&d.digest).ok()?;
                // A registry need not filter (`OCI-Filters-Applied`).
                let fits = artifact_type.is_none() || d.artifact_type.as_deref() == artifact_type;
                (fits && seen.insert(digest.clone())).then_some(Referrer {
                    digest,
                    size: d.size,
                    media_type: d.media_type,
                    artifact_type: d.artifact_type,
                    annotations: d.annotations.unwrap_or_default(),
                })
            })
            .take(REFERRERS_MAX)
            .collect())
    }

    /// The pages of a list, until there are no more or there is enough.
    async fn pages<T: DeserializeOwned>(
        &self,
        at: usize,
        path: &str,
        media_type: Option<&str>,
        enough: impl Fn(&Vec<T>) -> bool,
    ) -> Result<Vec<T>, RegistryError> {
        let host = self.hosts[at].endpoint.authority.to_string();
        let mut url = self.url(at, &self.below(at, path))?;
        let (mut all, mut bytes) = (Vec::new(), 0);
        let headers = [(ACCEPT, media_type.unwrap_or("application/json"))];
        for _ in 0..PAGES_MAX {
            let ask =
                Ask { method: Method::GET, url: url.clone(), headers: &headers, payload: Payload::Empty };
            let response = self.exchange(at, &ask).await?;
            let found = response.headers().get(CONTENT_TYPE).and_then(|v| v.to_str().ok());
            // A proxy or a portal that answers everything with a page of its own.
            if media_type.is_some() && found.is_none_or(|found| found.split(';').next() != media_type) {
                let what = "its list, which is of another media type,".to_owned();
                return Err(RegistryError::Format { host, what });
            }
            let next = next_page(&url, response.headers());
            let timeouts = &self.transport.timeouts;
            let body = transport::collect(response, timeouts, &host, "a list", PAGE_MAX).await?;
            all.push(self.read(&host, &body)?);
            bytes += body.len();
            match next {
                Some(next) if next != url && bytes < LIST_MAX && !enough(&all) => url = next,
                _ => break,
            }
        }
        Ok(all)
    }

    fn read<T: DeserializeOwned>(&self, host: &str, body: &[u8]) -> Result<T, RegistryError> {
        serde_json::from_slice(body).map_err(|_| RegistryError::Format {
            host: host.to_owned(),
            what: "its list, which is not the JSON that the distribution specification describes,".to_owned(),
        })
    }
}

/// `Link: </v2/a/tags/list?n=2&last=b>; rel="next"` (RFC 8288). It must not lead to another host.
fn next_page(from: &Url, headers: &HeaderMap) -> Option<Url> {
    let link = headers.get_all(LINK).iter().filter_map(|v| v.to_str().ok()).find(|v| v.contains("next"))?;
    let target = link.split_once('<')?.1.split_once('>')?.0;
    from.join(target).ok().filter(|next| next.same_origin(from.https, &from.authority))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(link: &str) -> Option<String> {
        let mut headers = HeaderMap::new();
        headers.insert(LINK, link.parse().expect("header"));
        let from = Url::parse("https://r.example/v2/a/tags/list?n=2").expect("url");
        next_page(&from, &headers).map(|url| format!("{}{}", url.authority, url.path))
    }

    #[test]
    fn the_next_page_is_on_the_same_host() {
        let own = Some("r.example/v2/a/tags/list?n=2&last=b".to_owned());
        assert_eq!(next("</v2/a/tags/list?n=2&last=b>; rel=\"next\""), own);
        assert_eq!(next("<https://r.example/v2/a/tags/list?n=2&last=b>; rel=next"), own);
        for other in [
            "<https://evil.example/x>; rel=\"next\"",
            "<http://r.example/x>; rel=\"next\"",
            "nonsense",
            "</x>; rel=prev",
        ] {
            assert_eq!(next(other), None, "{other}");
        }
    }
}
