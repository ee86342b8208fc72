//! Under which name an image must have been signed (containers-policy.json(5), "signedIdentity").

use serde::Deserialize;
use types::Reference;

/// How the name in a signature has to go with the name that is pulled.
#[derive(Debug, Default, Deserialize)]
#[serde(tag = "type", deny_unknown_fields, rename_all_fields = "camelCase")]
pub(crate) enum Identity {
    #[serde(rename = "matchExact")]
    Exact,
    /// A tag must be the signed one; a digest may have been signed under any tag of the repository.
    #[default]
    #[serde(rename = "matchRepoDigestOrExact")]
    RepoDigestOrExact,
    #[serde(rename = "matchRepository")]
    Repository,
    #[serde(rename = "exactReference")]
    ExactReference { docker_reference: String },
    #[serde(rename = "exactRepository")]
    ExactRepository { docker_repository: String },
    #[serde(rename = "remapIdentity")]
    Remap { prefix: String, signed_prefix: String },
}

/// A name as it is written: without the tag `latest` that [`Reference`] puts where there is none.
#[derive(Debug, PartialEq, Eq)]
struct Name {
    repository: String,
    /// `:tag` or `@digest`.
    suffix: Option<String>,
}

impl Name {
    fn parse(text: &str) -> Result<Name, String> {
        let bad = || format!("the name {:?} is not an image's", types::reference::shorten(text));
        let reference = Reference::parse(text).map_err(|_| bad())?;
        // A colon behind the last slash begins a tag; one before it, a port.
        let written = text.rsplit('/').next().unwrap_or(text).contains(':');
        Ok(Name {
            repository: reference.repository(),
            suffix: match (reference.digest(), reference.tag()) {
                (Some(digest), _) => Some(format!("@{digest}")),
                (None, Some(tag)) if written => Some(format!(":{tag}")),
                _ => None,
            },
        })
    }

    fn of(image: &Reference) -> Name {
        Name {
            repository: image.repository(),
            suffix: match (image.digest(), image.tag()) {
                (Some(digest), _) => Some(format!("@{digest}")),
                (None, tag) => tag.map(|tag| format!(":{tag}")),
            },
        }
    }

    fn has_digest(&self) -> bool {
        self.suffix.as_ref().is_some_and(|s| s.starts_with('@'))
    }

    /// Equal as a whole; a name without tag and digest is equal to none.
    fn is_exactly(&self, other: &Name) -> bool {
        self.suffix.is_some() && self == other
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{}", self.repository, self.suffix.as_deref().unwrap_or_default())
    }
}

impl Identity {
    /// Whether an image `signed` under that name may be used as `image`.
    pub(crate) fn check(&self, signed: &str, image: &Reference) -> Result<(), String> {
        let signed = Name::parse(signed)?;
        let image = Name::of(image);
        let fits = match self {
            Self::Exact => signed.is_exactly(&image),
            Self::RepoDigestOrExact => repo_digest_or_exact(&signed, &image),
            Self::Repository => signed.repository == image.repository,
            Self::ExactReference { docker_reference } => signed.is_exactly(&Name::parse(docker_reference)?),
            Self::ExactRepository { docker_repository } => {
                let wanted = Name::parse(docker_repository)?;
                if wanted.suffix.is_some() {
                    return Err(format!("the policy's dockerRepository {wanted} has a tag or digest"));
                }
                signed.repository == wanted.repository
            }
            Self::Remap { prefix, signed_prefix } => {
                let image = Name { repository: remap(&image.repository, prefix, signed_prefix), ..image };
                repo_digest_or_exact(&signed, &image)
            }
        };
        if fits {
            Ok(())
        } else {
            Err(format!("one is for the name {signed}, which the policy does not take"))
        }
    }
}

fn repo_digest_or_exact(signed: &Name, image: &Name) -> bool {
    match image.has_digest() {
        true => signed.repository == image.repository,
        false => signed.is_exactly(image),
    }
}

/// Replaces `prefix` where it is the whole name, or ends at a slash, of `repository`.
fn remap(repository: &str, prefix: &str, signed_prefix: &str) -> String {
    match repository.strip_prefix(prefix) {
        Some(rest) if rest.is_empty() || rest.starts_with('/') => format!("{signed_prefix}{rest}"),
        _ => repository.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fits(identity: &str, signed: &str, image: &str) -> bool {
        let identity: Identity = serde_json::from_str(identity).expect("identity");
        identity.check(signed, &Reference::parse(image).expect("image")).is_ok()
    }

    #[test]
    fn each_kind_of_identity_takes_what_it_says_and_nothing_else() {
        let digest = format!("@sha256:{}", "ab".repeat(32));
        let by_digest = format!("h.io/a{digest}");
        for (identity, signed, image, expected) in [
            (r#"{"type":"matchExact"}"#, "h.io/a:1", "h.io/a:1", true),
            (r#"{"type":"matchExact"}"#, "h.io/a:2", "h.io/a:1", false),
            (r#"{"type":"matchExact"}"#, "h.io/a", "h.io/a:latest", false),
            (r#"{"type":"matchExact"}"#, "h.io/a:1", &by_digest, false),
            (r#"{"type":"matchRepoDigestOrExact"}"#, "h.io/a:1", "h.io/a:1", true),
            (r#"{"type":"matchRepoDigestOrExact"}"#, "h.io/a:1", &by_digest, true),
            (r#"{"type":"matchRepoDigestOrExact"}"#, "h.io/b:1", &by_digest, false),
            // cosign writes the repository alone: it says nothing about the tag.
            (r#"{"type":"matchRepoDigestOrExact"}"#, "h.io/a", "h.io/a:latest", false),
            (r#"{"type":"matchRepository"}"#, "h.io/a", "h.io/a:latest", true),
            (r#"{"type":"matchRepository"}"#, "h.io/a", "h.io/ab:latest", false),
            (r#"{"type":"matchRepository"}"#, "h.io:5000/a", "h.io:5000/a:latest", true),
            (r#"{"type":"exactReference","dockerReference":"v.io/a:1"}"#, "v.io/a:1", "h.io/a:7", true),
            (r#"{"type":"exactReference","dockerReference":"v.io/a:1"}"#, "v.io/a:2", "h.io/a:7", false),
            (r#"{"type":"exactRepository","dockerRepository":"v.io/a"}"#, "v.io/a:2", "h.io/a:7", true),
            (r#"{"type":"exactRepository","dockerRepository":"v.io/a:1"}"#, "v.io/a:1", "h.io/a:7", false),
            (
                r#"{"type":"remapIdentity","prefix":"m.io/x","signedPrefix":"v.io"}"#,
                "v.io/a:1",
                "m.io/x/a:1",
                true,
            ),
            (
                r#"{"type":"remapIdentity","prefix":"m.io/x","signedPrefix":"v.io"}"#,
                "v.io/a:1",
                "m.io/xy/a:1",
                false,
            ),
            (
                r#"{"type":"remapIdentity","prefix":"m.io/x","signedPrefix":"v.io"}"#,
                "h.io/a:1",
                "h.io/a:1",
                true,
            ),
            (r#"{"type":"matchRepository"}"#, "not a name!", "h.io/a:latest", false),
            (r#"{"type":"matchRepository"}"#, "", "h.io/a:latest", false),
        ] {
            assert_eq!(fits(identity, signed, image), expected, "{identity} {signed} {image}");
        }
    }
}
