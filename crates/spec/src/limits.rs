//! Bounds of what callers may send. The message names the thing and the bound.

use types::reference::shorten;
use types::{Error, Result};

/// `PATH_MAX` of `linux/limits.h`, the closing NUL included.
const PATH_MAX: usize = 4096;
/// The kernel's `MAX_ARG_STRLEN` (execve(2)): one argument or variable, the closing NUL included.
const ARG_MAX: usize = 128 << 10;
/// All arguments and variables together; the kernel's own limit is a quarter of the stack limit, at most 6 MiB.
const ARGS_TOTAL: usize = 4 << 20;
/// Mounts, devices, masked paths, groups: far beyond what a pod has.
pub(crate) const LIST_MAX: usize = 4096;

/// Refuses what is not an absolute path of bounded length.
pub(crate) fn path(what: &str, path: &str) -> Result<()> {
    let refuse = |why: &str| Err(Error::invalid(format!("{what} {:?}: {why}", shorten(path))));
    if !path.starts_with('/') {
        return refuse("an absolute path is expected");
    }
    if path.len() >= PATH_MAX {
        return refuse("the path is longer than 4095 bytes");
    }
    if path.contains('\0') {
        return refuse("the path has a NUL byte");
    }
    Ok(())
}

/// Refuses lists that are longer than [`LIST_MAX`].
pub(crate) fn count(what: &str, length: usize) -> Result<()> {
    if length > LIST_MAX {
        return Err(Error::invalid(format!("{length} {what} were asked for; {LIST_MAX} are the most")));
    }
    Ok(())
}

/// Refuses arguments and variables that execve(2) would not take, with a sentence instead of `E2BIG`.
pub(crate) fn arguments(args: &[Vec<u8>], env: &[Vec<u8>]) -> Result<()> {
    let mut total = 0;
    for (what, list) in [("an argument", args), ("an environment variable", env)] {
        for text in list {
            if text.contains(&0) {
                return Err(Error::invalid(format!("{what} has a NUL byte: {:?}", shown(text))));
            }
            if text.len() >= ARG_MAX {
                return Err(Error::invalid(format!("{what} is longer than 131071 bytes: {:?}", shown(text))));
            }
            total += text.len() + 1;
        }
    }
    if total > ARGS_TOTAL {
        return Err(Error::invalid(format!(
            "arguments and environment take {total} bytes together; {ARGS_TOTAL} are the most"
        )));
    }
    Ok(())
}

fn shown(text: &[u8]) -> String {
    shorten(&String::from_utf8_lossy(&text[..text.len().min(400)]))
}

/// The path with `.`, empty and `..` parts resolved by text, as Go's `filepath.Clean` does for absolute paths.
/// Only to compare and to sort: what a path means is decided where it is opened.
pub(crate) fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_cleaned_as_go_cleans_them() {
        for (path, clean_path) in
            [("/a//b/./c/", "/a/b/c"), ("/a/../../b", "/b"), ("/", "/"), ("//", "/"), ("/a/b/..", "/a")]
        {
            assert_eq!(clean(path), clean_path);
        }
    }

    #[test]
    fn relative_long_and_torn_paths_are_refused() {
        assert!(path("x", "/a").is_ok());
        for bad in ["", "a", "/a\0b", &format!("/{}", "a".repeat(4095))] {
            assert!(path("x", bad).is_err());
        }
    }
}
