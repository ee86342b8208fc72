//! Parsers of what comes from outside, for fuzzing: none may panic, or take long, on any input. Each gives what came
//! of it in words.

use crate::image::ConfigFile;
use crate::manifest::{self, Document};
use crate::platform::Platform;
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
        Err(error) => types::error::chain(&error),
    }
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
