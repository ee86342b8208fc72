//! Memory and swap limits.

use super::{MemoryLimits, Setting};
use crate::Group;
use crate::error::Error;
use crate::layout::{Hierarchy, Version};
use rustix::io::Errno;

const LIMIT: &str = "memory.limit_in_bytes";
const WITH_SWAP: &str = "memory.memsw.limit_in_bytes";
const NO_SWAP: &str = "the swap limit cannot be set: this machine does not account swap";

impl MemoryLimits {
    /// The limit of swap alone, as v2 counts; negative is no limit (`ConvertMemorySwapToCgroupV2Value` of runc).
    ///
    /// # Errors
    /// What is wrong with the two limits together.
    pub fn swap_alone(&self) -> std::result::Result<Option<i64>, &'static str> {
        match (self.limit, self.swap) {
            // No limit of memory takes the limit of both away, on v1 too.
            (Some(..0), None) => Ok(Some(-1)),
            (_, None) => Ok(None),
            (_, Some(..0)) => Ok(Some(-1)),
            (None | Some(..=0), Some(_)) => Err("it counts memory too, so it needs a memory limit beside it"),
            (Some(limit), Some(swap)) if swap < limit => {
                Err("it counts memory too, so it cannot be below the memory limit")
            }
            (Some(limit), Some(swap)) => Ok(Some(swap - limit)),
        }
    }

    fn is_said(&self) -> bool {
        self.limit.is_some() || self.swap.is_some() || self.reservation.is_some()
    }
}

impl Setting<'_> {
    pub(super) fn memory(&mut self, asked: &MemoryLimits) -> Result<(), Error> {
        if !asked.is_said() && asked.swappiness.is_none() && asked.disable_oom_killer != Some(true) {
            return Ok(());
        }
        let Some(hierarchy) = self.with("memory", "the memory limit")? else { return Ok(()) };
        match hierarchy.version {
            Version::V1 => self.memory_v1(hierarchy, asked),
            Version::V2 => self.memory_v2(hierarchy, asked),
        }
    }

    fn memory_v1(&mut self, hierarchy: &Hierarchy, asked: &MemoryLimits) -> Result<(), Error> {
        // No limit on memory with a limit on memory and swap is refused by the kernel, so it takes both off.
        let swap = match asked.limit {
            Some(..0) => Some(asked.swap.unwrap_or(-1)),
            _ => asked.swap,
        };
        self.limit_and_swap_v1(hierarchy, asked.limit, swap)?;
        if let Some(soft) = asked.reservation {
            self.write(hierarchy, "memory.soft_limit_in_bytes", &soft.max(-1).to_string())?;
        }
        if asked.disable_oom_killer == Some(true) {
            self.write(hierarchy, "memory.oom_control", "1")?;
        }
        match asked.swappiness {
            None => Ok(()),
            Some(value @ 0..=100) => self.write(hierarchy, "memory.swappiness", &value.to_string()),
            Some(value) => Err(refuse("memory.swappiness", value, "it must be from 0 to 100")),
        }
    }

    /// The kernel holds memory ≤ memory and swap at every moment (EINVAL), so the order depends on what is there:
    /// memory first when limits shrink or are new, the other first when they grow.
    fn limit_and_swap_v1(
        &mut self,
        hierarchy: &Hierarchy,
        limit: Option<i64>,
        swap: Option<i64>,
    ) -> Result<(), Error> {
        let text = |value: i64| value.max(-1).to_string();
        let mut swap = swap.map(text);
        if let Some(limit) = limit.map(text) {
            let mut result = self.try_write(hierarchy, LIMIT, &limit);
            if result == Err(Errno::INVAL)
                && swap.as_ref().is_some_and(|swap| self.try_write(hierarchy, WITH_SWAP, swap).is_ok())
            {
                swap = None;
                result = self.try_write(hierarchy, LIMIT, &limit);
            }
            match result {
                Ok(()) => {}
                Err(Errno::BUSY) => {
                    let used = hierarchy.read(self.group.relative(), "memory.usage_in_bytes")?;
                    return Err(below_use(&limit, used.as_deref().unwrap_or("unknown")));
                }
                Err(errno) => return Err(self.refused(hierarchy, LIMIT, &limit, errno)),
            }
        }
        let Some(swap) = swap else { return Ok(()) };
        match self.try_write(hierarchy, WITH_SWAP, &swap) {
            Ok(()) => Ok(()),
            // Kernels without CONFIG_SWAP, or started with swapaccount=0.
            Err(Errno::NOENT | Errno::OPNOTSUPP) if swap == "-1" => Ok(()),
            Err(Errno::NOENT | Errno::OPNOTSUPP) => self.cannot(NO_SWAP.to_owned()),
            Err(errno) => Err(self.refused(hierarchy, WITH_SWAP, &swap, errno)),
        }
    }

    fn memory_v2(&mut self, hierarchy: &Hierarchy, asked: &MemoryLimits) -> Result<(), Error> {
        let group = self.group.relative();
        if asked.swappiness.is_some() {
            self.cannot("memory.swappiness cannot be set: cgroup v2 has no such limit".to_owned())?;
        }
        if asked.disable_oom_killer == Some(true) {
            self.cannot("the OOM killer cannot be switched off: cgroup v2 has no way to do it".to_owned())?;
        }
        let mut both = asked.clone();
        if matches!(both.swap, Some(0..)) && both.limit.is_none() {
            // `update` of the swap limit alone.
            let now = hierarchy.read(group, "memory.max")?;
            both.limit = now.and_then(|now| now.trim().parse().ok());
        }
        let swap = both
            .swap_alone()
            .map_err(|why| refuse("the limit of memory and swap", both.swap.unwrap_or_default(), why))?;
        check(self.group, asked)?;
        if let Some(swap) = swap.map(or_max) {
            match self.try_write(hierarchy, "memory.swap.max", &swap) {
                Ok(()) => {}
                // No swap at all is what these two ask for or allow (runc `setMemory`).
                Err(Errno::NOENT) if swap == "max" || swap == "0" => {}
                Err(Errno::NOENT) => self.cannot(NO_SWAP.to_owned())?,
                Err(errno) => return Err(self.refused(hierarchy, "memory.swap.max", &swap, errno)),
            }
        }
        if let Some(limit) = asked.limit {
            // Unlike v1, lowering below what is used is never refused: it reclaims, and kills if it must (cgroup-v2.rst).
            self.write(hierarchy, "memory.max", &or_max(limit))?;
        }
        if let Some(low) = asked.reservation {
            self.write(hierarchy, "memory.low", &or_max(low))?;
        }
        Ok(())
    }
}

/// On v2 the kernel takes a limit below what is used, and kills; v1 refuses it (specification, `checkBeforeUpdate`).
pub(super) fn check(group: &Group, asked: &MemoryLimits) -> Result<(), Error> {
    let (true, Some(limit @ 0..)) = (asked.check_before_update, asked.limit) else { return Ok(()) };
    let Some(hierarchy) = group.layout.with("memory") else { return Ok(()) };
    if hierarchy.version == Version::V1 {
        return Ok(());
    }
    let used = hierarchy.read(group.relative(), "memory.current")?.unwrap_or_default();
    if used.trim().parse::<u64>().is_ok_and(|used| used > limit.unsigned_abs()) {
        return Err(below_use(&limit.to_string(), &used));
    }
    Ok(())
}

fn or_max(value: i64) -> String {
    if value < 0 { "max".to_owned() } else { value.to_string() }
}

fn below_use(limit: &str, used: &str) -> Error {
    Error::Unable(format!(
        "the memory limit {limit} cannot be set: the group uses {} bytes already; stop something in it, or set a \
         higher limit",
        used.trim()
    ))
}

fn refuse(what: &str, value: impl std::fmt::Display, why: &'static str) -> Error {
    Error::Value { what: what.to_owned(), value: value.to_string(), why }
}

#[cfg(test)]
mod tests {
    use super::MemoryLimits;

    fn alone(limit: Option<i64>, swap: Option<i64>) -> Result<Option<i64>, &'static str> {
        MemoryLimits { limit, swap, ..MemoryLimits::default() }.swap_alone()
    }

    #[test]
    fn swap_alone_is_the_difference() {
        assert_eq!(alone(Some(100), None).unwrap(), None);
        assert_eq!(alone(Some(100), Some(-1)).unwrap(), Some(-1));
        assert_eq!(alone(Some(100), Some(100)).unwrap(), Some(0));
        assert_eq!(alone(Some(100), Some(150)).unwrap(), Some(50));
        assert_eq!(alone(Some(-1), None).unwrap(), Some(-1));
        assert_eq!(alone(None, Some(-1)).unwrap(), Some(-1));
        assert!(alone(Some(100), Some(50)).is_err());
        assert!(alone(None, Some(50)).is_err());
        assert!(alone(Some(-1), Some(50)).is_err());
        assert!(alone(Some(i64::MIN), Some(i64::MAX)).is_err());
    }
}
