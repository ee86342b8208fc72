//! `list`.

use oci_suite::{Case, Kind, differs};
use serde_json::{Value, json};

#[test]
fn list_shows_every_container_as_a_table_as_json_and_as_names() {
    let Some(case) = Case::new("list") else { return };
    assert_eq!(case.call(&["list", "-q"]).good().out, "");
    let process = case.sleeps().run_detached();
    let table = case.call(&["list"]).good().out;
    let mut lines = table.lines();
    let head: Vec<_> = lines.next().unwrap().split_whitespace().collect();
    assert!(head[..2] == ["ID", "PID"] || case.runtime.kind == Kind::Crun, "{table}");
    assert!(lines.next().is_some_and(|line| line.contains(&case.id) && line.contains("running")), "{table}");
    for flag in ["--format", "-f"] {
        let text = case.call(&["list", flag, "json"]).good().out;
        let list: Value = serde_json::from_str(&text).unwrap();
        let one = &list.as_array().unwrap()[0];
        assert_eq!(
            (&one["id"], &one["status"], &one["pid"]),
            (&json!(case.id), &json!("running"), &json!(process.pid))
        );
        assert_eq!(one["bundle"], json!(case.bundle.path()));
    }
    for flag in ["--quiet", "-q"] {
        assert_eq!(case.call(&["list", flag]).good().out.trim(), case.id);
    }
    let _ = case.call(&["list", "--format", "none-such"]).bad();
}

#[test]
fn an_empty_list_is_json_too() {
    let Some(case) = Case::new("list-empty") else { return };
    let text = case.call(&["list", "--format", "json"]).good().out;
    differs(&[], "not of the specification: a reader of JSON wants JSON", || {
        let value: Value = serde_json::from_str(&text).unwrap();
        assert!(value.is_null() || value.as_array().is_some_and(Vec::is_empty), "{text}");
    });
}
