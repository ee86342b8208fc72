//! Who runs this program, as far as it changes where state is kept and what may fail. Changes nothing.

use std::path::PathBuf;

/// Whether this user cannot be expected to make cgroups: an ordinary user, or the root of a user namespace.
pub fn is_rootless() -> bool {
    !rustix::process::geteuid().is_root() || in_user_namespace()
}

/// The user's own runtime folder, where it is to be used (runc `rootless_linux.go`,
/// `shouldHonorXDGRuntimeDir`): never by the root of the node, and not by the root of a user namespace who says by
/// `USER` that it is one.
pub fn runtime_folder() -> Option<PathBuf> {
    let folder = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|path| path.is_absolute())?;
    let own = match rustix::process::geteuid().is_root() {
        false => true,
        true => in_user_namespace() && std::env::var_os("USER").is_none_or(|user| user != "root"),
    };
    own.then_some(folder)
}

/// Whether ids are mapped: in the first namespace all are, to themselves (user_namespaces(7)).
fn in_user_namespace() -> bool {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    maps(&map)
}

fn maps(map: &str) -> bool {
    !map.split_whitespace().eq(["0", "0", "4294967295"]) && !map.trim().is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_user_namespace_is_told_from_others() {
        assert!(!maps("         0          0 4294967295\n"));
        assert!(maps("         0       1000          1\n"));
        assert!(maps("0 0 65536\n"));
        assert!(maps("0 1000 1\n1 100000 65536\n"));
        // A kernel without user namespaces has no such file.
        assert!(!maps(""));
    }
}
