//! Network configurations (CNI specification 1.1, section 1): what a list of plugins says, checked.
//! Options of single plugins are not looked at here; they are kept as they came.

mod folder;
mod version;

pub use folder::{Folder, Loaded};
pub use version::CniVersion;

use serde_json::{Map, Value};

/// More plugins in one list than anybody chains.
const MOST_PLUGINS: usize = 32;

/// Why a configuration cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadConf(pub String);

/// One plugin of a list.
#[derive(Debug, Clone, PartialEq)]
pub struct Plugin {
    /// Its type: the name of its binary.
    pub kind: String,
    /// Its options, as they came.
    pub options: Map<String, Value>,
}

impl Plugin {
    /// Whether it asked for a capability (section "Derived configuration").
    pub fn wants(&self, capability: &str) -> bool {
        self.options
            .get("capabilities")
            .and_then(|c| c.get(capability))
            .and_then(Value::as_bool)
            .unwrap_or(false)
    }
}

/// A list of plugins that make up one network.
#[derive(Debug, Clone, PartialEq)]
pub struct NetworkList {
    /// The network's name.
    pub name: String,
    /// Which version its plugins are spoken to in.
    pub version: CniVersion,
    /// The plugins, in order.
    pub plugins: Vec<Plugin>,
    /// The whole list as JSON, for the record of an attachment.
    pub source: Value,
}

fn refuse<T>(reason: impl Into<String>) -> Result<T, BadConf> {
    Err(BadConf(reason.into()))
}

/// Network names begin with a letter or digit and go on with letters, digits, `_`, `.` and `-`
/// (section "Network configuration format"). They become folder names.
pub fn valid_network_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    name.len() <= 200
        && bytes.next().is_some_and(|b| b.is_ascii_alphanumeric())
        && bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

/// A plugin's type names a file in a folder of plugins, and must never lead elsewhere (CVE-2021-20206).
pub fn valid_plugin_type(kind: &str) -> bool {
    crate::files::valid_name(kind) && !kind.contains('\\') && !kind.starts_with('.')
}

impl NetworkList {
    /// Reads a configuration list (`.conflist`).
    pub fn parse_list(json: &[u8]) -> Result<Self, BadConf> {
        match serde_json::from_slice(json) {
            Ok(Value::Object(list)) => Self::from_list(list),
            Ok(_) => refuse("it is not a JSON object"),
            Err(error) => refuse(format!("it is not JSON: {error}")),
        }
    }

    /// Reads the configuration of a single plugin (`.conf`, `.json`) as a list of one.
    pub fn parse_single(json: &[u8]) -> Result<Self, BadConf> {
        let Value::Object(plugin) =
            serde_json::from_slice(json).map_err(|error| BadConf(format!("it is not JSON: {error}")))?
        else {
            return refuse("it is not a JSON object");
        };
        if plugin.contains_key("plugins") {
            return refuse("it is a list of plugins; such a file has to end in .conflist");
        }
        let mut list = Map::new();
        for key in ["cniVersion", "name"] {
            if let Some(value) = plugin.get(key) {
                list.insert(key.to_owned(), value.clone());
            }
        }
        list.insert("plugins".to_owned(), Value::Array(vec![Value::Object(plugin)]));
        Self::from_list(list)
    }

    /// Checks a list.
    pub fn from_list(list: Map<String, Value>) -> Result<Self, BadConf> {
        let Some(name) = list.get("name").and_then(Value::as_str) else {
            return refuse("\"name\" is missing");
        };
        if !valid_network_name(name) {
            return refuse(format!(
                "the name {:?} may have letters, digits, '_', '.' and '-', and begins with a letter or digit",
                types::reference::shorten(name)
            ));
        }
        let version = highest_version(&list)?;
        let Some(Value::Array(entries)) = list.get("plugins") else {
            return refuse("\"plugins\" is missing");
        };
        if entries.is_empty() || entries.len() > MOST_PLUGINS {
            return refuse(format!("it has {} plugins; 1 to {MOST_PLUGINS} are expected", entries.len()));
        }
        let mut plugins = Vec::with_capacity(entries.len());
        for (index, entry) in entries.iter().enumerate() {
            let Value::Object(options) = entry else {
                return refuse(format!("plugin {index} is not a JSON object"));
            };
            let kind = options.get("type").and_then(Value::as_str).unwrap_or_default();
            let ipam = options.get("ipam").and_then(|i| i.get("type")).and_then(Value::as_str);
            for kind in [Some(kind), ipam.filter(|kind| !kind.is_empty())].into_iter().flatten() {
                if !valid_plugin_type(kind) {
                    return refuse(format!(
                        "the type {:?} of plugin {index} is not the name of a plugin; it must not be a path",
                        types::reference::shorten(kind)
                    ));
                }
            }
            plugins.push(Plugin { kind: kind.to_owned(), options: options.clone() });
        }
        Ok(Self { name: name.to_owned(), version, plugins, source: Value::Object(list) })
    }
}

/// `cniVersion`, or the highest of `cniVersions` (new in 1.1) that is spoken here.
fn highest_version(list: &Map<String, Value>) -> Result<CniVersion, BadConf> {
    let mut offered: Vec<&str> = list.get("cniVersion").and_then(Value::as_str).into_iter().collect();
    if let Some(Value::Array(more)) = list.get("cniVersions") {
        offered.extend(more.iter().take(64).filter_map(Value::as_str));
    }
    match offered.iter().filter_map(|text| CniVersion::parse(text)).max() {
        Some(version) => Ok(version),
        None if offered.is_empty() => refuse("\"cniVersion\" is missing"),
        None => refuse(format!(
            "cniVersion {:?} is not supported; 0.3.0 to 1.1.0 are",
            types::reference::shorten(offered[0])
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_the_specification_forbids_is_refused_with_its_reason() {
        for (bad, why) in [
            ("[]", "not a JSON object"),
            ("{", "not JSON"),
            ("{}", "\"name\" is missing"),
            (r#"{"name":"../x","cniVersion":"1.0.0","plugins":[{"type":"a"}]}"#, "begins with a letter"),
            (r#"{"name":"x"}"#, "\"cniVersion\" is missing"),
            (r#"{"name":"x","cniVersion":"9.0.0"}"#, "not supported"),
            (r#"{"name":"x","cniVersion":"1.0.0"}"#, "\"plugins\" is missing"),
            (r#"{"name":"x","cniVersion":"1.0.0","plugins":[]}"#, "0 plugins"),
            (r#"{"name":"x","cniVersion":"1.0.0","plugins":[1]}"#, "not a JSON object"),
            (r#"{"name":"x","cniVersion":"1.0.0","plugins":[{}]}"#, "not the name of a plugin"),
            (
                r#"{"name":"x","cniVersion":"1.0.0","plugins":[{"type":"../../bin/sh"}]}"#,
                "must not be a path",
            ),
            (
                r#"{"name":"x","cniVersion":"1.0.0","plugins":[{"type":"a","ipam":{"type":"/bin/sh"}}]}"#,
                "must not be a path",
            ),
        ] {
            let error = NetworkList::parse_list(bad.as_bytes()).expect_err(bad);
            assert!(error.0.contains(why), "{bad}: {error}");
        }
        let error = NetworkList::parse_single(br#"{"name":"x","cniVersion":"1.0.0","plugins":[]}"#);
        assert!(error.expect_err("a list").0.contains(".conflist"));
    }

    #[test]
    fn a_single_plugin_becomes_a_list_of_one() {
        let list = NetworkList::parse_single(br#"{"name":"n","cniVersion":"0.4.0","type":"bridge","mtu":9}"#);
        let list = list.expect("valid");
        assert_eq!(
            (list.name.as_str(), list.version, list.plugins[0].kind.as_str()),
            ("n", CniVersion::V0_4_0, "bridge")
        );
        let versions = br#"{"name":"n","cniVersion":"0.4.0","cniVersions":["0.4.0","1.1.0","7.0.0"],"plugins":[{"type":"a"}]}"#;
        assert_eq!(NetworkList::parse_list(versions).expect("valid").version, CniVersion::V1_1_0);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = NetworkList::parse_list(&bytes);
            let _ = NetworkList::parse_single(&bytes);
        }
    }
}
