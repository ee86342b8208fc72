//! The crates of the workspace and what each depends on, as cargo tells.

use crate::steps::{cargo, read};
use serde_json::Value;

/// One crate of the workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Package {
    /// The folder's name: `engine` for `crates/engine`.
    pub folder: String,
    /// Direct dependencies without those of tests; ours by their folder, others by their package name.
    pub dependencies: Vec<String>,
}

/// All of them.
pub fn packages() -> Result<Vec<Package>, String> {
    let text = read(&mut cargo(&["metadata", "--no-deps", "--format-version=1"]))?;
    parse(&text).ok_or_else(|| "cargo metadata is not as expected".to_owned())
}

fn parse(text: &str) -> Option<Vec<Package>> {
    let value: Value = serde_json::from_str(text).ok()?;
    value["packages"].as_array()?.iter().map(package).collect()
}

fn package(value: &Value) -> Option<Package> {
    let dependencies = value["dependencies"]
        .as_array()?
        .iter()
        .filter(|dependency| dependency["kind"].as_str() != Some("dev"))
        .filter_map(|dependency| match dependency["path"].as_str() {
            Some(path) => path.rsplit('/').next().map(str::to_owned),
            None => dependency["name"].as_str().map(str::to_owned),
        })
        .collect();
    let folder = value["manifest_path"].as_str()?.rsplit('/').nth(1)?.to_owned();
    Some(Package { folder, dependencies })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_of_tests_do_not_count_and_ours_are_named_by_folder() {
        let text = r#"{"packages":[{"manifest_path":"/w/crates/engine/Cargo.toml","dependencies":[
            {"name":"corten-types","path":"/w/crates/types","kind":null},
            {"name":"tokio","kind":null},{"name":"tempfile","kind":"dev"}]}]}"#;
        let expected = Package {
            folder: "engine".to_owned(),
            dependencies: vec!["types".to_owned(), "tokio".to_owned()],
        };
        assert_eq!(parse(text), Some(vec![expected]));
    }

    #[test]
    fn this_workspace_is_read() {
        let packages = packages().expect("metadata");
        assert!(packages.iter().any(|package| package.folder == "xtask"));
    }
}
