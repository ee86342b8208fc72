//! Memory and swap limits.

use super::{Warnings, lacks};
use crate::Group;
use crate::error::Error;
use crate::layout::{Hierarchy, Version};
use rustix::io::Errno;

const LIMIT: &str = "memory.limit_in_bytes";
const WITH_SWAP: &str = "memory.memsw.limit_in_bytes";

impl Group {
    /// Bytes; 0 is not said, negative is no limit. `swap` counts memory and swap together, as v1 and the CRI do.
    pub(super) fn apply_memory(&self, limit: i64, swap: i64, warnings: &mut Warnings) -> Result<(), Error> {
        if limit == 0 && swap == 0 {
            return Ok(());
        }
        let Some(hierarchy) = self.layout.with("memory") else {
            warnings.push(lacks("memory", "the memory limit"));
            return Ok(());
        };
        match hierarchy.version {
            Version::V1 => self.memory_v1(hierarchy, limit, swap, warnings),
            Version::V2 => self.memory_v2(hierarchy, limit, swap, warnings),
        }
    }

    fn memory_v1(
        &self,
        hierarchy: &Hierarchy,
        limit: i64,
        swap: i64,
        warnings: &mut Warnings,
    ) -> Result<(), Error> {
        let group = self.relative();
        // No limit on memory with a limit on memory and swap is refused by the kernel, so it takes both off.
        let swap = if limit < 0 && swap == 0 { -1 } else { swap };
        let (limit_text, swap_text) = (limit.max(-1).to_string(), swap.max(-1).to_string());
        // The kernel holds memory ≤ memory and swap at every moment (EINVAL), so the order depends on what is there:
        // memory first when limits shrink or are new, the other first when they grow.
        let mut swap_done = swap == 0;
        if limit != 0 {
            let mut result = hierarchy.try_write(group, LIMIT, &limit_text);
            if result == Err(Errno::INVAL)
                && !swap_done
                && hierarchy.try_write(group, WITH_SWAP, &swap_text).is_ok()
            {
                swap_done = true;
                result = hierarchy.try_write(group, LIMIT, &limit_text);
            }
            result.map_err(|errno| hierarchy.refused(group, LIMIT, &limit_text, errno))?;
        }
        if !swap_done {
            match hierarchy.try_write(group, WITH_SWAP, &swap_text) {
                Ok(()) => {}
                // Kernels without CONFIG_SWAP, or started with swapaccount=0.
                Err(Errno::NOENT | Errno::OPNOTSUPP) => {
                    warnings.push(
                        "the swap limit is not enforced: this machine does not account swap".to_owned(),
                    );
                }
                Err(errno) => return Err(hierarchy.refused(group, WITH_SWAP, &swap_text, errno)),
            }
        }
        Ok(())
    }

    fn memory_v2(
        &self,
        hierarchy: &Hierarchy,
        limit: i64,
        swap: i64,
        warnings: &mut Warnings,
    ) -> Result<(), Error> {
        let group = self.relative();
        if let Some(value) = swap_max(limit, swap)? {
            match hierarchy.try_write(group, "memory.swap.max", &value) {
                Ok(()) => {}
                Err(Errno::NOENT) => {
                    warnings.push(
                        "the swap limit is not enforced: this machine does not account swap".to_owned(),
                    );
                }
                Err(errno) => return Err(hierarchy.refused(group, "memory.swap.max", &value, errno)),
            }
        }
        if limit != 0 {
            // Unlike v1, lowering below what is used is never refused: it reclaims, and kills if it must (cgroup-v2.rst).
            hierarchy.write(
                group,
                "memory.max",
                &if limit < 0 { "max".to_owned() } else { limit.to_string() },
            )?;
        }
        Ok(())
    }
}

/// v2 counts swap alone.
fn swap_max(limit: i64, swap: i64) -> Result<Option<String>, Error> {
    let refuse =
        |why| Err(Error::Value { what: "the limit of memory and swap".into(), value: swap.to_string(), why });
    match (limit, swap) {
        (_, 0) => Ok(None),
        (_, ..0) => Ok(Some("max".to_owned())),
        (..=0, _) => refuse("it counts memory too, so it needs a memory limit beside it"),
        (limit, swap) if swap < limit => {
            refuse("it counts memory too, so it cannot be below the memory limit")
        }
        (limit, swap) => Ok(Some((swap - limit).to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::swap_max;

    #[test]
    fn swap_alone_is_the_difference() {
        assert_eq!(swap_max(100, 0).unwrap(), None);
        assert_eq!(swap_max(100, -1).unwrap().as_deref(), Some("max"));
        assert_eq!(swap_max(100, 100).unwrap().as_deref(), Some("0"));
        assert_eq!(swap_max(100, 150).unwrap().as_deref(), Some("50"));
        assert!(swap_max(100, 50).is_err());
        assert!(swap_max(0, 50).is_err());
        assert!(swap_max(i64::MIN, i64::MAX).is_err());
    }
}
