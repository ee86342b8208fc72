//! Limits as properties of a unit, so that systemd does not take them back when it looks at its units again
//! (`daemon-reload`). No I/O.
//!
//! Only what systemd has words for: all limits are written to the cgroup's files as well. The conversions are those of
//! runc (`systemd/v1.go` and `v2.go` of opencontainers/cgroups).

use crate::annotation;
use crate::error::Error;
use cgroups::{Limits, Mode, io_weight, weight_of_shares};
use zbus::zvariant::Value;

/// The kernel's own period, microseconds.
const DEFAULT_PERIOD: u64 = 100_000;
/// Highest number of a CPU or memory node; the kernel's `NR_CPUS` ends here.
const MAX_CPU: usize = 8191;
/// Most properties from annotations.
const MAX_ANNOTATED: usize = 256;
/// No limit, in systemd's words.
const INFINITY: u64 = u64::MAX;

/// One property.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Property {
    pub name: String,
    pub value: Value<'static>,
    /// The version of systemd that has it first; an older one is not told. 0 for all.
    pub since: u32,
}

/// Properties of a unit, in the order in which systemd is to read them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Properties {
    list: Vec<Property>,
}

impl Properties {
    /// True when there are none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Adds those of `other` behind these; of two with one name systemd takes the later.
    pub fn extend(&mut self, other: Properties) {
        self.list.extend(other.list);
    }

    /// These, and for what only `new` has systemd's word for "not set": to take `new` back where these were before.
    pub fn undoing(mut self, new: &Properties) -> Properties {
        for property in &new.list {
            if self.list.iter().any(|old| old.name == property.name) {
                continue;
            }
            let value: Value<'static> = match property.name.as_str() {
                "AllowedCPUs" | "AllowedMemoryNodes" => Vec::<u8>::new().into(),
                "MemoryLow" | "MemoryMin" => 0_u64.into(),
                // "infinity" of limits, and what a weight has when none is set (`CGROUP_WEIGHT_INVALID`).
                _ => u64::MAX.into(),
            };
            self.list.push(Property { name: property.name.clone(), value, since: property.since });
        }
        self
    }

    /// The properties that stand for limits, for the mode of the machine (`Cgroups::mode`).
    ///
    /// # Errors
    /// `InvalidArgument` for a list of CPUs, or a value of the `unified` map, that cannot be read.
    pub fn of_limits(limits: &Limits, mode: Mode) -> types::Result<Properties> {
        let mut all = Properties::default();
        match mode {
            Mode::V2 => all.v2(limits)?,
            Mode::V1 | Mode::Hybrid => all.v1(limits),
        }
        all.quota(limits.cpu.quota, limits.cpu.period);
        if let Some(most) = limits.pids {
            // TasksMax=0 is refused, and one task is what pids.max 0 leaves of a container too.
            all.add("TasksMax", u64::try_from(most).map_or(INFINITY, |most| most.max(1)));
        }
        all.cpus("AllowedCPUs", &limits.cpu.cpus)?;
        all.cpus("AllowedMemoryNodes", &limits.cpu.mems)?;
        if mode == Mode::V2 {
            all.unified(limits)?;
        }
        Ok(all)
    }

    /// The properties of annotations `org.systemd.property.NAME`, whose values are written as GVariant text
    /// (`'text'`, `true`, `uint64 5`, `['a', 'b']`). A name in `Sec` is taken as runc does: seconds, for the property in `USec`.
    ///
    /// # Errors
    /// `InvalidArgument` for a name or value of another form.
    pub fn of_annotations<'a>(
        annotations: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> types::Result<Properties> {
        let mut all = Properties::default();
        for (key, text) in annotations {
            let Some(name) = key.strip_prefix("org.systemd.property.") else { continue };
            if all.list.len() >= MAX_ANNOTATED {
                return Err(Error::Value {
                    what: "the annotations org.systemd.property.*".to_owned(),
                    value: MAX_ANNOTATED.to_string(),
                    why: "there are more of them than that",
                }
                .into());
            }
            let (name, value) = annotation::property(name, text)?;
            all.list.push(Property { name, value, since: 0 });
        }
        // Annotations come in the order of a map.
        all.list.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(all)
    }

    /// What every unit of ours has.
    pub(crate) fn of_unit(unit: &str, slice: &str, pid: i32) -> Properties {
        let mut all = Properties::default();
        all.add("Description", format!("container {unit}"));
        if unit.ends_with(".slice") {
            // A slice's place is in its name; it holds no processes itself.
            all.add("Wants", vec![slice.to_owned()]);
        } else {
            all.add("Slice", slice.to_owned());
            all.add("Delegate", true);
            all.add("PIDs", vec![pid.unsigned_abs()]);
            // Not to stay behind as failed when the container was killed for lack of memory (systemd.unit(5)).
            all.newer(236, "CollectMode", "inactive-or-failed".to_owned());
        }
        for name in ["MemoryAccounting", "CPUAccounting", "IOAccounting", "TasksAccounting"] {
            all.add(name, true);
        }
        // Without this, containers would be stopped by systemd itself at shutdown before what uses them.
        all.add("DefaultDependencies", false);
        all
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Property> {
        self.list.iter()
    }

    /// The version that knows all of them; 0 when every one does.
    pub(crate) fn newest(&self) -> u32 {
        self.list.iter().map(|property| property.since).max().unwrap_or(0)
    }

    /// Without those that this version does not have.
    pub(crate) fn known_by(&self, version: u32) -> Properties {
        Properties { list: self.list.iter().filter(|p| p.since <= version).cloned().collect() }
    }

    pub(crate) fn add(&mut self, name: &str, value: impl Into<Value<'static>>) {
        self.newer(0, name, value);
    }

    fn newer(&mut self, since: u32, name: &str, value: impl Into<Value<'static>>) {
        self.list.push(Property { name: name.to_owned(), value: value.into(), since });
    }

    fn v1(&mut self, limits: &Limits) {
        if let Some(limit) = limits.memory.limit {
            self.add("MemoryLimit", bytes(limit));
        }
        if let Some(shares) = limits.cpu.shares {
            self.add("CPUShares", shares);
        }
        if let Some(weight) = limits.block.weight {
            self.add("BlockIOWeight", u64::from(weight));
        }
    }

    fn v2(&mut self, limits: &Limits) -> Result<(), Error> {
        if let Some(limit) = limits.memory.limit {
            self.add("MemoryMax", bytes(limit));
        }
        if let Some(low) = limits.memory.reservation {
            self.add("MemoryLow", bytes(low));
        }
        if let Some(swap) = limits.memory.swap_alone().map_err(|why| Error::Value {
            what: "linux.resources.memory.swap".to_owned(),
            value: limits.memory.swap.unwrap_or_default().to_string(),
            why,
        })? {
            self.add("MemorySwapMax", bytes(swap));
        }
        // A weight of 0 is how systemd says cpu.idle, since version 252.
        match (limits.cpu.idle, limits.cpu.shares) {
            (Some(1), _) => self.newer(252, "CPUWeight", 0_u64),
            (_, Some(shares)) => self.add("CPUWeight", weight_of_shares(shares)),
            // No longer idle, with the weight of every group.
            (Some(0), None) => self.add("CPUWeight", 100_u64),
            _ => {}
        }
        // runc does not tell systemd; crun does.
        if let Some(weight) = limits.block.weight {
            self.add("IOWeight", io_weight(weight));
        }
        Ok(())
    }

    fn quota(&mut self, quota: Option<i64>, period: Option<u64>) {
        if quota.is_none() && period.is_none() {
            return;
        }
        if let Some(period) = period {
            self.newer(242, "CPUQuotaPeriodUSec", period);
        }
        let per_second = match quota.map(u64::try_from) {
            Some(Ok(quota)) if quota > 0 => {
                // Systemd counts in percent: rounded up, for a smaller limit would hold against the file's.
                let exact =
                    u128::from(quota) * 1_000_000 / u128::from(period.unwrap_or(DEFAULT_PERIOD).max(1));
                u64::try_from(exact.div_ceil(10_000) * 10_000).unwrap_or(INFINITY)
            }
            _ => INFINITY,
        };
        self.add("CPUQuotaPerSecUSec", per_second);
    }

    fn cpus(&mut self, name: &str, list: &str) -> Result<(), Error> {
        if !list.is_empty() {
            self.newer(244, name, bits(name, list)?);
        }
        Ok(())
    }

    /// Files of the `unified` map that systemd has a word for; the others are only written.
    fn unified(&mut self, limits: &Limits) -> Result<(), Error> {
        let is_idle = limits.unified.get("cpu.idle").is_some_and(|idle| idle.trim() == "1");
        for (file, value) in &limits.unified {
            let value = value.trim();
            let refuse = |why| Error::Value {
                what: format!("linux.resources.unified {file}"),
                value: value.chars().take(100).collect(),
                why,
            };
            let number = || match value {
                "max" => Ok(INFINITY),
                text => text.parse::<u64>().map_err(|_| refuse("a number or max is expected")),
            };
            match file.as_str() {
                "cpu.idle" if is_idle => self.newer(252, "CPUWeight", 0_u64),
                // One CPUWeight is enough, and idleness wins.
                "cpu.weight" if !is_idle => self.add("CPUWeight", number()?),
                "cpu.max" => {
                    let mut words = value.split_whitespace();
                    let quota = match words.next() {
                        Some("max") => -1,
                        word => word
                            .and_then(|word| word.parse::<i64>().ok())
                            .ok_or_else(|| refuse("a quota and a period are expected"))?,
                    };
                    let period = match words.next() {
                        None => None,
                        Some(word) => Some(word.parse().map_err(|_| refuse("its period is no number"))?),
                    };
                    self.quota(Some(quota), period);
                }
                "cpuset.cpus" => self.cpus("AllowedCPUs", value)?,
                "cpuset.mems" => self.cpus("AllowedMemoryNodes", value)?,
                "memory.min" => self.add("MemoryMin", number()?),
                "memory.low" => self.add("MemoryLow", number()?),
                "memory.high" => self.add("MemoryHigh", number()?),
                "memory.max" => self.add("MemoryMax", number()?),
                "memory.swap.max" => self.add("MemorySwapMax", number()?),
                "pids.max" => self.add("TasksMax", number()?.max(1)),
                _ => {}
            }
        }
        Ok(())
    }
}

/// Negative is no limit.
fn bytes(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(INFINITY)
}

/// A list as `0-2,7` as bits, the first CPU in the lowest bit of the first byte.
fn bits(what: &str, list: &str) -> Result<Vec<u8>, Error> {
    let refuse = |why| Error::Value { what: what.to_owned(), value: list.chars().take(100).collect(), why };
    let number = |text: &str| {
        let number = text.trim().parse::<usize>().map_err(|_| refuse("write it like 0-2,7"))?;
        if number > MAX_CPU { Err(refuse("8191 is the highest number")) } else { Ok(number) }
    };
    let mut bits = Vec::new();
    for part in list.trim().split(',').filter(|part| !part.trim().is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (number(first)?, number(last)?);
        if first > last {
            return Err(refuse("a range begins with its lower number"));
        }
        if bits.len() <= last / 8 {
            bits.resize(last / 8 + 1, 0);
        }
        (first..=last).for_each(|cpu| bits[cpu / 8] |= 1 << (cpu % 8));
    }
    if bits.is_empty() { Err(refuse("it names nothing")) } else { Ok(bits) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(limits: Limits, mode: Mode) -> Vec<(String, Value<'static>)> {
        let all = Properties::of_limits(&limits, mode).unwrap();
        all.list.into_iter().map(|p| (p.name, p.value)).collect()
    }

    fn limits(change: impl FnOnce(&mut Limits)) -> Limits {
        let mut limits = Limits::default();
        change(&mut limits);
        limits
    }

    #[test]
    fn v2_limits_become_the_words_of_v2() {
        let all = of(
            limits(|l| {
                l.memory.limit = Some(1000);
                l.memory.swap = Some(1500);
                l.memory.reservation = Some(-1);
                l.cpu.shares = Some(1024);
                l.block.weight = Some(100);
                l.cpu.quota = Some(33_333);
                l.pids = Some(-1);
                l.cpu.cpus = "0,9-10".to_owned();
                l.unified.insert("memory.high".to_owned(), "max".to_owned());
                l.unified.insert("io.max".to_owned(), "8:0 rbps=1".to_owned());
            }),
            Mode::V2,
        );
        let want: Vec<(String, Value<'_>)> = [
            ("MemoryMax", Value::from(1000_u64)),
            ("MemoryLow", Value::from(u64::MAX)),
            ("MemorySwapMax", Value::from(500_u64)),
            ("CPUWeight", Value::from(100_u64)),
            ("IOWeight", Value::from(910_u64)),
            ("CPUQuotaPerSecUSec", Value::from(340_000_u64)),
            ("TasksMax", Value::from(u64::MAX)),
            ("AllowedCPUs", Value::from(vec![1_u8, 6])),
            ("MemoryHigh", Value::from(u64::MAX)),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into();
        assert_eq!(all, want);
    }

    #[test]
    fn v1_limits_become_the_words_of_v1() {
        let all = of(
            limits(|l| {
                l.memory.limit = Some(1000);
                l.memory.swap = Some(10);
                l.cpu.shares = Some(512);
                l.block.weight = Some(300);
                l.cpu.period = Some(50_000);
            }),
            Mode::Hybrid,
        );
        let names: Vec<&str> = all.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(
            names,
            ["MemoryLimit", "CPUShares", "BlockIOWeight", "CPUQuotaPeriodUSec", "CPUQuotaPerSecUSec"]
        );
        assert_eq!(all[4].1, Value::from(u64::MAX));
    }

    #[test]
    fn an_older_systemd_is_not_told_what_it_does_not_know() {
        let all = Properties::of_limits(
            &limits(|l| {
                l.cpu.idle = Some(1);
                l.cpu.cpus = "0".to_owned();
                l.pids = Some(5);
            }),
            Mode::V2,
        )
        .unwrap();
        assert_eq!(all.newest(), 252);
        assert_eq!(all.known_by(252).list.len(), 3);
        assert_eq!(all.known_by(243).list.len(), 1);
    }

    #[test]
    fn lists_of_cpus_that_mean_nothing_are_refused() {
        for bad in ["x", "3-1", "8192", "0-99999999999", "-", ",", "1-2-3", "0-4294967296"] {
            assert!(bits("AllowedCPUs", bad).is_err(), "{bad}");
        }
        assert_eq!(bits("AllowedCPUs", "8191").unwrap().len(), 1024);
    }

    proptest! {
        #[test]
        fn no_limits_make_the_conversion_panic(
            quota in any::<Option<i64>>(), period in any::<Option<u64>>(), shares in any::<Option<u64>>(),
            limit in any::<Option<i64>>(), swap in any::<Option<i64>>(), pids in any::<Option<i64>>(),
            cpus in "[0-9,\\- ]{0,12}", max in "(max|[0-9]{0,22}| |-){0,4}",
        ) {
            let limits = limits(|l| {
                (l.cpu.quota, l.cpu.period, l.cpu.shares) = (quota, period, shares);
                (l.memory.limit, l.memory.swap, l.pids) = (limit, swap, pids);
                l.cpu.cpus = cpus;
                l.unified.insert("cpu.max".to_owned(), max);
            });
            let _ = Properties::of_limits(&limits, Mode::V2);
            let _ = Properties::of_limits(&limits, Mode::V1);
        }
    }
}
