//! The containers project's `registries.conf` as CRI-O reads it (containers-registries.conf(5),
//! containers-registries.conf.d(5); containers/image, pkg/sysregistriesv2): which places an image name stands for,
//! which are blocked, and what a short name means. Version 1 is taken as what it means in version 2. It contacts nobody.
//!
//! The file and its drop-ins are looked at on each pull, and read again when one of them changed. A file that
//! cannot be understood fails the pull.

mod parse;
mod short;

use crate::hosts::{read, refuse};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};
use types::reference::shorten;
use types::{Error, ErrorKind, Reference, Result};

pub(crate) use parse::Config;
pub use short::is_short;

/// The most drop-in files.
const DROP_INS_MAX: usize = 200;
/// A file that changed so recently may change again within one tick of the kernel's clock, which its times would
/// not show: it is not remembered.
const SETTLED: Duration = Duration::from_secs(1);

/// One place where an image is looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Source {
    /// Host and port.
    pub host: String,
    /// The repository there.
    pub repository: String,
    /// TLS with any certificate, and plain HTTP, will do.
    pub insecure: bool,
}

/// A `registries.conf` with the folder of its drop-ins, `registries.conf.d` beside it.
#[derive(Debug)]
pub struct RegistriesConf {
    path: PathBuf,
    known: Mutex<Option<(Vec<Stamp>, Arc<Config>)>>,
}

/// What changes when a file does.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stamp {
    path: PathBuf,
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl RegistriesConf {
    /// The file at `path`. It is read when it is needed.
    pub fn new(path: impl Into<PathBuf>) -> RegistriesConf {
        RegistriesConf { path: path.into(), known: Mutex::default() }
    }

    /// The references that a name stands for, in the order in which they are tried. A name with a host is one
    /// reference; a short name is what its alias says, or is looked for at the search registries. Blocks.
    pub fn resolve(&self, name: &str) -> Result<Vec<Reference>> {
        short::resolve(&*self.load()?, &self.path, name)
    }

    /// Where an image is fetched from, mirrors first. Blocks.
    pub(crate) fn pull_sources(&self, reference: &Reference) -> Result<Vec<Source>> {
        let config = self.load()?;
        let Some(registry) = config.find(&reference.to_string()) else {
            return Ok(vec![own(reference, false)]);
        };
        self.allowed(registry, reference)?;
        let by_digest = reference.digest().is_some();
        let mirrors = registry.mirrors.iter().filter(|mirror| mirror.when.allows(by_digest));
        let mut sources = Vec::new();
        for (location, insecure) in mirrors
            .map(|m| (m.location.as_str(), m.insecure))
            .chain([(registry.location.as_str(), registry.insecure)])
        {
            sources.push(rewrite(registry, reference, location, insecure)?);
        }
        Ok(sources)
    }

    /// Where an image is pushed to. Mirrors and other locations count for pulls only. Blocks.
    pub(crate) fn push_source(&self, reference: &Reference) -> Result<Source> {
        let config = self.load()?;
        let registry = config.find(&reference.to_string());
        registry.map_or(Ok(()), |registry| self.allowed(registry, reference))?;
        Ok(own(reference, registry.is_some_and(|r| r.insecure)))
    }

    fn allowed(&self, registry: &parse::Registry, reference: &Reference) -> Result<()> {
        if !registry.blocked {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::PermissionDenied,
            format!(
                "{reference} is blocked: {} says so for everything below {:?}; remove `blocked` there, or use another registry",
                registry.file.display(),
                shorten(&registry.prefix),
            ),
        ))
    }

    /// What the files say now.
    fn load(&self) -> Result<Arc<Config>> {
        let files = self.files()?;
        let mut stamps = Vec::with_capacity(files.len());
        for path in &files {
            let meta = std::fs::metadata(path).map_err(|cause| unreadable(path, cause))?;
            stamps.push(Stamp {
                path: path.clone(),
                device: meta.dev(),
                inode: meta.ino(),
                size: meta.size(),
                modified: (meta.mtime(), meta.mtime_nsec()),
                changed: (meta.ctime(), meta.ctime_nsec()),
            });
        }
        let mut known = self.known.lock().unwrap_or_else(|e| e.into_inner());
        if let Some((before, config)) = known.as_ref()
            && *before == stamps
        {
            return Ok(config.clone());
        }
        let mut config = Config::default();
        for path in &files {
            let text = read(path)?.ok_or_else(|| refuse(path, "it does not exist"))?;
            let text = String::from_utf8(text).map_err(|_| refuse(path, "it is not UTF-8"))?;
            config.update(parse::parse(path, &text, *path == self.path)?);
        }
        let config = Arc::new(config);
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let settled = i64::try_from(now.saturating_sub(SETTLED).as_secs()).unwrap_or(i64::MAX);
        *known = stamps.iter().all(|s| s.changed.0 < settled).then(|| (stamps, config.clone()));
        Ok(config)
    }

    /// The file and its drop-ins, `*.conf` in the order of their names.
    fn files(&self) -> Result<Vec<PathBuf>> {
        let mut name = self.path.clone().into_os_string();
        name.push(".d");
        let folder = PathBuf::from(name);
        let mut files = Vec::new();
        match std::fs::read_dir(&folder) {
            Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => {}
            Err(cause) => return Err(unreadable(&folder, cause)),
            Ok(entries) => {
                for entry in entries {
                    let path = entry.map_err(|cause| unreadable(&folder, cause))?.path();
                    if path.extension().is_some_and(|e| e == "conf") && !path.is_dir() {
                        files.push(path);
                    }
                    if files.len() > DROP_INS_MAX {
                        return Err(refuse(&folder, &format!("it holds more than {DROP_INS_MAX} files")));
                    }
                }
            }
        }
        files.sort();
        files.insert(0, self.path.clone());
        Ok(files)
    }
}

impl Source {
    /// What the reference itself says.
    pub(crate) fn of(reference: &Reference) -> Source {
        own(reference, false)
    }
}

fn own(reference: &Reference, insecure: bool) -> Source {
    Source { host: reference.host().to_owned(), repository: reference.path().to_owned(), insecure }
}

/// Where `location` has what the reference names below the registry's prefix.
fn rewrite(
    registry: &parse::Registry,
    reference: &Reference,
    location: &str,
    insecure: bool,
) -> Result<Source> {
    let text = reference.to_string();
    // A wildcard without a location changes nothing but the settings.
    let moved = match (location, registry.matches(&text)) {
        ("", _) | (_, None) => text,
        (location, Some(length)) => format!("{location}{}", &text[length..]),
    };
    let wrong = |why: &str| {
        refuse(&registry.file, &format!("{:?} as the place of {reference} {why}", shorten(&moved)))
    };
    let parsed =
        Reference::parse(&moved).map_err(|error| error.context(wrong("is no image reference").message()))?;
    if !moved.starts_with(&format!("{}/", parsed.host())) {
        return Err(wrong("does not begin with a registry's host"));
    }
    if (parsed.tag(), parsed.digest()) != (reference.tag(), reference.digest()) {
        return Err(wrong("has another tag or digest, which is not supported"));
    }
    Ok(Source { host: parsed.host().to_owned(), repository: parsed.path().to_owned(), insecure })
}

fn unreadable(path: &Path, cause: std::io::Error) -> Error {
    Error::with_source(ErrorKind::FailedPrecondition, format!("cannot read {}", path.display()), cause)
}

/// Reads a `registries.conf` for fuzzing, and asks it about a name.
#[doc(hidden)]
pub fn fuzz_registries_conf(bytes: &[u8]) -> String {
    let path = Path::new("/nonexistent/registries.conf");
    let Ok(text) = std::str::from_utf8(bytes) else { return "no text".to_owned() };
    let parsed = match parse::parse(path, text, true) {
        Ok(parsed) => parsed,
        Err(error) => return error.chain(),
    };
    let mut outcome = String::new();
    let mut config = Config::default();
    config.update(parsed);
    for name in ["nginx", "a.example/b/c:1", "docker.io/library/x"] {
        let references = short::resolve(&config, path, name);
        outcome += if references.is_ok() { " resolved" } else { " refused" };
        for reference in references.unwrap_or_default() {
            if let Some(registry) = config.find(&reference.to_string()) {
                outcome += " known";
                for mirror in &registry.mirrors {
                    let mirror = rewrite(registry, &reference, &mirror.location, mirror.insecure);
                    outcome += if mirror.is_ok() { " mirrored" } else { " no mirror" };
                }
                let _ = rewrite(registry, &reference, &registry.location, registry.insecure);
            }
        }
    }
    outcome
}

#[cfg(test)]
mod tests;
