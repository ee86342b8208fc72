//! Images in and out of a node by archives: what is taken, what is refused, and what other tools make of it.

mod export;
mod hostile;
mod import;
mod pack;
mod push;
mod tools;

use crate::image::{Image, OCI_MANIFEST, descriptor, digest};
use crate::node::Node;
use bytes::Bytes;
use corten_images::{ArchiveFormat, ImportOptions, Imported, Incoming};
use std::io::Write;
use tokio::sync::mpsc;
use types::{Error, Reference, Result};

/// An archive in the making: names and contents in the order in which they are written.
#[derive(Debug, Clone, Default)]
pub struct Archive(Vec<(String, Entry)>);

#[derive(Debug, Clone)]
enum Entry {
    File(Bytes),
    Symlink(String),
    Hardlink(String),
    Device,
}

impl Archive {
    pub fn file(mut self, name: &str, content: impl Into<Bytes>) -> Archive {
        self.0.push((name.to_owned(), Entry::File(content.into())));
        self
    }

    pub fn symlink(mut self, name: &str, target: &str) -> Archive {
        self.0.push((name.to_owned(), Entry::Symlink(target.to_owned())));
        self
    }

    pub fn hardlink(mut self, name: &str, target: &str) -> Archive {
        self.0.push((name.to_owned(), Entry::Hardlink(target.to_owned())));
        self
    }

    pub fn device(mut self, name: &str) -> Archive {
        self.0.push((name.to_owned(), Entry::Device));
        self
    }

    /// Without the files whose name ends so.
    pub fn without(mut self, end: &str) -> Archive {
        let before = self.0.len();
        self.0.retain(|(name, _)| !name.ends_with(end));
        assert!(self.0.len() < before, "{end} was there");
        self
    }

    /// The blobs of an image, its manifest among them.
    pub fn blobs(mut self, image: &Image) -> Archive {
        self = self.blob(&image.manifest);
        for (_, blob) in &image.blobs {
            self = self.blob(blob);
        }
        self
    }

    pub fn blob(self, blob: &Bytes) -> Archive {
        let name = digest(blob).replace(':', "/");
        self.file(&format!("blobs/{name}"), blob.clone())
    }

    /// The layout's two files, with these entries of the index.
    pub fn layout(self, entries: &[String]) -> Archive {
        let index = format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, entries.join(","));
        self.file("oci-layout", r#"{"imageLayoutVersion":"1.0.0"}"#).file("index.json", index)
    }

    /// A layout of one image, as containerd writes it.
    pub fn of(image: &Image, name: &str) -> Archive {
        Archive::default().blobs(image).layout(&[entry(OCI_MANIFEST, &image.manifest, Some(name))])
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        for (name, entry) in &self.0 {
            let mut header = tar::Header::new_gnu();
            header.set_mode(0o644);
            let (kind, link, data) = match entry {
                Entry::File(data) => (tar::EntryType::Regular, None, data.clone()),
                Entry::Symlink(target) => (tar::EntryType::Symlink, Some(target), Bytes::new()),
                Entry::Hardlink(target) => (tar::EntryType::Link, Some(target), Bytes::new()),
                Entry::Device => (tar::EntryType::Char, None, Bytes::new()),
            };
            header.set_entry_type(kind);
            header.set_size(data.len() as u64);
            header.set_device_major(1).expect("major");
            header.set_device_minor(3).expect("minor");
            // Written by hand: the crate refuses the names that are tried here.
            header.as_gnu_mut().expect("gnu").name[..name.len()].copy_from_slice(name.as_bytes());
            if let Some(link) = link {
                header.as_gnu_mut().expect("gnu").linkname[..link.len()].copy_from_slice(link.as_bytes());
            }
            header.set_cksum();
            tar.append(&header, &data[..]).expect("append");
        }
        tar.into_inner().expect("tar")
    }
}

/// A descriptor with the name that containerd gives.
pub fn entry(media_type: &str, content: &[u8], name: Option<&str>) -> String {
    let plain = descriptor(media_type, &digest(content), content.len());
    match name {
        None => plain,
        Some(name) => format!(
            r#"{},"annotations":{{"io.containerd.image.name":"{name}","org.opencontainers.image.ref.name":"x"}}}}"#,
            &plain[..plain.len() - 1]
        ),
    }
}

/// Bytes as they come from a caller, in pieces that fit nothing.
pub fn incoming(bytes: &[u8]) -> Incoming {
    let (send, receive) = mpsc::channel(2);
    let bytes = Bytes::copy_from_slice(bytes);
    tokio::spawn(async move {
        for at in (0..bytes.len()).step_by(7001) {
            let piece = bytes.slice(at..(at + 7001).min(bytes.len()));
            if send.send(Ok(piece)).await.is_err() {
                return;
            }
        }
    });
    receive
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(bytes).expect("gzip");
    gzip.finish().expect("gzip")
}

impl Node {
    pub async fn import(&self, archive: &[u8]) -> Result<Vec<Imported>> {
        self.import_as(archive, ImportOptions::default()).await
    }

    pub async fn import_as(&self, archive: &[u8], options: ImportOptions) -> Result<Vec<Imported>> {
        self.images.import(incoming(archive), options, None).await
    }

    pub async fn export(&self, names: &[&str], format: ArchiveFormat) -> Result<Vec<u8>> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut exported = self.images.export(&names, format).await?;
        let mut archive = Vec::new();
        while let Some(part) = exported.parts.recv().await {
            archive.extend_from_slice(&part?);
        }
        if let Some(total) = exported.total {
            assert_eq!(archive.len() as u64, total, "as long as announced");
        }
        Ok(archive)
    }

    /// Imports what must be refused, and checks that nothing of it stays.
    pub async fn refused(&self, archive: &[u8], word: &str) -> Error {
        let before = self.images.list().len();
        let error = self.import(archive).await.expect_err(word);
        assert!(error.chain().contains(word), "{word}: {}", error.chain());
        assert_eq!(self.images.list().len(), before, "{word}");
        self.images.collect().await.expect("collect");
        assert!(self.content("ingest").is_empty(), "{word}");
        error
    }
}

pub fn named(name: &str) -> ImportOptions {
    ImportOptions { name: Some(Reference::parse(name).expect("name")), ..ImportOptions::default() }
}

/// What `docker save` wrote before version 25: a folder for each layer, an identical layer linked.
pub fn docker_save(image: &Image, layers: &[(&str, Bytes)], tags: &[&str]) -> Archive {
    let config = digest(&image.config).replace("sha256:", "") + ".json";
    let mut archive = Archive::default();
    let mut names = Vec::new();
    let mut first: Vec<(Bytes, String)> = Vec::new();
    for (id, layer) in layers {
        let name = format!("{id}/layer.tar");
        archive = archive.file(&format!("{id}/VERSION"), "1.0").file(&format!("{id}/json"), "{}");
        match first.iter().find(|(content, _)| content == layer) {
            Some((_, other)) => archive = archive.symlink(&name, &format!("../{other}")),
            None => {
                archive = archive.file(&name, layer.clone());
                first.push((layer.clone(), name.clone()));
            }
        }
        names.push(format!("{name:?}"));
    }
    let tags: Vec<String> = tags.iter().map(|tag| format!("{tag:?}")).collect();
    let manifest = format!(
        r#"[{{"Config":{config:?},"RepoTags":[{}],"Layers":[{}]}}]"#,
        tags.join(","),
        names.join(",")
    );
    archive.file(&config, image.config.clone()).file("manifest.json", manifest).file("repositories", "{}")
}
