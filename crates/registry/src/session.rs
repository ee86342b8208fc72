//! A registry client for pulling (OCI distribution spec 1.1): hosts in order, authentication, redirects,
//! retries. It verifies nothing but sizes of what it holds in memory and the digests of manifests;
//! whoever takes a blob verifies it.
//!
//! Who gets credentials (CVE-2020-15157): the image's own registry, at the scheme, host and port that are
//! configured; and the token server which that registry names, over https or on this machine. Nobody else:
//! no mirror, no redirect's target, no URL out of a manifest.

use crate::auth::{Auth, Credential};
use crate::error::{BODY_MAX, RegistryError, Words};
use crate::hosts::{self, Endpoint};
use crate::transport::{self, Client, Transport};
use crate::url::Url;
use crate::{challenge, retry, url};
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, LOCATION, USER_AGENT, WWW_AUTHENTICATE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use types::{Digest, ErrorKind, Reference};

/// Redirects that are followed for one request.
pub(crate) const REDIRECTS_MAX: usize = 5;
/// How this program names itself.
const AGENT: &str = concat!("corten/", env!("CARGO_PKG_VERSION"));

/// What one pull uses to talk to the hosts of one repository.
pub struct Session {
    pub(crate) transport: Arc<Transport>,
    pub(crate) hosts: Vec<Host>,
    /// As references write it.
    registry: String,
    pub(crate) repository: String,
    pub(crate) credential: Option<Credential>,
    secrets: Vec<String>,
}

pub(crate) struct Host {
    pub(crate) endpoint: Endpoint,
    client: Result<Client, String>,
    /// For where a redirect or a challenge leads: the same trust, without the client's certificate.
    elsewhere: Result<Client, String>,
    /// The same for this machine, whose certificates are by default not checked.
    nearby: Result<Client, String>,
    state: Mutex<HostState>,
}

#[derive(Default)]
pub(crate) struct HostState {
    /// What the registry accepted last.
    pub(crate) authorization: Option<HeaderValue>,
    /// Not asked again in this pull.
    pub(crate) condemned: bool,
    /// Blobs that it gave with the wrong content.
    pub(crate) lied_about: HashSet<Digest>,
}

impl Host {
    /// The connections for a URL: the host's own, or a place that it names.
    pub(crate) fn client_for(&self, url: &Url, own: bool) -> &Result<Client, String> {
        match own {
            true => &self.client,
            false if hosts::is_loopback(url.authority.host()) => &self.nearby,
            false => &self.elsewhere,
        }
    }
}

impl Session {
    /// Reads the configuration for the reference's registry. Blocks.
    pub fn open(
        transport: Arc<Transport>,
        config_path: Option<PathBuf>,
        reference: &Reference,
        auth: Option<&Auth>,
    ) -> types::Result<Session> {
        let endpoints = hosts::endpoints(config_path.as_deref(), reference.host())?;
        let credential =
            auth.filter(|a| a.is_for(reference.host())).map(Auth::credential).transpose()?.flatten();
        let secrets = credential.as_ref().map(Credential::secrets).unwrap_or_default();
        let hosts = endpoints
            .into_iter()
            .map(|endpoint| {
                let client = transport.client(&endpoint.tls, endpoint.dial_timeout);
                let mut tls = endpoint.tls.clone();
                tls.client = None;
                let nearby = transport.client(&tls, None);
                tls.skip_verify &= !endpoint.skip_implied;
                let elsewhere = transport.client(&tls, None);
                Host { endpoint, client, elsewhere, nearby, state: Mutex::default() }
            })
            .collect();
        Ok(Session {
            transport,
            hosts,
            registry: reference.host().to_owned(),
            repository: reference.path().to_owned(),
            credential,
            secrets,
        })
    }

    /// As references write it, for messages.
    pub fn name(&self) -> String {
        self.registry.clone()
    }

    pub(crate) fn state(&self, at: usize) -> std::sync::MutexGuard<'_, HostState> {
        self.hosts[at].state.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Tries the hosts in order until one succeeds.
    pub(crate) async fn each<T, F: Future<Output = Result<T, RegistryError>>>(
        &self,
        verb: &'static str,
        able: impl Fn(&Endpoint) -> bool,
        attempt: impl Fn(usize) -> F,
    ) -> Result<T, RegistryError> {
        let mut errors: Vec<RegistryError> = Vec::new();
        let able: Vec<usize> = (0..self.hosts.len()).filter(|i| able(&self.hosts[*i].endpoint)).collect();
        for (nth, at) in able.iter().copied().enumerate() {
            let last = nth + 1 == able.len();
            // The last one is asked even when it failed before, so that there is always an answer.
            if self.state(at).condemned && !(last && errors.is_empty()) {
                continue;
            }
            match attempt(at).await {
                Ok(value) => return Ok(value),
                Err(error) => {
                    if error.condemns_host() {
                        self.state(at).condemned = true;
                    }
                    if !last {
                        tracing::info!(host = %self.hosts[at].endpoint.authority, error = %types::error::chain(&error), "host failed; trying the next");
                    }
                    errors.push(error);
                }
            }
        }
        let registry = self.registry.clone();
        match errors.len() {
            0 => Err(RegistryError::NoHost { registry, verb }),
            1 => Err(errors.remove(0)),
            count => {
                // The last is the registry itself: what it says counts.
                let kind = errors.last().map_or(ErrorKind::Unavailable, RegistryError::kind);
                let all: Vec<String> = errors.iter().map(|e| types::error::chain(e)).collect();
                Err(RegistryError::AllFailed { registry, count, kind, all: all.join("; ") })
            }
        }
    }

    /// One request to one host: authenticated when asked for, repeated while it is told to wait.
    pub(crate) async fn request(
        &self,
        at: usize,
        method: Method,
        path: &str,
        headers: &[(http::HeaderName, &str)],
    ) -> Result<Response<Incoming>, RegistryError> {
        let host = &self.hosts[at];
        let name = host.endpoint.authority.to_string();
        let mut url = Url::parse(&format!("{}{}/{path}", host.endpoint.base(), host.endpoint.prefix))
            .map_err(|why| RegistryError::Setup { host: name.clone(), what: why })?;
        if !host.endpoint.origin {
            // A mirror of several registries needs to know which is meant (containerd docs, "hosts.md").
            url.path = format!("{}?ns={}", url.path, url::encode(&self.registry));
        }
        let (mut attempt, mut authenticated) = (0, 0);
        loop {
            let (response, from_host) = match self.follow(host, &url, &method, headers).await {
                // A kept connection may have been closed under our hands; a new one helps.
                Err(RegistryError::Connect { cause, .. }) if !cause.is_connect() && attempt < 2 => {
                    tokio::time::sleep(retry::backoff(attempt)).await;
                    attempt += 1;
                    continue;
                }
                other => other?,
            };
            let status = response.status();
            if status.is_success() {
                return Ok(response);
            }
            if status == StatusCode::UNAUTHORIZED && from_host && authenticated < 2 {
                let asked = challenge::choose(
                    response.headers().get_all(WWW_AUTHENTICATE).iter().filter_map(|v| v.to_str().ok()),
                );
                if let Some(asked) = asked {
                    let refused = self.words(&name, response, true).await;
                    let answer = self.answer(at, &asked, authenticated, &refused).await?;
                    self.state(at).authorization = Some(answer);
                    authenticated += 1;
                    continue;
                }
            }
            // With another host to turn to there is no reason to wait for this one.
            let alternatives = at + 1 < self.hosts.len();
            let next =
                retry::after(status, response.headers(), attempt, types::time::now_nanos() / 1_000_000_000);
            let words = self.words(&name, response, from_host).await;
            match next {
                retry::Next::Wait(wait) if !alternatives => {
                    tracing::debug!(host = %name, status = status.as_u16(), wait_ms = wait.as_millis() as u64, "waiting before the next attempt");
                    tokio::time::sleep(wait).await;
                    attempt += 1;
                }
                retry::Next::TooLong(wait) => {
                    return Err(RegistryError::Throttled { host: name, wait, words });
                }
                retry::Next::GiveUp | retry::Next::Wait(_) => {
                    return Err(RegistryError::Status { method, url: url.shown(), status, words });
                }
            }
        }
    }

    /// Sends a request and follows redirects. The second value tells whether the answer is the host's own.
    async fn follow(
        &self,
        host: &Host,
        url: &Url,
        method: &Method,
        headers: &[(http::HeaderName, &str)],
    ) -> Result<(Response<Incoming>, bool), RegistryError> {
        let name = host.endpoint.authority.to_string();
        let (mut url, mut own) = (url.clone(), true);
        let mut hops = 0;
        loop {
            let client = host
                .client_for(&url, own)
                .as_ref()
                .map_err(|what| RegistryError::Setup { host: name.clone(), what: what.clone() })?;
            let mut request = new_request(method, &url, Bytes::new(), &name)?;
            for (key, value) in headers {
                if let Ok(value) = HeaderValue::from_str(value) {
                    request.headers_mut().insert(key.clone(), value);
                }
            }
            if own {
                for (key, value) in host.endpoint.headers.iter().filter(|(key, _)| *key != HOST) {
                    request.headers_mut().append(key.clone(), value.clone());
                }
                let known = host.state.lock().unwrap_or_else(|e| e.into_inner()).authorization.clone();
                if let Some(value) = known.or_else(|| self.registry_token(&host.endpoint)) {
                    request.headers_mut().insert(AUTHORIZATION, value);
                }
            }
            let at = url.authority.to_string();
            let response = transport::send(client, &self.transport.timeouts, &at, request).await?;
            let location = response
                .headers()
                .get(LOCATION)
                .filter(|_| matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308));
            let Some(location) = location else { return Ok((response, own)) };
            let refuse = |why: &str| RegistryError::Redirect { from: url.shown(), why: why.to_owned() };
            hops += 1;
            if hops > REDIRECTS_MAX {
                return Err(refuse("there are more than 5 redirects in a row"));
            }
            let location = std::str::from_utf8(location.as_bytes()).map_err(|_| refuse("it is not UTF-8"))?;
            let next = url.join(location).map_err(|why| refuse(&why))?;
            if url.https && !next.https {
                return Err(refuse("it leads from https to plain http"));
            }
            // Once it has left the host it does not come back: a round trip must not restore credentials.
            own = own && next.same_origin(host.endpoint.https, &host.endpoint.authority);
            url = next;
        }
    }

    /// A bearer token that the caller of the pull gave, for the registry itself.
    fn registry_token(&self, endpoint: &Endpoint) -> Option<HeaderValue> {
        match &self.credential {
            Some(Credential::Registry(token)) if endpoint.origin => secret_header(&format!("Bearer {token}")),
            _ => None,
        }
    }

    /// What a server said about an error; a redirect's target is not repeated, for it may be anything that
    /// this machine can reach.
    pub(crate) async fn words(&self, host: &str, response: Response<Incoming>, own: bool) -> Words {
        if !own {
            return Words::default();
        }
        let media_type =
            response.headers().get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
        let limit = BODY_MAX as u64;
        match transport::collect(response.into_body(), &self.transport.timeouts, host, "an error", limit)
            .await
        {
            Ok(body) => {
                let mut secrets = self.secrets.clone();
                for at in 0..self.hosts.len() {
                    let known = self.state(at).authorization.clone();
                    let token = known.as_ref().and_then(|v| v.to_str().ok()?.split_once(' '));
                    secrets.extend(token.map(|(_, secret)| secret.to_owned()));
                }
                Words::read(&media_type, &body, &secrets)
            }
            Err(_) => Words::default(),
        }
    }
}

pub(crate) fn new_request(
    method: &Method,
    url: &Url,
    body: Bytes,
    host: &str,
) -> Result<Request<Full<Bytes>>, RegistryError> {
    let setup = |what: String| RegistryError::Setup { host: host.to_owned(), what };
    Request::builder()
        .method(method)
        .uri(url.uri().map_err(setup)?)
        .header(USER_AGENT, AGENT)
        .body(Full::new(body))
        .map_err(|e| setup(e.to_string()))
}

/// A header that `Debug` does not show; `None` where the text cannot be a header.
pub(crate) fn secret_header(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}
