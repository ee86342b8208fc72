//! The keys that a configuration may hold, and where they stand in a file. No values.

use std::ops::Range;
use toml::de::{DeTable, DeValue};

/// A key, or a section with its keys.
pub(super) struct Key(pub &'static str, pub &'static [Key]);

/// Every key.
pub(super) const KEYS: &[Key] = &[
    Key("root", &[]),
    Key("state", &[]),
    Key("grpc", &[Key("address", &[])]),
    Key(
        "network",
        &[
            Key("conf_dir", &[]),
            Key("bin_dirs", &[]),
            Key("builtin_plugins", &[]),
            Key("default_network", &[]),
            Key("subnet", &[]),
        ],
    ),
    Key(
        "images",
        &[
            Key("pinned", &[]),
            Key("discard_unpacked", &[]),
            Key("min_free", &[]),
            Key("max_layer_bytes", &[]),
            Key("max_image_bytes", &[]),
            Key("max_layer_ratio", &[]),
            Key("policy", &[]),
            Key("decryption_keys", &[]),
        ],
    ),
    Key(
        "registry",
        &[
            Key("config_path", &[]),
            Key("registries_conf", &[]),
            Key("max_concurrent_downloads", &[]),
            Key("progress_timeout", &[]),
        ],
    ),
    Key("streaming", &[Key("address", &[])]),
    Key("cgroups", &[Key("driver", &[])]),
    Key(
        "snapshots",
        &[
            Key("snapshotter", &[]),
            Key("writable_quota", &[]),
            Key("proxy", &[Key("address", &[]), Key("snapshotter", &[])]),
            Key("devmapper", &[Key("pool", &[]), Key("base_size", &[])]),
            Key("zfs", &[Key("dataset", &[])]),
        ],
    ),
    Key("runtimes", &[Key("native", &[Key("shim", &[])])]),
    Key("log", &[Key("level", &[]), Key("format", &[])]),
];

/// A key that is not in the table.
pub(super) struct Unknown {
    pub span: Range<usize>,
    pub reason: String,
}

/// Refuses the first unknown key.
pub(super) fn check(table: &DeTable<'_>) -> Result<(), Unknown> {
    walk(table, KEYS, "")
}

fn walk(table: &DeTable<'_>, keys: &[Key], above: &str) -> Result<(), Unknown> {
    for (name, value) in table {
        let text: &str = name.get_ref();
        let path = if above.is_empty() { text.to_owned() } else { format!("{above}.{text}") };
        let Some(Key(_, inner)) = keys.iter().find(|key| key.0 == text) else {
            return Err(Unknown { span: name.span(), reason: reason(&path, text, keys, above) });
        };
        if let DeValue::Table(table) = value.get_ref()
            && !inner.is_empty()
        {
            walk(table, inner, &path)?;
        }
    }
    Ok(())
}

fn reason(path: &str, name: &str, keys: &[Key], above: &str) -> String {
    let join = |name: &str| if above.is_empty() { name.to_owned() } else { format!("{above}.{name}") };
    let near = keys
        .iter()
        .map(|key| (strsim::damerau_levenshtein(&name.to_lowercase(), key.0), key.0))
        .min()
        .filter(|(distance, _)| *distance <= 2.max(name.len() / 3))
        .map(|(_, near)| join(near));
    // The right key under the wrong section is the other common mistake.
    match near.or_else(|| elsewhere(KEYS, name, "")) {
        Some(near) => format!("unknown key {path}; did you mean {near}?"),
        None => {
            let known: Vec<String> = keys.iter().map(|key| join(key.0)).collect();
            format!("unknown key {path}; known here: {}", known.join(", "))
        }
    }
}

fn elsewhere(keys: &[Key], name: &str, above: &str) -> Option<String> {
    keys.iter().find_map(|key| {
        let path = if above.is_empty() { key.0.to_owned() } else { format!("{above}.{}", key.0) };
        if key.0 == name { Some(path) } else { elsewhere(key.1, name, &path) }
    })
}

/// Where a key's value stands, for the line of an error.
pub(super) fn find(table: &DeTable<'_>, path: &str) -> Option<Range<usize>> {
    let (first, rest) = path.split_once('.').map_or((path, None), |(first, rest)| (first, Some(rest)));
    let (name, value) = table.iter().find(|(name, _)| name.get_ref() == first)?;
    match (rest, value.get_ref()) {
        (Some(rest), DeValue::Table(inner)) => find(inner, rest),
        _ => Some(name.span()),
    }
}
