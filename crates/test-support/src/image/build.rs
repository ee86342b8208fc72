//! Config and manifest around layers (OCI image specification; Docker image manifest V2, schema 2).

use super::{Blob, Compression, Image, Layer, PackedLayer};
use crate::{Problem, Result, Tried};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Whose media types the manifest has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Media {
    /// `application/vnd.oci.image.*`
    #[default]
    Oci,
    /// `application/vnd.docker.*`
    Docker,
}

impl Media {
    fn manifest(self) -> &'static str {
        match self {
            Media::Oci => "application/vnd.oci.image.manifest.v1+json",
            Media::Docker => "application/vnd.docker.distribution.manifest.v2+json",
        }
    }

    fn index(self) -> &'static str {
        match self {
            Media::Oci => "application/vnd.oci.image.index.v1+json",
            Media::Docker => "application/vnd.docker.distribution.manifest.list.v2+json",
        }
    }

    fn config(self) -> &'static str {
        match self {
            Media::Oci => "application/vnd.oci.image.config.v1+json",
            Media::Docker => "application/vnd.docker.container.image.v1+json",
        }
    }

    fn layer(self, compression: Compression) -> &'static str {
        match (self, compression) {
            (Media::Oci, Compression::None) => "application/vnd.oci.image.layer.v1.tar",
            (Media::Oci, Compression::Gzip) => "application/vnd.oci.image.layer.v1.tar+gzip",
            (Media::Oci, Compression::Zstd) => "application/vnd.oci.image.layer.v1.tar+zstd",
            (Media::Docker, Compression::None) => "application/vnd.docker.image.rootfs.diff.tar",
            (Media::Docker, Compression::Gzip) => "application/vnd.docker.image.rootfs.diff.tar.gzip",
            (Media::Docker, Compression::Zstd) => "application/vnd.docker.image.rootfs.diff.tar.zstd",
        }
    }
}

/// What an image runs on, in Go's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Platform {
    /// `linux`
    pub os: String,
    /// `amd64`, `arm64`, …
    pub architecture: String,
    /// `v8`, …; empty where there is none.
    pub variant: String,
}

impl Platform {
    /// A Linux platform without a variant.
    pub fn linux(architecture: &str) -> Self {
        Self { os: "linux".to_owned(), architecture: architecture.to_owned(), variant: String::new() }
    }

    /// This machine's.
    pub fn host() -> Self {
        Self::linux(match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        })
    }

    fn json(&self) -> Value {
        let mut value = json!({ "os": self.os, "architecture": self.architecture });
        if !self.variant.is_empty() {
            value["variant"] = json!(self.variant);
        }
        value
    }
}

/// An image in the making.
#[derive(Debug, Clone)]
pub struct ImageBuilder {
    layers: Vec<Layer>,
    config: BTreeMap<&'static str, Value>,
    media: Media,
    platform: Platform,
}

impl Default for ImageBuilder {
    fn default() -> Self {
        Self { layers: Vec::new(), config: BTreeMap::new(), media: Media::Oci, platform: Platform::host() }
    }
}

impl ImageBuilder {
    /// Adds a layer on top.
    #[must_use]
    pub fn layer(mut self, layer: Layer) -> Self {
        self.layers.push(layer);
        self
    }

    /// Packs every layer that was added so far in this way.
    #[must_use]
    pub fn compression(mut self, compression: Compression) -> Self {
        self.layers = self.layers.into_iter().map(|layer| layer.compression(compression)).collect();
        self
    }

    /// Whose media types.
    #[must_use]
    pub fn media(mut self, media: Media) -> Self {
        self.media = media;
        self
    }

    /// What it runs on.
    #[must_use]
    pub fn platform(mut self, platform: Platform) -> Self {
        self.platform = platform;
        self
    }

    /// The program and its first arguments.
    #[must_use]
    pub fn entrypoint(self, words: &[&str]) -> Self {
        self.set("Entrypoint", json!(words))
    }

    /// The arguments that a pod may replace.
    #[must_use]
    pub fn cmd(self, words: &[&str]) -> Self {
        self.set("Cmd", json!(words))
    }

    /// `NAME=value` each.
    #[must_use]
    pub fn env(self, variables: &[&str]) -> Self {
        self.set("Env", json!(variables))
    }

    /// `user`, `uid`, `user:group`, …
    #[must_use]
    pub fn user(self, user: &str) -> Self {
        self.set("User", json!(user))
    }

    /// Where it starts.
    #[must_use]
    pub fn working_dir(self, path: &str) -> Self {
        self.set("WorkingDir", json!(path))
    }

    /// `SIGQUIT`, `3`, …
    #[must_use]
    pub fn stop_signal(self, signal: &str) -> Self {
        self.set("StopSignal", json!(signal))
    }

    /// Paths that are volumes.
    #[must_use]
    pub fn volumes(self, paths: &[&str]) -> Self {
        self.set("Volumes", empty_objects(paths))
    }

    /// `80/tcp` each.
    #[must_use]
    pub fn ports(self, ports: &[&str]) -> Self {
        self.set("ExposedPorts", empty_objects(ports))
    }

    /// Labels.
    #[must_use]
    pub fn labels(self, labels: &[(&str, &str)]) -> Self {
        self.set("Labels", labels.iter().map(|(key, value)| ((*key).to_owned(), json!(value))).collect())
    }

    fn set(mut self, key: &'static str, value: Value) -> Self {
        self.config.insert(key, value);
        self
    }

    /// Packs the layers and writes config and manifest around them.
    pub fn build(self) -> Result<Image> {
        let layers = self.layers.iter().map(Layer::pack).collect::<Result<Vec<PackedLayer>>>()?;
        let diff_ids: Vec<_> = layers.iter().map(|layer| layer.diff_id.as_str()).collect();
        let mut config = self.platform.json();
        config["created"] = json!("2020-01-01T00:00:00Z");
        config["config"] = json!(self.config);
        config["rootfs"] = json!({ "type": "layers", "diff_ids": diff_ids });
        config["history"] = diff_ids
            .iter()
            .map(|_| json!({ "created": "2020-01-01T00:00:00Z", "created_by": "test-support" }))
            .collect();
        let config = Blob::new(self.media.config(), bytes(&config)?);
        let layers: Vec<_> = layers
            .into_iter()
            .map(|layer| Blob::new(self.media.layer(layer.compression), layer.data))
            .collect();
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": self.media.manifest(),
            "config": config.descriptor(),
            "layers": layers.iter().map(Blob::descriptor).collect::<Vec<_>>(),
        });
        let id = config.digest.clone();
        let blobs = std::iter::once(config).chain(layers).collect();
        let top = Blob::new(self.media.manifest(), bytes(&manifest)?);
        Ok(Image { top, manifests: Vec::new(), blobs, id: Some(id) })
    }
}

impl Image {
    /// One tag for several platforms; what is in the images stays as it is.
    pub fn index(media: Media, images: Vec<(Platform, Image)>) -> Result<Image> {
        if let Some((platform, _)) = images.iter().find(|(_, image)| !image.manifests.is_empty()) {
            return Err(Problem(format!("the image for {} is an index already", platform.architecture)));
        }
        let descriptors: Vec<_> = images
            .iter()
            .map(|(platform, image)| {
                let mut descriptor = image.top.descriptor();
                descriptor["platform"] = platform.json();
                descriptor
            })
            .collect();
        let index = json!({ "schemaVersion": 2, "mediaType": media.index(), "manifests": descriptors });
        let top = Blob::new(media.index(), bytes(&index)?);
        let (mut manifests, mut blobs) = (Vec::new(), Vec::new());
        for (_, image) in images {
            manifests.push(image.top);
            blobs.extend(image.blobs);
        }
        Ok(Image { top, manifests, blobs, id: None })
    }
}

fn empty_objects(keys: &[&str]) -> Value {
    keys.iter().map(|key| ((*key).to_owned(), json!({}))).collect()
}

fn bytes(value: &Value) -> Result<Vec<u8>> {
    serde_json::to_vec(value).tried("write JSON")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_points_to_manifests_whose_blobs_are_all_there() {
        let make = |arch| {
            let layer = Layer::new().file("/arch", 0o644, arch);
            Image::builder()
                .layer(layer)
                .platform(Platform::linux(arch))
                .cmd(&["/bin/x"])
                .build()
                .expect("built")
        };
        let platforms = ["amd64", "arm64"].map(|arch| (Platform::linux(arch), make(arch)));
        let image = Image::index(Media::Docker, platforms.to_vec()).expect("an index");
        let index: Value = serde_json::from_slice(&image.top.data).expect("JSON");
        for entry in index["manifests"].as_array().expect("a list") {
            let digest = entry["digest"].as_str().expect("text");
            let manifest =
                image.manifests.iter().find(|m| m.digest.as_str() == digest).expect("the manifest");
            let manifest: Value = serde_json::from_slice(&manifest.data).expect("JSON");
            for part in [&manifest["config"], &manifest["layers"][0]] {
                let digest = part["digest"].as_str().expect("text");
                let blob = image.blobs.iter().find(|b| b.digest.as_str() == digest).expect("the blob");
                assert_eq!(part["size"], json!(blob.data.len()));
            }
        }
        assert!(Image::index(Media::Oci, vec![(Platform::host(), image)]).is_err());
    }
}
