//! What is known of a stored image: its record, and the configuration that its author wrote.
//! Pure: the JSON is hostile, bounded by its caller, and only read.

use serde::{Deserialize, Serialize};
use snapshots::ChainId;
use std::collections::BTreeMap;
use types::{Digest, Error, ErrorKind, Result};

/// One stored image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageRecord {
    /// The digest of the image's configuration, which is its id.
    pub id: Digest,
    /// `host/path:tag`, normalized. An image whose tags moved on has none.
    pub names: Vec<String>,
    /// `host/path@digest` of what each reference resolved to (the index's digest where it is one).
    pub digests: Vec<String>,
    /// The manifest for this machine.
    pub manifest: Digest,
    /// What the image says about running it.
    pub config: ImageConfig,
    /// The layers, bottom first.
    pub chain: Vec<ChainId>,
    /// Bytes of the compressed layers and the configuration, as the manifest states them.
    pub size: u64,
    /// When it was built, as its author wrote it (RFC 3339); not checked.
    pub created: Option<String>,
    /// When it was pulled, in nanoseconds since 1970.
    pub pulled_at: i64,
    /// All blobs that belong to it: indexes, manifests, configuration, layers.
    pub blobs: Vec<Digest>,
    /// Not to be collected by the kubelet.
    pub pinned: bool,
}

/// The part of an image's configuration that says how to run it (OCI image spec, "Image Configuration").
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageConfig {
    /// `user`, `uid`, `user:group` and mixtures.
    pub user: String,
    /// `NAME=value`.
    pub env: Vec<String>,
    /// Entrypoint.
    pub entrypoint: Vec<String>,
    /// Default arguments.
    pub cmd: Vec<String>,
    /// Working directory; empty is `/`.
    pub working_dir: String,
    /// Paths that the author wants as volumes.
    pub volumes: Vec<String>,
    /// Labels: information only, they control nothing (CVE-2026-53488).
    pub labels: BTreeMap<String, String>,
    /// The signal that asks it to stop.
    pub stop_signal: Option<String>,
    /// `80/tcp`; information only.
    pub exposed_ports: Vec<String>,
    /// Operating system.
    pub os: String,
    /// Architecture.
    pub architecture: String,
    /// Variant of the architecture.
    pub variant: String,
}

/// A configuration blob, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ConfigFile {
    pub config: ImageConfig,
    pub diff_ids: Vec<Digest>,
    pub created: Option<String>,
}

/// The document as it is on the wire; builders write `null` for anything that is empty.
#[derive(Deserialize)]
struct RawFile {
    created: Option<String>,
    architecture: Option<String>,
    os: Option<String>,
    variant: Option<String>,
    config: Option<RawConfig>,
    rootfs: Option<RawRootfs>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase")]
struct RawConfig {
    user: Option<String>,
    env: Option<Vec<String>>,
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    working_dir: Option<String>,
    volumes: Option<BTreeMap<String, serde::de::IgnoredAny>>,
    labels: Option<BTreeMap<String, Option<String>>>,
    stop_signal: Option<String>,
    exposed_ports: Option<BTreeMap<String, serde::de::IgnoredAny>>,
}

#[derive(Deserialize)]
struct RawRootfs {
    #[serde(rename = "type")]
    kind: Option<String>,
    diff_ids: Option<Vec<Digest>>,
}

impl ConfigFile {
    /// Reads a configuration blob.
    pub(crate) fn parse(json: &[u8]) -> Result<ConfigFile> {
        let raw: RawFile = serde_json::from_slice(json).map_err(|cause| {
            Error::with_source(
                ErrorKind::InvalidArgument,
                "the image's configuration is not what the OCI image specification describes",
                cause,
            )
        })?;
        let rootfs = raw.rootfs.ok_or_else(|| {
            Error::invalid("the image's configuration has no rootfs; it is no container image")
        })?;
        match rootfs.kind.as_deref() {
            None | Some("" | "layers") => {}
            Some(other) => {
                return Err(Error::invalid(format!(
                    "the image's rootfs is of type {:?}; only \"layers\" can be used",
                    types::reference::shorten(other)
                )));
            }
        }
        let c = raw.config.unwrap_or_default();
        let config = ImageConfig {
            user: c.user.unwrap_or_default(),
            env: c.env.unwrap_or_default(),
            entrypoint: c.entrypoint.unwrap_or_default(),
            cmd: c.cmd.unwrap_or_default(),
            working_dir: c.working_dir.unwrap_or_default(),
            volumes: c.volumes.unwrap_or_default().into_keys().collect(),
            labels: c
                .labels
                .unwrap_or_default()
                .into_iter()
                .map(|(k, v)| (k, v.unwrap_or_default()))
                .collect(),
            stop_signal: c.stop_signal.filter(|s| !s.is_empty()),
            exposed_ports: c.exposed_ports.unwrap_or_default().into_keys().collect(),
            os: raw.os.unwrap_or_default(),
            architecture: raw.architecture.unwrap_or_default(),
            variant: raw.variant.unwrap_or_default(),
        };
        Ok(ConfigFile {
            config,
            diff_ids: rootfs.diff_ids.unwrap_or_default(),
            created: raw.created.filter(|t| t.len() <= 64),
        })
    }
}

/// The chain ids of a stack of layers, bottom first (OCI image spec, "Layer ChainID").
pub(crate) fn chain_ids(diff_ids: &[Digest]) -> Vec<ChainId> {
    use sha2::Digest as _;
    let mut chain: Vec<ChainId> = Vec::with_capacity(diff_ids.len());
    for diff in diff_ids {
        let id = match chain.last() {
            None => diff.clone(),
            Some(below) => Digest::sha256(&sha2::Sha256::digest(format!("{below} {diff}").as_bytes()).into()),
        };
        chain.push(id);
    }
    chain
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn digest(byte: &str) -> Digest {
        Digest::parse(&format!("sha256:{}", byte.repeat(32))).expect("digest")
    }

    #[test]
    fn nulls_and_unknown_fields_are_taken_and_values_arrive() {
        let json = format!(
            r#"{{"created":"2026-01-01T00:00:00Z","architecture":"amd64","os":"linux","future":[1],
            "config":{{"User":"1000:1000","Env":["A=b"],"Entrypoint":null,"Cmd":["sh"],"WorkingDir":"/w",
            "Volumes":{{"/data":{{}}}},"Labels":{{"a":"b","c":null}},"StopSignal":"SIGINT","ExposedPorts":{{"80/tcp":{{}}}},
            "Healthcheck":{{"Test":["x"]}}}},"rootfs":{{"type":"layers","diff_ids":["{}"]}},"history":null}}"#,
            digest("ab")
        );
        let file = ConfigFile::parse(json.as_bytes()).expect("parse");
        assert_eq!(file.diff_ids, [digest("ab")]);
        assert_eq!(file.config.user, "1000:1000");
        assert_eq!(
            (file.config.volumes, file.config.exposed_ports),
            (vec!["/data".into()], vec!["80/tcp".into()])
        );
        assert_eq!((file.config.entrypoint.len(), file.config.cmd), (0, vec!["sh".into()]));
        assert_eq!(file.config.labels["c"], "");
        let bare = ConfigFile::parse(br#"{"rootfs":{"diff_ids":null},"config":null}"#).expect("bare");
        assert_eq!(bare.config, ImageConfig::default());
    }

    #[test]
    fn what_is_no_container_image_is_refused() {
        for bad in
            ["", "{}", "[]", r#"{"rootfs":{"type":"windows"}}"#, r#"{"rootfs":{"diff_ids":["md5:x"]}}"#]
        {
            assert!(ConfigFile::parse(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(ConfigFile::parse("[".repeat(100_000).as_bytes()).is_err());
    }

    #[test]
    fn chain_ids_are_those_of_the_specification() {
        // ChainID(L₀) = DiffID(L₀); ChainID(L₀|L₁) = SHA256(ChainID(L₀) + " " + DiffID(L₁)).
        use sha2::Digest as _;
        let (a, b) = (digest("aa"), digest("bb"));
        let ids = chain_ids(&[a.clone(), b.clone()]);
        assert_eq!(ids[0], a);
        assert_eq!(ids[1], Digest::sha256(&sha2::Sha256::digest(format!("{a} {b}")).into()));
        assert!(chain_ids(&[]).is_empty());
    }

    proptest! {
        #[test]
        fn no_configuration_panics(json in "\\PC{0,200}") {
            let _ = ConfigFile::parse(json.as_bytes());
        }
    }
}
