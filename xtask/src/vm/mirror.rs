//! The Debian mirror of this machine, as apt's configuration names it. No host name is written down here.

use crate::steps::read;
use std::path::Path;
use std::process::Command;

/// Suites by which Debian's own archive is known; other archives (security, vendors) have other names.
const SUITES: &[&str] = &["bookworm", "trixie", "forky", "sid", "stable", "testing", "unstable", "oldstable"];

/// The first mirror of Debian's archive, or what `CORTEN_VM_MIRROR` says.
pub fn configured() -> Option<String> {
    if let Ok(said) = std::env::var("CORTEN_VM_MIRROR") {
        return Some(said);
    }
    let mut files: Vec<_> = std::fs::read_dir("/etc/apt/sources.list.d")
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .collect();
    files.sort();
    files.push("/etc/apt/sources.list".into());
    files.iter().find_map(|file| {
        let text = std::fs::read_to_string(file).ok()?;
        let stanzas = file.extension() == Some(std::ffi::OsStr::new("sources"));
        if stanzas { from_stanzas(&text) } else { from_lines(&text) }
    })
}

/// The proxy that apt is told to use: debootstrap does not read apt's configuration, but the environment.
pub fn proxy() -> Option<String> {
    let program = Path::new("/usr/bin/apt-config");
    let said = read(Command::new(program).args(["shell", "PROXY", "Acquire::http::Proxy"])).ok()?;
    let value = said.trim().strip_prefix("PROXY=")?.trim_matches('\'');
    (!value.is_empty() && value != "DIRECT").then(|| value.to_owned())
}

/// One-line entries (sources.list(5)): `deb [options] URI SUITE COMPONENT...`.
fn from_lines(text: &str) -> Option<String> {
    text.lines().find_map(|line| {
        let rest = line.trim().strip_prefix("deb ")?.trim_start();
        let rest = if rest.starts_with('[') { rest.split_once(']')?.1 } else { rest };
        let mut words = rest.split_whitespace();
        wanted(words.next()?, words.next()?, words)
    })
}

/// Stanzas of fields (sources.list(5), "DEB822-STYLE FORMAT").
fn from_stanzas(text: &str) -> Option<String> {
    text.split("\n\n").find_map(|stanza| {
        let field = |name: &str| {
            stanza.lines().find_map(|line| {
                let (key, value) = line.split_once(':')?;
                key.eq_ignore_ascii_case(name).then(|| value.trim())
            })
        };
        if field("Enabled").is_some_and(|value| value.eq_ignore_ascii_case("no")) {
            return None;
        }
        field("Types")?.split_whitespace().find(|kind| *kind == "deb")?;
        let suites = field("Suites")?.split_whitespace();
        let uri = field("URIs")?.split_whitespace().next()?;
        suites.into_iter().find_map(|suite| wanted(uri, suite, field("Components")?.split_whitespace()))
    })
}

fn wanted<'a>(uri: &str, suite: &str, mut components: impl Iterator<Item = &'a str>) -> Option<String> {
    let fetched = uri.starts_with("http://") || uri.starts_with("https://") || uri.starts_with("file:");
    let ours = fetched && SUITES.contains(&suite) && components.any(|component| component == "main");
    ours.then(|| uri.trim_end_matches('/').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_archive_is_found_among_others_in_both_forms() {
        let text = "# deb http://old.test/debian bookworm main\n\
            deb https://vendor.test/apt tool-bookworm main\n\
            deb http://mirror.test/debian-security bookworm-security main\n\
            deb [signed-by=/k arch=amd64] http://mirror.test/debian/ bookworm main contrib\n";
        assert_eq!(from_lines(text).as_deref(), Some("http://mirror.test/debian"));
        let text = "Types: deb\nURIs: http://mirror.test/security\nSuites: bookworm-security\nComponents: main\n\n\
            # a comment\nTypes: deb deb-src\nURIs: http://mirror.test/debian http://b.test\n\
            Suites: bookworm bookworm-updates\nComponents: main\n";
        assert_eq!(from_stanzas(text).as_deref(), Some("http://mirror.test/debian"));
    }

    #[test]
    fn what_is_off_or_not_debian_is_passed_over() {
        assert_eq!(
            from_lines("deb cdrom:[disc]/ bookworm main\ndeb http://a.test/ubuntu noble main\n"),
            None
        );
        let off = "Enabled: no\nTypes: deb\nURIs: http://a.test/debian\nSuites: bookworm\nComponents: main\n";
        assert_eq!(from_stanzas(off), None);
    }
}
