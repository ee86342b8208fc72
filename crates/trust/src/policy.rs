//! The policy file: which requirements hold for which image (containers-policy.json(5)).
//!
//! As there, the file is read strictly: an unknown, repeated or missing field makes the whole of it unusable,
//! because a misspelt rule that is skipped is a hole.

use crate::requirement::Requirement;
use crate::signature::Signature;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use types::{Digest, Error, ErrorKind, Reference, Result};

/// The largest policy file that is read, in bytes.
const POLICY_MAX: u64 = 1 << 20;

/// A policy file, read.
#[derive(Debug)]
pub struct Policy {
    path: PathBuf,
    document: Document,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    default: Requirements,
    #[serde(default)]
    transports: Unique<Unique<Requirements>>,
}

/// At least one; `insecureAcceptAnything` says that there is none.
#[derive(Debug)]
struct Requirements(Vec<Requirement>);

impl<'de> Deserialize<'de> for Requirements {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let list = Vec::<Requirement>::deserialize(deserializer)?;
        if list.is_empty() {
            return Err(D::Error::custom(
                "a list of requirements is empty; {\"type\":\"insecureAcceptAnything\"} says that there are none",
            ));
        }
        Ok(Self(list))
    }
}

/// A JSON object in which no key may repeat.
#[derive(Debug)]
struct Unique<T>(BTreeMap<String, T>);

impl<T> Default for Unique<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Unique<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Object<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Object<T> {
            type Value = Unique<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Unique<T>, A::Error> {
                let mut all = BTreeMap::new();
                while let Some((key, value)) = map.next_entry::<String, T>()? {
                    if all.insert(key.clone(), value).is_some() {
                        let key = types::reference::shorten(&key);
                        return Err(A::Error::custom(format!("the key {key:?} is there twice")));
                    }
                }
                Ok(Unique(all))
            }
        }
        deserializer.deserialize_map(Object(PhantomData))
    }
}

/// The requirements that hold for one image, and where in the file they are.
#[derive(Debug)]
pub struct Rule<'a> {
    path: &'a Path,
    place: String,
    requirements: &'a [Requirement],
}

impl Policy {
    /// Reads a policy file. One that is not there is an error: it was configured.
    pub fn read(path: &Path) -> Result<Policy> {
        let json = crate::read(path, POLICY_MAX).map_err(|e| e.context("the image policy cannot be used"))?;
        Self::parse(path, &json)
    }

    /// Reads the content of a policy file; `path` is for messages.
    pub fn parse(path: &Path, json: &[u8]) -> Result<Policy> {
        let document = serde_json::from_slice(json).map_err(|cause| {
            Error::with_source(
                ErrorKind::FailedPrecondition,
                format!(
                    "the image policy {} is not as containers-policy.json(5) describes it",
                    path.display()
                ),
                cause,
            )
        })?;
        Ok(Policy { path: path.to_owned(), document })
    }

    /// The most specific requirements for an image from a registry.
    pub fn rule(&self, reference: &Reference) -> Rule<'_> {
        if let Some(scopes) = self.document.transports.0.get("docker") {
            for scope in scopes_of(reference) {
                if let Some(Requirements(requirements)) = scopes.0.get(&scope) {
                    let place = format!("transports.docker[{scope:?}]");
                    return Rule { path: &self.path, place, requirements };
                }
            }
        }
        Rule { path: &self.path, place: "default".into(), requirements: &self.document.default.0 }
    }
}

impl Rule<'_> {
    /// Whether signatures have to be fetched before [`Rule::check`].
    pub fn needs_signatures(&self) -> bool {
        // One that rejects, or accepts, needs to see nothing.
        self.requirements.iter().any(|r| matches!(r, Requirement::SigstoreSigned { .. }))
            && !self.requirements.iter().any(|r| matches!(r, Requirement::Reject))
    }

    /// Whether one signature alone is one that some requirement accepts. Keys are read from the disk.
    pub fn counts(&self, reference: &Reference, digests: &[Digest], signature: &Signature) -> bool {
        let one = std::slice::from_ref(signature);
        let signed = |r: &&Requirement| matches!(r, Requirement::SigstoreSigned { .. });
        self.requirements.iter().filter(signed).any(|r| r.check(reference, digests, one).is_ok())
    }

    /// Whether every requirement accepts the image.
    ///
    /// `digests` are the documents by which the image is reached, from the reference to its manifest: an index
    /// that is signed vouches for what it lists, because it names it by digest.
    pub fn check(&self, reference: &Reference, digests: &[Digest], signatures: &[Signature]) -> Result<()> {
        for (at, requirement) in self.requirements.iter().enumerate() {
            requirement.check(reference, digests, signatures).map_err(|error| {
                let name = requirement.name();
                let (path, place) = (self.path.display(), &self.place);
                Error::with_source(
                    match error.kind() {
                        ErrorKind::FailedPrecondition => ErrorKind::FailedPrecondition,
                        _ => ErrorKind::PermissionDenied,
                    },
                    format!(
                        "the image policy {path} refuses {reference}: {place}, requirement {} ({name})",
                        at + 1
                    ),
                    error,
                )
            })?;
        }
        Ok(())
    }
}

/// The scopes that match a reference, the most specific first; the last is the transport's default.
fn scopes_of(reference: &Reference) -> Vec<String> {
    let mut name = reference.repository();
    let exact = match (reference.digest(), reference.tagged()) {
        (Some(digest), _) => Some(format!("{name}@{digest}")),
        (None, tagged) => tagged,
    };
    let mut scopes: Vec<String> = exact.into_iter().collect();
    loop {
        scopes.push(name.clone());
        match name.rfind('/') {
            Some(slash) => name.truncate(slash),
            None => break,
        }
    }
    // Wildcards stand for host names without their port.
    let mut host = name.split(':').next().unwrap_or_default();
    while let Some((_, rest)) = host.split_once('.') {
        scopes.push(format!("*.{rest}"));
        host = rest;
    }
    scopes.push(String::new());
    scopes
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn policy(json: &str) -> Result<Policy> {
        Policy::parse(Path::new("/p.json"), json.as_bytes())
    }

    fn reference(text: &str) -> Reference {
        Reference::parse(text).expect("reference")
    }

    fn place(policy: &Policy, image: &str) -> String {
        policy.rule(&reference(image)).place
    }

    #[test]
    fn the_most_specific_scope_counts() {
        let any = r#"[{"type":"insecureAcceptAnything"}]"#;
        let scopes = [
            "",
            "*.example.com",
            "h.example.com:5000",
            "h.example.com:5000/ns",
            "h.example.com:5000/ns/app",
            "h.example.com:5000/ns/app:1",
            "docker.io/library/busybox",
        ];
        let scopes: Vec<String> = scopes.iter().map(|s| format!("{s:?}:{any}")).collect();
        let policy = policy(&format!(
            r#"{{"default":[{{"type":"reject"}}],"transports":{{"docker":{{{}}},"dir":{{"":{any}}}}}}}"#,
            scopes.join(",")
        ))
        .expect("policy");
        for (image, scope) in [
            ("h.example.com:5000/ns/app:1", "h.example.com:5000/ns/app:1"),
            ("h.example.com:5000/ns/app:2", "h.example.com:5000/ns/app"),
            ("h.example.com:5000/ns/other", "h.example.com:5000/ns"),
            ("h.example.com:5000/nsx/app", "h.example.com:5000"),
            ("a.b.example.com/x", "*.example.com"),
            ("a.example.com:80/x", "*.example.com"),
            ("example.com/x", ""),
            ("busybox", "docker.io/library/busybox"),
            ("other", ""),
        ] {
            assert_eq!(place(&policy, image), format!("transports.docker[{scope:?}]"), "{image}");
        }
    }

    #[test]
    fn without_a_matching_scope_the_default_counts() {
        let policy = policy(r#"{"default":[{"type":"reject"}]}"#).expect("policy");
        let image = reference("h.io/a:1");
        let error = policy.rule(&image).check(&image, &[], &[]).expect_err("rejected");
        assert_eq!(error.kind(), ErrorKind::PermissionDenied);
        assert!(
            error.chain().contains("/p.json refuses h.io/a:1: default, requirement 1 (reject)"),
            "{}",
            error.chain()
        );
    }

    #[test]
    fn all_requirements_must_hold() {
        let policy =
            policy(r#"{"default":[{"type":"insecureAcceptAnything"},{"type":"reject"}]}"#).expect("policy");
        let image = reference("h.io/a:1");
        let error = policy.rule(&image).check(&image, &[], &[]).expect_err("rejected");
        assert!(error.chain().contains("requirement 2 (reject)"), "{}", error.chain());
        assert!(!policy.rule(&image).needs_signatures());
    }

    #[test]
    fn a_file_that_could_be_misread_is_refused_as_a_whole() {
        for (bad, word) in [
            ("", "EOF"),
            ("{}", "default"),
            (r#"{"default":[]}"#, "empty"),
            (r#"{"default":[{"type":"nonsense"}]}"#, "nonsense"),
            (r#"{"default":[{"type":"reject"}],"defualt":[]}"#, "defualt"),
            (r#"{"default":[{"type":"reject","extra":1}]}"#, "extra"),
            (r#"{"default":[{"type":"reject"}],"default":[{"type":"reject"}]}"#, "duplicate"),
            (
                r#"{"default":[{"type":"reject"}],"transports":{"docker":{"a":[{"type":"reject"}],"a":[{"type":"insecureAcceptAnything"}]}}}"#,
                "twice",
            ),
            (r#"{"default":[{"type":"sigstoreSigned"}]}"#, "keyPath"),
            (r#"{"default":[{"type":"sigstoreSigned","keyPath":"/a","keyData":"YQ=="}]}"#, "one of"),
            (r#"{"default":[{"type":"sigstoreSigned","keyPath":"/a","fulcio":{}}]}"#, "fulcio"),
            (r#"{"default":[{"type":"signedBy","keyType":"GPGKeys","keyPath":"/a"}]}"#, "signedBy"),
            (r#"{"default":[{"type":"sigstoreSigned","keyPath":"/a","signedIdentity":{"type":"x"}}]}"#, "x"),
        ] {
            let error = policy(bad).expect_err(bad);
            assert_eq!(error.kind(), ErrorKind::FailedPrecondition);
            assert!(error.chain().contains(word), "{bad}: {}", error.chain());
        }
        assert!(policy(&"[".repeat(100_000)).is_err());
    }

    #[test]
    fn a_missing_file_is_an_error_that_names_it() {
        let error = Policy::read(Path::new("/nonexistent/policy.json")).expect_err("missing");
        assert!(error.chain().contains("/nonexistent/policy.json"), "{}", error.chain());
    }

    proptest! {
        #[test]
        fn no_policy_panics(json in "\\PC{0,200}") {
            let _ = policy(&json);
        }
    }
}
