//! Where what comes in by an archive gets its name in the content store: as a pull leaves it, whole against a kill at
//! once, and on the disk by the sync that follows the record. It records nothing, and decides nothing about leases.

use crate::Inner;
use crate::check::is_whole_blob;
use content::{Hasher, Ingest};
use types::digest::Algorithm;
use types::{Digest, Result};

impl Inner {
    /// Gives a blob its name. `digest` is that of what was written; the caller has a lease on it. Blocks.
    ///
    /// One that is there stays: images that are recorded as being on the disk may count on it. Where it is damaged, what
    /// takes its place is on the disk when this returns, for their sake.
    pub(super) fn shelve(&self, ingest: Ingest, digest: &Digest) -> Result<()> {
        if self.content.size(digest).is_none() {
            self.unsynced.blob(digest);
            self.content.commit_unsynced(ingest, digest)?;
            self.unsynced.blob(digest);
            return Ok(());
        }
        if is_whole_blob(self, digest) { Ok(()) } else { self.content.commit(ingest, digest) }
    }

    /// The same for a document, whose digest it gives. `leased` is called with it before the document is there.
    pub(super) fn shelve_document(&self, document: &[u8], leased: impl FnOnce(&Digest)) -> Result<Digest> {
        let digest = Hasher::of(Algorithm::Sha256, document);
        leased(&digest);
        if !self.content.holds(&digest, document) {
            let mut ingest = self.content.ingest()?;
            ingest.write(document)?;
            self.shelve(ingest, &digest)?;
        }
        Ok(digest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::chain_ids;
    use crate::transfer::import::ImportOptions;
    use crate::unsynced::{Row, at_open};
    use crate::{ImageRecord, Images, ImagesConfig};
    use serde_json::json;
    use std::sync::Arc;
    use std::time::{Duration, Instant};
    use store::meta::{Meta, Table};

    fn tar(files: &[(String, Vec<u8>)]) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        for (name, content) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            tar.append_data(&mut header, name, &content[..]).expect("append");
        }
        tar.into_inner().expect("tar")
    }

    fn of(bytes: &[u8]) -> Digest {
        Hasher::of(Algorithm::Sha256, bytes)
    }

    /// An image of plain layers with one file each, as a layout under a name; and its id.
    fn layout(name: &str, layers: &[&str]) -> (Vec<u8>, Digest) {
        let layers: Vec<Vec<u8>> =
            layers.iter().map(|file| tar(&[((*file).to_owned(), file.repeat(2000).into())])).collect();
        let part = |kind: &str, bytes: &[u8]| json!({ "mediaType": format!("application/vnd.oci.image.{kind}"), "digest": of(bytes), "size": bytes.len() });
        let diff_ids: Vec<Digest> = layers.iter().map(|layer| of(layer)).collect();
        let config = json!({ "created_by": name, "rootfs": { "type": "layers", "diff_ids": diff_ids } });
        let config = config.to_string().into_bytes();
        let listed: Vec<_> = layers.iter().map(|layer| part("layer.v1.tar", layer)).collect();
        let manifest = json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": part("config.v1+json", &config), "layers": listed,
        });
        let manifest = manifest.to_string().into_bytes();
        let mut entry = part("manifest.v1+json", &manifest);
        entry["annotations"] = json!({ "io.containerd.image.name": name });
        let index = json!({ "schemaVersion": 2, "manifests": [entry] }).to_string();
        let mut files = vec![
            ("oci-layout".to_owned(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()),
            ("index.json".to_owned(), index.into_bytes()),
        ];
        let id = of(&config);
        for blob in layers.into_iter().chain([config, manifest]) {
            files.push((format!("blobs/sha256/{}", of(&blob).hex()), blob));
        }
        (tar(&files), id)
    }

    async fn import(images: &Images, archive: Vec<u8>) {
        let (send, incoming) = tokio::sync::mpsc::channel(1);
        send.send(Ok(archive.into())).await.expect("room");
        drop(send);
        images.import(incoming, ImportOptions::default(), None).await.expect("import");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn an_import_is_recorded_with_what_the_disk_lacks_and_endangers_no_other_image() {
        let dir = tempfile::tempdir().expect("temp dir");
        let meta = Arc::new(Meta::open(&dir.path().join("meta.redb")).expect("meta"));
        let snapshotter = snapshots::open("native", &dir.path().join("snapshots")).expect("snapshots");
        let images = Images::open(ImagesConfig::new(dir.path()), meta.clone(), snapshotter).expect("images");
        let rows = || meta.scan::<Row>(Table::Unsynced).expect("scan");
        let (first, first_id) = layout("h.io/first:1", &["shared"]);
        import(&images, first.clone()).await;
        let end = Instant::now() + Duration::from_secs(60);
        while !rows().is_empty() {
            assert!(Instant::now() < end, "it never gets to the disk");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        // From here on the disk gets nothing.
        images.0.unsynced.close();
        let (second, second_id) = layout("h.io/second:1", &["shared", "own"]);
        import(&images, second).await;
        // What is there and on the disk stays so, whoever brings it again.
        import(&images, first).await;
        let rows = rows();
        assert_eq!(rows.len(), 1, "{rows:?}");
        let shared = of(&tar(&[("shared".to_owned(), "shared".repeat(2000).into())]));
        let own = of(&tar(&[("own".to_owned(), "own".repeat(2000).into())]));
        let chain = chain_ids(&[shared.clone(), own.clone()]);
        assert_eq!(rows[0].1.layers, [chain[1].clone()]);
        let blobs = &rows[0].1.blobs;
        assert_eq!(blobs.len(), 3, "a layer, a configuration and a manifest: {blobs:?}");
        assert!(blobs.contains(&own) && blobs.contains(&second_id) && !blobs.contains(&shared), "{blobs:?}");
        // The machine stops here.
        at_open(&meta, "another boot").expect("open");
        let left = meta.scan::<ImageRecord>(Table::Images).expect("scan");
        assert_eq!(left.iter().map(|(_, image)| &image.id).collect::<Vec<_>>(), [&first_id]);
    }
}
