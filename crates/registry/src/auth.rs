//! Credentials for one pull, as the CRI's `AuthConfig` carries them. They are never written to disk and
//! never printed: `Debug` shows only which parts are there.

use crate::url::encode;
use base64::Engine as _;
use std::fmt;
use types::{Error, Result};

/// Credentials for a registry. They are given to the image's own registry only (or, with
/// `server_address`, to that registry only), never to a mirror or to where a redirect leads.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Auth {
    /// User name for basic authentication and for the token server.
    pub username: Option<String>,
    /// Its password.
    pub password: Option<String>,
    /// Base64 of `username:password`; counts where `username` is missing.
    pub auth: Option<String>,
    /// The registry that the rest is for, as a host or URL; missing means the image's own.
    pub server_address: Option<String>,
    /// An OAuth2 refresh token, exchanged at the token server.
    pub identity_token: Option<String>,
    /// A bearer token that goes to the registry as it is.
    pub registry_token: Option<String>,
}

/// What is sent, once the parts of an [`Auth`] are sorted out.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Credential {
    /// Name and password.
    Basic { username: String, password: String },
    /// A refresh token for the token server.
    Identity(String),
    /// A bearer token for the registry.
    Registry(String),
}

impl Auth {
    /// The one credential that is to be used, if any part is filled. An `auth` that cannot be read is refused,
    /// without being shown: a pull without it would fail later, with a reason that misleads.
    pub(crate) fn credential(&self) -> Result<Option<Credential>> {
        let filled = |part: &Option<String>| part.as_ref().filter(|p| !p.is_empty()).cloned();
        if let Some(token) = filled(&self.registry_token) {
            return Ok(Some(Credential::Registry(token)));
        }
        if let Some(token) = filled(&self.identity_token) {
            return Ok(Some(Credential::Identity(token)));
        }
        if let Some(username) = filled(&self.username) {
            let password = self.password.clone().unwrap_or_default();
            return Ok(Some(Credential::Basic { username, password }));
        }
        let Some(auth) = filled(&self.auth) else { return Ok(None) };
        let refuse = |why: &str| {
            Error::invalid(format!(
                "the credentials' auth field {why}; it must be the base64 form of username:password"
            ))
        };
        let decoded = base64::engine::general_purpose::STANDARD
            .decode(auth.trim())
            .map_err(|_| refuse("is not valid base64"))?;
        let text = String::from_utf8(decoded).map_err(|_| refuse("does not hold UTF-8 text"))?;
        let (username, password) = text.split_once(':').ok_or_else(|| refuse("holds no colon"))?;
        // Docker's own config files pad the password with zero bytes.
        let password = password.trim_end_matches('\0');
        Ok(Some(Credential::Basic { username: username.to_owned(), password: password.to_owned() }))
    }

    /// Whether these credentials are meant for the registry `host` (of a reference: `docker.io`, `h:5000`). Without
    /// an address they are for the image's own registry.
    pub(crate) fn is_for(&self, host: &str, own: bool) -> bool {
        let Some(address) = self.server_address.as_deref().filter(|a| !a.is_empty()) else { return own };
        let rest = address.split_once("://").map_or(address, |(_, rest)| rest);
        let named = rest.split('/').next().unwrap_or(rest);
        canonical(named) == canonical(host)
    }
}

/// Docker Hub has gone by several names.
pub(crate) fn canonical(host: &str) -> &str {
    match host {
        "index.docker.io" | "registry-1.docker.io" => "docker.io",
        other => other,
    }
}

impl Credential {
    /// The value of an `Authorization` header for basic authentication.
    pub(crate) fn basic(username: &str, password: &str) -> String {
        let pair = base64::engine::general_purpose::STANDARD.encode(format!("{username}:{password}"));
        format!("Basic {pair}")
    }

    /// The texts that may appear in no message.
    pub(crate) fn secrets(&self) -> Vec<String> {
        match self {
            Credential::Basic { username, password } => {
                let basic = Self::basic(username, password);
                // As they are, and as they stand in headers and forms.
                vec![password.clone(), encode(password), basic["Basic ".len()..].to_owned()]
            }
            Credential::Identity(token) | Credential::Registry(token) => vec![token.clone(), encode(token)],
        }
    }
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let set = |part: &Option<String>| if part.is_some() { "set" } else { "none" };
        f.debug_struct("Auth")
            .field("username", &set(&self.username))
            .field("password", &set(&self.password))
            .field("auth", &set(&self.auth))
            .field("server_address", &self.server_address)
            .field("identity_token", &set(&self.identity_token))
            .field("registry_token", &set(&self.registry_token))
            .finish()
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Credential::Basic { .. } => "Basic(hidden)",
            Credential::Identity(_) => "Identity(hidden)",
            Credential::Registry(_) => "Registry(hidden)",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    #[test]
    fn debug_shows_no_secret() {
        let auth = Auth {
            username: some("alice"),
            password: some("hunter2"),
            identity_token: some("idtok"),
            registry_token: some("regtok"),
            auth: some("YWxpY2U6aHVudGVyMg=="),
            ..Auth::default()
        };
        let text = format!("{auth:?} {:?}", auth.credential());
        for secret in ["hunter2", "idtok", "regtok", "YWxp"] {
            assert!(!text.contains(secret), "{text}");
        }
    }

    #[test]
    fn the_encoded_pair_counts_where_no_username_is_given() {
        let auth = Auth { auth: some("YWxpY2U6aHVudGVyMg=="), ..Auth::default() };
        let expected = Credential::Basic { username: "alice".into(), password: "hunter2".into() };
        assert_eq!(auth.credential().expect("readable"), Some(expected));
        assert_eq!(Auth::default().credential().expect("empty"), None);
    }

    #[test]
    fn an_encoded_pair_that_cannot_be_read_is_refused_and_not_shown() {
        // Not base64; "hunter2" without a colon; not UTF-8.
        for bad in ["hunter%%%", "aHVudGVyMg==", "/zp4"] {
            let auth = Auth { auth: some(bad), ..Auth::default() };
            let error = auth.credential().expect_err(bad);
            assert_eq!(error.kind(), types::ErrorKind::InvalidArgument);
            assert!(!error.chain().contains("hunter") && !error.chain().contains(bad), "{}", error.chain());
        }
    }

    #[test]
    fn a_server_address_limits_where_credentials_go() {
        let hub = Auth { server_address: some("https://index.docker.io/v1/"), ..Auth::default() };
        assert!(hub.is_for("docker.io", true) && !hub.is_for("quay.io", true));
        assert!(Auth::default().is_for("quay.io", true) && !Auth::default().is_for("quay.io", false));
        let port = Auth { server_address: some("h:5000"), ..Auth::default() };
        assert!(port.is_for("h:5000", false) && !port.is_for("h", true));
    }
}
