//! Names of units and slices, and the cgroup that systemd gives to each. No I/O.

use crate::error::Error;

/// Longest unit name (systemd `UNIT_NAME_MAX` is 256 with the final zero).
const MAX_NAME: usize = 255;
/// Deepest slice; the cgroup path has one group for each.
const MAX_DEPTH: usize = 24;
const SLICE: &str = ".slice";

/// Controllers whose files could be mistaken for a group (systemd `cgroup_controller_to_string`).
const CONTROLLERS: [&str; 8] = ["cpu", "cpuacct", "cpuset", "io", "blkio", "memory", "devices", "pids"];

/// Checks a whole unit name, as systemd's `unit_name_is_valid` does: letters, digits and `:-_.\@`, with a kind at its end.
pub(crate) fn check(name: &str) -> Result<(), Error> {
    let refuse = |why| Err(Error::Name { name: name.chars().take(100).collect(), why });
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b':' | b'-' | b'_' | b'.' | b'\\' | b'@');
    if name.len() > MAX_NAME {
        return refuse("it is longer than 255 bytes");
    }
    if !name.bytes().all(plain) {
        return refuse(
            "a unit's name has letters, digits and :-_.\\@ only; choose another container id or linux.cgroupsPath",
        );
    }
    match name.rsplit_once('.') {
        Some((stem, "scope" | "slice")) if !stem.is_empty() && !stem.starts_with('@') => Ok(()),
        _ => refuse("a unit's name ends in .scope or .slice, after at least one character"),
    }
}

/// The cgroup of a slice, from the root and without its first slash: `a-b.slice` is `a.slice/a-b.slice`, and `-.slice`
/// the root itself (systemd.slice(5)).
pub(crate) fn slice_path(slice: &str) -> Result<String, Error> {
    let refuse = |why| Err(Error::Slice { slice: slice.chars().take(100).collect(), why });
    let Some(stem) = slice.strip_suffix(SLICE) else {
        return refuse("it does not end in .slice");
    };
    if stem == "-" {
        return Ok(String::new());
    }
    check(slice)?;
    if stem.contains('@') {
        return refuse("a slice cannot be an instance of a template");
    }
    let mut path = String::new();
    for (depth, (end, _)) in stem.match_indices('-').chain([(stem.len(), "")]).enumerate() {
        let outer = &stem[..end];
        if outer.is_empty() || outer.ends_with('-') {
            return refuse(
                "there is nothing between two of its dashes, or before the first or after the last",
            );
        }
        if depth >= MAX_DEPTH {
            return refuse("it is deeper than 24 slices");
        }
        if !path.is_empty() {
            path.push('/');
        }
        path.push_str(&escaped(&format!("{outer}{SLICE}")));
    }
    Ok(path)
}

/// The folder of a unit: its name, with a `_` in front where it would look like a file of the kernel (systemd
/// `cg_needs_escape`, basic/cgroup-util.c).
pub(crate) fn escaped(name: &str) -> String {
    let file_of_controller = || name.split_once('.').is_some_and(|(first, _)| CONTROLLERS.contains(&first));
    let taken = name.starts_with(['_', '.'])
        || matches!(name, "notify_on_release" | "release_agent" | "tasks")
        || name.starts_with("cgroup.")
        || file_of_controller();
    if taken { format!("_{name}") } else { name.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn dashes_of_a_slice_are_levels() {
        assert_eq!(slice_path("a-b-c.slice").unwrap(), "a.slice/a-b.slice/a-b-c.slice");
        assert_eq!(slice_path("system.slice").unwrap(), "system.slice");
        assert_eq!(slice_path("-.slice").unwrap(), "");
        assert_eq!(
            slice_path("kubepods-besteffort-pod1_2.slice").unwrap(),
            "kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod1_2.slice"
        );
    }

    #[test]
    fn slices_that_systemd_would_not_take_are_refused() {
        for bad in [
            "",
            ".slice",
            "a",
            "a.scope",
            "-a.slice",
            "a-.slice",
            "a--b.slice",
            "--.slice",
            "a/b.slice",
            "../a.slice",
            "a b.slice",
            "a@b.slice",
            "a\n.slice",
            "é.slice",
            &format!("{}.slice", "x".repeat(256)),
            &format!("a{}.slice", "-a".repeat(24)),
        ] {
            assert!(slice_path(bad).is_err(), "{bad:?}");
        }
        assert!(slice_path(&format!("a{}.slice", "-a".repeat(23))).is_ok());
    }

    #[test]
    fn names_that_look_like_kernel_files_get_an_underscore() {
        assert_eq!(escaped("memory.scope"), "_memory.scope");
        assert_eq!(escaped("cgroup.x.scope"), "_cgroup.x.scope");
        assert_eq!(escaped("_a.scope"), "__a.scope");
        assert_eq!(escaped("memory-1.scope"), "memory-1.scope");
        assert_eq!(slice_path("cpu.slice").unwrap(), "_cpu.slice");
    }

    proptest! {
        #[test]
        fn a_slice_that_is_taken_stays_below_the_root(text in "[a-z@/.\\\\\\-]{0,20}(\\.slice)?|\\PC{0,30}") {
            if let Ok(path) = slice_path(&text) {
                prop_assert!(!path.starts_with('/') && !path.ends_with('/') && !path.contains("//"));
                prop_assert!(path.split('/').all(|part| part != ".." && part != "."));
            }
            let _ = check(&text);
        }
    }
}
