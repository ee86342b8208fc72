//! Answers to a registry's challenge: basic credentials, or a token of the server that the registry names
//! (distribution project, "Token Authentication Specification" and "OAuth2 Token Authentication").

use crate::auth::Credential;
use crate::challenge::{self, Challenge};
use crate::error::{BODY_MAX, RegistryError, Words};
use crate::hosts::{Endpoint, is_loopback};
use crate::session::{Session, new_request, secret_header};
use crate::transport;
use crate::url::{Url, encode};
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, LOCATION};
use http::{HeaderValue, Method, Response};
use hyper::body::Incoming;
use serde::Deserialize;

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
    ) -> Result<HeaderValue, RegistryError> {
        let endpoint = &self.hosts[at].endpoint;
        let host = endpoint.authority.to_string();
        let credential = self.credential.as_ref().filter(|_| endpoint.origin);
        let complain = |why: String| RegistryError::Credentials { host: host.clone(), why };
        match (asked, credential) {
            (_, Some(Credential::Registry(_))) => {
                Err(complain(format!("it does not accept the registry token that was given{refused}")))
            }
            (Challenge::Basic, Some(Credential::Basic { username, password })) if before == 0 => {
                secret_header(&Credential::basic(username, password))
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
                let scope = challenge::pull_scope(scope, &self.repository);
                self.token(endpoint, realm, service, &scope, credential).await
            }
        }
    }

    async fn token(
        &self,
        endpoint: &Endpoint,
        realm: &str,
        service: &str,
        scope: &str,
        credential: Option<&Credential>,
    ) -> Result<HeaderValue, RegistryError> {
        let host = endpoint.authority.to_string();
        let failed = |shown: &str, denied: bool, why: String| RegistryError::Token {
            host: host.clone(),
            realm: shown.to_owned(),
            denied,
            why,
        };
        let mut url = Url::parse(realm).map_err(|why| failed("(unreadable)", false, why))?;
        let shown = url.shown();
        if credential.is_some() && !may_have_credentials(&url, endpoint) {
            let why = "it is neither https nor on this machine, so credentials are not sent to it".to_owned();
            return Err(failed(&shown, false, why));
        }
        let mut fields = format!("scope={}", encode(scope));
        if !service.is_empty() {
            fields = format!("service={}&{fields}", encode(service));
        }
        let response = if let Some(Credential::Identity(refresh)) = credential {
            let form = format!(
                "grant_type=refresh_token&{fields}&client_id={CLIENT_ID}&refresh_token={}",
                encode(refresh)
            );
            let form_type = HeaderValue::from_static("application/x-www-form-urlencoded");
            self.ask(endpoint, &url, Method::POST, form, &[(CONTENT_TYPE, form_type)]).await?
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
            self.ask(endpoint, &url, Method::GET, String::new(), &basic).await?
        };
        let status = response.status();
        if !status.is_success() {
            let denied = matches!(status.as_u16(), 400 | 401 | 403);
            // What a plain http server somewhere inside the network says is not repeated, or a registry
            // could read there through our messages.
            let local = |authority: &http::uri::Authority| is_loopback(authority.host());
            let repeat = url.https
                || url.same_origin(endpoint.https, &endpoint.authority)
                || local(&url.authority) && local(&endpoint.authority);
            let words = self.words(&host, response, repeat).await;
            return Err(failed(&shown, denied, format!("it answered {}{words}", status.as_u16())));
        }
        let timeouts = &self.transport.timeouts;
        let body = transport::collect(response.into_body(), timeouts, &host, "a token", ANSWER_MAX).await?;
        let answer: Answer = serde_json::from_slice(&body)
            .map_err(|_| failed(&shown, false, "its answer is not JSON".into()))?;
        answer
            .token
            .or(answer.access_token)
            .filter(|t| !t.is_empty() && t.len() <= TOKEN_MAX)
            .and_then(|t| secret_header(&format!("Bearer {t}")))
            .ok_or_else(|| failed(&shown, false, "its answer holds none".into()))
    }

    /// One request to a token server. A redirect is followed only on the same origin, for what the request
    /// carries is meant for that server alone.
    async fn ask(
        &self,
        endpoint: &Endpoint,
        url: &Url,
        method: Method,
        form: String,
        headers: &[(http::HeaderName, HeaderValue)],
    ) -> Result<Response<Incoming>, RegistryError> {
        // A registry and its token server are mostly one machine with one certificate authority.
        let host = endpoint.authority.to_string();
        let own = url.same_origin(endpoint.https, &endpoint.authority);
        let at = self.hosts.iter().find(|h| std::ptr::eq(&h.endpoint, endpoint));
        let client = at
            .map(|h| h.client_for(url, own))
            .ok_or_else(|| RegistryError::Setup { host: host.clone(), what: "its connection".into() })?
            .as_ref()
            .map_err(|what| RegistryError::Setup { host: host.clone(), what: what.clone() })?;
        let body = Bytes::from(form);
        let mut url = url.clone();
        for _ in 0..=crate::session::REDIRECTS_MAX {
            let mut request = new_request(&method, &url, body.clone(), &host)?;
            for (key, value) in headers {
                request.headers_mut().insert(key.clone(), value.clone());
            }
            let name = url.authority.to_string();
            let response = transport::send(client, &self.transport.timeouts, &name, request).await?;
            let location = response
                .headers()
                .get(LOCATION)
                .filter(|_| matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308))
                .and_then(|v| v.to_str().ok());
            let Some(location) = location else { return Ok(response) };
            let refuse = |why: String| RegistryError::Redirect { from: url.shown(), why };
            let next = url.join(location).map_err(refuse)?;
            if !next.same_origin(url.https, &url.authority) {
                return Err(refuse("a token server must not redirect to another host".into()));
            }
            url = next;
        }
        Err(RegistryError::Redirect {
            from: url.shown(),
            why: "there are more than 5 redirects in a row".into(),
        })
    }
}

/// Credentials go to a token server over https, on this machine, or where it is the registry itself, for
/// which plain http was configured.
fn may_have_credentials(realm: &Url, endpoint: &Endpoint) -> bool {
    realm.https
        || is_loopback(realm.authority.host())
        || realm.same_origin(endpoint.https, &endpoint.authority)
}

const _: () = assert!(BODY_MAX <= ANSWER_MAX as usize);
