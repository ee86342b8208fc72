//! What a name without a registry's host stands for. Pure.

use super::parse::{Config, ShortNameMode};
use crate::hosts::refuse;
use std::path::Path;
use types::reference::shorten;
use types::{Reference, Result};

/// Whether a name has no registry's host at its beginning, as the distribution project tells hosts from folders.
pub fn is_short(name: &str) -> bool {
    let Some((first, _)) = name.split_once('/') else { return true };
    !(first == "localhost" || first.contains(['.', ':']) || first.bytes().any(|b| b.is_ascii_uppercase()))
}

/// The references that a name stands for, in the order in which they are tried.
pub(super) fn resolve(config: &Config, file: &Path, name: &str) -> Result<Vec<Reference>> {
    // What is no reference in any case is refused as one.
    let usual = Reference::parse(name)?;
    if !is_short(name) {
        return Ok(vec![usual]);
    }
    let end = name.find('@').unwrap_or(name.len());
    let end = name[..end].rfind(':').filter(|colon| !name[*colon..end].contains('/')).unwrap_or(end);
    let (bare, rest) = name.split_at(end);
    if let Some(full) = config.aliases.get(bare).filter(|full| !full.is_empty()) {
        return Ok(vec![Reference::parse(&format!("{full}{rest}"))?]);
    }
    let unclear = |why: &str| {
        let what = format!(
            "{:?} names no registry, and has no alias here, and {why}; write the registry's host before it",
            shorten(name)
        );
        Err(refuse(file, &what))
    };
    match config.search.as_deref().unwrap_or_default() {
        [] => unclear("unqualified-search-registries is empty"),
        [_, _, ..] if config.mode == Some(ShortNameMode::Enforcing) => {
            unclear("short-name-mode is enforcing, with more than one registry to search")
        }
        hosts => hosts.iter().map(|host| Reference::parse(&format!("{host}/{bare}{rest}"))).collect(),
    }
}
