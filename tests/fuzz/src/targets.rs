//! The targets by name. Their small seeds lie in the folder `seeds`; those of archives are made by `tar`.

use crate::{Target, mutate, tar};

/// All of them.
pub const TARGETS: &[Target] = &[
    Target {
        name: "tar",
        promise: "nothing outside of its folder is touched, and what is unpacked is what is promised",
        seeds: tar::seeds,
        mutate: tar::mutate,
        run: tar::run,
        short: 600,
    },
    Target {
        name: "compressed",
        promise: "streams that are cut, damaged or too long end in an error",
        seeds: tar::compressed_seeds,
        mutate: mutate::bytes,
        run: tar::run_compressed,
        short: 1500,
    },
    Target {
        name: "manifest",
        promise: "manifests and indexes are read or refused",
        seeds: || {
            files!("manifest", "image", "docker", "index", "foreign", "both", "schema1", "artifact", "model")
        },
        mutate: |random, input, other| mutate::text(random, input, other, JSON),
        run: images::fuzzing::manifest,
        short: 5000,
    },
    Target {
        name: "config",
        promise: "image configurations are read or refused",
        seeds: || files!("config", "image"),
        mutate: |random, input, other| mutate::text(random, input, other, JSON),
        run: images::fuzzing::config,
        short: 5000,
    },
    Target {
        name: "reference",
        promise: "a reference that is taken is the same when it is read again",
        seeds: references,
        mutate: |random, input, other| mutate::text(random, input, other, REFERENCE),
        run: reference,
        short: 20_000,
    },
    Target {
        name: "hosts",
        promise: "hosts.toml is read or refused",
        seeds: || files!("hosts", "full", "odd"),
        mutate: |random, input, other| mutate::text(random, input, other, TOML),
        run: registry::fuzzing::hosts_toml,
        short: 3000,
    },
    Target {
        name: "registries",
        promise: "registries.conf is read or refused, and answers for any name",
        seeds: || files!("registries", "full", "old"),
        mutate: |random, input, other| mutate::text(random, input, other, TOML),
        run: registry::fuzzing::registries_conf,
        short: 3000,
    },
    Target {
        name: "challenge",
        promise: "WWW-Authenticate headers are read or passed over",
        seeds: || files!("challenge", "bearer", "two", "odd"),
        mutate: |random, input, other| mutate::text(random, input, other, CHALLENGE),
        run: registry::fuzzing::www_authenticate,
        short: 10_000,
    },
    Target {
        name: "docker-config",
        promise: "Docker's config.json is read or refused, and no helper runs",
        seeds: || files!("docker-config", "full"),
        mutate: |random, input, other| mutate::text(random, input, other, JSON),
        run: registry::fuzzing::docker_config,
        short: 5000,
    },
    Target {
        name: "policy",
        promise: "policy.json is read or refused",
        seeds: || files!("policy", "full"),
        mutate: |random, input, other| mutate::text(random, input, other, JSON),
        run: policy,
        short: 5000,
    },
];

/// The target of that name.
pub fn find(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}

/// Files of the folder `seeds`.
macro_rules! files {
    ($folder:literal, $($name:literal),*) => {
        vec![$(include_bytes!(concat!("../seeds/", $folder, "/", $name)).to_vec()),*]
    };
}
use files;

const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

const JSON: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    "\"",
    ":",
    ",",
    "null",
    "true",
    "false",
    "{}",
    "[]",
    "\"\"",
    "\\u0000",
    "\\ud800",
    DIGEST,
    "\"schemaVersion\":2,",
    "\"mediaType\":",
    "\"manifests\":[",
    "\"layers\":[",
    "\"config\":",
    "\"digest\":",
    "\"size\":",
    "\"platform\":",
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.oci.image.layer.v1.tar",
    "+gzip",
    "+encrypted",
    "\"artifactType\":",
    "\"annotations\":{",
    "\"org.opencontainers.image.title\":",
    "application/vnd.oci.empty.v1+json",
    "../",
    ".wh.",
    "sha512:",
    "\"type\":",
    "reject",
    "sigstoreSigned",
    "matchRepository",
    "exactReference",
    "keyPaths",
    "keyData",
    "\"auths\":{",
    "\"auth\":",
];

const TOML: &[&str] = &[
    "\"",
    "'",
    "\"\"\"",
    "[",
    "]",
    "[[",
    "]]",
    "=",
    "\n",
    "#",
    ".",
    "{",
    "}",
    ",",
    "true",
    "1979-05-27",
    "inf",
    "[host.\"https://a\"]\n",
    "server = ",
    "capabilities = [\"pull\"]\n",
    "ca = ",
    "client = ",
    "header = {",
    "[[registry]]\n",
    "prefix = \"*.a\"\n",
    "location = \"\"\n",
    "[[registry.mirror]]\n",
    "[aliases]\n",
    "https://",
    "http://",
    "://",
    "@",
    "/v2",
    ":0",
    ":65536",
    "\\u0000",
    "\u{202e}",
];

const CHALLENGE: &[&str] = &[
    "Bearer ",
    "Basic ",
    "realm=",
    "service=",
    "scope=",
    "\"",
    "\\\"",
    ",",
    "=",
    " ",
    "\t",
    "\n",
    "ä",
    "\u{301}",
    "https://",
    "repository:a:pull",
];

const REFERENCE: &[&str] = &[
    "/",
    ":",
    "@",
    ".",
    "..",
    "-",
    "__",
    "localhost",
    "docker.io",
    "library",
    ":443",
    "[::1]",
    DIGEST,
    "A",
    "ä",
    "sha512:",
];

fn references() -> Vec<Vec<u8>> {
    let texts = [
        "nginx",
        "docker.io/library/nginx:1.2",
        "localhost/a",
        "H/x",
        "[::1]:5000/a",
        "a-b.c:80/d__e/f.g:T_1",
    ];
    let mut seeds: Vec<Vec<u8>> = texts.iter().map(|text| text.as_bytes().to_vec()).collect();
    seeds.push(format!("h:5000/a/b-c/d__e:t@{DIGEST}").into_bytes());
    seeds
}

fn reference(input: &[u8]) -> String {
    let Ok(text) = std::str::from_utf8(input) else { return "no text".to_owned() };
    match types::Reference::parse(text) {
        Err(error) => {
            let error = error.chain();
            assert!(error.len() < 2000, "an error of {} bytes", error.len());
            error
        }
        Ok(reference) => {
            let written = reference.to_string();
            assert_eq!(types::Reference::parse(&written).expect("it was written by us"), reference);
            assert!(!reference.path().split('/').any(|part| matches!(part, "" | "." | "..")), "{written}");
            format!("{} {}", reference.tag().is_some(), reference.digest().is_some())
        }
    }
}

fn policy(input: &[u8]) -> String {
    match trust::Policy::parse(std::path::Path::new("/nonexistent/policy.json"), input) {
        Ok(_) => "a policy".to_owned(),
        Err(error) => error.chain(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Random;

    #[test]
    fn every_word_of_a_dictionary_can_be_put_in() {
        let mut random = Random::new(7);
        for words in [JSON, TOML, CHALLENGE, REFERENCE] {
            let mut input = b"seed 1".to_vec();
            for _ in 0..2000 {
                mutate::text(&mut random, &mut input, b"other\nlines\n", words);
                assert!(input.len() <= mutate::LONGEST);
            }
        }
    }
}
