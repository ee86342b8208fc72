//! One `registries.conf`: text to settings, checked as containers/image checks them; and how a drop-in changes
//! what was read before it. Pure.

use crate::hosts::refuse;
use serde::Deserialize;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use types::reference::shorten;
use types::{Reference, Result};

/// The most tables of one file.
const REGISTRIES_MAX: usize = 10_000;
/// The most mirrors of one table.
const MIRRORS_MAX: usize = 32;

/// What one or more files say.
#[derive(Debug, Clone, Default)]
pub(crate) struct Config {
    /// By prefix.
    registries: BTreeMap<String, Registry>,
    /// Where short names are looked for; `None` where no file says.
    pub search: Option<Vec<String>>,
    pub mode: Option<ShortNameMode>,
    /// Short name to full name; an empty one takes an alias of an earlier file away.
    pub aliases: BTreeMap<String, String>,
}

/// How a short name without an alias is treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ShortNameMode {
    /// It must be clear: one search registry.
    Enforcing,
    /// All search registries are tried. Asking the user is for programs that have one.
    Permissive,
    /// The same.
    Disabled,
}

/// A `[[registry]]`.
#[derive(Debug, Clone)]
pub(crate) struct Registry {
    /// Host, or host and path, or `*.domain`.
    pub prefix: String,
    /// Where what is below the prefix lies; empty for a wildcard that moves nothing.
    pub location: String,
    pub insecure: bool,
    pub blocked: bool,
    pub mirrors: Vec<Mirror>,
    /// Which file says so.
    pub file: PathBuf,
}

/// A `[[registry.mirror]]`.
#[derive(Debug, Clone)]
pub(crate) struct Mirror {
    pub location: String,
    pub insecure: bool,
    pub when: When,
}

/// For which references a mirror is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum When {
    Always,
    ByDigest,
    ByTag,
}

impl When {
    pub(crate) fn allows(self, by_digest: bool) -> bool {
        match self {
            When::Always => true,
            When::ByDigest => by_digest,
            When::ByTag => !by_digest,
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct RawFile {
    registry: Option<Vec<RawRegistry>>,
    unqualified_search_registries: Option<Vec<String>>,
    #[serde(default)]
    short_name_mode: String,
    aliases: Option<BTreeMap<String, String>>,
    /// Of version 2, and of no meaning here: it counts only as a sign of that version.
    credential_helpers: Option<Vec<String>>,
    registries: Option<RawFirst>,
}

/// The form of version 1 (containers-registries.conf(5) before 2020): three lists and nothing else.
#[derive(Deserialize)]
struct RawFirst {
    #[serde(default)]
    search: RawList,
    #[serde(default)]
    insecure: RawList,
    #[serde(default)]
    block: RawList,
}

#[derive(Default, Deserialize)]
struct RawList {
    registries: Option<Vec<String>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct RawRegistry {
    #[serde(default)]
    prefix: String,
    #[serde(default)]
    location: String,
    #[serde(default)]
    insecure: bool,
    #[serde(default)]
    blocked: bool,
    #[serde(default)]
    mirror_by_digest_only: bool,
    #[serde(default)]
    pull_from_mirror: String,
    #[serde(default)]
    mirror: Vec<RawMirror>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct RawMirror {
    #[serde(default)]
    location: String,
    #[serde(default)]
    insecure: bool,
    #[serde(default)]
    pull_from_mirror: String,
}

impl Registry {
    /// How many bytes of a reference the prefix covers, where it does. A prefix ends where the reference does, or
    /// before `/`, `:` or `@`; like containers/image this takes a port for a tag. A prefix with a tag counts as
    /// the manual says; containers/image looks tables up by the bare name, and so passes it over.
    pub(crate) fn matches(&self, reference: &str) -> Option<usize> {
        let end = match self.prefix.strip_prefix('*') {
            Some(domain) => {
                let host = reference.split('/').next()?.split(':').next()?;
                (host.len() > domain.len() && host.ends_with(domain)).then_some(host.len())?
            }
            None => reference.starts_with(&self.prefix).then_some(self.prefix.len())?,
        };
        matches!(reference.as_bytes().get(end), None | Some(b':' | b'/' | b'@')).then_some(end)
    }
}

impl Config {
    /// The table with the longest prefix of a reference.
    pub(crate) fn find(&self, reference: &str) -> Option<&Registry> {
        let fitting = self.registries.values().filter(|registry| registry.matches(reference).is_some());
        fitting.max_by_key(|registry| registry.prefix.len())
    }

    /// Puts a later file's settings over these: a table replaces the one with the same prefix, lists replace
    /// lists, and aliases are added (containers-registries.conf.d(5)).
    pub(crate) fn update(&mut self, later: Config) {
        self.registries.extend(later.registries);
        self.search = later.search.or(self.search.take());
        self.mode = later.mode.or(self.mode);
        self.aliases.extend(later.aliases);
    }
}

impl RawFirst {
    /// Whether it says anything. Empty lists, of either version, count as missing: so has Debian's skopeo 1.9 it.
    fn is_used(&self) -> bool {
        [&self.search, &self.insecure, &self.block]
            .iter()
            .any(|list| list.registries.as_ref().is_some_and(|all| !all.is_empty()))
    }

    /// The same as tables of version 2: one for each registry that is blocked or insecure.
    fn tables(&self) -> Vec<RawRegistry> {
        let mut tables: Vec<RawRegistry> = Vec::new();
        let lists = [(&self.block, true), (&self.insecure, false)];
        for (list, block) in lists {
            for location in list.registries.iter().flatten() {
                let location = location.trim_end_matches('/');
                let at = tables.iter().position(|table| table.location == location).unwrap_or_else(|| {
                    tables.push(RawRegistry { location: location.to_owned(), ..RawRegistry::default() });
                    tables.len() - 1
                });
                *(if block { &mut tables[at].blocked } else { &mut tables[at].insecure }) = true;
            }
        }
        tables
    }
}

impl RawFile {
    /// Takes what is written in the form of version 1 as what it means in version 2, as containers/image does
    /// (pkg/sysregistriesv2, `loadConfigFile` and `ConvertToV2`): in the main file only, and not beside version 2.
    fn in_version_2(mut self, file: &Path, main: bool) -> Result<RawFile> {
        let Some(first) = self.registries.take().filter(RawFirst::is_used) else { return Ok(self) };
        if !main {
            let why = "[registries.…] is the form of version 1, which a drop-in cannot have; write it as [[registry]] tables";
            return Err(refuse(file, why));
        }
        let listed = |list: &Option<Vec<String>>| list.as_ref().is_some_and(|all| !all.is_empty());
        let second = self.registry.as_ref().is_some_and(|all| !all.is_empty())
            || listed(&self.unqualified_search_registries)
            || self.aliases.as_ref().is_some_and(|all| !all.is_empty())
            || listed(&self.credential_helpers)
            || !self.short_name_mode.is_empty();
        if second {
            let why = "it mixes the forms of version 1 ([registries.…]) and version 2; write all of it in version 2";
            return Err(refuse(file, why));
        }
        let lists = [&first.block, &first.insecure];
        if lists.iter().any(|list| list.registries.as_ref().is_some_and(|all| all.len() > REGISTRIES_MAX)) {
            return Err(refuse(file, &format!("it holds more than {REGISTRIES_MAX} registries")));
        }
        self.registry = Some(first.tables());
        self.unqualified_search_registries = first.search.registries;
        Ok(self)
    }
}

/// Reads one file: the main one, or a drop-in.
pub(crate) fn parse(file: &Path, text: &str, main: bool) -> Result<Config> {
    let raw: RawFile = toml::from_str(text).map_err(|cause| {
        let start = cause.span().map_or(0, |span| span.start.min(text.len()));
        let line = text.as_bytes()[..start].iter().filter(|b| **b == b'\n').count() + 1;
        refuse(file, &format!("line {line}: {}", cause.message()))
    })?;
    let raw = raw.in_version_2(file, main)?;
    let (tables, aliases) = (raw.registry.unwrap_or_default(), raw.aliases.unwrap_or_default());
    if tables.len() > REGISTRIES_MAX {
        return Err(refuse(file, &format!("it holds more than {REGISTRIES_MAX} registries")));
    }
    let mode = match raw.short_name_mode.as_str() {
        "" => None,
        "enforcing" => Some(ShortNameMode::Enforcing),
        "permissive" => Some(ShortNameMode::Permissive),
        "disabled" => Some(ShortNameMode::Disabled),
        other => {
            let why =
                format!("short-name-mode {:?} is not one of enforcing, permissive, disabled", shorten(other));
            return Err(refuse(file, &why));
        }
    };
    let search = match raw.unqualified_search_registries {
        Some(all) => Some(all.iter().map(|host| search_host(file, host)).collect::<Result<_>>()?),
        None => None,
    };
    for (name, value) in &aliases {
        alias(file, name, value)?;
    }
    let mut config = Config { registries: BTreeMap::new(), search, mode, aliases };
    // One place under several prefixes is the same place.
    let mut places: HashMap<String, (bool, bool)> = HashMap::new();
    for raw in tables {
        let registry = registry(file, raw)?;
        let place = if registry.location.is_empty() { &registry.prefix } else { &registry.location };
        let settings = (registry.insecure, registry.blocked);
        if *places.entry(place.clone()).or_insert(settings) != settings {
            let why = format!("{:?} is there twice with different `insecure` or `blocked`", shorten(place));
            return Err(refuse(file, &why));
        }
        // The first of the same prefix counts.
        config.registries.entry(registry.prefix.clone()).or_insert(registry);
    }
    Ok(config)
}

fn registry(file: &Path, raw: RawRegistry) -> Result<Registry> {
    let location = place(file, &raw.location)?;
    let prefix = match place(file, &raw.prefix)? {
        prefix if prefix.is_empty() => location.clone(),
        prefix => prefix,
    };
    let wrong = |why: &str| refuse(file, &format!("the registry {:?} {why}", shorten(&prefix)));
    if prefix.is_empty() {
        return Err(refuse(file, "a [[registry]] has neither prefix nor location"));
    }
    match prefix.strip_prefix("*.") {
        None if location.is_empty() => return Err(wrong("has no location")),
        Some(domain) if domain.is_empty() || domain.contains(['*', '/', ':', '@']) => {
            return Err(wrong("is a wildcard of something else than a domain"));
        }
        None if prefix.contains('*') => {
            return Err(wrong("has a wildcard that is not `*.` at its beginning"));
        }
        _ => {}
    }
    if !raw.pull_from_mirror.is_empty() {
        return Err(wrong("has pull-from-mirror, which belongs to a mirror"));
    }
    if raw.mirror.len() > MIRRORS_MAX {
        return Err(wrong(&format!("has more than {MIRRORS_MAX} mirrors")));
    }
    let mut mirrors = Vec::new();
    for mirror in raw.mirror {
        let location = place(file, &mirror.location)?;
        if location.is_empty() {
            return Err(wrong("has a mirror without a location"));
        }
        let when = match (raw.mirror_by_digest_only, mirror.pull_from_mirror.as_str()) {
            (true, "") => When::ByDigest,
            (true, _) => {
                return Err(wrong(
                    "has mirror-by-digest-only and a mirror with pull-from-mirror; one of them",
                ));
            }
            (false, "" | "all") => When::Always,
            (false, "digest-only") => When::ByDigest,
            (false, "tag-only") => When::ByTag,
            (false, _) => return Err(wrong("has a pull-from-mirror other than all, digest-only, tag-only")),
        };
        mirrors.push(Mirror { location, insecure: mirror.insecure, when });
    }
    let (insecure, blocked, file) = (raw.insecure, raw.blocked, file.to_owned());
    Ok(Registry { prefix, location, insecure, blocked, mirrors, file })
}

/// A prefix or location, without slashes at its end.
fn place(file: &Path, text: &str) -> Result<String> {
    if text.starts_with("http://") || text.starts_with("https://") {
        let why = format!(
            "{:?} has a scheme; write host and path alone, and `insecure = true` for http",
            shorten(text)
        );
        return Err(refuse(file, &why));
    }
    Ok(text.trim_end_matches('/').to_owned())
}

fn search_host(file: &Path, host: &str) -> Result<String> {
    let host = place(file, host)?;
    match Reference::parse(&format!("{host}/x")) {
        Ok(reference) if reference.host() == host || host == "index.docker.io" => Ok(host),
        // A bare word is a host here, where the position says so; in a reference it would be a folder.
        Ok(_) if !host.contains('/') => Ok(host),
        _ => Err(refuse(
            file,
            &format!("{:?} in unqualified-search-registries is no registry", shorten(&host)),
        )),
    }
}

/// An alias leads from a name without host to one with, both without tag and digest.
fn alias(file: &Path, name: &str, value: &str) -> Result<()> {
    let wrong = |what: &str| refuse(file, &format!("the alias {:?} {what}", shorten(name)));
    let plain =
        |text: &str| !text.contains('@') && !text.rsplit('/').next().unwrap_or_default().contains(':');
    if !plain(name) || !super::short::is_short(name) || Reference::parse(name).is_err() {
        return Err(wrong("is no short name without tag and digest"));
    }
    if !value.is_empty()
        && (!plain(value) || super::short::is_short(value) || Reference::parse(value).is_err())
    {
        return Err(wrong("leads to something else than a full name without tag and digest"));
    }
    Ok(())
}
