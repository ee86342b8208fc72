//! Network namespaces that something holds: a process, or a mount that pins one.
//!
//! One that only an open descriptor holds is not seen; the process with the descriptor is.

use super::mounts;
use crate::{Result, Tried};
use std::collections::BTreeSet;

/// The inodes of all of them, as `net:[4026531840]`.
pub fn network() -> Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir("/proc").tried("read /proc")?.flatten() {
        if entry.file_name().to_string_lossy().bytes().all(|byte| byte.is_ascii_digit()) {
            // A process that ends meanwhile, or a zombie, has none.
            if let Ok(link) = std::fs::read_link(entry.path().join("ns/net")) {
                found.insert(link.display().to_string());
            }
        }
    }
    found.extend(
        mounts::all()?.into_iter().filter(|m| m.kind == "nsfs" && m.root.starts_with("net:")).map(|m| m.root),
    );
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_namespace_is_among_them() {
        let own = std::fs::read_link("/proc/self/ns/net").expect("a link").display().to_string();
        assert!(network().expect("a list").contains(&own));
    }
}
