//! Which proxy a request goes through, by the variables of the environment: `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY`
//! and `NO_PROXY`, upper case before lower case. They mean what they mean to Go's programs
//! (golang.org/x/net/http/httpproxy), and so to containerd and CRI-O; `ALL_PROXY` is curl's. This machine is
//! never reached through a proxy. Pure, but for reading the environment once.

pub(crate) mod dial;
mod handshake;

use crate::auth::Credential;
use crate::exchange::secret_header;
use crate::hosts::is_loopback;
use http::{HeaderValue, Uri};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

/// The proxies of a process.
#[derive(Debug, Clone, Default)]
pub struct Proxies {
    http: Option<Arc<Proxy>>,
    https: Option<Arc<Proxy>>,
    except: Vec<Except>,
    /// `NO_PROXY=*`
    never: bool,
}

/// What is spoken to a proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    Http,
    /// HTTP inside TLS.
    Https,
    /// RFC 1928; names are resolved by the proxy.
    Socks5,
}

/// One proxy. Neither `Debug` nor `Display` shows its credentials.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Proxy {
    pub protocol: Protocol,
    /// Without brackets.
    pub host: String,
    pub port: u16,
    pub user: Option<(String, String)>,
}

/// An entry of `NO_PROXY`.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Except {
    /// An address, with a port or without.
    Address(IpAddr, Option<u16>),
    /// A network: address and length of its prefix.
    Network(IpAddr, u8),
    /// What ends with `.domain`; the domain itself as well, where it was written without the dot.
    Domain { suffix: String, itself: bool, port: Option<u16> },
}

impl Proxies {
    /// From this process's environment. A variable that cannot be understood is refused: a request that went
    /// past the proxy could be one that must not.
    pub fn from_environment() -> Result<Proxies, String> {
        Self::read(&|name| std::env::var(name).ok())
    }

    /// From variables by their names in upper and lower case.
    pub fn read(variable: &dyn Fn(&str) -> Option<String>) -> Result<Proxies, String> {
        let any = |name: &str| {
            let set = |name: &str| variable(name).filter(|value| !value.trim().is_empty());
            set(name).or_else(|| set(&name.to_ascii_lowercase()))
        };
        let proxy = |name: &'static str| -> Result<Option<Arc<Proxy>>, String> {
            let Some(text) = any(name) else { return Ok(None) };
            let proxy = Proxy::parse(text.trim()).map_err(|why| format!("the environment's {name} {why}"))?;
            Ok(Some(Arc::new(proxy)))
        };
        let all = proxy("ALL_PROXY")?;
        let mut proxies = Proxies {
            http: proxy("HTTP_PROXY")?.or(all.clone()),
            https: proxy("HTTPS_PROXY")?.or(all),
            ..Proxies::default()
        };
        let list = any("NO_PROXY").unwrap_or_default();
        for entry in list.split([',', ' ']).map(str::trim).filter(|entry| !entry.is_empty()) {
            match entry {
                "*" => proxies.never = true,
                entry => proxies.except.extend(Except::parse(&entry.to_lowercase())),
            }
        }
        Ok(proxies)
    }

    /// The proxy for a URL.
    pub(crate) fn of(&self, uri: &Uri) -> Option<Arc<Proxy>> {
        let https = uri.scheme_str() == Some("https");
        let proxy = if https { &self.https } else { &self.http }.as_ref()?;
        let host = uri.host()?.trim_start_matches('[').trim_end_matches(']').to_lowercase();
        let port = uri.port_u16().unwrap_or(if https { 443 } else { 80 });
        if self.never || is_loopback(&host) || self.except.iter().any(|except| except.covers(&host, port)) {
            return None;
        }
        Some(proxy.clone())
    }

    /// What a request by plain HTTP tells its proxy.
    pub(crate) fn authorization(&self, uri: &Uri) -> Option<HeaderValue> {
        if uri.scheme_str() != Some("http") {
            return None;
        }
        self.of(uri).filter(|proxy| proxy.protocol != Protocol::Socks5)?.authorization()
    }
}

impl Proxy {
    /// Reads `scheme://user:password@host:port`; all but the host may be absent.
    fn parse(text: &str) -> Result<Proxy, String> {
        let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
        let (protocol, usual) = match scheme.to_ascii_lowercase().as_str() {
            "http" => (Protocol::Http, 80),
            "https" => (Protocol::Https, 443),
            "socks5" | "socks5h" => (Protocol::Socks5, 1080),
            _ => return Err("is neither http, https nor socks5".into()),
        };
        let rest = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let (user, place) = match rest.rsplit_once('@') {
            Some((user, place)) => {
                let (name, password) = user.split_once(':').unwrap_or((user, ""));
                (Some((decode(name)?, decode(password)?)), place)
            }
            None => (None, rest),
        };
        let (host, port) = match place.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => {
                (host, port.parse().map_err(|_| "has a port that is no number".to_owned())?)
            }
            _ => (place, usual),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b':');
        if host.is_empty() || host.len() > 255 || !host.bytes().all(fits) {
            return Err("names no host".into());
        }
        Ok(Proxy { protocol, host: host.to_owned(), port, user })
    }

    /// `host:port`, with brackets where there have to be.
    pub(crate) fn place(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    pub(crate) fn authorization(&self) -> Option<HeaderValue> {
        let (name, password) = self.user.as_ref()?;
        secret_header(&Credential::basic(name, password))
    }
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.protocol {
            Protocol::Http => "http",
            Protocol::Https => "https",
            Protocol::Socks5 => "socks5",
        };
        write!(f, "{scheme}://{}", self.place())
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Except {
    /// Reads an entry; what is none is passed over, as Go does.
    fn parse(entry: &str) -> Option<Except> {
        if let Some((address, length)) = entry.split_once('/') {
            let (address, length): (IpAddr, u8) = (address.parse().ok()?, length.parse().ok()?);
            let bits = if address.is_ipv4() { 32 } else { 128 };
            return (length <= bits).then_some(Except::Network(address, length));
        }
        if let Ok(address) = entry.trim_start_matches('[').trim_end_matches(']').parse() {
            return Some(Except::Address(address, None));
        }
        let (host, port) = match entry.rsplit_once(':') {
            Some((host, port)) => (host, Some(port.parse().ok()?)),
            None => (entry, None),
        };
        if let Ok(address) = host.trim_start_matches('[').trim_end_matches(']').parse() {
            return Some(Except::Address(address, port));
        }
        let domain = host.strip_prefix('*').filter(|rest| rest.starts_with('.')).unwrap_or(host);
        let bare = domain.trim_start_matches('.');
        let itself = bare.len() == domain.len();
        (!bare.is_empty()).then(|| Except::Domain { suffix: format!(".{bare}"), itself, port })
    }

    fn covers(&self, host: &str, at: u16) -> bool {
        let fits = |port: &Option<u16>| port.is_none_or(|port| port == at);
        match self {
            Except::Address(address, port) => {
                fits(port)
                    && host.parse().is_ok_and(|host: IpAddr| host.to_canonical() == address.to_canonical())
            }
            Except::Network(network, length) => {
                host.parse().is_ok_and(|host: IpAddr| within(host.to_canonical(), *network, *length))
            }
            Except::Domain { suffix, itself, port } => {
                fits(port) && (host.ends_with(suffix.as_str()) || *itself && host == &suffix[1..])
            }
        }
    }
}

/// Whether an address is of a network.
fn within(address: IpAddr, network: IpAddr, length: u8) -> bool {
    let first_bits = |value: u128, bits: u32| {
        let rest = bits - u32::from(length).min(bits);
        value.checked_shr(rest).unwrap_or(0)
    };
    match (address, network) {
        (IpAddr::V4(a), IpAddr::V4(n)) => {
            first_bits(a.to_bits().into(), 32) == first_bits(n.to_bits().into(), 32)
        }
        (IpAddr::V6(a), IpAddr::V6(n)) => first_bits(a.to_bits(), 128) == first_bits(n.to_bits(), 128),
        _ => false,
    }
}

/// Percent-decoding of a user's name or password.
fn decode(text: &str) -> Result<String, String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let mut digit = || bytes.next().and_then(|b| char::from(b).to_digit(16));
        let (Some(high), Some(low)) = (digit(), digit()) else {
            return Err("has credentials with a broken percent-encoding".into());
        };
        out.push((high << 4 | low) as u8);
    }
    String::from_utf8(out).map_err(|_| "has credentials that are not UTF-8".into())
}

#[cfg(test)]
mod tests;
