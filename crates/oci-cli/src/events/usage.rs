//! What a group uses, as runc tells it (`types/events.go`, `Stats`): read from the files of either version, in
//! runc's names and units. A file that is missing counts as nothing.

use cgroups::{Group, PressureLine};
use serde_json::{Map, Value, json};
use types::Result;

/// Nanoseconds of a tick: USER_HZ is 100 on every architecture of this program (time(7)).
const TICK: u64 = 10_000_000;
/// Longest list of numbers that is expanded: more CPUs than any kernel has.
const NUMBERS_MOST: u64 = 8192;

/// The `data` of a stats event.
pub fn of(group: &Group) -> Result<Value> {
    let files = Files { group };
    let stats = group.stats()?;
    let mut memory = memory(&files);
    let mut cpu = cpu(&files);
    let mut block = block(&files);
    for (section, pressure) in [
        (&mut cpu, stats.cpu_pressure),
        (&mut memory, stats.memory_pressure),
        (&mut block, stats.io_pressure),
    ] {
        if let Some(pressure) = pressure {
            section["psi"] = json!({ "some": line(&pressure.some), "full": line(&pressure.full) });
        }
    }
    Ok(json!({
        "cpu": cpu,
        "cpuset": cpuset(&files),
        "memory": memory,
        "pids": present(json!({
            "current": stats.pids.unwrap_or(0),
            "limit": files.number("pids", "pids.max"),
        })),
        "blkio": block,
        "hugetlb": hugepages(&files),
        "intel_rdt": {},
        // runc tells of those that it made itself, which are none.
        "network_interfaces": null,
    }))
}

fn line(pressure: &PressureLine) -> Value {
    json!({
        "avg10": pressure.avg10, "avg60": pressure.avg60, "avg300": pressure.avg300,
        "total": pressure.total_micros,
    })
}

struct Files<'a> {
    group: &'a Group,
}

impl Files<'_> {
    fn text(&self, controller: &str, file: &str) -> String {
        self.group.text(controller, file).ok().flatten().unwrap_or_default()
    }

    /// `max` is no number, and 0 here.
    fn number(&self, controller: &str, file: &str) -> u64 {
        self.text(controller, file).trim().parse().unwrap_or(0)
    }

    /// `max` is the largest number, as runc has it.
    fn limit(&self, controller: &str, file: &str) -> u64 {
        let text = self.text(controller, file);
        if text.trim() == "max" { u64::MAX } else { text.trim().parse().unwrap_or(0) }
    }

    fn is_v2(&self, controller: &str) -> bool {
        self.group.is_v2(controller) == Some(true)
    }
}

/// Without fields that are 0 or empty, as Go's `omitempty`.
fn present(value: Value) -> Value {
    let nothing = |value: &Value| match value {
        Value::Number(number) => number.as_u64() == Some(0),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::String(text) => text.is_empty(),
        Value::Null => true,
        Value::Bool(_) => false,
    };
    match value {
        Value::Object(map) => Value::Object(map.into_iter().filter(|(_, value)| !nothing(value)).collect()),
        other => other,
    }
}

/// `name number` on each line.
fn table(text: &str) -> Map<String, Value> {
    let row = |line: &str| {
        let (name, number) = line.split_once(' ')?;
        Some((name.to_owned(), Value::from(number.trim().parse::<u64>().ok()?)))
    };
    text.lines().filter_map(row).collect()
}

fn of_table(map: &Map<String, Value>, name: &str) -> u64 {
    map.get(name).and_then(Value::as_u64).unwrap_or(0)
}

fn cpu(files: &Files) -> Value {
    // Without a v1 controller the times are in the unified hierarchy's cpu.stat, which every group has.
    if files.group.is_v2("cpuacct").is_none() {
        let stat = table(&files.text("", "cpu.stat"));
        let nanos = |name| of_table(&stat, name).saturating_mul(1000);
        let mut usage = present(json!({ "total": nanos("usage_usec") }));
        usage["kernel"] = nanos("system_usec").into();
        usage["user"] = nanos("user_usec").into();
        return json!({ "usage": usage, "throttling": throttling(&stat, nanos("throttled_usec")) });
    }
    let numbers = |file| -> Vec<u64> {
        files.text("cpuacct", file).split_whitespace().filter_map(|n| n.parse().ok()).collect()
    };
    let ticks = table(&files.text("cpuacct", "cpuacct.stat"));
    let mut usage = present(json!({
        "total": files.number("cpuacct", "cpuacct.usage"),
        "percpu": numbers("cpuacct.usage_percpu"),
        "percpu_kernel": numbers("cpuacct.usage_percpu_sys"),
        "percpu_user": numbers("cpuacct.usage_percpu_user"),
    }));
    usage["kernel"] = of_table(&ticks, "system").saturating_mul(TICK).into();
    usage["user"] = of_table(&ticks, "user").saturating_mul(TICK).into();
    let stat = table(&files.text("cpu", "cpu.stat"));
    json!({ "usage": usage, "throttling": throttling(&stat, of_table(&stat, "throttled_time")) })
}

fn throttling(stat: &Map<String, Value>, time: u64) -> Value {
    present(json!({
        "periods": of_table(stat, "nr_periods"),
        "throttledPeriods": of_table(stat, "nr_throttled"),
        "throttledTime": time,
    }))
}

fn cpuset(files: &Files) -> Value {
    let v2 = files.is_v2("cpuset");
    let list = |v1: &str, unified: &str| expanded(&files.text("cpuset", if v2 { unified } else { v1 }));
    let mut all = present(
        json!({ "cpus": list("cpuset.cpus", "cpuset.cpus.effective"), "mems": list("cpuset.mems", "cpuset.mems.effective") }),
    );
    for (name, file) in [
        ("cpu_exclusive", "cpuset.cpu_exclusive"),
        ("mem_hardwall", "cpuset.mem_hardwall"),
        ("mem_exclusive", "cpuset.mem_exclusive"),
        ("memory_migrate", "cpuset.memory_migrate"),
        ("memory_spread_page", "cpuset.memory_spread_page"),
        ("memory_spread_slab", "cpuset.memory_spread_slab"),
        ("memory_pressure", "cpuset.memory_pressure"),
        ("sched_load_balance", "cpuset.sched_load_balance"),
    ] {
        all[name] = if v2 { 0 } else { files.number("cpuset", file) }.into();
    }
    let level = files.text("cpuset", "cpuset.sched_relax_domain_level");
    all["sched_relax_domain_level"] = level.trim().parse::<i64>().unwrap_or(0).into();
    all
}

/// `0-2,7` as numbers.
fn expanded(list: &str) -> Vec<u64> {
    let mut all = Vec::new();
    for part in list.trim().split(',') {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        let (Ok(from), Ok(to)) = (from.parse::<u64>(), to.parse::<u64>()) else { continue };
        all.extend((from..=to).take_while(|number| *number < NUMBERS_MOST));
    }
    all
}

/// `limit` and `failcnt` are always told.
fn entry(usage: u64, max: u64, limit: u64, failures: u64) -> Value {
    let mut entry = present(json!({ "usage": usage, "max": max }));
    entry["limit"] = limit.into();
    entry["failcnt"] = failures.into();
    entry
}

fn memory(files: &Files) -> Value {
    let raw = table(&files.text("memory", "memory.stat"));
    if files.group.is_v2("memory").is_none() {
        return json!({});
    }
    let number = |file: &str| files.number("memory", file);
    if files.is_v2("memory") {
        let (usage, limit) = (number("memory.current"), files.limit("memory", "memory.max"));
        let swap_limit = files.limit("memory", "memory.swap.max");
        // Together with memory, as v1 counts them (runc `fs2/memory.go`).
        let both = if swap_limit == u64::MAX { swap_limit } else { swap_limit.saturating_add(limit) };
        return present(json!({
            "cache": of_table(&raw, "file"),
            "usage": entry(usage, number("memory.peak"), limit, of_table(&table(&files.text("memory", "memory.events")), "max")),
            "swap": entry(usage.saturating_add(number("memory.swap.current")), 0, both, 0),
            "kernel": entry(0, 0, 0, 0),
            "kernelTCP": entry(0, 0, 0, 0),
            "raw": raw,
        }));
    }
    let four = |name: &str| {
        let file = |last: &str| number(&format!("memory.{name}{last}"));
        entry(file("usage_in_bytes"), file("max_usage_in_bytes"), file("limit_in_bytes"), file("failcnt"))
    };
    present(json!({
        "cache": of_table(&raw, "cache"),
        "usage": four(""),
        "swap": four("memsw."),
        "kernel": four("kmem."),
        "kernelTCP": four("kmem.tcp."),
        "raw": raw,
    }))
}

fn block(files: &Files) -> Value {
    if files.group.is_v2("blkio").is_none() {
        let (bytes, operations) = of_io_stat(&files.text("io", "io.stat"));
        return present(json!({ "ioServiceBytesRecursive": bytes, "ioServicedRecursive": operations }));
    }
    // The scheduler's own counts are there where it is BFQ; else those of the throttle, as runc prefers them.
    let list = |what: &str| {
        let of = |policy: &str| of_blkio(&files.text("blkio", &format!("blkio.{policy}.{what}_recursive")));
        let scheduler = of("bfq");
        if scheduler.is_empty() { of("throttle") } else { scheduler }
    };
    present(json!({
        "ioServiceBytesRecursive": list("io_service_bytes"),
        "ioServicedRecursive": list("io_serviced"),
    }))
}

fn block_entry(device: &str, operation: &str, value: u64) -> Option<Value> {
    let (major, minor) = device.split_once(':')?;
    let (major, minor): (u64, u64) = (major.parse().ok()?, minor.parse().ok()?);
    Some(present(json!({ "major": major, "minor": minor, "op": operation, "value": value })))
}

/// `8:0 Read 4096` on each line; the last one, `Total N`, has no device.
fn of_blkio(text: &str) -> Vec<Value> {
    let row = |line: &str| {
        let mut fields = line.split_whitespace();
        let (device, operation) = (fields.next()?, fields.next()?);
        block_entry(device, operation, fields.next()?.parse().ok()?)
    };
    text.lines().filter_map(row).collect()
}

/// `8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6` on each line (admin-guide/cgroup-v2.rst).
fn of_io_stat(text: &str) -> (Vec<Value>, Vec<Value>) {
    let (mut bytes, mut operations) = (Vec::new(), Vec::new());
    for line in text.lines() {
        let mut fields = line.split_whitespace();
        let Some(device) = fields.next() else { continue };
        for (name, value) in fields.filter_map(|field| field.split_once('=')) {
            let Ok(value) = value.parse() else { continue };
            let operation = match name.as_bytes().first() {
                Some(b'r') => "Read",
                Some(b'w') => "Write",
                _ => "Discard",
            };
            match name.get(1..).unwrap_or_default() {
                "bytes" => bytes.extend(block_entry(device, operation, value)),
                "ios" => operations.extend(block_entry(device, operation, value)),
                _ => {}
            }
        }
    }
    (bytes, operations)
}

/// The page sizes of this machine, which name the files.
fn hugepages(files: &Files) -> Value {
    let mut all = Map::new();
    let v2 = match files.group.is_v2("hugetlb") {
        None => return Value::Object(all),
        Some(v2) => v2,
    };
    for entry in std::fs::read_dir("/sys/kernel/mm/hugepages").into_iter().flatten().flatten() {
        let name = entry.file_name();
        let kilobytes = name
            .to_str()
            .and_then(|name| name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse::<u64>().ok());
        let Some(size) = kilobytes.map(page_size) else { continue };
        let number = |last: &str| files.number("hugetlb", &format!("hugetlb.{size}.{last}"));
        let mut told = match v2 {
            true => present(json!({ "usage": number("current") })),
            false => {
                present(json!({ "usage": number("usage_in_bytes"), "max": number("max_usage_in_bytes") }))
            }
        };
        told["failcnt"] = match v2 {
            true => of_table(&table(&files.text("hugetlb", &format!("hugetlb.{size}.events"))), "max").into(),
            false => number("failcnt").into(),
        };
        all.insert(size, told);
    }
    Value::Object(all)
}

/// As the kernel names its files (mm/hugetlb_cgroup.c, `mem_fmt`).
fn page_size(kilobytes: u64) -> String {
    match kilobytes {
        k if k >= 1 << 20 => format!("{}GB", k >> 20),
        k if k >= 1 << 10 => format!("{}MB", k >> 10),
        k => format!("{k}KB"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_cpus_are_expanded_and_bounded() {
        assert_eq!(expanded("0-2,7\n"), [0, 1, 2, 7]);
        assert_eq!(expanded(""), Vec::<u64>::new());
        assert_eq!(expanded("3-1,x,-"), Vec::<u64>::new());
        assert_eq!(expanded("0-18446744073709551615").len(), NUMBERS_MOST as usize);
    }

    #[test]
    fn block_devices_are_read_in_both_versions() {
        assert_eq!(
            of_blkio("8:0 Read 4096\n8:0 Write 0\nTotal 4096\n"),
            [json!({ "major": 8, "op": "Read", "value": 4096 }), json!({ "major": 8, "op": "Write" })]
        );
        let (bytes, operations) =
            of_io_stat("254:1 rbytes=5 wbytes=6 rios=7 wios=8 dbytes=0 dios=9\n253:0\n");
        assert_eq!(bytes.len(), 3);
        assert_eq!(operations[0], json!({ "major": 254, "minor": 1, "op": "Read", "value": 7 }));
        assert_eq!(of_io_stat("x = y=\n8:0 =1 ä=2 r=1"), (vec![], vec![]));
    }

    #[test]
    fn page_sizes_are_named_as_the_kernel_does() {
        assert_eq!([64, 2048, 1 << 20].map(page_size), ["64KB", "2MB", "1GB"]);
    }
}
