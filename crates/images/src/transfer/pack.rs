//! Pack: an image of one new layer, alone or on top of one that is here. The layer comes as bytes and is verified like
//! any other; configuration and manifest are written here, always in the same way, so that the same layer with the
//! same options gives the same image.

use super::archive::Incoming;
use super::held::Held;
use super::import::Imported;
use super::tree;
use crate::lease::Lease;
use crate::manifest::{Descriptor, LAYERS_MAX, OCI_MANIFEST};
use crate::platform::Platform;
use crate::progress::Listeners;
use crate::pull::{Stored, permit_import, stored};
use crate::{Images, Inner, blocking};
use content::Hasher;
use layers::{Compression, UnpackLimits};
use registry::Fetched;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use types::digest::Algorithm;
use types::reference::shorten;
use types::{Digest, Error, ErrorKind, Reference, Result};

/// Bytes of a layer that are written between two looks at how much is free.
const LOOK_EVERY: u64 = 8 << 20;
const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// Where most programs are looked for; what images without their own have.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What the image is.
#[derive(Debug, Clone)]
pub struct PackOptions {
    /// Its name.
    pub name: Reference,
    /// The image below: name, digest or id.
    pub base: Option<String>,
    /// When it was built, as its configuration states it (RFC 3339).
    pub created: Option<String>,
    /// What made the layer, for the history.
    pub created_by: String,
    /// How it is run; what is empty is the base's.
    pub config: PackConfig,
}

/// How a packed image is run. Empty means: as the base has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PackConfig {
    /// Program and first arguments; setting it forgets the base's `cmd`.
    pub entrypoint: Vec<String>,
    /// Arguments.
    pub cmd: Vec<String>,
    /// `NAME=value`; added.
    pub env: Vec<String>,
    /// `USER[:GROUP]`.
    pub user: String,
    /// Working directory.
    pub working_dir: String,
    /// `PORT/PROTOCOL`; added.
    pub exposed_ports: Vec<String>,
    /// Added.
    pub labels: BTreeMap<String, String>,
    /// The signal that asks it to stop.
    pub stop_signal: String,
    /// Added.
    pub volumes: Vec<String>,
}

/// A layer that is in the content store and no image's yet.
#[derive(Debug)]
pub struct StoredLayer {
    digest: Digest,
    size: u64,
    compression: Compression,
    lease: Lease,
}

impl Images {
    /// Stores a layer that arrives in pieces, for [`Images::pack`].
    pub async fn store_layer(&self, mut incoming: Incoming) -> Result<StoredLayer> {
        let inner = self.0.clone();
        let lease = inner.lease();
        blocking(move || {
            let mut hasher = Hasher::new(Algorithm::Sha256);
            let mut ingest = inner.content.ingest()?;
            let (mut size, mut magic) = (0u64, Vec::new());
            let mut look = 0;
            while let Some(part) = incoming.blocking_recv() {
                let part = part?;
                size += part.len() as u64;
                if size > UnpackLimits::default().max_bytes {
                    return Err(Error::new(
                        ErrorKind::ResourceExhausted,
                        format!("the layer has more than {size} bytes"),
                    ));
                }
                if size >= look {
                    inner.reserve.check(0)?;
                    look = size + LOOK_EVERY;
                }
                magic.extend(part.iter().take(4usize.saturating_sub(magic.len())));
                hasher.update(&part);
                ingest.write(&part)?;
            }
            let digest = hasher.finish();
            tokio::runtime::Handle::current().block_on(lease.blobs([digest.clone()]));
            inner.shelve(ingest, &digest)?;
            Ok(StoredLayer { digest, size, compression: layers::detect(&magic), lease })
        })
        .await
    }

    /// Makes an image of a stored layer. `diff_id` is the digest of the layer without compression; it is verified.
    pub async fn pack(&self, layer: StoredLayer, diff_id: Digest, options: PackOptions) -> Result<Imported> {
        let inner = self.0.clone();
        let name = options.name.clone();
        if name.digest().is_some() {
            return Err(Error::invalid(format!(
                "{name} has a digest; a new image gets its digest from its content"
            )));
        }
        let base = match &options.base {
            None => None,
            Some(asked) => {
                let record = self.find(asked).ok_or_else(|| {
                    Error::not_found(format!(
                        "there is no image {:?} here to pack upon; pull it first",
                        shorten(asked)
                    ))
                })?;
                if record.is_artifact() {
                    return Err(Error::invalid(format!(
                        "{:?} is an artifact; only a container image can be packed upon",
                        shorten(asked)
                    )));
                }
                layer.lease.need(record.chain.clone(), record.blobs.clone()).await;
                Some(record)
            }
        };
        let work = inner.clone();
        let (lease, image, digest) = blocking(move || {
            permit_import(&work, std::slice::from_ref(&options.name))?;
            let base =
                base.map(|record| tree::own(&work.content, &record, &mut Held::default())).transpose()?;
            let (image, digest) = compose(&work, base, &layer, &diff_id, &options)?;
            Ok((layer.lease, image, digest))
        })
        .await?;
        let names = image.names.clone();
        let record = stored(inner, lease, Arc::new(Listeners::default()), image)
            .await
            .map_err(|error| error.context(format!("cannot pack {name}")))?;
        Ok(Imported { id: record.id.clone(), names, digest })
    }
}

/// Writes configuration and manifest.
fn compose(
    inner: &Inner,
    base: Option<tree::Own>,
    layer: &StoredLayer,
    diff_id: &Digest,
    options: &PackOptions,
) -> Result<(Stored, Digest)> {
    let (mut config, mut layers) = match base {
        Some(base) => {
            let config: Value = serde_json::from_slice(&base.config_bytes).map_err(|cause| {
                Error::with_source(ErrorKind::Internal, "the base's configuration cannot be read", cause)
            })?;
            (config, base.layers)
        }
        None => (scratch(&inner.config.platform), Vec::new()),
    };
    if layers.len() >= LAYERS_MAX {
        return Err(Error::invalid(format!(
            "the base has {LAYERS_MAX} layers, the most that an image may have"
        )));
    }
    layers.iter_mut().for_each(|below| below.media_type = oci(&below.media_type).to_owned());
    let media_type = match layer.compression {
        Compression::None => "application/vnd.oci.image.layer.v1.tar",
        Compression::Gzip => "application/vnd.oci.image.layer.v1.tar+gzip",
        Compression::Zstd => "application/vnd.oci.image.layer.v1.tar+zstd",
    };
    layers.push(Descriptor::new(media_type, layer.digest.clone(), layer.size));
    let broken =
        || Error::invalid("the base's configuration is not what the OCI image specification describes");
    let root = config.as_object_mut().ok_or_else(broken)?;
    let mut step = json!({ "created_by": options.created_by });
    match &options.created {
        Some(created) => {
            step["created"] = json!(created);
            root.insert("created".into(), json!(created));
        }
        None => {
            root.remove("created");
        }
    }
    list(root, "history").ok_or_else(broken)?.push(step);
    let rootfs = map(root, "rootfs").ok_or_else(broken)?;
    list(rootfs, "diff_ids").ok_or_else(broken)?.push(json!(diff_id));
    apply(map(root, "config").ok_or_else(broken)?, &options.config).ok_or_else(broken)?;
    let written = |value: &Value| {
        serde_json::to_vec(value).map_err(|cause| {
            Error::with_source(ErrorKind::Internal, "cannot write an image's documents", cause)
        })
    };
    let config_bytes = written(&config)?;
    let digest = Hasher::of(Algorithm::Sha256, &config_bytes);
    let config = Descriptor::new(OCI_CONFIG, digest, config_bytes.len() as u64);
    let shown = |d: &Descriptor| {
        let mut shown = json!({ "mediaType": d.media_type, "digest": d.digest, "size": d.size });
        // The keys of an encrypted layer are there.
        if !d.annotations.is_empty() {
            shown["annotations"] = json!(d.annotations);
        }
        shown
    };
    let bytes = written(&json!({
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": shown(&config),
        "layers": layers.iter().map(shown).collect::<Vec<_>>(),
    }))?;
    let digest = Hasher::of(Algorithm::Sha256, &bytes);
    let manifest = Fetched { bytes, media_type: Some(OCI_MANIFEST.to_owned()), digest: digest.clone() };
    let image = Stored {
        documents: vec![manifest],
        config,
        config_bytes,
        layers,
        artifact: None,
        names: options.name.tagged().into_iter().collect(),
        digests: vec![format!("{}@{digest}", options.name.repository())],
        more_blobs: Vec::new(),
    };
    Ok((image, digest))
}

/// The configuration of an image of nothing.
fn scratch(platform: &Platform) -> Value {
    let mut config = json!({
        "architecture": platform.arch,
        "os": platform.os,
        "config": { "Env": [PATH] },
        "rootfs": { "type": "layers", "diff_ids": [] },
        "history": [],
    });
    if !platform.variant.is_empty() {
        config["variant"] = json!(platform.variant);
    }
    config
}

/// The same layer in OCI's words (image specification, "Compatibility Matrix").
fn oci(media_type: &str) -> &str {
    match media_type {
        "application/vnd.docker.image.rootfs.diff.tar" => "application/vnd.oci.image.layer.v1.tar",
        "application/vnd.docker.image.rootfs.diff.tar.gzip" => "application/vnd.oci.image.layer.v1.tar+gzip",
        "application/vnd.docker.image.rootfs.diff.tar.zstd" => "application/vnd.oci.image.layer.v1.tar+zstd",
        other => other,
    }
}

/// The object under `key`, made where there is none; `None` where something else is there.
fn map<'a>(object: &'a mut Map<String, Value>, key: &str) -> Option<&'a mut Map<String, Value>> {
    let value = object.entry(key).or_insert(Value::Null);
    if value.is_null() {
        *value = json!({});
    }
    value.as_object_mut()
}

/// The list under `key`, likewise.
fn list<'a>(object: &'a mut Map<String, Value>, key: &str) -> Option<&'a mut Vec<Value>> {
    let value = object.entry(key).or_insert(Value::Null);
    if value.is_null() {
        *value = json!([]);
    }
    value.as_array_mut()
}

/// Lays the options over the base's configuration; `None` where that is not what it should be.
fn apply(config: &mut Map<String, Value>, options: &PackConfig) -> Option<()> {
    let mut set = |key: &str, value: &[String]| {
        if !value.is_empty() {
            config.insert(key.into(), json!(value));
        }
    };
    set("Entrypoint", &options.entrypoint);
    set("Cmd", &options.cmd);
    if !options.entrypoint.is_empty() && options.cmd.is_empty() {
        config.remove("Cmd");
    }
    for (key, value) in
        [("User", &options.user), ("WorkingDir", &options.working_dir), ("StopSignal", &options.stop_signal)]
    {
        if !value.is_empty() {
            config.insert(key.into(), json!(value));
        }
    }
    if !options.env.is_empty() {
        let env = list(config, "Env")?;
        for variable in &options.env {
            let name = variable.split('=').next().unwrap_or_default();
            let same = |value: &Value| value.as_str().is_some_and(|v| v.split('=').next() == Some(name));
            env.retain(|value| !same(value));
            env.push(json!(variable));
        }
    }
    for (key, values) in [("ExposedPorts", &options.exposed_ports), ("Volumes", &options.volumes)] {
        if !values.is_empty() {
            let object = map(config, key)?;
            values.iter().for_each(|value| drop(object.insert(value.clone(), json!({}))));
        }
    }
    if !options.labels.is_empty() {
        let labels = map(config, "Labels")?;
        options.labels.iter().for_each(|(key, value)| drop(labels.insert(key.clone(), json!(value))));
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_lie_over_the_bases_configuration() {
        let mut base = json!({
            "Env": ["A=1", "PATH=/x"], "Cmd": ["sh"], "Entrypoint": null, "Labels": null,
            "ExposedPorts": { "80/tcp": {} }, "User": "root", "Unknown": 1,
        });
        let options = PackConfig {
            entrypoint: vec!["/app".into()],
            env: vec!["A=2".into(), "B=3".into()],
            exposed_ports: vec!["443/tcp".into()],
            labels: [("a".to_owned(), "b".to_owned())].into(),
            ..PackConfig::default()
        };
        apply(base.as_object_mut().expect("object"), &options).expect("sound");
        assert_eq!(
            base,
            json!({
                "Env": ["PATH=/x", "A=2", "B=3"], "Entrypoint": ["/app"], "Labels": { "a": "b" },
                "ExposedPorts": { "80/tcp": {}, "443/tcp": {} }, "User": "root", "Unknown": 1,
            }),
            "a new entrypoint forgets the base's arguments, and what is not known stays"
        );
        let mut odd = json!({ "Env": "A=1" });
        assert!(apply(odd.as_object_mut().expect("object"), &options).is_none());
    }
}
