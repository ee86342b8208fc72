//! Where a registry's content is fetched from and pushed to: containerd's `hosts.toml`, one folder for each
//! registry (containerd docs, "hosts.md"; core/remotes/docker/config/hosts.go), Docker's certificate files where
//! a folder has no such file, and the defaults where there is no folder. It reads files and contacts nobody.
//! They are read at each pull: what is changed counts at the next one.
//!
//! Differences from containerd, all on the careful side: a file that cannot be understood fails the pull
//! and is not ignored; a host without a name is refused; `capabilities` at the top count without `server`, too;
//! credentials of a pull go to the image's own registry, not to mirrors (a mirror's own credentials belong in
//! its `header`).

mod certificates;
mod file;

use http::{HeaderName, HeaderValue, uri::Authority};
use std::path::{Path, PathBuf};
use std::time::Duration;
use types::{Error, Result};

pub(crate) use certificates::read;

/// How a connection to one host is secured.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct Tls {
    /// PEM files that are trusted beside the system's.
    pub ca: Vec<Vec<u8>>,
    /// Client certificates with their keys, PEM. The first that the server's authorities fit is shown.
    pub client: Vec<(Vec<u8>, Vec<u8>)>,
    /// Trust whoever answers.
    pub skip_verify: bool,
}

/// Which protocol a host is spoken to by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scheme {
    /// TLS, always.
    Https,
    /// Plain, always.
    Http,
    /// TLS, and plain where nobody speaks TLS there: `http://` with settings for TLS, or `insecure`.
    HttpsFirst,
    /// Plain, and TLS where that is what is spoken there: this machine, if nothing is configured.
    HttpFirst,
}

impl Scheme {
    /// Whether TLS is tried first.
    pub(crate) fn https(self) -> bool {
        matches!(self, Scheme::Https | Scheme::HttpsFirst)
    }

    /// Whether the other protocol may be tried as well.
    pub(crate) fn ambiguous(self) -> bool {
        matches!(self, Scheme::HttpFirst | Scheme::HttpsFirst)
    }
}

/// One place to fetch from, or to push to.
#[derive(Debug, Clone)]
pub(crate) struct Endpoint {
    pub scheme: Scheme,
    /// Host and port.
    pub authority: Authority,
    /// What comes before `/<repository>/manifests/…`: `/v2`, or what `override_path` says.
    pub prefix: String,
    /// May give content by digest.
    pub pull: bool,
    /// May say what a tag means.
    pub resolve: bool,
    /// May be given content.
    pub push: bool,
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
    /// Somebody configured TLS for it: where either may be spoken, that is tried first.
    fn prefer_tls(&mut self) {
        if self.scheme == Scheme::HttpFirst {
            self.scheme = Scheme::HttpsFirst;
        }
    }

    /// Any certificate will do, and plain HTTP where nobody speaks TLS (`insecure` of registries.conf).
    pub(crate) fn insecure(&mut self) {
        (self.tls.skip_verify, self.skip_implied) = (true, true);
        if self.scheme == Scheme::Https {
            self.scheme = Scheme::HttpsFirst;
        }
    }

    /// `scheme://host:port`, by the protocol that is tried first.
    #[cfg(test)]
    pub(crate) fn base(&self) -> String {
        format!("{}://{}", if self.scheme.https() { "https" } else { "http" }, self.authority)
    }
}

/// The endpoints for a reference's host, in the order in which they are tried.
///
/// `config_path` is one folder, or several with colons between them, as containerd takes them. In the first
/// that has it, `<host>/` counts, else `_default/`.
pub(crate) fn endpoints(config_path: Option<&Path>, host: &str) -> Result<Vec<Endpoint>> {
    let own = default_endpoint(host)?;
    let Some(roots) = config_path else { return Ok(vec![own]) };
    for root in std::env::split_paths(roots).filter(|root| !root.as_os_str().is_empty()) {
        for folder in folder_names(host).map(|name| root.join(name)) {
            if folder.is_dir() {
                return within(&folder, own);
            }
        }
    }
    Ok(vec![own])
}

fn within(folder: &Path, own: Endpoint) -> Result<Vec<Endpoint>> {
    let path = folder.join("hosts.toml");
    match read(&path)? {
        Some(text) if !text.is_empty() => {
            let text = String::from_utf8(text).map_err(|_| refuse(&path, "it is not UTF-8"))?;
            file::parse(&path, &text, own)
        }
        _ => {
            let mut own = own;
            certificates::beside(folder, &mut own.tls)?;
            if !(own.tls.ca.is_empty() && own.tls.client.is_empty()) {
                own.prefer_tls();
            }
            Ok(vec![own])
        }
    }
}

/// containerd writes `:port` as `_port_`, for file systems without colons, and looks for that first.
fn folder_names(host: &str) -> impl Iterator<Item = String> {
    let split = host.rsplit_once(':').filter(|(_, port)| port.bytes().all(|b| b.is_ascii_digit()));
    let with_port = split.map(|(name, port)| format!("{name}_{port}_"));
    with_port.into_iter().chain([host.to_owned(), "_default".to_owned()])
}

/// The endpoint of a registry that nothing is configured for.
pub(crate) fn default_endpoint(host: &str) -> Result<Endpoint> {
    let contacted = if host == "docker.io" { "registry-1.docker.io" } else { host };
    let authority: Authority = contacted.parse().map_err(|_| {
        Error::invalid(format!("{:?} is not a registry's host", types::reference::shorten(host)))
    })?;
    // containerd: on the own machine a certificate is not checked, and port 80 speaks plain HTTP, none and 443
    // TLS, and any other one or the other. It tries TLS first there; most of these are plain.
    let local = is_loopback(authority.host());
    let scheme = match (local, authority.port_u16()) {
        (true, Some(80)) => Scheme::Http,
        (false, _) | (true, None | Some(443)) => Scheme::Https,
        (true, Some(_)) => Scheme::HttpFirst,
    };
    Ok(Endpoint {
        scheme,
        authority,
        prefix: "/v2".to_owned(),
        pull: true,
        resolve: true,
        push: true,
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

pub(crate) fn refuse(file: &Path, why: &str) -> Error {
    Error::precondition(format!("{} cannot be used: {why}", file.display()))
}

/// Reads a `hosts.toml` for fuzzing. The certificates that it names are looked for below `/nonexistent` only
/// where it names them by relative paths.
#[doc(hidden)]
pub fn fuzz_hosts_toml(bytes: &[u8]) -> String {
    let Ok(text) = std::str::from_utf8(bytes) else { return "no text".to_owned() };
    let parsed = default_endpoint("registry.example")
        .and_then(|own| file::parse(&PathBuf::from("/nonexistent/hosts.toml"), text, own));
    parsed.map_or_else(|error| error.chain(), |endpoints| format!("{} endpoints", endpoints.len()))
}

#[cfg(test)]
mod tests;
