//! What can go wrong with a registry, in words for the user: what was asked of whom, and what the
//! registry itself said. Never a credential, never a query string (they carry signatures).

use crate::led::Refused;
use http::{Method, StatusCode};
use std::time::Duration;
use types::{Digest, Error, ErrorKind};

/// The most of an error's body that is read, in bytes.
pub const BODY_MAX: usize = 64 << 10;

/// What a time-out says that waited for the headers of an answer.
pub const ANSWERING: &str = "connecting or answering";

/// A failed exchange with a registry.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    #[error("the request to {host} failed")]
    Connect {
        host: String,
        #[source]
        cause: hyper_util::client::legacy::Error,
    },
    #[error("{host} did not answer within {} s ({what})", after.as_secs())]
    Timeout { host: String, what: &'static str, after: Duration },
    #[error(
        "{host} answered {} and then sent {bytes} bytes in {} s, which is no progress; the transfer is given up",
        status_text(*status), after.as_secs()
    )]
    Stalled { host: String, status: StatusCode, bytes: u64, after: Duration },
    #[error("the answer of {host} broke off")]
    Body {
        host: String,
        #[source]
        cause: hyper::Error,
    },
    #[error("{method} {url} was answered with {}{words}", status_text(*status))]
    Status {
        method: Method,
        url: String,
        status: StatusCode,
        words: Words,
        /// After which it may be tried again.
        wait: Option<Duration>,
    },
    #[error("{host} answered {} and asks to wait {} s before the next request{words}; try again then", status_text(*status), wait.as_secs())]
    Throttled { host: String, status: StatusCode, wait: Duration, words: Words },
    #[error("what is to be sent cannot be read")]
    Source {
        #[source]
        cause: std::io::Error,
    },
    #[error("{from} redirects in a way that is not followed: {why}")]
    Redirect { from: String, why: String },
    #[error("{host} asks for credentials, and {why}")]
    Credentials { host: String, why: String },
    #[error("the token server {realm} of {host} gave no token: {why}")]
    Token { host: String, realm: String, denied: bool, why: String },
    #[error("{host} sent more than {limit} bytes as {what}")]
    TooLarge { host: String, what: &'static str, limit: u64 },
    #[error("{host} announced {expected} and sent {found}")]
    Digest { host: String, expected: Digest, found: Digest },
    #[error("{host} sent {found} bytes of {digest}, and its manifest says {expected}")]
    Size { host: String, digest: Digest, expected: u64, found: u64 },
    #[error("{host}: {what} cannot be used")]
    Setup { host: String, what: String },
    #[error("{host}: {what} cannot be read")]
    Format { host: String, what: String },
    #[error("no host is configured that may {verb} for {registry}")]
    NoHost { registry: String, verb: &'static str },
    #[error("all {count} hosts of {registry} failed: {all}")]
    AllFailed { registry: String, count: usize, kind: ErrorKind, all: String },
}

impl RegistryError {
    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Status { status, .. } => match status.as_u16() {
                401 | 403 => ErrorKind::PermissionDenied,
                404 => ErrorKind::NotFound,
                408 | 429 | 500..=599 => ErrorKind::Unavailable,
                _ => ErrorKind::Internal,
            },
            Self::Token { denied: true, .. } | Self::Credentials { .. } => ErrorKind::PermissionDenied,
            Self::Connect { .. } | Self::Body { .. } | Self::Throttled { .. } | Self::Token { .. } => {
                ErrorKind::Unavailable
            }
            Self::Timeout { .. } | Self::Stalled { .. } => ErrorKind::DeadlineExceeded,
            Self::Setup { .. } | Self::NoHost { .. } => ErrorKind::FailedPrecondition,
            Self::TooLarge { .. } => ErrorKind::ResourceExhausted,
            Self::AllFailed { kind, .. } => *kind,
            Self::Source { .. }
            | Self::Format { .. }
            | Self::Redirect { .. }
            | Self::Digest { .. }
            | Self::Size { .. } => ErrorKind::Internal,
        }
    }

    /// Whether the registry made no progress for the time that it is given. Taking the transfer up again at the
    /// same host is no use: it would not end.
    pub fn is_stalled(&self) -> bool {
        matches!(self, Self::Timeout { .. } | Self::Stalled { .. })
    }

    /// Whether the registry led to where nothing is asked for it. Asking again changes nothing.
    pub(crate) fn led_astray(&self) -> bool {
        let Self::Connect { cause, .. } = self else { return false };
        let mut next: Option<&(dyn std::error::Error + 'static)> = Some(cause);
        while let Some(error) = next {
            if error.is::<Refused>() {
                return true;
            }
            next = error.source();
        }
        false
    }

    /// Whether the host as such is of no use, so that the rest of the pull need not ask it again.
    pub fn condemns_host(&self) -> bool {
        match self {
            Self::Connect { cause, .. } => cause.is_connect(),
            Self::Timeout { what, .. } => *what == ANSWERING,
            _ => false,
        }
    }
}

impl From<RegistryError> for Error {
    fn from(error: RegistryError) -> Self {
        let (kind, message) = (error.kind(), error.to_string());
        match error {
            RegistryError::Connect { cause, .. } => Error::with_source(kind, message, cause),
            RegistryError::Body { cause, .. } => Error::with_source(kind, message, cause),
            RegistryError::Source { cause } => Error::with_source(kind, message, cause),
            _ => Error::new(kind, message),
        }
    }
}

fn status_text(status: StatusCode) -> String {
    match status.canonical_reason() {
        Some(reason) => format!("{} {reason}", status.as_u16()),
        None => status.as_u16().to_string(),
    }
}

/// What a server said about its error: bounded, printable, without secrets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Words(String);

impl std::fmt::Display for Words {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(f, ": {}", self.0) }
    }
}

impl Words {
    /// Reads an error's body: the OCI distribution spec's `errors`, a token server's `details` or
    /// `error_description`, or the first line of plain text.
    pub fn read(media_type: &str, body: &[u8], secrets: &[String]) -> Words {
        let text = from_json(body).unwrap_or_else(|| {
            let first = String::from_utf8_lossy(body);
            let first = first.trim().lines().next().unwrap_or_default().to_owned();
            if media_type.starts_with("text/plain") { first } else { String::new() }
        });
        Words(printable(&text, secrets))
    }

    /// The words alone.
    #[cfg(test)]
    fn text(&self) -> &str {
        &self.0
    }
}

fn from_json(body: &[u8]) -> Option<String> {
    let value: serde_json::Value = serde_json::from_slice(body).ok()?;
    let text = |v: &serde_json::Value, key: &str| {
        v.get(key).and_then(|t| t.as_str()).map(str::trim).filter(|t| !t.is_empty()).map(str::to_owned)
    };
    if let Some(errors) = value.get("errors").and_then(|e| e.as_array()) {
        let all: Vec<String> = errors
            .iter()
            .take(3)
            .filter_map(|e| match (text(e, "code"), text(e, "message")) {
                (Some(code), Some(message)) => Some(format!("{code}: {message}")),
                (one, other) => one.or(other),
            })
            .collect();
        return Some(all.join("; "));
    }
    ["details", "error_description", "message", "error"].iter().find_map(|key| text(&value, key))
}

/// Takes secrets out of a text. One of one or two characters cannot be told from the text around it.
pub(crate) fn hide(text: &str, secrets: &[String]) -> String {
    let mut text = text.to_owned();
    for secret in secrets.iter().filter(|s| s.len() >= 3) {
        text = text.replace(secret.as_str(), "[hidden]");
    }
    text
}

/// Cuts a text, takes control characters and secrets out of it.
fn printable(text: &str, secrets: &[String]) -> String {
    const LIMIT: usize = 400;
    let text = hide(text, secrets);
    let clean = |c: char| if c.is_control() { ' ' } else { c };
    let mut short: String = text.chars().take(LIMIT).map(clean).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn words(body: &str) -> String {
        Words::read("application/json", body.as_bytes(), &["hunter2".to_owned()]).text().to_owned()
    }

    #[test]
    fn the_registrys_own_words_are_found_in_every_known_shape() {
        let oci = r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown","detail":{"x":1}},{"code":"X"}]}"#;
        assert_eq!(words(oci), "MANIFEST_UNKNOWN: manifest unknown; X");
        assert_eq!(
            words(r#"{"details":"incorrect username or password"}"#),
            "incorrect username or password"
        );
        assert_eq!(words(r#"{"error":"invalid_grant","error_description":"bad token"}"#), "bad token");
        assert_eq!(words("<html>nginx</html>"), "");
        assert_eq!(Words::read("text/plain; charset=utf-8", b" slow down\nmore", &[]).text(), "slow down");
    }

    #[test]
    fn secrets_and_control_characters_never_come_back() {
        let text = words("{\"details\":\"hunter2 is wrong\\u001b[31m\\n\"}");
        assert_eq!(text, "[hidden] is wrong [31m");
        assert!(words(&format!(r#"{{"details":"{}"}}"#, "x".repeat(10_000))).chars().count() <= 401);
    }

    proptest! {
        #[test]
        fn no_body_panics(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Words::read("text/plain", &body, &[]);
        }
    }
}
