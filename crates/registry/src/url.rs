//! URLs of requests, redirects and token servers. Pure; what cannot be understood is refused.

use http::Uri;
use http::uri::Authority;

/// The longest URL that is followed, in bytes; signed URLs of object stores are about 2 KiB.
const URL_MAX: usize = 16 << 10;

/// An absolute `http` or `https` URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Url {
    pub https: bool,
    pub authority: Authority,
    /// Path and query.
    pub path: String,
}

impl Url {
    /// Reads an absolute URL. Credentials in it are refused.
    pub(crate) fn parse(text: &str) -> Result<Url, String> {
        if text.len() > URL_MAX {
            return Err("the URL is longer than 16 KiB".into());
        }
        let text = text.split('#').next().unwrap_or_default();
        let (scheme, rest) = text.split_once("://").ok_or("the URL is not absolute")?;
        let https = match scheme.to_ascii_lowercase().as_str() {
            "https" => true,
            "http" => false,
            _ => return Err("the URL is neither http nor https".into()),
        };
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let authority: Authority = rest[..end].parse().map_err(|_| "the URL's host is not valid")?;
        if authority.as_str().contains('@') || authority.host().is_empty() {
            return Err("the URL holds credentials, or no host".into());
        }
        let path = match &rest[end..] {
            "" => "/".to_owned(),
            query if query.starts_with('?') => format!("/{query}"),
            path => path.to_owned(),
        };
        Ok(Url { https, authority, path: escape(&path) })
    }

    /// Where a `Location` leads from here (RFC 9110 section 10.2.2).
    pub(crate) fn join(&self, location: &str) -> Result<Url, String> {
        let scheme = if self.https { "https" } else { "http" };
        if let Some(rest) = location.strip_prefix("//") {
            return Url::parse(&format!("{scheme}://{rest}"));
        }
        // A scheme ends at the first colon, and a path's colon comes after a slash.
        let before_path = location.split(['/', '?', '#']).next().unwrap_or_default();
        if before_path.contains(':') {
            return Url::parse(location);
        }
        let own = self.path.split('?').next().unwrap_or_default();
        let path = if location.starts_with('/') {
            location.to_owned()
        } else if location.starts_with('?') {
            format!("{own}{location}")
        } else {
            let folder = own.rfind('/').map_or("/", |slash| &own[..=slash]);
            format!("{folder}{location}")
        };
        Url::parse(&format!("{scheme}://{}{path}", self.authority))
    }

    /// Whether both are the same scheme, host and port.
    pub(crate) fn same_origin(&self, https: bool, authority: &Authority) -> bool {
        let port = |https: bool, a: &Authority| a.port_u16().unwrap_or(if https { 443 } else { 80 });
        self.https == https
            && self.authority.host().eq_ignore_ascii_case(authority.host())
            && port(self.https, &self.authority) == port(https, authority)
    }

    /// For hyper.
    pub(crate) fn uri(&self) -> Result<Uri, String> {
        Uri::builder()
            .scheme(if self.https { "https" } else { "http" })
            .authority(self.authority.clone())
            .path_and_query(self.path.as_str())
            .build()
            .map_err(|_| "the URL cannot be requested".into())
    }

    /// For messages: without the query, which may carry a signature or a token.
    pub(crate) fn shown(&self) -> String {
        let path = self.path.split('?').next().unwrap_or_default();
        let path: String = path.chars().take(300).collect();
        format!("{}://{}{path}", if self.https { "https" } else { "http" }, self.authority)
    }
}

/// Percent-encodes what a URL may not hold; servers put spaces and worse into `Location`.
fn escape(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for byte in path.bytes() {
        match byte {
            b'!' | b'$'..=b';' | b'=' | b'?'..=b'[' | b']' | b'_' | b'a'..=b'z' | b'~' => {
                out.push(byte as char)
            }
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// A value for a query or a form (RFC 3986 section 2.3: all but the unreserved characters are encoded).
pub(crate) fn encode(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    for byte in value.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(byte as char),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn joined(location: &str) -> Result<String, String> {
        let base = Url::parse("https://r.example:5000/v2/a/blobs/x?q=1")?;
        base.join(location)?.uri().map(|u| u.to_string())
    }

    #[test]
    fn locations_resolve_as_the_rfc_says() {
        for (location, url) in [
            ("https://cdn.example/y?sig=a%2Fb", "https://cdn.example/y?sig=a%2Fb"),
            ("//cdn.example/y", "https://cdn.example/y"),
            ("/v2/b", "https://r.example:5000/v2/b"),
            ("y", "https://r.example:5000/v2/a/blobs/y"),
            ("?n=2", "https://r.example:5000/v2/a/blobs/x?n=2"),
            ("/sha256:ab", "https://r.example:5000/sha256:ab"),
            ("/a b|c", "https://r.example:5000/a%20b%7Cc"),
            ("https://cdn.example?x", "https://cdn.example/?x"),
            ("https://cdn.example/x#frag", "https://cdn.example/x"),
        ] {
            assert_eq!(joined(location).as_deref(), Ok(url), "{location}");
        }
        for bad in ["ftp://x/y", "file:///etc/passwd", "https://u:p@x/", "https:///x", "http://a b/"] {
            assert!(joined(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_origin_is_scheme_host_and_port() {
        let url = Url::parse("https://R.example/").expect("url");
        let authority = |a: &str| a.parse::<Authority>().expect("authority");
        assert!(url.same_origin(true, &authority("r.example:443")));
        assert!(!url.same_origin(false, &authority("r.example")));
        assert!(!url.same_origin(true, &authority("r.example:444")));
        assert!(!url.same_origin(true, &authority("r.example.evil")));
    }

    #[test]
    fn queries_are_not_shown() {
        assert_eq!(Url::parse("https://h/p?token=secret").expect("url").shown(), "https://h/p");
    }

    proptest! {
        #[test]
        fn no_location_panics(location in "\\PC{0,60}") {
            let _ = joined(&location);
        }
    }
}
