//! Which crate may use which: arrows only point down, and what blocks stays out of the lower layers.

use super::metadata::Package;

/// Every crate with its layer; ARCHITECTURE.md explains them.
const LAYERS: &[(&str, u8)] = &[
    ("types", 0),
    ("sys", 0),
    ("cri-api", 0),
    ("store", 1),
    ("container", 1),
    ("cgroups", 1),
    ("seccomp", 1),
    ("cri-log", 1),
    ("content", 1),
    ("erofs", 1),
    ("shim-protocol", 1),
    ("layers", 2),
    ("snapshots", 2),
    ("images", 2),
    ("registry", 2),
    ("trust", 2),
    ("proxy-snapshotter", 2),
    ("network", 2),
    ("monitor", 2),
    ("spec", 2),
    ("systemd", 2),
    ("engine", 3),
    ("cri-server", 4),
    ("streaming", 4),
    ("runtime-manager", 4),
    ("corten", 5),
    ("shim", 5),
    ("oci-cli", 5),
];

/// The only arrows inside a layer, from → to.
const BESIDE: &[(&str, &str)] = &[
    ("shim-protocol", "container"),
    ("images", "snapshots"),
    ("images", "layers"),
    ("images", "registry"),
    ("images", "trust"),
    ("proxy-snapshotter", "snapshots"),
    ("proxy-snapshotter", "layers"),
    ("snapshots", "layers"),
    ("cri-server", "streaming"),
];

/// Arrows that point down and are not wanted all the same, with the reason.
const NEVER: &[(&str, &str, &str)] = &[
    ("runtime-manager", "engine", "it must work over any CRI endpoint"),
    ("streaming", "engine", "it knows streams, not pods"),
    ("cri-server", "store", "records belong to the engine"),
];

/// Crates that stand beside the layers: nothing that is released uses them.
const ASIDE: &[&str] = &["test-support", "e2e", "oci", "oci-clients", "fuzz", "xtask", "hello-web"];

/// Crates above layer 1 that must do without an async runtime.
const SYNCHRONOUS: &[&str] = &["shim", "oci-cli", "layers", "snapshots", "spec", "trust"];

fn layer(folder: &str) -> Option<u8> {
    LAYERS.iter().find(|(name, _)| *name == folder).map(|(_, layer)| *layer)
}

/// Dependencies between our crates that point up or sideways, and crates that have no layer.
pub fn arrows(packages: &[Package]) -> Vec<String> {
    let ours: Vec<_> = packages.iter().map(|package| package.folder.as_str()).collect();
    let mut found = Vec::new();
    for package in packages.iter().filter(|package| !ASIDE.contains(&package.folder.as_str())) {
        let from = package.folder.as_str();
        let Some(own) = layer(from) else {
            found.push(format!("crate {from} has no layer: add it to xtask/src/check/layers.rs"));
            continue;
        };
        for to in package.dependencies.iter().map(String::as_str).filter(|to| ours.contains(to)) {
            match layer(to) {
                None => found.push(format!("crate {from} uses {to}, which only tests and tools may use")),
                Some(other) if other > own => {
                    found.push(format!(
                        "crate {from} (layer {own}) uses {to} (layer {other}): arrows point down"
                    ));
                }
                Some(other) if other == own && !BESIDE.contains(&(from, to)) => {
                    found.push(format!("crate {from} uses {to} of its own layer {own}, which is not agreed"));
                }
                Some(_) => {}
            }
            if let Some((_, _, why)) = NEVER.iter().find(|(f, t, _)| *f == from && *t == to) {
                found.push(format!("crate {from} uses {to}: {why}"));
            }
        }
    }
    found
}

/// Crates of layers 0 and 1, and the synchronous ones above, that use tokio directly.
pub fn no_tokio(packages: &[Package]) -> Vec<String> {
    packages
        .iter()
        .filter(|package| {
            let folder = package.folder.as_str();
            layer(folder).is_some_and(|layer| layer <= 1) || SYNCHRONOUS.contains(&folder)
        })
        .flat_map(|package| {
            let names = package
                .dependencies
                .iter()
                .filter(|name| name.as_str() == "tokio" || name.starts_with("tokio-"));
            names.map(|name| format!("crate {} uses {name}, but is synchronous", package.folder))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(folder: &str, dependencies: &[&str]) -> Package {
        let dependencies = dependencies.iter().map(|name| (*name).to_owned()).collect();
        Package { folder: folder.to_owned(), dependencies }
    }

    fn broken(folder: &str, dependencies: &[&str]) -> usize {
        let mut all: Vec<_> = LAYERS.iter().map(|(name, _)| *name).chain(ASIDE.iter().copied()).collect();
        all.retain(|name| *name != folder);
        let mut packages: Vec<_> = all.into_iter().map(|name| package(name, &[])).collect();
        packages.push(package(folder, dependencies));
        arrows(&packages).len()
    }

    #[test]
    fn arrows_down_and_agreed_ones_beside_are_fine() {
        assert_eq!(broken("engine", &["images", "types", "serde"]), 0);
        assert_eq!(broken("images", &["snapshots", "layers"]), 0);
        assert_eq!(broken("xtask", &["test-support"]), 0);
    }

    #[test]
    fn arrows_up_beside_and_to_tools_are_told() {
        assert_eq!(broken("store", &["engine"]), 1);
        assert_eq!(broken("snapshots", &["images"]), 1);
        assert_eq!(broken("monitor", &["network"]), 1);
        assert_eq!(broken("engine", &["test-support"]), 1);
        assert_eq!(broken("runtime-manager", &["engine"]), 1);
        assert_eq!(arrows(&[package("utils", &[])]).len(), 1);
    }

    #[test]
    fn tokio_is_told_where_nothing_may_wait_in_it() {
        assert_eq!(no_tokio(&[package("store", &["tokio"])]).len(), 1);
        assert_eq!(no_tokio(&[package("shim", &["tokio-util"])]).len(), 1);
        assert_eq!(no_tokio(&[package("engine", &["tokio"])]).len(), 0);
    }
}
