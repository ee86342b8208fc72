//! `cargo xtask check`: the rules of the house as tests. Each rule is one function that takes what it
//! looks at and returns sentences; it has its own test with a thing that breaks it.

mod documents;
mod layers;
mod lock;
mod metadata;
mod sources;

use std::path::Path;

/// The command.
pub fn command(arguments: &[&str]) -> Result<(), String> {
    crate::no_arguments(arguments)?;
    all()
}

/// Runs every rule and fails with the list of what breaks one.
pub fn all() -> Result<(), String> {
    let root = crate::workspace();
    let packages = metadata::packages()?;
    let files = sources::files(root)?;
    let mut found = Vec::new();
    found.extend(layers::arrows(&packages));
    found.extend(layers::no_tokio(&packages));
    found.extend(lock::banned(&read(&root.join("Cargo.lock"))?));
    for file in &files {
        found.extend(sources::opening(file));
        found.extend(sources::length(file));
        found.extend(sources::unfinished(file));
        found.extend(sources::unsafe_code(file));
    }
    let architecture = root.join("ARCHITECTURE.md");
    if architecture.is_file() {
        let names: Vec<_> = packages.iter().map(|package| package.folder.as_str()).collect();
        found.extend(documents::named_paths(&read(&architecture)?, root));
        found.extend(documents::named_crates(&read(&architecture)?, &names));
    }
    if found.is_empty() {
        println!("{} files and {} crates keep the rules", files.len(), packages.len());
        Ok(())
    } else {
        Err(format!("{} rules are broken:\n  {}", found.len(), found.join("\n  ")))
    }
}

fn read(path: &Path) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|said| format!("cannot read {}: {said}", path.display()))
}
