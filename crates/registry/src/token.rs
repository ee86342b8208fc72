//! Answers to a registry's challenge: basic credentials, or a token of the server that the registry names
//! (distribution project, "Token Authentication Specification" and "OAuth2 Token Authentication").

use crate::auth::Credential;
use crate::challenge::{self, Challenge};
use crate::error::{BODY_MAX, RegistryError, Words};
use crate::exchange::{REDIRECTS_MAX, new_request, secret_header};
use crate::hosts::is_loopback;
use crate::payload::whole;
use crate::retry;
use crate::session::{Host, Session};
use crate::transport;
use crate::url::{Url, encode};
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, LOCATION};
use http::{HeaderValue, Method, Response};
use hyper::body::Incoming;
use serde::Deserialize;
use std::time::Duration;

/// How this program names itself to OAuth2 servers.
const CLIENT_ID: &str = "corten";
/// The largest answer of a token server that is read, in bytes.
const ANSWER_MAX: u64 = 256 << 10;
/// The longest token that is sent on, in bytes.
const TOKEN_MAX: usize = 64 << 10;

#[derive(Deserialize)]
struct Answer {
    token: Option<String>,
    access_token: Option<String>,
    /// Seconds; a number, and with some servers a text.
    expires_in: Option<serde_json::Value>,
}

/// An answer to a challenge.
pub(crate) struct Granted {
    /// For the `Authorization` header.
    pub value: HeaderValue,
    /// After which it is to be got again; `None` holds for the whole session.
    pub renew: Option<Duration>,
}

impl From<HeaderValue> for Granted {
    fn from(value: HeaderValue) -> Granted {
        Granted { value, renew: None }
    }
}

impl Answer {
    /// A while before the token runs out. The clock of the server may be wrong, so it counts from now. A token
    /// that does not say when it ends does so after 60 s by the specification, and mostly later: the registry
    /// tells.
    fn renewal(&self) -> Option<Duration> {
        let seconds = match self.expires_in.as_ref()? {
            serde_json::Value::String(text) => text.parse().ok()?,
            other => other.as_f64()?,
        };
        let whole = Duration::try_from_secs_f64(seconds).ok()?.min(Duration::from_secs(86_400));
        Some(whole.saturating_sub((whole / 4).min(Duration::from_secs(10))))
    }
}

impl Session {
    /// The `Authorization` for a challenge of the host `at`. `before` counts the challenges of this request
    /// that were answered already; `refused` is what the host said about the last answer.
    pub(super) async fn answer(
        &self,
        at: usize,
        asked: &Challenge,
        before: u32,
        refused: &Words,
    ) -> Result<Granted, RegistryError> {
        let endpoint = &self.hosts[at].endpoint;
        let host = endpoint.authority.to_string();
        let credential = self.credential.as_ref().filter(|_| self.hosts[at].trusted);
        let complain = |why: String| RegistryError::Credentials { host: host.clone(), why };
        match (asked, credential) {
            (_, Some(Credential::Registry(_))) => {
                Err(complain(format!("it does not accept the registry token that was given{refused}")))
            }
            (Challenge::Basic, Some(Credential::Basic { username, password })) if before == 0 => {
                secret_header(&Credential::basic(username, password))
                    .map(Granted::from)
                    .ok_or_else(|| complain("the given ones cannot be sent".into()))
            }
            (Challenge::Basic, Some(Credential::Basic { .. })) => {
                Err(complain(format!("it does not accept the given ones{refused}")))
            }
            (Challenge::Basic, Some(Credential::Identity(_))) => {
                Err(complain("it wants a user name and password, and an identity token was given".into()))
            }
            (Challenge::Basic, None) => Err(complain(format!("there are none for it{refused}"))),
            (Challenge::Bearer { realm, service, scope }, credential) => {
                let sources = self.sources.lock().unwrap_or_else(|e| e.into_inner()).clone();
                let scopes = challenge::scopes(scope, &self.hosts[at].repository, self.access, &sources);
                self.token(at, realm, service, &scopes, credential).await
            }
        }
    }

    async fn token(
        &self,
        at: usize,
        realm: &str,
        service: &str,
        scopes: &[String],
        credential: Option<&Credential>,
    ) -> Result<Granted, RegistryError> {
        let (at, endpoint) = (&self.hosts[at], &self.hosts[at].endpoint);
        let host = endpoint.authority.to_string();
        let failed = |shown: &str, denied: bool, why: String| RegistryError::Token {
            host: host.clone(),
            realm: shown.to_owned(),
            denied,
            why,
        };
        let mut url = Url::parse(realm).map_err(|why| failed("(unreadable)", false, why))?;
        let shown = self.shown(&url);
        let raised = raise(&mut url, at);
        if credential.is_some() && !may_have_credentials(&url, at) {
            let why = "it is neither https nor on this machine, so credentials are not sent to it".to_owned();
            return Err(failed(&shown, false, why));
        }
        // One parameter for each in a query; in a form, one with all (OAuth2, RFC 6749 section 3.3).
        let scope = |all: &str| format!("scope={}", encode(all));
        let mut fields = match credential {
            Some(Credential::Identity(_)) => scope(&scopes.join(" ")),
            _ => scopes.iter().map(|one| scope(one)).collect::<Vec<_>>().join("&"),
        };
        if !service.is_empty() {
            fields = format!("service={}&{fields}", encode(service));
        }
        let (method, form, headers) = if let Some(Credential::Identity(refresh)) = credential {
            let form = format!(
                "grant_type=refresh_token&{fields}&client_id={CLIENT_ID}&refresh_token={}",
                encode(refresh)
            );
            let form_type = HeaderValue::from_static("application/x-www-form-urlencoded");
            (Method::POST, form, vec![(CONTENT_TYPE, form_type)])
        } else {
            let separator = if url.path.contains('?') { '&' } else { '?' };
            url.path = format!("{}{separator}{fields}", url.path);
            let basic = match credential {
                Some(Credential::Basic { username, password }) => {
                    let header = secret_header(&Credential::basic(username, password))
                        .ok_or_else(|| failed(&shown, true, "the credentials cannot be sent".into()))?;
                    vec![(AUTHORIZATION, header)]
                }
                _ => Vec::new(),
            };
            (Method::GET, String::new(), basic)
        };
        let response = match self.ask_patiently(at, &url, method, form, &headers).await {
            Err(error) if raised => {
                let why = format!(
                    "a registry that speaks TLS names it without TLS, so it is asked by TLS only, and {}",
                    types::error::chain(&error)
                );
                return Err(failed(&shown, false, why));
            }
            other => other?,
        };
        let status = response.status();
        if !status.is_success() {
            let denied = matches!(status.as_u16(), 400 | 401 | 403);
            // What a plain http server somewhere inside the network says is not repeated, or a registry
            // could read there through our messages.
            let local = |authority: &http::uri::Authority| is_loopback(authority.host());
            let repeat = url.https || at.is_own(&url) || local(&url.authority) && local(&endpoint.authority);
            let words = self.words(&host, response, repeat).await;
            return Err(failed(&shown, denied, format!("it answered {}{words}", status.as_u16())));
        }
        let timeouts = &self.transport.timeouts;
        let body = transport::collect(response, timeouts, &host, "a token", ANSWER_MAX).await?;
        let answer: Answer = serde_json::from_slice(&body)
            .map_err(|_| failed(&shown, false, "its answer is not JSON".into()))?;
        let renew = answer.renewal();
        let filled = |token: Option<String>| token.filter(|t| !t.is_empty());
        filled(answer.token)
            .or(filled(answer.access_token))
            .filter(|t| t.len() <= TOKEN_MAX)
            .and_then(|t| secret_header(&format!("Bearer {t}")))
            .map(|value| Granted { value, renew })
            .ok_or_else(|| failed(&shown, false, "its answer holds none".into()))
    }

    /// Asks a token server again while it is busy; a token that was given in vain does no harm.
    async fn ask_patiently(
        &self,
        at: &Host,
        url: &Url,
        method: Method,
        form: String,
        headers: &[(http::HeaderName, HeaderValue)],
    ) -> Result<Response<Incoming>, RegistryError> {
        let (mut attempt, mut waited) = (0, Duration::ZERO);
        loop {
            let response = self.ask(at, url, method.clone(), form.clone(), headers).await?;
            let now = types::time::now_nanos() / 1_000_000_000;
            match retry::after(response.status(), response.headers(), attempt, now) {
                retry::Next::Wait(wait) if waited + wait <= self.transport.timeouts.headers => {
                    tokio::time::sleep(wait).await;
                    waited += wait;
                    attempt += 1;
                }
                _ => return Ok(response),
            }
        }
    }

    /// One request to a token server. A redirect is followed only on the same origin, for what the request
    /// carries is meant for that server alone.
    async fn ask(
        &self,
        at: &Host,
        url: &Url,
        method: Method,
        form: String,
        headers: &[(http::HeaderName, HeaderValue)],
    ) -> Result<Response<Incoming>, RegistryError> {
        // A registry and its token server are mostly one machine with one certificate authority.
        let host = at.endpoint.authority.to_string();
        let client = at
            .client_for(url, at.is_own(url))
            .as_ref()
            .map_err(|what| RegistryError::Setup { host: host.clone(), what: what.clone() })?;
        let body = Bytes::from(form);
        let mut url = url.clone();
        for _ in 0..=REDIRECTS_MAX {
            let mut request = new_request(&method, &url, whole(body.clone()), &host)?;
            for (key, value) in headers {
                request.headers_mut().insert(key.clone(), value.clone());
            }
            let name = url.authority.to_string();
            let response = transport::send(client, &self.transport.timeouts, &name, request, None).await?;
            let location = response
                .headers()
                .get(LOCATION)
                .filter(|_| matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308))
                .and_then(|v| v.to_str().ok());
            let Some(location) = location else { return Ok(response) };
            let refuse = |why: String| RegistryError::Redirect { from: self.shown(&url), why };
            let next = url.join(location).map_err(refuse)?;
            if !next.same_origin(url.https, &url.authority) {
                return Err(refuse("a token server must not redirect to another host".into()));
            }
            url = next;
        }
        Err(RegistryError::Redirect {
            from: self.shown(&url),
            why: "there are more than 5 redirects in a row".into(),
        })
    }
}

/// Makes a realm without TLS, named by a registry with TLS, one with TLS, at the same place. What that registry says is
/// protected on its way, and so must be the token that opens it. A registry behind a proxy that ends TLS for it often writes
/// its own address so by mistake; by TLS it is there. Plain text stays between two that are both on this machine.
fn raise(realm: &mut Url, host: &Host) -> bool {
    let here = is_loopback(realm.authority.host()) && is_loopback(host.endpoint.authority.host());
    if realm.https || !host.https() || here {
        return false;
    }
    realm.https = true;
    if realm.authority.port_u16() == Some(80)
        && let Ok(bare) = realm.authority.host().parse()
    {
        realm.authority = bare;
    }
    true
}

/// Credentials go to a token server over https, or where it is the registry itself, for which plain http was
/// configured, or from one of this machine to another; never by plain http where the registry speaks TLS.
fn may_have_credentials(realm: &Url, host: &Host) -> bool {
    let here = is_loopback(realm.authority.host()) && is_loopback(host.endpoint.authority.host());
    realm.https || !host.https() && (here || host.is_own(realm))
}

const _: () = assert!(BODY_MAX <= ANSWER_MAX as usize);
