//! Parsers of what comes from outside, for fuzzing: none may panic, or take long, on any input. Each gives what came
//! of it in words.

use crate::artifact::{Part, archive_of};
use crate::image::ConfigFile;
use crate::manifest::{self, Document};
use crate::platform::Platform;
use layers::archive::{Archive, Kind};
use layers::{Compression, UnpackLimits};
use types::Result;
use types::digest::Algorithm;

/// The first line is the announced media type, if it is not empty; the rest is a manifest or an index.
pub fn manifest(bytes: &[u8]) -> String {
    let (announced, json) = match bytes.iter().position(|&b| b == b'\n') {
        Some(end) => (std::str::from_utf8(&bytes[..end]).unwrap_or_default(), &bytes[end + 1..]),
        None => ("", bytes),
    };
    let announced = Some(announced).filter(|text| !text.is_empty());
    let digest = content::Hasher::of(Algorithm::Sha256, json);
    match manifest::parse(&digest, announced, json) {
        Ok(Document::Index(manifests)) => {
            let chosen = manifest::choose(&digest, &manifests, &Platform::host());
            match chosen {
                Ok(one) => format!("an index with {}", one.media_type),
                Err(error) => format!("an index: {error}"),
            }
        }
        Ok(Document::Image { config, layers }) => {
            assert!(layers.len() <= manifest::LAYERS_MAX && config.size <= manifest::CONFIG_MAX);
            format!("an image with {} layers, {}", layers.len().min(3), config.media_type)
        }
        Ok(Document::Artifact { config, layers, artifact }) => {
            assert!(layers.len() <= manifest::LAYERS_MAX && config.size <= manifest::CONFIG_MAX);
            let chain = artifact.chain_ids(&layers);
            assert!(chain.len() == layers.len() && artifact.parts.len() == layers.len());
            assert!(chain.iter().all(|id| id.algorithm() == Algorithm::Sha512));
            let mut files = 0;
            for part in &artifact.parts {
                if let Part::File(name) | Part::TreeOrFile(name) = part {
                    // The reader of archives takes the name for the same.
                    assert!(made(name).is_ok_and(|made| made == [name.as_bytes()]), "{name:?}");
                    files += 1;
                }
            }
            format!("an artifact of {} layers, {} may be files", layers.len().min(3), files.min(3))
        }
        Err(error) => types::error::chain(&error),
    }
}

/// The paths of the files that come of a file's archive.
fn made(name: &str) -> Result<Vec<Vec<u8>>> {
    let archive = archive_of(name, 0, std::io::empty())?;
    let mut archive = Archive::open(archive, Compression::None, &UnpackLimits::DEFAULT)?;
    let mut files = Vec::new();
    while let Some(entry) = archive.next_entry()? {
        files.extend((entry.kind == Kind::File).then_some(entry.path));
    }
    Ok(files)
}

/// An image's configuration.
pub fn config(bytes: &[u8]) -> String {
    match ConfigFile::parse(bytes) {
        Ok(file) => {
            let c = &file.config;
            let given =
                [&c.env, &c.entrypoint, &c.cmd, &c.volumes, &c.exposed_ports].map(|list| !list.is_empty());
            format!("{given:?} {} {}", c.stop_signal.is_some(), file.diff_ids.is_empty())
        }
        Err(error) => error.chain(),
    }
}
