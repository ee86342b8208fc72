//! Mounts of our own mount namespace, from `/proc/self/mountinfo` (proc_pid_mountinfo(5)).

use super::{Watch, mentions, names_ours};
use crate::{Result, Tried};
use std::fmt;
use std::path::PathBuf;

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// The path inside its file system: `net:[4026531840]` for a pinned network namespace.
    pub root: String,
    /// Where it is.
    pub target: PathBuf,
    /// `overlay`, `tmpfs`, `nsfs`, …
    pub kind: String,
    /// Source and options of the file system, as `lowerdir=…`.
    pub source: String,
}

impl fmt::Display for Mount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "mount {} at {}", self.kind, self.target.display())
    }
}

/// Every mount, the oldest first.
pub fn all() -> Result<Vec<Mount>> {
    let text = std::fs::read_to_string("/proc/self/mountinfo").tried("read /proc/self/mountinfo")?;
    Ok(text.lines().filter_map(parse).collect())
}

/// The mounts at or below some directories.
pub fn below(roots: &[PathBuf]) -> Result<Vec<Mount>> {
    let mut mounts = all()?;
    mounts.retain(|mount| roots.iter().any(|root| mount.target.starts_with(root)));
    Ok(mounts)
}

/// At or below our roots, made of something below them, or with one of our names.
pub(super) fn of(watch: &Watch) -> Result<Vec<Mount>> {
    let mut mounts = all()?;
    mounts.retain(|mount| {
        watch.roots.iter().any(|root| mount.target.starts_with(root) || mentions(&mount.source, root))
            || names_ours(watch, &mount.target.to_string_lossy())
            || names_ours(watch, &mount.root)
    });
    Ok(mounts)
}

/// `36 35 98:0 /root /target rw,noatime master:1 - ext3 /dev/root rw`
fn parse(line: &str) -> Option<Mount> {
    let (left, right) = line.split_once(" - ")?;
    let mut left = left.split(' ').skip(3);
    let (root, target) = (unescape(left.next()?), unescape(left.next()?));
    let (kind, source) = right.split_once(' ')?;
    Some(Mount { root, target: PathBuf::from(target), kind: kind.to_owned(), source: unescape(source) })
}

/// Space, tab, newline and backslash are written as octal `\040`.
fn unescape(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let code = tail.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        match code.and_then(|digits| u8::from_str_radix(digits, 8).ok()).filter(|_| first == b'\\') {
            Some(byte) => {
                out.push(byte);
                rest = &tail[3..];
            }
            None => {
                out.push(first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_with_its_escapes() {
        let line = r"40 27 0:4 net:[4026532] /run/a\040b/net rw shared:1 - nsfs nsfs rw";
        let mount = parse(line).expect("a mount");
        assert_eq!((mount.root.as_str(), mount.kind.as_str()), ("net:[4026532]", "nsfs"));
        assert_eq!(mount.target, PathBuf::from("/run/a b/net"));
        assert_eq!(unescape(r"a\134b\"), r"a\b\");
    }

    #[test]
    fn our_own_mounts_are_there() {
        assert!(all().expect("a list").iter().any(|mount| mount.target.as_os_str() == "/proc"));
    }
}
