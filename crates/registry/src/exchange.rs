//! One request to one host: with the host's own headers, authenticated when asked for, redirected within
//! bounds, repeated while that is safe and the host says that it may succeed.
//!
//! Who gets credentials (CVE-2020-15157): the image's own registry, at the scheme, host and port that are
//! configured; and the token server which that registry names, over https or on this machine. Nobody else:
//! no mirror, no redirect's target, no URL out of a manifest, no place that an upload is sent to.

use crate::auth::Credential;
use crate::error::{BODY_MAX, RegistryError, Words, hide};
use crate::payload::Payload;
use crate::session::{Host, Session};
use crate::transport::{self, Outgoing};
use crate::url::Url;
use crate::{challenge, retry, url};
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, LOCATION, USER_AGENT, WWW_AUTHENTICATE};
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use std::time::Duration;

/// Redirects that are followed for one request.
pub(crate) const REDIRECTS_MAX: usize = 5;
/// How this program names itself.
pub(crate) const AGENT: &str = concat!("corten/", env!("CARGO_PKG_VERSION"));

/// What is asked of a host.
pub(crate) struct Ask<'a> {
    pub method: Method,
    pub url: Url,
    pub headers: &'a [(HeaderName, &'a str)],
    pub payload: Payload<'a>,
}

impl Ask<'_> {
    /// Whether a request that may have arrived can be made again: its effect is the same, or is none that
    /// lasts. An upload that is begun twice is forgotten once by the registry; a part of one is not sent
    /// twice, because it may have been added already.
    fn repeatable(&self) -> bool {
        !matches!(self.payload, Payload::Part { .. })
    }
}

impl Session {
    /// A request without a body, below the host's prefix.
    pub(crate) async fn request(
        &self,
        at: usize,
        method: Method,
        path: &str,
        headers: &[(HeaderName, &str)],
    ) -> Result<Response<Incoming>, RegistryError> {
        let url = self.url(at, path)?;
        self.exchange(at, &Ask { method, url, headers, payload: Payload::Empty }).await
    }

    /// A path of the distribution API at a host.
    pub(crate) fn url(&self, at: usize, path: &str) -> Result<Url, RegistryError> {
        let (host, endpoint) = (&self.hosts[at], &self.hosts[at].endpoint);
        let scheme = if host.https() { "https" } else { "http" };
        let mut url = Url::parse(&format!("{scheme}://{}{}/{path}", endpoint.authority, endpoint.prefix))
            .map_err(|what| RegistryError::Setup { host: endpoint.authority.to_string(), what })?;
        if !endpoint.origin {
            // A mirror of several registries needs to know which is meant (containerd docs, "hosts.md").
            let separator = if url.path.contains('?') { '&' } else { '?' };
            url.path = format!("{}{separator}ns={}", url.path, url::encode(&host.registry));
        }
        Ok(url)
    }

    /// Sends until there is an answer that counts.
    pub(crate) async fn exchange(
        &self,
        at: usize,
        ask: &Ask<'_>,
    ) -> Result<Response<Incoming>, RegistryError> {
        let host = &self.hosts[at];
        let name = host.endpoint.authority.to_string();
        let (mut attempt, mut authenticated, mut waited) = (0, 0, Duration::ZERO);
        loop {
            self.renew(at).await;
            let used = self.state(at).authorization.clone();
            let (response, from_host) = match self.reach(host, ask).await {
                // A kept connection may have been closed under our hands; a new one helps.
                Err(RegistryError::Connect { cause, .. })
                    if !cause.is_connect() && attempt < 2 && ask.repeatable() =>
                {
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
                    let _one_at_a_time = host.asking.lock().await;
                    // Another request may have been given what this one lacks.
                    let known = self.state(at).authorization.clone();
                    if known.is_none() || known == used {
                        let answer = self.answer(at, &asked, authenticated, &refused).await?;
                        self.state(at).accept(answer, asked);
                    }
                    authenticated += 1;
                    continue;
                }
            }
            // With another host to turn to there is no reason to wait for this one.
            let alternatives = self.access == challenge::Access::Pull && at + 1 < self.hosts.len();
            let next =
                retry::after(status, response.headers(), attempt, types::time::now_nanos() / 1_000_000_000);
            let words = self.words(&name, response, from_host).await;
            match next {
                retry::Next::Wait(wait)
                    if !alternatives
                        && ask.repeatable()
                        && waited + wait <= self.transport.timeouts.headers =>
                {
                    tracing::debug!(host = %name, status = status.as_u16(), wait_ms = wait.as_millis() as u64, "waiting before the next attempt");
                    tokio::time::sleep(wait).await;
                    waited += wait;
                    attempt += 1;
                }
                retry::Next::TooLong(wait) => {
                    return Err(RegistryError::Throttled { host: name, status, wait, words });
                }
                retry::Next::GiveUp | retry::Next::Wait(_) => {
                    let wait = match next {
                        retry::Next::Wait(wait) => Some(wait),
                        _ => None,
                    };
                    let (method, url) = (ask.method.clone(), self.shown(&ask.url));
                    return Err(RegistryError::Status { method, url, status, words, wait });
                }
            }
        }
    }

    /// Gets a new token for one that runs out, so that a long upload is not refused at its end. Where that fails, the
    /// host's next challenge tells why.
    async fn renew(&self, at: usize) {
        let Some(asked) = self.state(at).running_out() else { return };
        let _one_at_a_time = self.hosts[at].asking.lock().await;
        if self.state(at).running_out().is_none() {
            return;
        }
        match self.answer(at, &asked, 0, &Words::default()).await {
            Ok(answer) => self.state(at).accept(answer, asked),
            Err(error) => {
                tracing::debug!(error = %types::error::chain(&error), "a token that runs out was not renewed");
                self.state(at).forget();
            }
        }
    }

    /// Sends a request by the protocol that the host speaks, which is found out where it may be either.
    async fn reach(&self, host: &Host, ask: &Ask<'_>) -> Result<(Response<Incoming>, bool), RegistryError> {
        let decided = |https: Option<bool>| {
            let mut state = host.state.lock().unwrap_or_else(|e| e.into_inner());
            if https.is_some() {
                state.https = https;
            }
            state.https
        };
        let first = self.follow(host, ask).await;
        if !host.endpoint.scheme.ambiguous() || decided(None).is_some() {
            return first;
        }
        let https = host.endpoint.scheme.https();
        let other = match &first {
            // Go's server and others answer plain HTTP at a port for TLS in this way.
            Ok((response, true)) => !https && response.status() == StatusCode::BAD_REQUEST,
            Ok(_) => false,
            Err(RegistryError::Connect { cause, .. }) if https => transport::speaks_no_tls(cause),
            Err(RegistryError::Connect { cause, .. }) => !cause.is_connect(),
            Err(_) => return first,
        };
        if !other {
            if first.is_ok() {
                decided(Some(https));
            }
            return first;
        }
        decided(Some(!https));
        let second = self.follow(host, ask).await;
        if matches!(&second, Err(RegistryError::Connect { cause, .. }) if cause.is_connect()) {
            // It was the right one after all.
            decided(Some(https));
            return first;
        }
        second
    }

    /// Sends a request and follows redirects. The second value tells whether the answer is the host's own.
    async fn follow(&self, host: &Host, ask: &Ask<'_>) -> Result<(Response<Incoming>, bool), RegistryError> {
        let name = host.endpoint.authority.to_string();
        let mut url = ask.url.clone();
        let mut own = url.same_origin(url.https, &host.endpoint.authority)
            && (url.https == host.https() || host.endpoint.scheme.ambiguous());
        if own {
            // What the host speaks may have been found out since the URL was made.
            url.https = host.https();
        }
        let mut hops = 0;
        loop {
            let client = host
                .client_for(&url, own)
                .as_ref()
                .map_err(|what| RegistryError::Setup { host: name.clone(), what: what.clone() })?;
            let mut request = new_request(&ask.method, &url, ask.payload.body()?, &name)?;
            for (key, value) in ask.headers {
                if let Ok(value) = HeaderValue::from_str(value) {
                    request.headers_mut().insert(key.clone(), value);
                }
            }
            if let Some(media_type) = ask.payload.media_type() {
                let value = HeaderValue::from_str(media_type).map_err(|_| RegistryError::Setup {
                    host: name.clone(),
                    what: "the media type of what is sent".into(),
                })?;
                request.headers_mut().insert(CONTENT_TYPE, value);
            }
            if own {
                for (key, value) in host.endpoint.headers.iter().filter(|(key, _)| *key != HOST) {
                    request.headers_mut().append(key.clone(), value.clone());
                }
                let known = host.state.lock().unwrap_or_else(|e| e.into_inner()).authorization.clone();
                if let Some(value) = known.or_else(|| self.registry_token(host)) {
                    request.headers_mut().insert(AUTHORIZATION, value);
                }
            }
            let at = url.authority.to_string();
            let sent = ask.payload.sent();
            let response = transport::send(client, &self.transport.timeouts, &at, request, sent).await?;
            let location = response
                .headers()
                .get(LOCATION)
                .filter(|_| matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308));
            let Some(location) = location else { return Ok((response, own)) };
            let refuse = |why: &str| RegistryError::Redirect { from: self.shown(&url), why: why.to_owned() };
            // The others turn a request that changes something into one that does not (RFC 9110, 15.4).
            if !matches!(ask.method, Method::GET | Method::HEAD)
                && !matches!(response.status().as_u16(), 307 | 308)
            {
                return Err(refuse("what changes something is redirected by 307 or 308 only"));
            }
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
            own = own && host.is_own(&next);
            url = next;
        }
    }

    /// A bearer token that the caller of the pull gave, for the registry itself.
    fn registry_token(&self, host: &Host) -> Option<HeaderValue> {
        match &self.credential {
            Some(Credential::Registry(token)) if host.trusted => secret_header(&format!("Bearer {token}")),
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
        let body = transport::collect_some(response, &self.transport.timeouts, BODY_MAX).await;
        tracing::trace!(host, bytes = body.len(), "read what a host says of its error");
        Words::read(&media_type, &body, &self.hidden())
    }

    /// What may appear in no message: what was given, what was got for it, and what the configuration holds.
    fn hidden(&self) -> Vec<String> {
        let mut secrets = self.secrets.clone();
        for host in &self.hosts {
            let known = host.state.lock().unwrap_or_else(|e| e.into_inner()).authorization.clone();
            let headers = host.endpoint.headers.iter().map(|(_, value)| value);
            for value in known.iter().chain(headers).filter_map(|value| value.to_str().ok()) {
                secrets.push(value.to_owned());
                secrets.extend(value.split_once(' ').map(|(_, secret)| secret.to_owned()));
            }
        }
        // The longest first, for one may be a part of another.
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        secrets
    }

    /// A URL of somebody else's making, for a message.
    pub(crate) fn shown(&self, url: &Url) -> String {
        hide(&url.shown(), &self.hidden())
    }
}

pub(crate) fn new_request(
    method: &Method,
    url: &Url,
    body: Outgoing,
    host: &str,
) -> Result<Request<Outgoing>, RegistryError> {
    let setup = |what: String| RegistryError::Setup { host: host.to_owned(), what };
    Request::builder()
        .method(method)
        .uri(url.uri().map_err(setup)?)
        .header(USER_AGENT, AGENT)
        .body(body)
        .map_err(|e| setup(e.to_string()))
}

/// A header that `Debug` does not show; `None` where the text cannot be a header.
pub(crate) fn secret_header(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}
