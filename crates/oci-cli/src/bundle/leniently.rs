//! Reading config.json where the library that reads it is stricter than the specification: such parts are put into
//! a form that it takes, and what is left out is told.

use oci_spec::runtime::{Capability, Process, Spec};
use serde::de::DeserializeOwned;
use serde_json::Value;
use types::reference::shorten;
use types::{Error, ErrorKind, Result};

/// A specification, and what was left out of it.
pub fn parse(config: &[u8]) -> Result<(Spec, Vec<String>)> {
    let (spec, warnings): (Spec, _) = read(config, |value| value.get_mut("process")).map_err(|error| {
        Error::with_source(
            ErrorKind::InvalidArgument,
            "config.json is not a specification of the Open Container Initiative",
            error,
        )
    })?;
    // Any 1.x is to be taken (semantic versioning; OCI runtime specification, "Specification version").
    let version = spec.version();
    if !version.starts_with("1.") {
        return Err(Error::invalid(format!(
            "ociVersion {:?}: a version 1.x is expected in config.json",
            shorten(version)
        )));
    }
    Ok((spec, warnings))
}

/// The `process` of a specification, and what was left out of it.
pub fn parse_process(bytes: &[u8]) -> std::result::Result<(Process, Vec<String>), serde_json::Error> {
    read(bytes, |value| Some(value))
}

/// Most are read at once; only those that fail are looked at in detail.
fn read<T: DeserializeOwned>(
    bytes: &[u8],
    process: impl FnOnce(&mut Value) -> Option<&mut Value>,
) -> std::result::Result<(T, Vec<String>), serde_json::Error> {
    let error = match serde_json::from_slice(bytes) {
        Ok(read) => return Ok((read, Vec::new())),
        Err(error) => error,
    };
    let Ok(mut value) = serde_json::from_slice::<Value>(bytes) else { return Err(error) };
    let mut warnings = Vec::new();
    if let Some(process) = process(&mut value) {
        mend(process, &mut warnings);
    }
    serde_json::from_value(value).map(|read| (read, warnings))
}

fn mend(process: &mut Value, warnings: &mut Vec<String>) {
    // "Any value which cannot be mapped to a relevant kernel interface [...] MUST be logged as a warning" (OCI config.md,
    // "Linux Process", `capabilities`).
    let sets = process.get_mut("capabilities").and_then(Value::as_object_mut);
    for (set, list) in sets.into_iter().flatten() {
        let Some(list) = list.as_array_mut() else { continue };
        list.retain(|name| {
            let Some(name) = name.as_str() else { return true };
            let known = serde_json::from_value::<Capability>(Value::from(name)).is_ok();
            if !known {
                warnings
                    .push(format!("process.capabilities.{set}: {:?} is unknown and left out", shorten(name)));
            }
            known
        });
    }
    // The library's names of two flags are others.
    let flags = process.pointer_mut("/scheduler/flags").and_then(Value::as_array_mut);
    for flag in flags.into_iter().flatten() {
        match flag.as_str() {
            Some("SCHED_FLAG_DL_OVERRUN") => *flag = Value::from("SCHED_FLAG_D_L_OVERRUN"),
            Some("SCHED_FLAG_RESET_ON_FORK") => *flag = Value::from("SCHED_RESET_ON_FORK"),
            _ => {}
        }
    }
    if let Some(affinity) = process.get_mut("execCPUAffinity").and_then(Value::as_object_mut) {
        affinity.retain(|_, list| list.as_str() != Some(""));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use oci_spec::runtime::LinuxSchedulerFlag;

    #[test]
    fn unknown_capabilities_are_left_out_and_told() {
        let config = br#"{"ociVersion":"1.2.0","process":{"user":{},"cwd":"/",
            "capabilities":{"bounding":["CAP_CHOWN","CAP_FLY"],"ambient":["CAP_SWIM"]}}}"#;
        let (spec, warnings) = parse(config).expect("good");
        let process = spec.process().as_ref().expect("there");
        let sets = process.capabilities().as_ref().expect("there");
        assert_eq!(sets.bounding().as_ref().expect("there").len(), 1);
        assert_eq!(warnings.len(), 2, "{warnings:?}");
        assert!(warnings.iter().any(|w| w.contains("CAP_FLY")), "{warnings:?}");
    }

    #[test]
    fn the_specifications_name_of_a_scheduler_flag_is_understood() {
        let process = br#"{"user":{},"cwd":"/","execCPUAffinity":{"initial":"","final":"0-1"},
            "scheduler":{"policy":"SCHED_DEADLINE","flags":["SCHED_FLAG_DL_OVERRUN","SCHED_FLAG_RESET_ON_FORK"]}}"#;
        let (process, warnings) = parse_process(process).expect("good");
        let flags = process.scheduler().as_ref().and_then(|s| s.flags().clone());
        assert_eq!(
            flags,
            Some(vec![LinuxSchedulerFlag::SchedFlagDLOverrun, LinuxSchedulerFlag::SchedResetOnFork])
        );
        assert!(warnings.is_empty());
    }

    #[test]
    fn what_is_wrong_is_still_refused() {
        for bad in
            ["{}", "[]", "", "{\"ociVersion\":1}", "{\"ociVersion\":\"1.0.0\",\"process\":{\"user\":7}}"]
        {
            assert!(parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
