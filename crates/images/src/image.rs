//! What is known of a stored image or artifact: its record, and the configuration that its author wrote.
//! Pure: the JSON is hostile, bounded by its caller, and only read.

use crate::artifact::Artifact;
use crate::evidence::Evidence;
use crate::manifest::{self, Descriptor};
use serde::{Deserialize, Serialize};
use snapshots::ChainId;
use std::collections::BTreeMap;
use types::{Digest, Error, ErrorKind, Result};

/// One stored image, or artifact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageRecord {
    /// The digest of the image's configuration, which is its id. Many artifacts have the same configuration, so theirs is
    /// that of the manifest, as with CRI-O.
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
    /// What vouches for it, where a policy asked for that.
    #[serde(default)]
    pub evidence: Evidence,
}

impl ImageRecord {
    /// Whether it is files for a volume, and nothing that can be run.
    pub fn is_artifact(&self) -> bool {
        // No manifest has its own digest in it, so the configuration that it names is never itself.
        self.id == self.manifest
    }
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

/// What manifest and configuration say of the layers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Contents {
    /// They are a program's root.
    Image(Box<ConfigFile>),
    /// They are files; what the configuration says is the business of who reads them.
    Artifact(Artifact),
}

impl Contents {
    /// Of the image `digest`, or of an artifact where its manifest says that it is one.
    pub(crate) fn read(
        digest: &Digest,
        artifact: Option<Artifact>,
        config: &Descriptor,
        json: &[u8],
        layers: &[Descriptor],
    ) -> Result<Contents> {
        if let Some(artifact) = artifact {
            return Ok(Contents::Artifact(artifact));
        }
        // Layers that were pushed with a configuration of an image's type that tells no more than the platform: no image
        // can be made of it, but a volume (KEP-4639, "Example using ORAS").
        if manifest::bare(&config.media_type) == manifest::OCI_CONFIG && ConfigFile::has_no_root(json) {
            let kind = config.media_type.clone();
            return Ok(Contents::Artifact(Artifact::new(digest, kind, None, false, layers)?));
        }
        Ok(Contents::Image(Box::new(ConfigFile::parse(json)?)))
    }

    /// The names of the layers, bottom first.
    pub(crate) fn chain_ids(&self, layers: &[Descriptor]) -> Vec<ChainId> {
        match self {
            Contents::Image(file) => chain_ids(&file.diff_ids),
            Contents::Artifact(artifact) => artifact.chain_ids(layers),
        }
    }
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
    /// Whether this is a configuration that says nothing of layers, nor of how they are run.
    fn has_no_root(json: &[u8]) -> bool {
        #[derive(Deserialize)]
        struct Keys {
            config: Option<serde::de::IgnoredAny>,
            rootfs: Option<serde::de::IgnoredAny>,
        }
        let keys = serde_json::from_slice::<Keys>(json);
        json.trim_ascii_start().starts_with(b"{")
            && keys.is_ok_and(|keys| keys.config.is_none() && keys.rootfs.is_none())
    }

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
    fn a_configuration_of_a_platform_alone_is_an_artifacts_and_any_other_is_an_images() {
        let read = |media_type: &str, json: &str| {
            let config = Descriptor::new(media_type, digest("01"), json.len() as u64);
            let layers = [Descriptor::new("application/vnd.oci.image.layer.v1.tar+gzip", digest("02"), 9)];
            Contents::read(&digest("00"), None, &config, json.as_bytes(), &layers)
        };
        let platform = r#" {"architecture":"amd64","os":"linux"}"#;
        assert!(matches!(read(manifest::OCI_CONFIG, platform), Ok(Contents::Artifact(_))));
        for json in ["[]", "", r#"{"config":{}}"#, r#"{"rootfs":{"type":"x"}}"#] {
            assert!(read(manifest::OCI_CONFIG, json).is_err(), "{json}");
        }
        assert!(read("application/vnd.docker.container.image.v1+json", platform).is_err());
        let whole = format!(r#"{{"rootfs":{{"diff_ids":["{}"]}}}}"#, digest("03"));
        assert!(matches!(read(manifest::OCI_CONFIG, &whole), Ok(Contents::Image(_))));
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
