//! Entry names: cleaned to components, and whiteouts told apart (OCI image spec, "Whiteouts").
//!
//! It works on bytes only and never asks the file system.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// How the name of a whiteout begins.
pub const PREFIX: &[u8] = b".wh.";
const META: &[u8] = b".wh..wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

/// What a name in a layer stands for. Paths are relative, without `.` and `..`.
#[derive(Debug, PartialEq, Eq)]
pub enum Name<'a> {
    /// The layer's root itself. Its attributes are not taken, as in containerd.
    Root,
    /// A thing to make: its parent and its last component.
    Thing(PathBuf, &'a OsStr),
    /// Hides this name of the lower layers.
    Whiteout(PathBuf, &'a OsStr),
    /// Hides everything that the lower layers have in this directory.
    Opaque(PathBuf),
    /// AUFS bookkeeping, `.wh..wh.…`, which is not part of the tree.
    Meta,
}

/// The components of a path from an archive. A leading `/`, doubled slashes and `.` fall away; `..` takes back
/// one component, and is refused where there is none: nothing outside of the root has a name.
pub fn clean(path: &[u8]) -> Result<Vec<&OsStr>, String> {
    if path.contains(&0) {
        return Err("has a NUL byte in it".to_owned());
    }
    let mut components = Vec::new();
    for component in path.split(|&b| b == b'/') {
        match component {
            b"" | b"." => {}
            b".." => {
                if components.pop().is_none() {
                    return Err("leads out of the layer's root".to_owned());
                }
            }
            name => components.push(OsStr::from_bytes(name)),
        }
    }
    Ok(components)
}

/// Cleans and classifies the path of an entry.
pub fn classify(path: &[u8]) -> Result<Name<'_>, String> {
    if path.is_empty() {
        return Err("is an empty name".to_owned());
    }
    let components = clean(path)?;
    let Some((last, parents)) = components.split_last() else { return Ok(Name::Root) };
    if components.iter().any(|c| c.as_bytes().starts_with(META) && c.as_bytes() != OPAQUE) {
        return Ok(Name::Meta);
    }
    if parents.iter().any(|c| c.as_bytes().starts_with(PREFIX)) {
        return Err("lies below a whiteout".to_owned());
    }
    let parent: PathBuf = parents.iter().collect();
    match last.as_bytes().strip_prefix(PREFIX) {
        _ if last.as_bytes() == OPAQUE => Ok(Name::Opaque(parent)),
        Some(b"" | b"." | b"..") => Err("is a whiteout of no usable name".to_owned()),
        Some(hidden) => Ok(Name::Whiteout(parent, OsStr::from_bytes(hidden))),
        None => Ok(Name::Thing(parent, last)),
    }
}

/// The target of a hard link: its parent and its last component.
pub fn target(path: &[u8]) -> Result<(PathBuf, &OsStr), String> {
    let components = clean(path)?;
    match components.split_last() {
        Some((last, _)) if last.as_bytes().starts_with(PREFIX) => Err("is a whiteout".to_owned()),
        Some((last, parents)) => Ok((parents.iter().collect(), last)),
        None => Err("is the root itself".to_owned()),
    }
}

/// A path as messages show it.
pub fn shown(parent: &Path, name: &OsStr) -> String {
    crate::error::Shown(parent.join(name).as_os_str().as_bytes()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn thing<'a>(parent: &str, name: &'a str) -> Name<'a> {
        Name::Thing(PathBuf::from(parent), OsStr::new(name))
    }

    #[test]
    fn names_are_cleaned_within_the_root() {
        assert_eq!(classify(b"./usr//bin/./sh"), Ok(thing("usr/bin", "sh")));
        assert_eq!(classify(b"/etc/passwd"), Ok(thing("etc", "passwd")));
        assert_eq!(classify(b"a/../b"), Ok(thing("", "b")));
        assert_eq!(classify(b"dir/"), Ok(thing("", "dir")));
        assert_eq!(classify(b"./"), Ok(Name::Root));
        for bad in [&b"../x"[..], b"a/../../x", b"/..", b"", b"a\0b"] {
            assert!(classify(bad).is_err(), "{}", bad.escape_ascii());
        }
    }

    #[test]
    fn whiteouts_are_told_from_names() {
        assert_eq!(classify(b"a/.wh.b"), Ok(Name::Whiteout("a".into(), OsStr::new("b"))));
        assert_eq!(classify(b"a/.wh..wh..opq"), Ok(Name::Opaque("a".into())));
        assert_eq!(classify(b".wh..wh.plnk/1.2"), Ok(Name::Meta));
        assert_eq!(classify(b"a/.wh..wh.aufs"), Ok(Name::Meta));
        assert_eq!(classify(b"a.wh.b"), Ok(thing("", "a.wh.b")));
        for bad in [&b".wh."[..], b"a/.wh..", b"a/.wh...", b".wh.a/b", b".wh..wh..opq/x"] {
            assert!(classify(bad).is_err(), "{}", bad.escape_ascii());
        }
    }
}
