//! Credentials for one pull, as the CRI's `AuthConfig` carries them. They are never written to disk and
//! never printed: `Debug` shows only which parts are there.

use base64::Engine as _;
use std::fmt;

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
    /// The one credential that is to be used, if any part is filled.
    pub(crate) fn credential(&self) -> Option<Credential> {
        let filled = |part: &Option<String>| part.as_ref().filter(|p| !p.is_empty()).cloned();
        if let Some(token) = filled(&self.registry_token) {
            return Some(Credential::Registry(token));
        }
        if let Some(token) = filled(&self.identity_token) {
            return Some(Credential::Identity(token));
        }
        if let Some(username) = filled(&self.username) {
            let password = self.password.clone().unwrap_or_default();
            return Some(Credential::Basic { username, password });
        }
        let decoded = base64::engine::general_purpose::STANDARD.decode(filled(&self.auth)?.trim()).ok()?;
        let text = String::from_utf8(decoded).ok()?;
        let (username, password) = text.split_once(':')?;
        // Docker's own config files pad the password with zero bytes.
        let password = password.trim_end_matches('\0');
        Some(Credential::Basic { username: username.to_owned(), password: password.to_owned() })
    }

    /// Whether these credentials are meant for the registry `host` (of a reference: `docker.io`, `h:5000`).
    pub(crate) fn is_for(&self, host: &str) -> bool {
        let Some(address) = self.server_address.as_deref().filter(|a| !a.is_empty()) else { return true };
        let rest = address.split_once("://").map_or(address, |(_, rest)| rest);
        let named = rest.split('/').next().unwrap_or(rest);
        canonical(named) == canonical(host)
    }
}

/// Docker Hub has gone by several names.
fn canonical(host: &str) -> &str {
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
                vec![password.clone(), basic["Basic ".len()..].to_owned()]
            }
            Credential::Identity(token) | Credential::Registry(token) => vec![token.clone()],
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
        assert_eq!(auth.credential(), Some(expected));
        assert_eq!(Auth { auth: some("%%%"), ..Auth::default() }.credential(), None);
        assert_eq!(Auth::default().credential(), None);
    }

    #[test]
    fn a_server_address_limits_where_credentials_go() {
        let hub = Auth { server_address: some("https://index.docker.io/v1/"), ..Auth::default() };
        assert!(hub.is_for("docker.io") && !hub.is_for("quay.io"));
        assert!(Auth::default().is_for("quay.io"));
        let port = Auth { server_address: some("h:5000"), ..Auth::default() };
        assert!(port.is_for("h:5000") && !port.is_for("h"));
    }
}
