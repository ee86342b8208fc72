//! Which group paths are taken, and how they become paths below a hierarchy's root. No I/O.

use crate::error::Error;

/// Longest path taken, bytes.
const MAX_PATH: usize = 3000;
/// Deepest path taken. The kernel has no limit of its own unless `cgroup.max.depth` is set.
const MAX_DEPTH: usize = 32;

/// Checks an absolute group path and gives it back relative (`kubepods/pod1/abc`), single slashes.
pub(crate) fn relative(path: &str) -> Result<String, Error> {
    let refuse = |why| Error::Path { path: path.chars().take(200).collect(), why };
    if path.len() > MAX_PATH {
        return Err(refuse("it is longer than 3000 bytes"));
    }
    let Some(rest) = path.strip_prefix('/') else {
        return Err(refuse("it does not start with a slash"));
    };
    let mut clean = String::with_capacity(rest.len());
    let mut depth = 0;
    for part in rest.split('/').filter(|part| !part.is_empty()) {
        depth += 1;
        if part == "." || part == ".." {
            return Err(refuse("it has a `.` or `..` in it"));
        }
        // The kernel refuses newlines itself (cgroup_mkdir); other control characters only confuse those who read.
        if part.chars().any(char::is_control) {
            return Err(refuse("it has a control character in it"));
        }
        if part.len() > 255 {
            return Err(refuse("one of its names is longer than 255 bytes"));
        }
        if depth > MAX_DEPTH {
            return Err(refuse("it is deeper than 32 groups"));
        }
        if !clean.is_empty() {
            clean.push('/');
        }
        clean.push_str(part);
    }
    if clean.is_empty() {
        return Err(refuse("it names the root, which belongs to the machine"));
    }
    Ok(clean)
}

/// Checks the name of one group: what [`relative`] takes between two slashes.
pub(crate) fn component(name: &str) -> Result<(), Error> {
    let refuse = |why| Err(Error::Path { path: name.chars().take(200).collect(), why });
    if name.is_empty() {
        return refuse("it is empty");
    }
    if name.contains('/') {
        return refuse("it has a slash in it, and is to be one name");
    }
    relative(&format!("/{name}")).map(drop)
}

/// True when `inner` is `outer` or below it. Both relative, as [`relative`] gives them; empty is the root.
pub(crate) fn contains(outer: &str, inner: &str) -> bool {
    outer.is_empty() || inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The group above, `None` at the top.
pub(crate) fn parent(relative: &str) -> Option<&str> {
    relative.rsplit_once('/').map(|(parent, _)| parent)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn slashes_are_cleaned() {
        assert_eq!(relative("/kubepods//pod1/abc/").unwrap(), "kubepods/pod1/abc");
    }

    #[test]
    fn paths_that_leave_or_name_the_root_are_refused() {
        for bad in [
            "",
            "/",
            "//",
            "a/b",
            "/a/../b",
            "/./a",
            "/a\nb",
            "/a\0b",
            "/..",
            &"/a".repeat(33),
            &format!("/{}", "x".repeat(256)),
        ] {
            assert!(relative(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn one_name_is_one_name() {
        assert!(component("exec-1a2b").is_ok());
        for bad in ["", ".", "..", "/", "a/b", "/a", "a/", "a\nb", "a\0b", &"x".repeat(256)] {
            assert!(component(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_name_that_only_starts_alike_is_not_inside() {
        assert!(contains("a/b", "a/b/c"));
        assert!(contains("a/b", "a/b"));
        assert!(contains("", "a"));
        assert!(!contains("a/b", "a/bc"));
        assert!(!contains("a/b", "a"));
    }

    proptest! {
        #[test]
        fn what_is_taken_has_only_plain_names(path in "\\PC{0,80}") {
            if let Ok(clean) = relative(&path) {
                prop_assert!(clean.split('/').all(|part| !part.is_empty() && part != "." && part != ".."));
                prop_assert_eq!(relative(&format!("/{clean}")).unwrap(), clean);
            }
        }
    }
}
