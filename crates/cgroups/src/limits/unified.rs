//! The `unified` map: files of v2, written as they are asked for.

use super::Setting;
use crate::error::Error;
use crate::layout::Mode;
use rustix::io::Errno;
use std::collections::BTreeMap;

/// Longest value for a file.
const MAX_VALUE: usize = 4096;
/// Most files.
const MAX_FILES: usize = 256;
/// The core files that are limits; the others are how the runtime itself keeps hold of the group.
const CORE: [&str; 3] = ["cgroup.max.depth", "cgroup.max.descendants", "cgroup.pressure"];

impl Setting<'_> {
    pub(super) fn unified(&mut self, files: &BTreeMap<String, String>) -> Result<(), Error> {
        if files.is_empty() {
            return Ok(());
        }
        if files.len() > MAX_FILES {
            let why = "256 files are the most";
            return Err(Error::Value {
                what: "the unified cgroup map".into(),
                value: files.len().to_string(),
                why,
            });
        }
        if self.strict && self.group.layout.mode != Mode::V2 {
            // runc, `ErrV1NoUnified`: on a hybrid machine the limits are v1's.
            return Err(Error::Unable(
                "linux.resources.unified cannot be set: this machine's controllers are on cgroup v1; use the limits \
                 that have names of their own"
                    .to_owned(),
            ));
        }
        for (file, value) in files {
            check(file, value)?;
            self.unified_file(file, value)?;
        }
        Ok(())
    }

    fn unified_file(&mut self, file: &str, value: &str) -> Result<(), Error> {
        let Some(hierarchy) = self.group.layout.unified() else {
            return self.cannot(format!("{file} is not set: this machine has no unified cgroup hierarchy"));
        };
        let controller = file.split_once('.').map_or("", |(controller, _)| controller);
        let known = controller == "cgroup" || hierarchy.controllers.iter().any(|name| name == controller);
        if known && controller != "cgroup" {
            self.enable(hierarchy, controller)?;
        }
        // Files such as io.max take one line per write.
        for line in value.lines().map(str::trim).filter(|line| !line.is_empty()) {
            match self.try_write(hierarchy, file, line) {
                Ok(()) => {}
                Err(Errno::NOENT | Errno::ACCESS | Errno::PERM) if !known => {
                    return self.cannot(format!(
                        "{file} cannot be set: the controller {controller:?} is not there on this machine"
                    ));
                }
                Err(Errno::NOENT) => {
                    return self.cannot(format!(
                        "{file} cannot be set: the unified cgroup hierarchy of this machine has no such file"
                    ));
                }
                Err(errno) => return Err(self.refused(hierarchy, file, line, errno)),
            }
        }
        Ok(())
    }
}

/// Names become file names, and values are written as they are.
fn check(file: &str, value: &str) -> Result<(), Error> {
    let refuse = |why| {
        Err(Error::Value {
            what: "the unified cgroup map".into(),
            value: file.chars().take(100).collect(),
            why,
        })
    };
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    if file.is_empty()
        || file.len() > 100
        || !file.bytes().all(plain)
        || file.contains("..")
        || !file.contains('.')
        || file.starts_with('.')
    {
        return refuse("a name is a file name like memory.high");
    }
    if file.starts_with("cgroup.") && !CORE.contains(&file) {
        return refuse("this file belongs to the runtime");
    }
    if value.len() > MAX_VALUE {
        return refuse("its value is longer than 4096 bytes");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::check;
    use proptest::prelude::*;

    #[test]
    fn unified_names_stay_in_the_group_and_off_its_core_files() {
        check("memory.high", "1").unwrap();
        check("hugetlb.2MB.max", "1").unwrap();
        check("cgroup.max.descendants", "10").unwrap();
        for bad in [
            "",
            "memory",
            "../memory.max",
            "a/b.c",
            "cgroup.procs",
            "cgroup.kill",
            ".x",
            "memory..max",
            "m\0.x",
        ] {
            assert!(check(bad, "1").is_err(), "{bad:?}");
        }
        assert!(check("memory.high", &"1".repeat(5000)).is_err());
    }

    proptest! {
        #[test]
        fn no_name_makes_the_check_panic(text in "\\PC{0,40}") {
            let _ = check(&text, "");
        }
    }
}
