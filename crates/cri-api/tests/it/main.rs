//! Holds the compiled descriptor equal to the table of the wire contract, in both directions.

use corten_cri_api as cri_api;
use prost::Message;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet,
};
use std::collections::BTreeSet;

const TABLE: &str = include_str!("../../facts/cri-v1.tsv");
const PACKAGE: &str = ".runtime.v1.";

/// Rows of the table, without its head line.
fn table() -> BTreeSet<String> {
    let mut rows = BTreeSet::new();
    for line in TABLE.lines().skip(1) {
        let mut columns: Vec<&str> = line.split('\t').collect();
        columns.resize(6, "");
        assert!(rows.insert(columns.join("\t")), "the table has a row twice: {line}");
    }
    rows
}

fn file() -> FileDescriptorProto {
    let set = FileDescriptorSet::decode(cri_api::DESCRIPTOR).expect("the embedded descriptor decodes");
    let [file] = <[_; 1]>::try_from(set.file).expect("the descriptor has the CRI's file and none of our own");
    assert_eq!(file.package(), "runtime.v1");
    file
}

fn short(type_name: &str) -> &str {
    type_name.strip_prefix(PACKAGE).unwrap_or_else(|| panic!("{type_name} is of another package"))
}

fn scalar(field: &FieldDescriptorProto, owner: &str) -> String {
    match field.r#type() {
        Type::Message => short(field.type_name()).to_owned(),
        // The table names a nested enum by its last part.
        Type::Enum => {
            let name = short(field.type_name());
            name.strip_prefix(&format!("{owner}.")).unwrap_or(name).to_owned()
        }
        Type::String => "string".into(),
        Type::Bytes => "bytes".into(),
        Type::Bool => "bool".into(),
        Type::Int32 => "int32".into(),
        Type::Int64 => "int64".into(),
        Type::Uint32 => "uint32".into(),
        Type::Uint64 => "uint64".into(),
        Type::Double => "double".into(),
        Type::Float => "float".into(),
        other => panic!("{owner}.{}: {other:?} does not occur in the table", field.name()),
    }
}

/// `string`, `repeated Mount`, `map<string,string>`.
fn written_type(field: &FieldDescriptorProto, message: &DescriptorProto) -> String {
    let entry = message.nested_type.iter().find(|nested| {
        nested.options.as_ref().is_some_and(|o| o.map_entry())
            && field.type_name() == format!("{PACKAGE}{}.{}", message.name(), nested.name())
    });
    match entry {
        Some(entry) => {
            let [key, value] = entry.field.as_slice() else { panic!("a map entry has two fields") };
            format!("map<{},{}>", scalar(key, ""), scalar(value, ""))
        }
        None if field.label() == Label::Repeated => format!("repeated {}", scalar(field, message.name())),
        None => scalar(field, message.name()),
    }
}

fn note(field: &FieldDescriptorProto, message: &DescriptorProto) -> String {
    let mut notes = Vec::new();
    if let Some(index) = field.oneof_index {
        let index = usize::try_from(index).expect("an index is not negative");
        notes.push(format!("oneof {}", message.oneof_decl[index].name()));
    }
    if field.options.as_ref().is_some_and(|o| o.deprecated()) {
        notes.push("deprecated".into());
    }
    notes.join(" ")
}

fn enum_rows(rows: &mut BTreeSet<String>, owner: &str, values: &EnumDescriptorProto) {
    for value in &values.value {
        rows.insert(format!("enum\t{owner}\t{}\t{}\t\t", value.number(), value.name()));
    }
}

/// The descriptor, written as the table is.
fn compiled() -> BTreeSet<String> {
    let file = file();
    let mut rows = BTreeSet::new();
    for service in &file.service {
        for rpc in &service.method {
            let stream = |on: bool| if on { "stream " } else { "" };
            rows.insert(format!(
                "rpc\truntime.v1.{}\t\t{}\t{}{}\t{}{}",
                service.name(),
                rpc.name(),
                stream(rpc.client_streaming()),
                short(rpc.input_type()),
                stream(rpc.server_streaming()),
                short(rpc.output_type()),
            ));
        }
    }
    for message in &file.message_type {
        if message.field.is_empty() {
            rows.insert(format!("message\t{}\t\t\t\t", message.name()));
        }
        for field in &message.field {
            rows.insert(format!(
                "field\t{}\t{}\t{}\t{}\t{}",
                message.name(),
                field.number(),
                field.name(),
                written_type(field, message),
                note(field, message),
            ));
        }
        for nested in &message.enum_type {
            enum_rows(&mut rows, &format!("{}.{}", message.name(), nested.name()), nested);
        }
        for nested in &message.nested_type {
            let is_map = nested.options.as_ref().is_some_and(|o| o.map_entry());
            assert!(is_map, "{}.{} is a nested message; the table has none", message.name(), nested.name());
        }
    }
    for values in &file.enum_type {
        enum_rows(&mut rows, values.name(), values);
    }
    rows
}

#[test]
fn nothing_of_the_contract_is_missing() {
    let compiled = compiled();
    let missing: Vec<String> = table().into_iter().filter(|row| !compiled.contains(row)).collect();
    assert!(missing.is_empty(), "in the table, not in the .proto:\n{}", missing.join("\n"));
}

#[test]
fn nothing_is_there_that_the_contract_does_not_have() {
    let table = table();
    let extra: Vec<String> = compiled().into_iter().filter(|row| !table.contains(row)).collect();
    assert!(extra.is_empty(), "in the .proto, not in the table:\n{}", extra.join("\n"));
}

#[test]
fn the_comparison_covers_the_whole_table() {
    assert!(table().len() > 600, "the table is cut short: {} rows", table().len());
    for kind in ["rpc\t", "field\t", "enum\t", "message\t"] {
        assert!(compiled().iter().any(|row| row.starts_with(kind)), "no {kind}row was compiled");
    }
}

#[test]
fn every_message_field_value_and_rpc_has_words_of_its_own() {
    for text in
        [include_str!("../../proto/runtime/v1/api.proto"), include_str!("../../proto/corten/v1/images.proto")]
    {
        has_words(text);
    }
}

fn has_words(text: &str) {
    let mut previous = "";
    for (number, line) in text.lines().enumerate() {
        let code = line.trim();
        let declares = code.starts_with("message ")
            || code.starts_with("enum ")
            || code.starts_with("service ")
            || code.starts_with("rpc ")
            || (line.starts_with("  ") && code.ends_with(';'));
        if declares {
            assert!(previous.len() > 5 && previous.starts_with("// "), "line {}: {code}", number + 1);
        }
        previous = code;
    }
}
