//! What a `config.json` asks for and the machine or the specification does not have: an error, and nothing is left.

use oci_suite::{Case, Kind, differs, lacks};
use serde_json::json;
use std::path::Path;

#[test]
fn intel_rdt_is_refused_without_resctrl() {
    let Some(case) = Case::new("no-rdt") else { return };
    if Path::new("/sys/fs/resctrl/schemata").exists() {
        eprintln!("skipped: this machine has resctrl");
        return;
    }
    case.edit(|config| {
        config["linux"]["intelRdt"] = json!({ "closID": "corten-test", "l3CacheSchema": "L3:0=f" })
    });
    let words = "config-linux.md, IntelRdt: \"If intelRdt is set, the runtime MUST write the container process ID\" to the \
        tasks file of resctrl; there is none";
    differs(&[Kind::Crun], words, || {
        let said = case.run().bad();
        let said = said.to_lowercase();
        assert!(said.contains("rdt") || said.contains("resctrl"), "{said}");
    });
    case.assert_nothing_left();
}

#[test]
fn a_config_that_is_no_json_is_an_error() {
    let Some(case) = Case::new("no-json") else { return };
    let bad = |text: &str| {
        std::fs::write(case.bundle.path().join("config.json"), text).unwrap();
        case.run().bad()
    };
    for text in ["", "{", "[]", "{\"ociVersion\": 1}"] {
        let _ = bad(text);
    }
    differs(&[Kind::Runc], "config.md: the file is a JSON object; runc dies of a null pointer", || {
        drop(bad("null"))
    });
    std::fs::remove_file(case.bundle.path().join("config.json")).unwrap();
    let said = case.run().bad();
    assert!(said.contains("config.json"), "{said}");
    case.assert_nothing_left();
}

#[test]
fn unknown_properties_are_ignored() {
    // config.md, Extensibility: "Runtimes MUST ignore unknown properties."
    let Some(case) = Case::new("unknown") else { return };
    case.edit(|config| {
        config["com.example"] = json!({ "a": [1] });
        config["process"]["future"] = json!(true);
        config["linux"]["future"] = json!("x");
        config["linux"]["resources"]["future"] = json!({});
        config["mounts"][0]["future"] = json!(1);
    });
    assert_eq!(case.shell("echo ran").good().out, "ran\n");
}

#[test]
fn a_newer_minor_version_is_taken_and_a_newer_major_version_is_not() {
    let Some(case) = Case::new("version") else { return };
    if lacks(&[Kind::Crun], "versions from 1.1 on") {
        return;
    }
    case.edit(|config| config["ociVersion"] = json!("1.3.0"));
    let _ = case.shell("true").good();
    if lacks(&[Kind::Runc], "that another major version is another format") {
        return;
    }
    for wrong in ["2.0.0", "no version", ""] {
        case.edit(|config| config["ociVersion"] = json!(wrong));
        let _ = case.run().bad();
        case.assert_nothing_left();
    }
}

#[test]
fn a_container_without_linux_settings_runs() {
    let Some(case) = Case::new("bare") else { return };
    if lacks(&[Kind::Runc, Kind::Crun], "containers without linux settings") {
        return;
    }
    case.edit(|config| {
        let cgroup = config["linux"]["cgroupsPath"].clone();
        config["linux"] =
            json!({ "namespaces": [{ "type": "mount" }, { "type": "pid" }], "cgroupsPath": cgroup });
        config["mounts"] = json!([]);
        config.as_object_mut().unwrap().remove("hostname");
        config["process"].as_object_mut().unwrap().remove("capabilities");
    });
    assert_eq!(case.shell("echo ran").good().out, "ran\n");
    case.assert_nothing_left();
}
