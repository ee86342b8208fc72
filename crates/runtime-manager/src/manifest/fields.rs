//! The walk of a document over the table in `schema`: types, unknown fields, unsupported fields. It looks at
//! no value's meaning; that is `validate`.

use super::schema::{Field, POD, Rule};
use crate::error::Problem;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Map, Value};

/// What the walk found.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub problems: Vec<Problem>,
    pub warnings: Vec<Problem>,
}

/// Walks the whole document.
pub(super) fn check(document: &Value) -> Found {
    // What Kubernetes knows survives this round; what it does not know is lost. That tells "not
    // supported" from "no such field" without a second table of the whole API.
    let known = serde_json::from_value::<Pod>(without_nulls(document)).ok();
    let known = known.and_then(|pod| serde_json::to_value(pod).ok()).unwrap_or(Value::Null);
    let mut found = Found::default();
    object(document, POD, "", &known, &mut found);
    found
}

fn object(value: &Value, fields: &[Field], path: &str, known: &Value, found: &mut Found) {
    let Some(map) = value.as_object() else {
        return wrong_type(path, value, "a mapping", found);
    };
    for (name, value) in map {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        if asks_nothing(value) {
            continue;
        }
        match fields.iter().find(|field| field.0 == name) {
            Some(Field(_, rule)) => {
                apply(*rule, value, &path, known.get(name).unwrap_or(&Value::Null), found)
            }
            None if known.get(name).is_some() => {
                found.problems.push(Problem { path, message: "is not supported".into() });
            }
            None => found.problems.push(Problem { path, message: unknown(name, fields) }),
        }
    }
}

fn apply(rule: Rule, value: &Value, path: &str, known: &Value, found: &mut Found) {
    match rule {
        Rule::Text if !value.is_string() => wrong_type(path, value, "text", found),
        Rule::Bool if !value.is_boolean() => wrong_type(path, value, "true or false", found),
        Rule::Int if !value.is_i64() => wrong_type(path, value, "a whole number", found),
        Rule::Text | Rule::Bool | Rule::Int => {}
        Rule::Texts => each(value, path, found, |value, path, found| {
            apply(Rule::Text, value, path, &Value::Null, found);
        }),
        Rule::Ints => each(value, path, found, |value, path, found| {
            apply(Rule::Int, value, path, &Value::Null, found);
        }),
        Rule::TextMap => match value.as_object() {
            Some(map) => {
                for (key, value) in map {
                    apply(Rule::Text, value, &format!("{path}.{key}"), &Value::Null, found);
                }
            }
            None => wrong_type(path, value, "a mapping", found),
        },
        Rule::Quantities(names) => match value.as_object() {
            Some(map) => quantities(map, names, path, found),
            None => wrong_type(path, value, "a mapping", found),
        },
        Rule::Object(fields) => object(value, fields, path, known, found),
        Rule::List(fields) => {
            let mut index = 0;
            each(value, path, found, |value, path, found| {
                object(value, fields, path, known.get(index).unwrap_or(&Value::Null), found);
                index += 1;
            });
        }
        Rule::Ignored(reason) => {
            found.warnings.push(Problem { path: path.into(), message: format!("has no effect: {reason}") });
        }
        Rule::Refused("") => {
            found.problems.push(Problem { path: path.into(), message: "is not supported".into() });
        }
        Rule::Refused(hint) => {
            found.problems.push(Problem { path: path.into(), message: format!("is not supported; {hint}") });
        }
    }
}

fn quantities(map: &Map<String, Value>, names: &[&str], path: &str, found: &mut Found) {
    for (name, value) in map {
        let path = format!("{path}.{name}");
        if !names.contains(&name.as_str()) {
            let message = format!("is not supported; only {} are", names.join(" and "));
            found.problems.push(Problem { path, message });
        } else if !value.is_string() {
            wrong_type(&path, value, "a quantity such as 500m or 64Mi", found);
        }
    }
}

fn each(value: &Value, path: &str, found: &mut Found, mut visit: impl FnMut(&Value, &str, &mut Found)) {
    match value.as_array() {
        Some(items) => {
            for (index, item) in items.iter().enumerate() {
                visit(item, &format!("{path}[{index}]"), found);
            }
        }
        None => wrong_type(path, value, "a list", found),
    }
}

fn wrong_type(path: &str, value: &Value, wanted: &str, found: &mut Found) {
    let is = match value {
        Value::Null => "empty",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a mapping",
    };
    let hint =
        if wanted == "text" && (value.is_number() || value.is_boolean()) { "; put it in quotes" } else { "" };
    found
        .problems
        .push(Problem { path: path.into(), message: format!("is {is} and must be {wanted}{hint}") });
}

fn unknown(name: &str, fields: &[Field]) -> String {
    let near = fields
        .iter()
        .map(|field| (distance(&name.to_lowercase(), &field.0.to_lowercase()), field.0))
        .min()
        .filter(|(distance, _)| *distance <= 2.max(name.chars().count() / 3));
    match near {
        Some((_, near)) => format!("no such field; did you mean {near}?"),
        None => "no such field".into(),
    }
}

/// Edits (insert, delete, replace) between two short words.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().take(64).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().take(64).enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.iter().enumerate() {
            let replace = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = replace.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

/// Null, and an empty list or mapping under a field that may hold one, ask for nothing.
fn asks_nothing(value: &Value) -> bool {
    value.is_null() || value.as_array().is_some_and(Vec::is_empty)
}

fn without_nulls(value: &Value) -> Value {
    let mut copy = value.clone();
    drop_nulls(&mut copy);
    copy
}

/// Kubernetes treats `field: null` as a field that is not there; so do we, at any depth.
pub(super) fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, value| !value.is_null());
            map.values_mut().for_each(drop_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

/// Kubernetes accepts `cpu: 2` where its type is text (Quantity unmarshals from both).
pub(super) fn quantities_to_text(document: &mut Value) {
    for list in ["containers", "initContainers"] {
        let Some(containers) = document.pointer_mut(&format!("/spec/{list}")).and_then(Value::as_array_mut)
        else {
            continue;
        };
        for container in containers {
            for side in ["limits", "requests"] {
                let map = container.pointer_mut(&format!("/resources/{side}")).and_then(Value::as_object_mut);
                for value in map.into_iter().flat_map(Map::values_mut) {
                    if let Value::Number(number) = value {
                        *value = Value::String(number.to_string());
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_distance_counts_single_edits() {
        assert_eq!(distance("comand", "command"), 1);
        assert_eq!(distance("abc", "abc"), 0);
        assert_eq!(distance("", "abc"), 3);
    }

    #[test]
    fn every_field_of_the_table_is_one_that_kubernetes_knows() {
        // A typo in the table would accept a field that does nothing.
        fn sample(rule: Rule) -> Value {
            match rule {
                Rule::Text => "x".into(),
                Rule::Bool => true.into(),
                Rule::Int => 1.into(),
                Rule::Texts => vec!["x"].into(),
                Rule::Ints => vec![1].into(),
                Rule::TextMap => serde_json::json!({"k": "v"}),
                Rule::Quantities(names) => serde_json::json!({names[0]: "1"}),
                Rule::Object(fields) => fields.iter().map(|f| (f.0.to_owned(), sample(f.1))).collect(),
                Rule::List(fields) => vec![sample(Rule::Object(fields))].into(),
                Rule::Ignored(_) | Rule::Refused(_) => Value::Null,
            }
        }
        let document = sample(Rule::Object(POD));
        let document = {
            let mut d = document;
            d["apiVersion"] = "v1".into();
            d["kind"] = "Pod".into();
            d
        };
        let found = check(&document);
        assert!(found.problems.is_empty(), "{:?}", found.problems);
        let mut kept = document.clone();
        drop_nulls(&mut kept);
        let round = serde_json::to_value(serde_json::from_value::<Pod>(kept.clone()).unwrap()).unwrap();
        fn contained(a: &Value, b: &Value, path: &str) {
            match (a, b) {
                (Value::Object(a), Value::Object(b)) => {
                    for (k, v) in a {
                        contained(
                            v,
                            b.get(k).unwrap_or_else(|| panic!("{path}.{k} is unknown")),
                            &format!("{path}.{k}"),
                        );
                    }
                }
                (Value::Array(a), Value::Array(b)) => {
                    for (x, y) in a.iter().zip(b) {
                        contained(x, y, path);
                    }
                }
                _ => {}
            }
        }
        contained(&kept, &round, "");
    }
}
