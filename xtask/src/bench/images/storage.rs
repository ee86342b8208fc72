//! The folder of a docker-registry, filled without a registry: blobs and the links that name them
//! (distribution 2.8, `registry/storage/paths.go`).

use super::super::said;
use super::make::{NewBlob, Sizes};
use serde_json::{Value, json};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// Says that all images are there.
const COMPLETE: &str = "complete.json";
/// Raised when other images are made: what an older program made is then made anew.
const VERSION: u32 = 1;

/// The folder.
pub struct Storage {
    root: PathBuf,
    next: AtomicU32,
}

/// A blob that is in its place.
#[derive(Debug, Clone)]
pub struct Blob {
    /// `sha256:…`
    pub digest: String,
    /// Bytes.
    pub size: u64,
}

impl Storage {
    /// `name` in the user's cache folder.
    pub fn open(name: &str) -> Result<Storage, String> {
        let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
        let home = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
        let cache = cache.or(home).ok_or("neither XDG_CACHE_HOME nor HOME is set")?;
        let root = cache.join("corten").join(name);
        Ok(Storage { root, next: AtomicU32::new(0) })
    }

    /// What a registry serves.
    pub fn folder(&self) -> &Path {
        &self.root
    }

    /// Whether everything of these sizes is there.
    pub fn is_complete(&self, sizes: Sizes) -> bool {
        let text = std::fs::read(self.root.join(COMPLETE)).unwrap_or_default();
        serde_json::from_slice::<Value>(&text).is_ok_and(|v| v == mark(sizes))
    }

    /// Empties the folder.
    pub fn clear(&self) -> Result<(), String> {
        match std::fs::remove_dir_all(&self.root) {
            Err(why) if why.kind() != std::io::ErrorKind::NotFound => {
                return Err(format!("cannot empty {}: {why}", self.root.display()));
            }
            _ => {}
        }
        std::fs::create_dir_all(&self.root)
            .map_err(|why| format!("cannot make {}: {why}", self.root.display()))
    }

    pub(super) fn complete(&self, sizes: Sizes) -> Result<(), String> {
        std::fs::write(self.root.join(COMPLETE), mark(sizes).to_string()).map_err(said)
    }

    /// A new blob.
    pub fn blob(&self) -> Result<NewBlob, String> {
        let name = format!("new-{}", self.next.fetch_add(1, Ordering::Relaxed));
        NewBlob::new(self.root.join(name))
    }

    /// Where a blob lies.
    pub fn path(&self, digest: &str) -> PathBuf {
        let hex = digest.strip_prefix("sha256:").unwrap_or(digest);
        self.base().join("blobs/sha256").join(&hex[..2]).join(hex).join("data")
    }

    fn base(&self) -> PathBuf {
        self.root.join("docker/registry/v2")
    }

    pub(super) fn place(&self, from: &Path, hex: &str) -> Result<(), String> {
        let to = self.path(hex);
        parent(&to)?;
        std::fs::rename(from, &to).map_err(|why| format!("cannot make {}: {why}", to.display()))
    }

    /// Names an image of these layers (with their diff ids) `repo:1`.
    pub fn image(&self, repo: &str, kind: &str, layers: &[(Blob, String)]) -> Result<(), String> {
        let diff_ids: Vec<&String> = layers.iter().map(|(_, diff)| diff).collect();
        let config = json!({
            "architecture": match std::env::consts::ARCH { "x86_64" => "amd64", "aarch64" => "arm64", other => other },
            "os": "linux",
            "config": { "Cmd": ["/usr/bin/true"] },
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
        });
        let config = self.small(&config)?;
        let layer_type = format!("application/vnd.oci.image.layer.v1.tar+{kind}");
        let described =
            |blob: &Blob, kind: &str| json!({ "mediaType": kind, "digest": blob.digest, "size": blob.size });
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": described(&config, "application/vnd.oci.image.config.v1+json"),
            "layers": layers.iter().map(|(blob, _)| described(blob, &layer_type)).collect::<Vec<_>>(),
        });
        let manifest = self.small(&manifest)?;
        let at = self.base().join("repositories").join(repo);
        for blob in layers.iter().map(|(blob, _)| blob).chain([&config]) {
            link(&at.join("_layers").join(under(blob)), blob)?;
        }
        link(&at.join("_manifests/revisions").join(under(&manifest)), &manifest)?;
        link(&at.join("_manifests/tags/1/index").join(under(&manifest)), &manifest)?;
        link(&at.join("_manifests/tags/1/current"), &manifest)
    }

    fn small(&self, value: &Value) -> Result<Blob, String> {
        let mut blob = self.blob()?;
        blob.write_all(value.to_string().as_bytes()).map_err(said)?;
        blob.place(self)
    }

    /// The layers of `repo:1`, as files.
    pub fn layers(&self, repo: &str) -> Result<Vec<PathBuf>, String> {
        let link = self.base().join("repositories").join(repo).join("_manifests/tags/1/current/link");
        let digest =
            std::fs::read_to_string(&link).map_err(|why| format!("cannot read {}: {why}", link.display()))?;
        let bytes = std::fs::read(self.path(&digest)).map_err(said)?;
        let manifest: Value = serde_json::from_slice(&bytes).map_err(said)?;
        let layers = manifest["layers"].as_array().ok_or("a manifest has no layers")?;
        Ok(layers.iter().filter_map(|layer| Some(self.path(layer["digest"].as_str()?))).collect())
    }
}

fn mark(sizes: Sizes) -> Value {
    json!({ "version": VERSION, "sizes": [sizes.image, sizes.one, sizes.base, sizes.own] })
}

fn under(blob: &Blob) -> PathBuf {
    Path::new("sha256").join(blob.digest.trim_start_matches("sha256:"))
}

fn link(folder: &Path, blob: &Blob) -> Result<(), String> {
    let path = folder.join("link");
    parent(&path)?;
    std::fs::write(&path, &blob.digest).map_err(|why| format!("cannot write {}: {why}", path.display()))
}

fn parent(path: &Path) -> Result<(), String> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    std::fs::create_dir_all(folder).map_err(|why| format!("cannot make {}: {why}", folder.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_placed_is_found_by_its_repository() {
        let root = std::env::temp_dir().join(format!("xtask-storage-{}", std::process::id()));
        let storage = Storage { root, next: AtomicU32::new(0) };
        storage.clear().expect("folder");
        let mut blob = storage.blob().expect("blob");
        blob.write_all(b"layer").expect("write");
        let blob = blob.place(&storage).expect("place");
        // `printf layer | sha256sum`
        let known = "sha256:dac1d7cfa95021764849fd102524e141488c5e3a90f861dbb5a12d9ac8584f85";
        assert_eq!(blob.digest, known);
        storage.image("a/b", "gzip", &[(blob.clone(), "sha256:00".to_owned())]).expect("image");
        assert_eq!(storage.layers("a/b").expect("layers"), [storage.path(&blob.digest)]);
        let sizes = Sizes { image: 8, one: 1, base: 1, own: 1 };
        assert!(!storage.is_complete(sizes));
        storage.complete(sizes).expect("mark");
        assert!(storage.is_complete(sizes) && !storage.is_complete(Sizes { one: 2, ..sizes }));
        std::fs::remove_dir_all(storage.folder()).expect("remove");
    }
}
