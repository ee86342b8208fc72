//! `hosts.toml`: text to endpoints. It reads the certificate files that the text names, and nothing else.

use super::certificates::named;
use super::{Endpoint, Scheme, Tls, refuse};
use http::{HeaderName, HeaderValue, Uri};
use std::path::Path;
use std::time::Duration;
use toml::de::{DeTable, DeValue};
use types::Result;

/// The most mirrors of one registry.
const MIRRORS_MAX: usize = 32;
/// The most certificates of one host.
const CERTIFICATES_MAX: usize = 32;

/// The endpoints of a file: its hosts in their order, the server last. `own` is the registry itself.
pub(super) fn parse(file: &Path, text: &str, own: Endpoint) -> Result<Vec<Endpoint>> {
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
        None => {
            let (mut own, given) = settings(file, document.get_ref(), own.clone(), true)?;
            if given.tls {
                own.prefer_tls();
            }
            own
        }
    });
    Ok(all)
}

/// An endpoint from a URL and a table of settings.
fn endpoint(file: &Path, url: &str, table: &DeTable<'_>, own: &Endpoint, top: bool) -> Result<Endpoint> {
    let bad = |why: &str| {
        // A password in a URL is not shown.
        let shown = if url.contains('@') {
            "a URL".to_owned()
        } else {
            format!("{:?}", types::reference::shorten(url))
        };
        refuse(file, &format!("{shown} {why}"))
    };
    let full = if url.starts_with("http://") || url.starts_with("https://") {
        url.to_owned()
    } else if url.contains("://") {
        return Err(bad("is neither http:// nor https://"));
    } else {
        format!("https://{url}")
    };
    let uri: Uri = full.parse().map_err(|_| bad("is not a URL"))?;
    if uri.query().is_some() {
        return Err(bad("has a query, which an API's root has not"));
    }
    let authority = uri.authority().cloned().ok_or_else(|| bad("has no host"))?;
    if authority.as_str().contains('@') {
        return Err(refuse(file, "a URL holds credentials; put them into header.Authorization"));
    }
    if authority.host().is_empty() {
        return Err(bad("has no host"));
    }
    let https = uri.scheme_str() == Some("https");
    let same = authority == own.authority
        || authority.as_str() == "docker.io" && own.authority == "registry-1.docker.io";
    let start = Endpoint {
        scheme: if https { Scheme::Https } else { Scheme::Http },
        // The server stands for the registry itself; a mirror is one only where it is the same host.
        origin: same && (top || https == own.scheme.https() || own.scheme.ambiguous()),
        tls: Tls::default(),
        skip_implied: false,
        headers: Vec::new(),
        dial_timeout: None,
        authority,
        ..own.clone()
    };
    let (mut endpoint, given) = settings(file, table, start, top)?;
    // containerd: settings for TLS with http:// mean TLS where it is spoken, unless the port says otherwise.
    if !https && given.tls && endpoint.authority.port_u16() != Some(80) {
        endpoint.scheme = Scheme::HttpsFirst;
    }
    let path = clean(uri.path());
    endpoint.prefix = if given.override_path || path.ends_with("/v2") { path } else { format!("{path}/v2") };
    Ok(endpoint)
}

/// A path as Go's `path.Clean` leaves it, without a slash at the end.
fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.iter().map(|part| format!("/{part}")).collect()
}

/// What a table of settings holds beside an endpoint.
#[derive(Default)]
struct Given {
    override_path: bool,
    /// Anything about TLS.
    tls: bool,
}

/// Applies a table of settings.
fn settings(file: &Path, table: &DeTable<'_>, mut to: Endpoint, top: bool) -> Result<(Endpoint, Given)> {
    let mut given = Given::default();
    for (key, value) in table {
        let (key, value) = (&**key.get_ref(), value.get_ref());
        match key {
            "server" | "host" if top => {}
            "capabilities" => {
                let words = strings(file, key, value)?;
                // An empty list is none (containerd).
                if !words.is_empty() {
                    (to.pull, to.resolve, to.push) = (false, false, false);
                }
                for word in words {
                    match word.to_ascii_lowercase().as_str() {
                        "pull" => to.pull = true,
                        "resolve" => to.resolve = true,
                        "push" => to.push = true,
                        other => return Err(refuse(file, &format!("there is no capability {other:?}"))),
                    }
                }
            }
            "ca" => {
                given.tls = true;
                for path in strings(file, key, value)?.into_iter().take(CERTIFICATES_MAX) {
                    to.tls.ca.push(certificate(file, &path)?);
                }
            }
            "client" => (given.tls, to.tls.client) = (true, clients(file, value)?),
            "skip_verify" => {
                given.tls = true;
                (to.tls.skip_verify, to.skip_implied) = (boolean(file, key, value)?, false);
            }
            "override_path" => given.override_path = boolean(file, key, value)?,
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
                if !text.is_empty() {
                    let wrong = || refuse(file, "dial_timeout is not a time like \"500ms\" or \"1m30s\"");
                    to.dial_timeout = Some(duration(&text).ok_or_else(wrong)?);
                }
            }
            other => {
                tracing::warn!(file = %file.display(), key = other, "this setting is not known and has no effect");
            }
        }
    }
    Ok((to, given))
}

/// `client` is one PEM file with certificate and key, a list of such files, or a list of pairs (certificate, key).
fn clients(file: &Path, value: &DeValue<'_>) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let both = |path: &str| certificate(file, path).map(|pem| (pem.clone(), pem));
    if let Some(path) = value.as_str() {
        return Ok(vec![both(path)?]);
    }
    let list = value.as_array().ok_or_else(|| refuse(file, "client is neither a path nor a list"))?;
    if list.iter().count() > CERTIFICATES_MAX {
        return Err(refuse(file, &format!("it names more than {CERTIFICATES_MAX} client certificates")));
    }
    let pair = |value: &DeValue<'_>| {
        let paths = strings(file, "client", value)?;
        let [certificate_path, key_path] = &paths[..] else {
            return Err(refuse(file, "a client pair is [certificate, key]"));
        };
        Ok((certificate(file, certificate_path)?, certificate(file, key_path)?))
    };
    list.iter()
        .map(|one| match one.get_ref().as_str() {
            Some(path) => both(path),
            None if one.get_ref().as_array().is_some() => pair(one.get_ref()),
            None => Err(refuse(file, "client holds something that is neither a path nor a pair of paths")),
        })
        .collect()
}

/// Reads a PEM file that `hosts.toml` names; a relative path starts at its folder.
fn certificate(file: &Path, path: &str) -> Result<Vec<u8>> {
    let path = file.parent().unwrap_or(Path::new("/")).join(path);
    named(&path).map_err(|error| error.context(format!("{} cannot be used", file.display())))
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

/// A duration as Go writes it (time.ParseDuration): `1m30s`, `1.5h`, `500ms`.
fn duration(text: &str) -> Option<Duration> {
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        let after = &rest[digits..];
        let end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        seconds += number
            * match &after[..end] {
                "ns" => 1e-9,
                "us" | "µs" | "μs" => 1e-6,
                "ms" => 1e-3,
                "s" => 1.0,
                "m" => 60.0,
                "h" => 3600.0,
                _ => return None,
            };
        rest = &after[end..];
    }
    Duration::try_from_secs_f64(seconds).ok().filter(|d| !d.is_zero())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_reads_them() {
        for (text, millis) in [
            ("500ms", 500),
            ("1m30s", 90_000),
            ("1.5h", 5_400_000),
            ("2s", 2_000),
            ("+1s500ms", 1_500),
            ("3000us", 3),
        ] {
            assert_eq!(duration(text), Some(Duration::from_millis(millis)), "{text}");
        }
        for bad in ["", "5", "s", "-1s", "1x", "1s2", "0s", "1..5s", "1e400h"] {
            assert_eq!(duration(bad), None, "{bad}");
        }
    }

    #[test]
    fn paths_are_cleaned_as_go_cleans_them() {
        for (path, cleaned) in
            [("", ""), ("/", ""), ("/a//b/", "/a/b"), ("/a/../b/./c", "/b/c"), ("/../..", "")]
        {
            assert_eq!(clean(path), cleaned, "{path}");
        }
    }
}
