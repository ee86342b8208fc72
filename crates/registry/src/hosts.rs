//! Where a registry's content is fetched from: containerd's `hosts.toml`, one folder for each registry
//! (containerd docs, "hosts.md"), and the defaults where there is none. It reads files and contacts nobody.
//!
//! Differences from containerd, all on the careful side: a file that cannot be understood fails the pull
//! and is not ignored; credentials of a pull go to the image's own registry, not to mirrors (a mirror's
//! own credentials belong in its `header`).

use http::{HeaderName, HeaderValue, Uri, uri::Authority};
use std::path::{Path, PathBuf};
use std::time::Duration;
use toml::de::{DeTable, DeValue};
use types::{Error, ErrorKind, Result};

/// The largest configuration or certificate file that is read, in bytes.
const FILE_MAX: u64 = 1 << 20;

/// The most mirrors of one registry.
const MIRRORS_MAX: usize = 32;

/// How a connection to one host is secured.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct Tls {
    /// PEM files that are trusted beside the system's.
    pub ca: Vec<Vec<u8>>,
    /// Client certificate and key, PEM.
    pub client: Option<(Vec<u8>, Vec<u8>)>,
    /// Trust whoever answers.
    pub skip_verify: bool,
}

/// One place to fetch from.
#[derive(Debug, Clone)]
pub(crate) struct Endpoint {
    /// `http` or `https`.
    pub https: bool,
    /// Host and port.
    pub authority: Authority,
    /// What comes before `/<repository>/manifests/…`: `/v2`, or what `override_path` says.
    pub prefix: String,
    /// May give content by digest.
    pub pull: bool,
    /// May say what a tag means.
    pub resolve: bool,
    /// How the connection is secured.
    pub tls: Tls,
    /// `tls.skip_verify` is nobody's word, but the default for this machine. It holds nowhere else.
    pub skip_implied: bool,
    /// Sent with every request to this host, and to no other.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// How long a connection may take to open.
    pub dial_timeout: Option<Duration>,
    /// Whether this is the image's own registry, for which the pull's credentials are.
    pub origin: bool,
}

impl Endpoint {
    /// `scheme://host:port`.
    pub(crate) fn base(&self) -> String {
        format!("{}://{}", if self.https { "https" } else { "http" }, self.authority)
    }
}

/// The endpoints for a reference's host, in the order in which they are tried.
///
/// With `config_path`, `<config_path>/<host>/hosts.toml` counts, else `<config_path>/_default/hosts.toml`.
pub(crate) fn endpoints(config_path: Option<&Path>, host: &str) -> Result<Vec<Endpoint>> {
    let own = default_endpoint(host)?;
    let Some(root) = config_path else { return Ok(vec![own]) };
    for name in folder_names(host) {
        let folder = root.join(name);
        if !folder.is_dir() {
            continue;
        }
        let file = folder.join("hosts.toml");
        let Some(text) = read(&file)? else { return Ok(vec![own]) };
        let text = String::from_utf8(text).map_err(|_| refuse(&file, "it is not UTF-8"))?;
        return parse(&file, &text, own);
    }
    Ok(vec![own])
}

/// containerd also knows `host_port_`, for file systems without colons.
fn folder_names(host: &str) -> Vec<String> {
    let mut names = Vec::new();
    if let Some((name, port)) = host.rsplit_once(':').filter(|(_, p)| p.bytes().all(|b| b.is_ascii_digit())) {
        names.push(format!("{name}_{port}_"));
    }
    names.push(host.to_owned());
    names.push("_default".to_owned());
    names
}

/// The endpoint of a registry that nothing is configured for.
fn default_endpoint(host: &str) -> Result<Endpoint> {
    let contacted = if host == "docker.io" { "registry-1.docker.io" } else { host };
    let authority: Authority = contacted.parse().map_err(|_| {
        Error::invalid(format!("{:?} is not a registry's host", types::reference::shorten(host)))
    })?;
    // containerd: a registry on the own machine speaks plain HTTP unless its port says otherwise, and
    // its certificate is not checked.
    let local = is_loopback(authority.host());
    let https = !local || matches!(authority.port_u16(), None | Some(443));
    Ok(Endpoint {
        https,
        authority,
        prefix: "/v2".to_owned(),
        pull: true,
        resolve: true,
        tls: Tls { skip_verify: local, ..Tls::default() },
        skip_implied: local,
        headers: Vec::new(),
        dial_timeout: None,
        origin: true,
    })
}

/// Whether a host name can only mean this machine.
pub(crate) fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare == "localhost" || bare.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn parse(file: &Path, text: &str, own: Endpoint) -> Result<Vec<Endpoint>> {
    let document = DeTable::parse(text).map_err(|cause| {
        // Not the error as a whole: it shows the line, which may hold a header's secret.
        let line = cause.span().map_or(0, |s| {
            text.as_bytes()[..s.start.min(text.len())].iter().filter(|b| **b == b'\n').count() + 1
        });
        refuse(file, &format!("line {line}: {}", cause.message()))
    })?;
    let mut mirrors = Vec::new();
    let mut server = None;
    for (key, value) in document.get_ref() {
        match &**key.get_ref() {
            "server" => server = Some(string(file, "server", value.get_ref())?),
            "host" => {
                let table = value.get_ref().as_table().ok_or_else(|| refuse(file, "host is not a table"))?;
                for (url, settings) in table {
                    // The parser sorts by name; the order in the file is the order of trying.
                    mirrors.push((url.span().start, url.get_ref().clone().into_owned(), settings.get_ref()));
                }
            }
            _ => {}
        }
    }
    if mirrors.len() > MIRRORS_MAX {
        return Err(refuse(file, &format!("it names more than {MIRRORS_MAX} hosts")));
    }
    mirrors.sort_by_key(|(at, ..)| *at);
    let mut all = Vec::with_capacity(mirrors.len() + 1);
    for (_, url, settings) in mirrors {
        let table =
            settings.as_table().ok_or_else(|| refuse(file, &format!("host {url:?} is not a table")))?;
        all.push(endpoint(file, &url, table, &own, false)?);
    }
    all.push(match server {
        Some(url) => endpoint(file, &url, document.get_ref(), &own, true)?,
        // Settings at the top of the file are the server's, named or not.
        None => settings(file, document.get_ref(), own.clone(), true)?.0,
    });
    Ok(all)
}

/// An endpoint from a URL and a table of settings.
fn endpoint(file: &Path, url: &str, table: &DeTable<'_>, own: &Endpoint, top: bool) -> Result<Endpoint> {
    let bad = |why: &str| refuse(file, &format!("{:?} {why}", types::reference::shorten(url)));
    let full = if url.starts_with("http://") || url.starts_with("https://") {
        url.to_owned()
    } else if url.contains("://") {
        return Err(bad("is neither http:// nor https://"));
    } else {
        format!("https://{url}")
    };
    let uri: Uri = full.parse().map_err(|_| bad("is not a URL"))?;
    let authority = uri.authority().cloned().ok_or_else(|| bad("has no host"))?;
    if authority.as_str().contains('@') {
        return Err(refuse(file, "a URL holds credentials; put them into header.Authorization"));
    }
    let https = uri.scheme_str() == Some("https");
    let same = authority == own.authority
        || authority.as_str() == "docker.io" && own.authority == "registry-1.docker.io";
    let start = Endpoint {
        https,
        // The server stands for the registry itself; a mirror is one only where it is the same host.
        origin: same && (top || https == own.https),
        authority,
        tls: Tls::default(),
        skip_implied: false,
        ..own.clone()
    };
    let (mut endpoint, override_path) = settings(file, table, start, top)?;
    let path = uri.path().trim_end_matches('/');
    endpoint.prefix =
        if override_path || path.ends_with("/v2") { path.to_owned() } else { format!("{path}/v2") };
    Ok(endpoint)
}

/// Applies a table of settings; also tells `override_path`.
fn settings(file: &Path, table: &DeTable<'_>, mut to: Endpoint, top: bool) -> Result<(Endpoint, bool)> {
    let mut override_path = false;
    for (key, value) in table {
        let (key, value) = (&**key.get_ref(), value.get_ref());
        match key {
            "server" | "host" if top => {}
            "capabilities" => {
                (to.pull, to.resolve) = (false, false);
                for word in strings(file, key, value)? {
                    match word.to_ascii_lowercase().as_str() {
                        "pull" => to.pull = true,
                        "resolve" => to.resolve = true,
                        "push" => {}
                        other => return Err(refuse(file, &format!("there is no capability {other:?}"))),
                    }
                }
            }
            "ca" => {
                for path in strings(file, key, value)? {
                    to.tls.ca.push(certificate(file, &path)?);
                }
            }
            "client" => to.tls.client = client(file, value)?,
            "skip_verify" => (to.tls.skip_verify, to.skip_implied) = (boolean(file, key, value)?, false),
            "override_path" => override_path = boolean(file, key, value)?,
            "header" => {
                let headers = value.as_table().ok_or_else(|| refuse(file, "header is not a table"))?;
                for (name, value) in headers {
                    let parsed = HeaderName::try_from(&**name.get_ref())
                        .map_err(|_| refuse(file, &format!("{:?} is not a header's name", name.get_ref())))?;
                    for text in strings(file, "header", value.get_ref())? {
                        let mut value = HeaderValue::try_from(text).map_err(|_| {
                            refuse(file, &format!("the value of header {parsed} cannot be sent"))
                        })?;
                        value.set_sensitive(true);
                        to.headers.push((parsed.clone(), value));
                    }
                }
            }
            "dial_timeout" => {
                let text = string(file, key, value)?;
                to.dial_timeout =
                    Some(duration(&text).ok_or_else(|| {
                        refuse(file, "dial_timeout is not a time like \"500ms\" or \"3s\"")
                    })?);
            }
            other => {
                tracing::warn!(file = %file.display(), key = other, "this setting is not known and has no effect");
            }
        }
    }
    Ok((to, override_path))
}

/// `client` is one PEM file with both, or a pair (certificate, key), or a list that holds one of these.
fn client(file: &Path, value: &DeValue<'_>) -> Result<Option<(Vec<u8>, Vec<u8>)>> {
    if let Some(path) = value.as_str() {
        let both = certificate(file, path)?;
        return Ok(Some((both.clone(), both)));
    }
    let list = value.as_array().ok_or_else(|| refuse(file, "client is neither a path nor a list"))?;
    let Some(first) = list.iter().next() else { return Ok(None) };
    if list.iter().count() > 1 {
        tracing::warn!(file = %file.display(), "only the first client certificate is used");
    }
    match first.get_ref().as_array() {
        None => client(file, first.get_ref()),
        Some(pair) => {
            let pair: Vec<&str> = pair.iter().filter_map(|p| p.get_ref().as_str()).collect();
            let [certificate_path, key_path] = pair[..] else {
                return Err(refuse(file, "a client pair is [certificate, key]"));
            };
            Ok(Some((certificate(file, certificate_path)?, certificate(file, key_path)?)))
        }
    }
}

/// Reads a PEM file that `hosts.toml` names; a relative path starts at its folder.
fn certificate(file: &Path, path: &str) -> Result<Vec<u8>> {
    let path = file.parent().unwrap_or(Path::new("/")).join(path);
    read(&path)?.ok_or_else(|| refuse(file, &format!("{} does not exist", path.display())))
}

fn read(path: &PathBuf) -> Result<Option<Vec<u8>>> {
    use std::io::Read;
    let failed = |cause: std::io::Error| {
        Error::with_source(ErrorKind::FailedPrecondition, format!("cannot read {}", path.display()), cause)
    };
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(cause) => return Err(failed(cause)),
    };
    if !file.metadata().map_err(failed)?.is_file() {
        return Err(refuse(path, "it is not a regular file"));
    }
    let mut bytes = Vec::new();
    file.take(FILE_MAX + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > FILE_MAX {
        return Err(refuse(path, "it is larger than 1 MiB"));
    }
    Ok(Some(bytes))
}

fn string(file: &Path, key: &str, value: &DeValue<'_>) -> Result<String> {
    value.as_str().map(str::to_owned).ok_or_else(|| refuse(file, &format!("{key} is not a text")))
}

fn boolean(file: &Path, key: &str, value: &DeValue<'_>) -> Result<bool> {
    value.as_bool().ok_or_else(|| refuse(file, &format!("{key} is neither true nor false")))
}

/// A text, or a list of texts.
fn strings(file: &Path, key: &str, value: &DeValue<'_>) -> Result<Vec<String>> {
    match value.as_array() {
        None => string(file, key, value).map(|one| vec![one]),
        Some(list) => list.iter().map(|one| string(file, key, one.get_ref())).collect(),
    }
}

/// A Go duration with one unit, which is what people write here.
fn duration(text: &str) -> Option<Duration> {
    let split = text.find(|c: char| c.is_ascii_alphabetic())?;
    let number: f64 = text[..split].parse().ok()?;
    let unit = match &text[split..] {
        "ms" => 0.001,
        "s" => 1.0,
        "m" => 60.0,
        _ => return None,
    };
    Duration::try_from_secs_f64(number * unit).ok().filter(|d| !d.is_zero())
}

fn refuse(file: &Path, why: &str) -> Error {
    Error::precondition(format!("{} cannot be used: {why}", file.display()))
}

#[cfg(test)]
#[path = "hosts_tests.rs"]
mod tests;
