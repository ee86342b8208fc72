//! Which images the node's owner wants kept: by exact reference, or by a pattern with `*`. Pure.
//!
//! A pinned image is reported so in the CRI, where the kubelet's collection leaves it alone, and a prune leaves it.
//! RemoveImage removes it all the same, as containerd and CRI-O do: whoever names an image means it.

use crate::image::ImageRecord;
use types::{Error, Reference, Result};

/// The longest pattern, in bytes: that of a reference.
const PATTERN_MAX: usize = 512;
/// The most patterns.
const PATTERNS_MAX: usize = 1024;

/// What is pinned.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pinned(Vec<Pattern>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Pattern {
    /// `host/path:tag` or `host/path@digest`, normalized.
    Exact(String),
    /// As it was written; each `*` stands for any text, `/` and `:` included.
    Glob(String),
}

impl Pinned {
    /// Reads references and patterns. A reference is normalized, so that `busybox` means
    /// `docker.io/library/busybox:latest`; a pattern has to match the whole normalized name or digest.
    pub fn parse<T: AsRef<str>>(texts: &[T]) -> Result<Pinned> {
        if texts.len() > PATTERNS_MAX {
            return Err(Error::invalid(format!(
                "{} images are pinned; use patterns, {PATTERNS_MAX} at most",
                texts.len()
            )));
        }
        texts.iter().map(|text| Pattern::parse(text.as_ref())).collect::<Result<_>>().map(Pinned)
    }

    /// Whether one of the image's names or digests is pinned.
    pub(crate) fn has(&self, image: &ImageRecord) -> bool {
        let mut names = image.names.iter().chain(&image.digests);
        !self.0.is_empty() && names.any(|name| self.0.iter().any(|pattern| pattern.matches(name)))
    }
}

impl Pattern {
    fn parse(text: &str) -> Result<Pattern> {
        if text.is_empty() || text.len() > PATTERN_MAX || text.chars().any(|c| c.is_control() || c == ' ') {
            return Err(Error::invalid(format!(
                "{:?} cannot be pinned; write a reference, or a pattern such as registry.example.com/system/*",
                types::reference::shorten(text)
            )));
        }
        if text.contains('*') {
            return Ok(Pattern::Glob(text.to_owned()));
        }
        let reference = Reference::parse(text)?;
        let exact = match reference.digest() {
            Some(digest) => format!("{}@{digest}", reference.repository()),
            None => reference.tagged().unwrap_or_else(|| reference.to_string()),
        };
        Ok(Pattern::Exact(exact))
    }

    fn matches(&self, name: &str) -> bool {
        match self {
            Pattern::Exact(exact) => exact == name,
            Pattern::Glob(pattern) => glob(pattern.as_bytes(), name.as_bytes()),
        }
    }
}

/// Whether `*` of the pattern can be filled so that it is the text. Linear but for what the last `*` took back.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(byte) if *byte == text[t] => {
                p += 1;
                t += 1;
            }
            _ => match &mut star {
                Some((at, taken)) => {
                    *taken += 1;
                    p = *at + 1;
                    t = *taken;
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, name: &str) -> bool {
        Pattern::parse(pattern).expect(pattern).matches(name)
    }

    #[test]
    fn a_reference_is_normalized_and_a_pattern_is_matched_as_a_whole() {
        for (pattern, name, expected) in [
            ("busybox", "docker.io/library/busybox:latest", true),
            ("busybox:1", "docker.io/library/busybox:latest", false),
            ("registry.k8s.io/pause:3.10", "registry.k8s.io/pause:3.10", true),
            ("registry.k8s.io/pause:*", "registry.k8s.io/pause:3.10", true),
            ("registry.k8s.io/pause:*", "registry.k8s.io/pausexy:3.10", false),
            ("*pause*", "registry.k8s.io/pause:3.10", true),
            ("*:3.10", "registry.k8s.io/pause:3.10", true),
            ("*:3.1", "registry.k8s.io/pause:3.10", false),
            ("r*/p*:3*", "registry.k8s.io/pause:3.10", true),
            ("r*/p*:4*", "registry.k8s.io/pause:3.10", false),
            ("*", "x", true),
            ("a*", "b", false),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
        let digest = types::Digest::sha256(&[7; 32]);
        assert!(matches(&format!("h.io/a:1@{digest}"), &format!("h.io/a@{digest}")));
    }

    #[test]
    fn what_is_no_reference_is_refused() {
        for bad in ["", "a b", "x/UPPER", "a\nb", &"a".repeat(600)] {
            assert!(Pinned::parse(&[bad]).is_err(), "{bad}");
        }
        assert!(Pinned::parse(&vec!["a"; PATTERNS_MAX + 1]).is_err());
    }

    #[test]
    fn many_stars_take_no_time() {
        let started = std::time::Instant::now();
        assert!(!glob(&b"*a".repeat(200), &[b'a'; 100]));
        assert!(!glob(format!("{}b", "*a".repeat(200)).as_bytes(), &[b'a'; 512]));
        assert!(started.elapsed() < std::time::Duration::from_secs(1));
    }
}
