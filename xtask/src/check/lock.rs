//! Crates that must not be in `Cargo.lock`, each with its reason. deny.toml says the same to cargo-deny.

/// Name and reason.
const BANNED: &[(&str, &str)] = &[
    ("openssl", "TLS is rustls with ring"),
    ("openssl-sys", "TLS is rustls with ring"),
    ("native-tls", "TLS is rustls with ring"),
    ("serde_yaml", "it is not maintained; YAML is serde-saphyr"),
    ("tokio-tar", "it is not maintained and has an open hole; archives are read by crates/layers"),
    ("astral-tokio-tar", "archives are read by crates/layers"),
    ("rustables", "its licence is GPL"),
    ("libcontainer", "the runtime is ours; it may judge ours in tests, as a program"),
    ("cgroups-rs", "cgroups are ours; it may judge ours in tests, as a program"),
];

/// The first version of `tar` whose links cannot leave the target.
const TAR: [u64; 3] = [0, 4, 46];

/// Banned crates, and versions of tar that are too old.
pub fn banned(lock: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (name, version) in packages(lock) {
        if let Some((_, why)) = BANNED.iter().find(|(banned, _)| *banned == name) {
            found.push(format!("Cargo.lock has {name} {version}: {why}"));
        }
        if name == "tar" && numbers(version) < TAR.to_vec() {
            found.push(format!("Cargo.lock has tar {version}: before 0.4.46 links could leave the target"));
        }
    }
    found
}

/// `name = "…"` is followed by `version = "…"` in each `[[package]]`.
fn packages(lock: &str) -> impl Iterator<Item = (&str, &str)> {
    let value =
        |line: &'static str| move |text| -> Option<&str> { str::strip_prefix(text, line)?.strip_suffix('"') };
    let (name, version) = (value("name = \""), value("version = \""));
    lock.lines().zip(lock.lines().skip(1)).filter_map(move |(one, two)| Some((name(one)?, version(two)?)))
}

fn numbers(version: &str) -> Vec<u64> {
    version.split(['.', '-', '+']).take(3).map(|part| part.parse().unwrap_or(0)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn banned_crates_and_an_old_tar_are_told() {
        let lock = "[[package]]\nname = \"openssl\"\nversion = \"0.10.1\"\n\n[[package]]\nname = \"tar\"\nversion = \"0.4.45\"\n";
        assert_eq!(banned(lock).len(), 2);
        let lock = "[[package]]\nname = \"tar\"\nversion = \"0.4.46\"\n\n[[package]]\nname = \"openssl-probe\"\nversion = \"0.1.0\"\n";
        assert_eq!(banned(lock), Vec::<String>::new());
    }
}
