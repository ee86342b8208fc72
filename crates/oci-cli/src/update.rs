//! `update`: other limits for a container that is there. All of them are checked before one is set, and when the
//! kernel refuses one, those before it are taken back, where the kernel lets read what they were.

mod asked;

use crate::arguments::Update;
use crate::folder::Folder;
use crate::id::ContainerName;
use crate::limits::Limits;
use crate::{Context, bundle, group, intel_rdt};
use oci_spec::runtime::LinuxResources;
use serde_json::{Map, Value};
use types::{Error, ErrorKind, Result};

/// The verb.
pub fn update(context: &Context, asked: &Update) -> Result<()> {
    let change = asked::of(asked, &context.log)?;
    let mut folder = Folder::open(&context.root, &ContainerName::parse(&asked.id)?)?;
    folder.lock()?;
    let record = folder.known()?;
    let process = record.running(record.status(&folder))?;
    let mut config = stored(&folder, &record.id)?;
    let before = limits(config.pointer("/linux/resources"))?;
    let wanted = limits(Some(merged(&mut config, &change)?))?;
    let failed =
        |error: Error| error.context(format!("cannot change the limits of container {:?}", record.id));
    let done = group::change(&record, before.wanted(), &wanted).map_err(failed)?;
    let schemas = asked::schemas(asked);
    let rest = set_schemas(&mut config, schemas, &record.id, process.pid)
        // What is kept is what `exec` and the next `update` go by.
        .and_then(|()| folder.write_config(config.to_string().as_bytes()));
    if let Err(error) = rest {
        return Err(failed(done.undo(error)));
    }
    for warning in &done.warnings {
        context.log.warn(warning);
    }
    Ok(())
}

/// Puts the schemas into the specification, and the process into a group that has them.
fn set_schemas(config: &mut Value, schemas: Map<String, Value>, id: &str, pid: i32) -> Result<()> {
    if schemas.is_empty() {
        return Ok(());
    }
    match config.pointer_mut("/linux/intelRdt") {
        Some(Value::Object(old)) => old.extend(schemas),
        // `merged` has made sure that there is a `linux`.
        _ => config["linux"]["intelRdt"] = Value::Object(schemas),
    }
    let spec = bundle::parse(config.to_string().as_bytes())?;
    // The words are runc's (`update.go`).
    intel_rdt::apply(&spec, id, pid).map_err(|error| error.context("Intel RDT: the schema is not enabled"))
}

fn limits(resources: Option<&Value>) -> Result<Limits> {
    Limits::of(resources.map(parsed).transpose()?.as_ref())
}

fn stored(folder: &Folder, id: &str) -> Result<Value> {
    let bytes = folder.config()?.ok_or_else(|| {
        Error::internal(format!("the specification of container {id:?} is gone from its state folder"))
    })?;
    serde_json::from_slice(&bytes)
        .map_err(|e| Error::with_source(ErrorKind::Internal, "the kept specification is no JSON", e))
}

fn parsed(resources: &Value) -> Result<LinuxResources> {
    let resources = if resources.is_null() { Value::Object(Map::new()) } else { resources.clone() };
    serde_json::from_value(resources).map_err(|e| {
        Error::with_source(
            ErrorKind::InvalidArgument,
            "the limits are not `linux.resources` of a specification",
            e,
        )
    })
}

/// Puts the change over `linux.resources` of the specification, and answers the whole of it.
fn merged<'a>(config: &'a mut Value, change: &Map<String, Value>) -> Result<&'a Value> {
    let damaged = || Error::internal("the kept specification has no `linux`");
    let linux = config
        .as_object_mut()
        .map(|config| config.entry("linux").or_insert_with(|| Value::Object(Map::new())))
        .and_then(Value::as_object_mut)
        .ok_or_else(damaged)?;
    let resources = linux.entry("resources").or_insert(Value::Null);
    if resources.is_null() {
        *resources = Value::Object(Map::new());
    }
    let all = resources.as_object_mut().ok_or_else(damaged)?;
    for (section, new) in change {
        match (all.get_mut(section), new) {
            (Some(Value::Object(old)), Value::Object(new)) => {
                // Memory with swap is a sum: it means nothing beside another limit (runc `update.go` drops it as well).
                if section == "memory" && new.contains_key("limit") {
                    old.remove("swap");
                }
                old.extend(new.iter().map(|(name, value)| (name.clone(), value.clone())));
            }
            _ => {
                all.insert(section.clone(), new.clone());
            }
        }
    }
    Ok(resources)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_not_said_stays() {
        let mut config = json!({ "linux": { "resources": {
            "memory": { "limit": 5, "swap": 6 }, "pids": { "limit": 7 }, "devices": [1],
        } } });
        let change = json!({ "memory": { "limit": 1 }, "cpu": { "shares": 2 } });
        let all = merged(&mut config, change.as_object().expect("object")).expect("good").clone();
        assert_eq!(
            all,
            json!({
                "memory": { "limit": 1 }, "pids": { "limit": 7 }, "devices": [1],
                "cpu": { "shares": 2 },
            })
        );
        assert_eq!(config["linux"]["resources"], all);
        for mut odd in [json!({}), json!({ "linux": {} }), json!({ "linux": { "resources": null } })] {
            assert_eq!(merged(&mut odd, change.as_object().expect("object")).expect("good"), &change);
        }
        for mut bad in [json!([]), json!({ "linux": 1 }), json!({ "linux": { "resources": [] } })] {
            assert!(merged(&mut bad, change.as_object().expect("object")).is_err(), "{bad}");
        }
    }
}
