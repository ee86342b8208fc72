//! An image as files: the OCI image layout, as a folder or as one archive that `ctr images import` and
//! `skopeo` read.

use super::Image;
use crate::{Result, Tried};
use serde_json::json;
use std::path::Path;

impl Image {
    /// Writes an OCI image layout below `dir`; `name` is what the image is called in it.
    pub fn write_layout(&self, dir: &Path, name: &str) -> Result<()> {
        for (path, data) in self.layout(name)? {
            let path = dir.join(path);
            let parent = path.parent().unwrap_or(dir);
            std::fs::create_dir_all(parent).tried(format_args!("make {}", parent.display()))?;
            std::fs::write(&path, data).tried(format_args!("write {}", path.display()))?;
        }
        Ok(())
    }

    /// The same as one tar archive.
    pub fn archive(&self, name: &str) -> Result<Vec<u8>> {
        let mut builder = tar::Builder::new(Vec::new());
        for (path, data) in self.layout(name)? {
            let mut header = tar::Header::new_gnu();
            header.set_mode(0o644);
            header.set_size(data.len() as u64);
            builder.append_data(&mut header, &path, &data[..]).tried(format_args!("write {path}"))?;
        }
        builder.into_inner().tried("finish an archive")
    }

    fn layout(&self, name: &str) -> Result<Vec<(String, Vec<u8>)>> {
        let mut top = self.top.descriptor();
        // containerd's importer takes the full name from the first, others the tag from the second.
        top["annotations"] = json!({
            "io.containerd.image.name": name,
            "org.opencontainers.image.ref.name": name.rsplit_once(':').map_or("latest", |(_, tag)| tag),
        });
        let index = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": [top],
        });
        let mut files = vec![
            ("oci-layout".to_owned(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()),
            ("index.json".to_owned(), serde_json::to_vec(&index).tried("write JSON")?),
        ];
        files.extend(
            self.all().map(|blob| (format!("blobs/sha256/{}", blob.digest.hex()), blob.data.to_vec())),
        );
        Ok(files)
    }
}
