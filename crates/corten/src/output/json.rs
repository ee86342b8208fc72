//! CRI messages as JSON and back, by the descriptor of our .proto, so that scripts written for crictl work:
//! lowerCamelCase names, enums as names, 64-bit numbers as text, defaults shown (protojson with
//! EmitDefaultValues). Nothing here knows a single message.

use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, ReflectMessage, SerializeOptions};
use serde_json::Value;
use std::collections::HashMap;
use std::sync::OnceLock;
use types::{Error, ErrorKind, Result};

/// Largest config file that is read.
const MAX_BYTES: u64 = 1 << 20;

fn pool() -> Result<&'static DescriptorPool> {
    static POOL: OnceLock<Result<DescriptorPool, String>> = OnceLock::new();
    let pool = POOL.get_or_init(|| DescriptorPool::decode(cri_api::DESCRIPTOR).map_err(|e| e.to_string()));
    pool.as_ref().map_err(|error| Error::internal(format!("the CRI descriptor is broken: {error}")))
}

fn dynamic(name: &str) -> Result<DynamicMessage> {
    let descriptor = pool()?.get_message_by_name(&format!("runtime.v1.{name}"));
    descriptor
        .map(DynamicMessage::new)
        .ok_or_else(|| Error::internal(format!("the CRI has no message {name}")))
}

fn transcode<M: Message>(name: &str, message: &M) -> Result<DynamicMessage> {
    let mut dynamic = dynamic(name)?;
    dynamic
        .transcode_from(message)
        .map_err(|error| Error::with_source(ErrorKind::Internal, format!("cannot show a {name}"), error))?;
    Ok(dynamic)
}

fn options() -> SerializeOptions {
    SerializeOptions::new().skip_default_fields(false)
}

/// A message as text, fields in the order of the .proto. `name` is the message's, without its package.
pub fn text<M: Message>(name: &str, message: &M) -> Result<String> {
    let mut out = Vec::new();
    let mut json = serde_json::Serializer::pretty(&mut out);
    transcode(name, message)?
        .serialize_with_options(&mut json, &options())
        .map_err(|error| Error::with_source(ErrorKind::Internal, format!("cannot show a {name}"), error))?;
    Ok(String::from_utf8_lossy(&out).into_owned())
}

/// A message as a value.
pub fn value<M: Message>(name: &str, message: &M) -> Result<Value> {
    transcode(name, message)?
        .serialize_with_options(serde_json::value::Serializer, &options())
        .map_err(|error| Error::with_source(ErrorKind::Internal, format!("cannot show a {name}"), error))
}

/// A message printed in the format that was asked for, which is not the table.
pub fn print<M: Message>(name: &str, message: &M, yaml: bool) -> Result<()> {
    if yaml { super::print(&to_yaml(&value(name, message)?)?) } else { super::print(&text(name, message)?) }
}

/// A value as YAML.
pub fn to_yaml(value: &Value) -> Result<String> {
    serde_saphyr::to_string(value)
        .map_err(|error| Error::with_source(ErrorKind::Internal, "cannot write YAML", error))
}

/// crictl's answer to `inspect…` and `info`: the status, and what the runtime adds, in one object with
/// sorted keys. Text that is JSON is shown as such.
pub fn with_info(status: Option<Value>, info: &HashMap<String, String>) -> Value {
    let mut map = serde_json::Map::new();
    if let Some(status) = status {
        map.insert("status".into(), status);
    }
    for (key, text) in info {
        let value = match serde_json::from_str::<Value>(text) {
            Ok(value @ Value::Object(_)) => value,
            _ => Value::String(text.trim_matches('"').to_owned()),
        };
        map.insert(key.clone(), value);
    }
    Value::Object(map)
}

/// Several objects as crictl prints them: one alone stands without a list around it.
pub fn print_objects(mut objects: Vec<Value>, yaml: bool) -> Result<()> {
    let value = if objects.len() == 1 { objects.swap_remove(0) } else { Value::Array(objects) };
    if yaml {
        return super::print(&to_yaml(&value)?);
    }
    let text = serde_json::to_string_pretty(&value)
        .map_err(|error| Error::with_source(ErrorKind::Internal, "cannot write JSON", error))?;
    super::print(&text)
}

/// Reads a message from a JSON or YAML file, as crictl's pod-config and container-config. Both spellings of
/// field names are taken; unknown fields are refused.
pub fn read<M: Message + Default>(name: &str, path: &std::path::Path) -> Result<M> {
    use std::io::Read;
    let failed = |error: std::io::Error| {
        Error::with_source(ErrorKind::InvalidArgument, format!("cannot read {}", path.display()), error)
    };
    let mut text = String::new();
    std::fs::File::open(path)
        .map_err(failed)?
        .take(MAX_BYTES + 1)
        .read_to_string(&mut text)
        .map_err(failed)?;
    if text.len() as u64 > MAX_BYTES {
        return Err(Error::invalid(format!("{} is larger than 1 MiB", path.display())));
    }
    parse(name, &text).map_err(|error| error.context(format!("{} is no {name}", path.display())))
}

fn parse<M: Message + Default>(name: &str, text: &str) -> Result<M> {
    let broken = |error: String| Error::invalid(error);
    // Every JSON text is YAML.
    let yaml = serde_saphyr::options! { with_snippet: false };
    let mut value: Value =
        serde_saphyr::from_str_with_options(text, yaml).map_err(|e| broken(e.to_string()))?;
    plain_envs(&mut value);
    let descriptor = dynamic(name)?.descriptor();
    let message = DynamicMessage::deserialize(descriptor, value).map_err(|e| broken(e.to_string()))?;
    message.transcode_to().map_err(|e| broken(e.to_string()))
}

/// The value of a variable is bytes in the CRI, which protojson writes in base64; crictl's files hold text.
fn plain_envs(value: &mut Value) {
    for env in value.get_mut("envs").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(Value::String(text)) = env.get_mut("value") {
            *text = base64(text.as_bytes());
        }
    }
}

/// RFC 4648, section 4.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let word =
            chunk.iter().fold(0u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for digit in 0..4 {
            let index = (word >> (18 - 6 * digit)) as usize & 63;
            out.push(if digit > chunk.len() { '=' } else { char::from(DIGITS[index]) });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use cri_api::v1::{
        Container, ContainerConfig, ContainerMetadata, ContainerState, ListContainersResponse,
    };

    #[test]
    fn a_list_has_crictls_form() {
        let container = Container {
            id: "abc".into(),
            metadata: Some(ContainerMetadata { name: "web".into(), attempt: 0 }),
            state: ContainerState::ContainerRunning as i32,
            created_at: 1_600_000_000_000_000_000,
            labels: [("app".to_owned(), "web".to_owned())].into(),
            ..Default::default()
        };
        let text =
            text("ListContainersResponse", &ListContainersResponse { containers: vec![container] }).unwrap();
        let wanted = r#"{
  "containers": [
    {
      "id": "abc",
      "podSandboxId": "",
      "metadata": {
        "name": "web",
        "attempt": 0
      },
      "imageRef": "",
      "state": "CONTAINER_RUNNING",
      "createdAt": "1600000000000000000",
      "labels": {
        "app": "web"
      },
      "annotations": {},
      "imageId": ""
    }
  ]
}"#;
        assert_eq!(text, wanted);
    }

    #[test]
    fn a_config_file_is_read_in_both_spellings_and_variables_are_text() {
        let text = "metadata: {name: c}\nlog_path: c.log\nimage: {userSpecifiedImage: x}\nenvs: [{key: A, value: 'b c'}]\nmounts: [{container_path: /a, propagation: 1}]\n";
        let got: ContainerConfig = parse("ContainerConfig", text).unwrap();
        assert_eq!(got.log_path, "c.log");
        assert_eq!(got.image.unwrap().user_specified_image, "x");
        assert_eq!(&got.envs[0].value[..], b"b c");
        assert_eq!(got.mounts[0].propagation, 1);
    }

    #[test]
    fn an_unknown_field_of_a_config_file_is_refused() {
        let error = parse::<ContainerConfig>("ContainerConfig", "imagee: {}").unwrap_err().chain();
        assert!(error.contains("imagee"), "{error}");
    }

    #[test]
    fn base64_is_that_of_the_rfc() {
        for (text, wanted) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")]
        {
            assert_eq!(base64(text.as_bytes()), wanted);
        }
    }

    #[test]
    fn added_info_is_shown_as_json_where_it_is_some() {
        let info =
            [("config".to_owned(), "{\"a\":1}".to_owned()), ("x".to_owned(), "\"text\"".to_owned())].into();
        let got = with_info(Some(Value::Bool(true)), &info);
        assert_eq!(got, serde_json::json!({"status": true, "config": {"a": 1}, "x": "text"}));
    }
}
