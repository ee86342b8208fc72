//! Images made for a test.

use bytes::Bytes;
use sha2::Digest as _;
use std::io::Write;

pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub const GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// A whole image.
#[derive(Debug, Clone)]
pub struct Image {
    pub manifest: Bytes,
    pub manifest_type: String,
    pub config: Bytes,
    /// Digest and content: configuration first, then the layers.
    pub blobs: Vec<(String, Bytes)>,
}

pub fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", types::id::hex(&sha2::Sha256::digest(bytes)))
}

/// A gzipped archive of files, and its diff id.
pub fn layer(files: &[(&str, &[u8])]) -> (Bytes, String) {
    let mut tar = tar::Builder::new(Vec::new());
    for (path, content) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(1_700_000_000);
        header.set_entry_type(tar::EntryType::Regular);
        tar.append_data(&mut header, path, *content).expect("append");
    }
    let tar = tar.into_inner().expect("tar");
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&tar).expect("gzip");
    (gzip.finish().expect("gzip").into(), digest(&tar))
}

/// Bytes that do not compress.
pub fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    (0..length)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        })
        .collect()
}

impl Image {
    /// An image with these layers, bottom first.
    pub fn new(name: &str, layers: &[(Bytes, String)]) -> Image {
        let diff_ids: Vec<String> = layers.iter().map(|(_, diff_id)| format!("{diff_id:?}")).collect();
        let config = format!(
            r#"{{"architecture":"{}","os":"linux","config":{{"Env":["NAME={name}"],"Cmd":["/{name}"],"User":"7"}},
            "rootfs":{{"type":"layers","diff_ids":[{}]}}}}"#,
            architecture(),
            diff_ids.join(",")
        );
        let blobs: Vec<Bytes> = layers.iter().map(|(blob, _)| blob.clone()).collect();
        Image::of(config.into(), &blobs)
    }

    /// An image of one small file.
    pub fn small(name: &str) -> Image {
        Image::new(name, &[layer(&[(name, name.as_bytes())])])
    }

    /// An image of this configuration and these layers.
    pub fn of(config: Bytes, layers: &[Bytes]) -> Image {
        let described: Vec<String> =
            layers.iter().map(|blob| descriptor(GZIP, &digest(blob), blob.len())).collect();
        let manifest = format!(
            r#"{{"schemaVersion":2,"mediaType":"{OCI_MANIFEST}","config":{},"layers":[{}]}}"#,
            descriptor("application/vnd.oci.image.config.v1+json", &digest(&config), config.len()),
            described.join(",")
        );
        let mut blobs = vec![(digest(&config), config.clone())];
        blobs.extend(layers.iter().map(|blob| (digest(blob), blob.clone())));
        Image { manifest: manifest.into(), manifest_type: OCI_MANIFEST.into(), config, blobs }
    }

    pub fn id(&self) -> String {
        digest(&self.config)
    }

    /// An index that has this image for this machine, and one for another.
    pub fn index(&self) -> Bytes {
        let with = |platform: String, d: &str, size: usize| {
            let plain = descriptor(OCI_MANIFEST, d, size);
            format!(r#"{},"platform":{platform}}}"#, &plain[..plain.len() - 1])
        };
        let own = format!(r#"{{"os":"linux","architecture":"{}"}}"#, architecture());
        let other = r#"{"os":"windows","architecture":"amd64"}"#.to_owned();
        format!(
            r#"{{"schemaVersion":2,"mediaType":"{OCI_INDEX}","manifests":[{},{}]}}"#,
            with(other, &digest(b"other"), 5),
            with(own, &digest(&self.manifest), self.manifest.len())
        )
        .into()
    }
}

pub fn descriptor(media_type: &str, digest: &str, size: usize) -> String {
    format!(r#"{{"mediaType":"{media_type}","digest":"{digest}","size":{size}}}"#)
}

pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
