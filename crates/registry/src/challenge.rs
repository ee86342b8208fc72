//! `WWW-Authenticate` headers (RFC 9110 section 11.6.1; distribution spec, "Token Authentication").
//! Pure; what cannot be read is no challenge.

use std::collections::BTreeSet;

/// How a registry wants to be convinced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Challenge {
    /// User name and password.
    Basic,
    /// A token of the server `realm`.
    Bearer { realm: String, service: String, scope: String },
}

/// The challenge to answer: a bearer token is preferred over a password.
pub(crate) fn choose<'a>(headers: impl Iterator<Item = &'a str>) -> Option<Challenge> {
    let mut all: Vec<Challenge> = headers.flat_map(parse).collect();
    let bearer = all.iter().position(|c| matches!(c, Challenge::Bearer { .. }));
    match bearer {
        Some(at) => Some(all.swap_remove(at)),
        None => all.pop(),
    }
}

/// All challenges of one header.
fn parse(header: &str) -> Vec<Challenge> {
    let mut challenges = Vec::new();
    let mut rest = header.trim_start();
    while !rest.is_empty() {
        let end = rest.find([' ', ',', '=']).unwrap_or(rest.len());
        let scheme = rest[..end].to_ascii_lowercase();
        rest = rest[end..].trim_start_matches([' ', ',']);
        let (mut realm, mut service, mut scope) = (None, String::new(), String::new());
        while let Some((name, value, after)) = parameter(rest) {
            match name.as_str() {
                "realm" => realm = Some(value),
                "service" => service = value,
                "scope" => scope = value,
                _ => {}
            }
            rest = after.trim_start_matches([' ', ',', '\t']);
        }
        match (scheme.as_str(), realm) {
            ("basic", _) => challenges.push(Challenge::Basic),
            ("bearer", Some(realm)) => challenges.push(Challenge::Bearer { realm, service, scope }),
            _ => {}
        }
        if end == 0 {
            // A stray separator: skip one character, so that the loop always ends.
            rest = rest.get(rest.chars().next().map_or(0, char::len_utf8)..).unwrap_or_default();
        }
    }
    challenges
}

/// `name=value` or `name="quoted value"` at the start; `None` where a new scheme begins.
fn parameter(text: &str) -> Option<(String, String, &str)> {
    let (name, rest) = text.split_once('=')?;
    let name = name.trim_end();
    if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_')) {
        return None;
    }
    let rest = rest.trim_start();
    let Some(quoted) = rest.strip_prefix('"') else {
        let end = rest.find([',', ' ']).unwrap_or(rest.len());
        return Some((name.to_ascii_lowercase(), rest[..end].to_owned(), &rest[end..]));
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((name.to_ascii_lowercase(), value, &quoted[at + 1..])),
            '\\' => value.extend(chars.next().map(|(_, c)| c)),
            c => value.push(c),
        }
    }
    // The closing quote is missing: take what is there.
    Some((name.to_ascii_lowercase(), value, ""))
}

/// What a session does with its repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Reads.
    Pull,
    /// Reads and writes.
    Push,
}

/// The scopes to ask a token for: the repository's, and reading from those that blobs are mounted from.
pub(crate) fn scopes(
    asked: &str,
    repository: &str,
    access: Access,
    sources: &BTreeSet<String>,
) -> Vec<String> {
    let mut all = match access {
        Access::Pull => vec![pull_scope(asked, repository)],
        Access::Push => vec![format!("repository:{repository}:pull,push")],
    };
    all.extend(sources.iter().map(|source| format!("repository:{source}:pull")));
    all
}

/// The scope to ask a token for: what the registry names, as long as that is pulling from one
/// repository, else pulling from `repository`. A registry must not obtain more from a token server.
fn pull_scope(asked: &str, repository: &str) -> String {
    let mut parts = asked.splitn(2, ':');
    if parts.next() == Some("repository")
        && let Some((name, actions)) = parts.next().and_then(|rest| rest.rsplit_once(':'))
        && actions == "pull"
        && !name.is_empty()
        && name.len() <= 300
        && !name.contains([' ', ','])
    {
        return asked.to_owned();
    }
    format!("repository:{repository}:pull")
}

/// Reads a header for fuzzing.
#[doc(hidden)]
pub fn fuzz_www_authenticate(bytes: &[u8]) -> String {
    std::str::from_utf8(bytes)
        .map_or_else(|error| error.to_string(), |text| format!("{:?}", choose(text.lines())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bearer(realm: &str, service: &str, scope: &str) -> Option<Challenge> {
        Some(Challenge::Bearer { realm: realm.into(), service: service.into(), scope: scope.into() })
    }

    fn one(header: &str) -> Option<Challenge> {
        choose(std::iter::once(header))
    }

    #[test]
    fn the_forms_that_registries_send_are_read() {
        assert_eq!(
            one(
                r#"Bearer realm="https://a.example/token",service="r.example",scope="repository:a/b:pull,push""#
            ),
            bearer("https://a.example/token", "r.example", "repository:a/b:pull,push")
        );
        assert_eq!(one("bearer  realm=https://a/t , service=x"), bearer("https://a/t", "x", ""));
        assert_eq!(one(r#"Basic realm="Registry \"x\"""#), Some(Challenge::Basic));
        assert_eq!(one("Basic"), Some(Challenge::Basic));
        assert_eq!(
            one(r#"Basic realm="a, b", Bearer realm="https://a/t",error="x""#),
            bearer("https://a/t", "", "")
        );
        assert_eq!(choose(["Basic realm=x", r#"Bearer realm="y""#].into_iter()), bearer("y", "", ""));
        for none in ["", ",,,", "Negotiate abc==", "Bearer service=x", "="] {
            assert_eq!(one(none), None, "{none}");
        }
    }

    #[test]
    fn a_registry_gets_no_wider_scope_than_pulling() {
        assert_eq!(
            pull_scope("repository:proxy/library/x:pull", "library/x"),
            "repository:proxy/library/x:pull"
        );
        for wide in
            ["repository:x:pull,push", "registry:catalog:*", "repository:a:pull repository:b:pull", ""]
        {
            assert_eq!(pull_scope(wide, "library/x"), "repository:library/x:pull", "{wide}");
        }
    }

    proptest! {
        #[test]
        fn every_header_ends(header in "[a-zB =,\"\\\\:/]{0,80}|\\PC{0,40}") {
            let _ = one(&header);
        }
    }
}
