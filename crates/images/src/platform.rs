//! Which of an index's manifests fits this machine: operating system, architecture and variant, in the
//! order of preference that containerd's `platforms.Only` has. Pure.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A platform as the OCI image index writes it ("platform" property).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Platform {
    /// GOOS, for example `linux`.
    #[serde(default)]
    pub os: String,
    /// GOARCH, for example `amd64`.
    #[serde(rename = "architecture", default)]
    pub arch: String,
    /// For example `v8`; empty where there is none.
    #[serde(default)]
    pub variant: String,
}

impl Platform {
    /// The machine that this program was built for.
    pub fn host() -> Platform {
        let (arch, variant) = match std::env::consts::ARCH {
            "x86_64" => ("amd64", ""),
            "x86" => ("386", ""),
            "aarch64" => ("arm64", "v8"),
            "arm" => ("arm", "v7"),
            "powerpc64" if cfg!(target_endian = "little") => ("ppc64le", ""),
            "powerpc64" => ("ppc64", ""),
            "loongarch64" => ("loong64", ""),
            other => (other, ""),
        };
        Platform { os: std::env::consts::OS.to_owned(), arch: arch.to_owned(), variant: variant.to_owned() }
    }

    /// How well an image for `other` fits: 0 is best, `None` does not run here.
    ///
    /// The order is that of containerd's `platformVector` (containerd/platforms, `compare.go`): the own
    /// variant, then older ones of it, then the 32-bit architecture that the processor also runs.
    pub fn preference(&self, other: &Platform) -> Option<usize> {
        let other = other.normalized();
        self.runnable().into_iter().position(|p| p == other)
    }

    /// What runs here, best first.
    fn runnable(&self) -> Vec<Platform> {
        let own = self.normalized();
        let of =
            |arch: &str, variant: String| Platform { os: own.os.clone(), arch: arch.to_owned(), variant };
        let older = |from: u32, to: u32| (to..=from).rev().map(|v| format!("v{v}"));
        let number = |default: u32| {
            own.variant.strip_prefix('v').and_then(|v| v.parse::<u32>().ok()).map_or(default, |v| v.min(9))
        };
        match own.arch.as_str() {
            "amd64" => {
                let mut all: Vec<_> = older(number(1), 2).map(|v| of("amd64", v)).collect();
                all.push(of("amd64", String::new()));
                all.push(of("386", String::new()));
                all
            }
            "arm64" => {
                let mut all: Vec<_> = older(number(8), 9).map(|v| of("arm64", v)).collect();
                all.push(of("arm64", String::new()));
                all.extend(older(8, 5).map(|v| of("arm", v)));
                all
            }
            "arm" => older(number(7), 5).map(|v| of("arm", v)).collect(),
            _ => vec![own],
        }
    }

    /// One spelling for each platform (containerd/platforms, `database.go`).
    fn normalized(&self) -> Platform {
        let (mut arch, mut variant) = (self.arch.to_ascii_lowercase(), self.variant.to_ascii_lowercase());
        match arch.as_str() {
            "i386" => arch = "386".into(),
            "x86_64" | "x86-64" => arch = "amd64".into(),
            "aarch64" => arch = "arm64".into(),
            "armhf" => (arch, variant) = ("arm".into(), "v7".into()),
            "armel" => (arch, variant) = ("arm".into(), "v6".into()),
            _ => {}
        }
        match (arch.as_str(), variant.as_str()) {
            ("386", _) | ("amd64", "v1") | ("arm64", "8" | "v8") => variant.clear(),
            ("arm", "" | "7") => variant = "v7".into(),
            ("arm", "5" | "6" | "8") => variant.insert(0, 'v'),
            _ => {}
        }
        Platform { os: self.os.to_ascii_lowercase(), arch, variant }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.arch)?;
        if !self.variant.is_empty() {
            write!(f, "/{}", self.variant)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn p(text: &str) -> Platform {
        let mut parts = text.split('/');
        let mut next = || parts.next().unwrap_or_default().to_owned();
        Platform { os: next(), arch: next(), variant: next() }
    }

    #[test]
    fn the_nearest_variant_is_preferred_and_foreign_ones_never_match() {
        let prefer = |own: &str, other: &str| p(own).preference(&p(other));
        assert_eq!(prefer("linux/amd64", "linux/amd64"), Some(0));
        assert_eq!(prefer("linux/amd64", "linux/x86_64/v1"), Some(0));
        assert_eq!(prefer("linux/amd64", "linux/386"), Some(1));
        assert_eq!(prefer("linux/amd64", "linux/amd64/v3"), None);
        assert_eq!(prefer("linux/amd64/v3", "linux/amd64/v2"), Some(1));
        assert_eq!(prefer("linux/amd64", "linux/arm64"), None);
        assert_eq!(prefer("linux/amd64", "windows/amd64"), None);
        assert_eq!(prefer("linux/amd64", "unknown/unknown"), None);
        assert_eq!(prefer("linux/arm64/v8", "linux/arm64"), Some(0));
        assert!(prefer("linux/arm64", "linux/arm/v7") < prefer("linux/arm64", "linux/arm/v6"));
        assert_eq!(prefer("linux/arm/v7", "linux/arm"), Some(0));
        assert_eq!(prefer("linux/arm/v6", "linux/arm/v7"), None);
        assert_eq!(prefer("linux/s390x", "linux/s390x"), Some(0));
    }
}
