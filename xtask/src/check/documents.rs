//! ARCHITECTURE.md names only what exists: paths in backticks, and crates in its layer table.

use std::path::Path;

/// Folders that a path of this repository begins with.
const ROOTS: &[&str] =
    &["crates/", "xtask/", "examples/", "tests/", "packaging/", "docs/", ".ci/", ".config/"];

/// Paths that do not exist. A path may end in `…`, `*` or `<…>`: what is before it counts.
pub fn named_paths(text: &str, root: &Path) -> Vec<String> {
    spans(text)
        .filter(|span| ROOTS.iter().any(|start| span.starts_with(start)))
        .filter_map(|span| {
            let fixed = span.split(['*', '<', '…', '{', ':', ' ']).next().unwrap_or_default();
            let shown = fixed.trim_end_matches('/');
            let path = if shown.len() == span.trim_end_matches('/').len() {
                root.join(shown)
            } else {
                root.join(fixed.rsplit_once('/').map_or("", |(parent, _)| parent))
            };
            (!path.exists()).then(|| format!("ARCHITECTURE.md names {span}, which does not exist"))
        })
        .collect()
}

/// Rows of the layer table (`| … | `crate` | … |`) whose crate does not exist, and crates that no row names.
pub fn named_crates(text: &str, folders: &[&str]) -> Vec<String> {
    let rows = text.lines().filter(|line| line.starts_with('|')).filter_map(|line| line.split('|').nth(2));
    let named: Vec<_> = rows.flat_map(spans).collect();
    if named.is_empty() {
        return vec!["ARCHITECTURE.md has no table whose second column names the crates".to_owned()];
    }
    let gone = named.iter().filter(|name| !folders.contains(name) && !name.contains([' ', '/']));
    let gone = gone.map(|name| format!("ARCHITECTURE.md has a crate {name}, which does not exist"));
    let silent =
        folders.iter().filter(|name| !named.contains(name) && !matches!(**name, "hello-web" | "e2e"));
    gone.chain(silent.map(|name| format!("ARCHITECTURE.md does not name the crate {name}"))).collect()
}

/// What stands between single backticks, outside of fenced blocks.
fn spans(text: &str) -> impl Iterator<Item = &str> {
    let mut fenced = false;
    text.lines()
        .filter(move |line| {
            let fence = line.trim_start().starts_with("```");
            fenced ^= fence;
            !fenced && !fence
        })
        .flat_map(|line| line.split('`').skip(1).step_by(2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_are_gone_are_told() {
        let text = "See `crates/here/src/lib.rs`, `crates/here/src/*.rs`, `crates/gone/src/a.rs` and `/run/corten`.\n```\n`crates/x`\n```\n";
        let dir = tempfile_dir();
        std::fs::create_dir_all(dir.join("crates/here/src")).expect("a folder");
        std::fs::write(dir.join("crates/here/src/lib.rs"), "").expect("a file");
        let found = named_paths(text, &dir);
        std::fs::remove_dir_all(&dir).expect("removed");
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].contains("crates/gone"));
    }

    #[test]
    fn crates_of_the_table_and_of_the_disk_are_the_same() {
        let text = "| layer | crate | job |\n|---|---|---|\n| 3 | `engine` | x `y` |\n| 2 | `gone` | z |\n";
        let found = named_crates(text, &["engine", "store"]);
        assert_eq!(found.len(), 2, "{found:?}");
        assert_eq!(named_crates("no table", &["engine"]).len(), 1);
    }

    fn tempfile_dir() -> std::path::PathBuf {
        let dir = std::env::temp_dir().join(format!("xtask-documents-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("a folder");
        dir
    }
}
