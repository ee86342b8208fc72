//! What `update` is asked for, from its flags or from a file, as the changed parts of `linux.resources`. Values
//! that stand for "not said" are left out. Sets nothing.

use crate::arguments::Update;
use crate::folder;
use crate::log::Log;
use serde_json::{Map, Value, json};
use std::io::Read;
use std::path::Path;
use types::reference::shorten;
use types::{Error, ErrorKind, Result};

/// The sections of `linux.resources` that `update` changes. `devices` is left alone, as by runc: tools beside the
/// runtime give devices to containers that run.
const SECTIONS: [&str; 8] =
    ["memory", "cpu", "blockIO", "pids", "hugepageLimits", "network", "rdma", "unified"];
/// Numbers of which 0 is a value of its own; any other 0 is "not said" in what the callers of runc write.
const ZERO_COUNTS: [&str; 5] = ["idle", "burst", "swappiness", "classID", "realtimeRuntime"];

/// The change.
pub fn of(asked: &Update, log: &Log) -> Result<Map<String, Value>> {
    for (name, given) in
        [("kernel-memory", &asked.kernel_memory), ("kernel-memory-tcp", &asked.kernel_memory_tcp)]
    {
        if given.is_some() {
            log.warn(&format!("--{name} is not used: the kernel has no such limit any more"));
        }
    }
    let mut change = match &asked.resources {
        Some(path) => from_file(path)?,
        None => from_flags(asked)?,
    };
    // "No limit of memory" means swap as well where it is not named (runc `update.go`).
    if let Some(memory) = change.get_mut("memory").and_then(Value::as_object_mut)
        && memory.get("limit") == Some(&json!(-1))
        && !memory.contains_key("swap")
    {
        memory.insert("swap".into(), json!(-1));
    }
    Ok(change)
}

/// The changed parts of `linux.intelRdt`; empty when nothing is said of it.
pub fn schemas(asked: &Update) -> Map<String, Value> {
    let parts = [("l3CacheSchema", &asked.l3_cache_schema), ("memBwSchema", &asked.mem_bw_schema)];
    let said = |(name, text): (&str, &Option<String>)| Some((name.to_owned(), Value::from(text.clone()?)));
    parts.into_iter().filter_map(said).collect()
}

fn from_file(path: &Path) -> Result<Map<String, Value>> {
    let bytes = if path.as_os_str() == "-" {
        let mut bytes = Vec::new();
        std::io::stdin()
            .lock()
            .take(folder::FILE_MAX + 1)
            .read_to_end(&mut bytes)
            .map_err(|e| Error::with_source(ErrorKind::Internal, "cannot read standard input", e))?;
        if bytes.len() as u64 > folder::FILE_MAX {
            return Err(Error::invalid(format!("the limits are larger than {} bytes", folder::FILE_MAX)));
        }
        bytes
    } else {
        folder::read_file(path)?
    };
    let value: Map<String, Value> = serde_json::from_slice(&bytes).map_err(|e| {
        Error::with_source(ErrorKind::InvalidArgument, "--resources is not an object of JSON", e)
    })?;
    Ok(said(value))
}

/// Without what means nothing.
fn said(all: Map<String, Value>) -> Map<String, Value> {
    let empty = |name: &str, value: &Value| match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Number(number) => number.as_i64() == Some(0) && !ZERO_COUNTS.contains(&name),
        Value::Bool(_) | Value::Object(_) => false,
    };
    let mut change = Map::new();
    for (section, value) in all {
        if !SECTIONS.contains(&section.as_str()) || empty("", &value) {
            continue;
        }
        let value = match value {
            // Names in these two are the caller's own.
            Value::Object(map) if section == "unified" || section == "rdma" => Value::Object(map),
            Value::Object(map) => {
                Value::Object(map.into_iter().filter(|(name, value)| !empty(name, value)).collect())
            }
            other => other,
        };
        if value.as_object().is_none_or(|map| !map.is_empty()) {
            change.insert(section, value);
        }
    }
    change
}

fn from_flags(asked: &Update) -> Result<Map<String, Value>> {
    let whole = |name: &str, text: &Option<String>| -> Result<Value> {
        let Some(text) = text else { return Ok(Value::Null) };
        text.parse::<i64>().map(Value::from).map_err(|_| {
            Error::invalid(format!("invalid value for {name}: {:?} is not a whole number", shorten(text)))
        })
    };
    let natural = |name: &str, text: &Option<String>| match whole(name, text)? {
        Value::Number(number) if number.as_u64().is_none() => {
            Err(Error::invalid(format!("invalid value for {name}: {number} is below 0")))
        }
        value => Ok(value),
    };
    let size = |name: &str, text: &Option<String>| {
        match text {
        None => Ok(Value::Null),
        Some(text) => bytes(text).map(Value::from).ok_or_else(|| {
            Error::invalid(format!(
                "invalid value for {name}: {:?}: a number of bytes as 1048576, 64k, 32m or 1g is expected, or -1",
                shorten(text)
            ))
        }),
    }
    };
    let all = json!({
        "memory": {
            "limit": size("memory", &asked.memory)?,
            "swap": size("memory-swap", &asked.memory_swap)?,
            "reservation": size("memory-reservation", &asked.memory_reservation)?,
        },
        "cpu": {
            "shares": natural("cpu-share", &asked.cpu_share)?,
            "quota": whole("cpu-quota", &asked.cpu_quota)?,
            "period": natural("cpu-period", &asked.cpu_period)?,
            "burst": natural("cpu-burst", &asked.cpu_burst)?,
            "realtimeRuntime": whole("cpu-rt-runtime", &asked.cpu_rt_runtime)?,
            "realtimePeriod": natural("cpu-rt-period", &asked.cpu_rt_period)?,
            "cpus": asked.cpuset_cpus,
            "mems": asked.cpuset_mems,
            "idle": whole("cpu-idle", &asked.cpu_idle)?,
        },
        "blockIO": { "weight": natural("blkio-weight", &asked.blkio_weight)? },
        "pids": { "limit": whole("pids-limit", &asked.pids_limit)? },
    });
    match all {
        Value::Object(all) => Ok(said(all)),
        // It is one, just above.
        _ => Ok(Map::new()),
    }
}

/// A size as Docker's tools write it (go-units, `RAMInBytes`): powers of 1024, `1.5g`, `64kb`, `1 GiB`.
fn bytes(text: &str) -> Option<i64> {
    if text == "-1" {
        return Some(-1);
    }
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let unit = unit.strip_prefix(' ').unwrap_or(unit).to_ascii_lowercase();
    let letter = unit.strip_suffix("ib").or_else(|| unit.strip_suffix('b')).unwrap_or(&unit);
    let power = match letter {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        "p" => 50,
        _ => return None,
    };
    if let Ok(whole) = number.parse::<i64>() {
        return whole.checked_mul(1 << power);
    }
    let product = number.parse::<f64>().ok()? * (1_i64 << power) as f64;
    // Above 2^53 not every number is one; there a part of a byte is of no matter.
    (product.is_finite() && product < 9.0e18).then_some(product as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_as_docker_writes_them() {
        for (text, number) in [
            ("-1", -1),
            ("0", 0),
            ("4096", 4096),
            ("64k", 65536),
            ("32M", 32 << 20),
            ("1g", 1 << 30),
            ("1gb", 1 << 30),
            ("1GiB", 1 << 30),
            ("1 GiB", 1 << 30),
            ("1.5k", 1536),
            ("10b", 10),
        ] {
            assert_eq!(bytes(text), Some(number), "{text}");
        }
        for bad in ["", "x", "-2", "1x", "1kk", "k", "1..5k", "9223372036854775807k", "1e3", "nan", "1  k"] {
            assert_eq!(bytes(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn flags_become_the_parts_that_were_said() {
        let asked = Update {
            memory: Some("32m".into()),
            cpu_quota: Some("-1".into()),
            cpu_idle: Some("0".into()),
            pids_limit: Some("0".into()),
            ..Update::default()
        };
        assert_eq!(
            Value::Object(from_flags(&asked).expect("good")),
            json!({ "memory": { "limit": 33_554_432 }, "cpu": { "quota": -1, "idle": 0 } })
        );
        assert!(from_flags(&Update::default()).expect("good").is_empty());
        for bad in [
            Update { memory: Some("x".into()), ..Update::default() },
            Update { cpu_share: Some("-1".into()), ..Update::default() },
            Update { pids_limit: Some("many".into()), ..Update::default() },
            Update { blkio_weight: Some("1.5".into()), ..Update::default() },
        ] {
            assert!(from_flags(&bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn of_a_file_what_means_nothing_is_left_out() {
        let file = json!({
            "memory": { "limit": 0, "swap": 0, "checkBeforeUpdate": true },
            "cpu": { "shares": 0, "cpus": "", "burst": 0 },
            "pids": null, "blockIO": {}, "devices": [{ "allow": true }], "rest": 1,
            "unified": { "memory.high": "0" }, "hugepageLimits": [],
        });
        assert_eq!(
            Value::Object(said(file.as_object().expect("object").clone())),
            json!({
                "memory": { "checkBeforeUpdate": true }, "cpu": { "burst": 0 },
                "unified": { "memory.high": "0" },
            })
        );
    }
}
