//! `features` (features.md of the specification) and `spec`.

use oci_suite::{Case, Kind, lacks};
use serde_json::{Value, json};

#[test]
fn features_say_what_is_there() {
    let Some(case) = Case::new("features") else { return };
    if lacks(&[Kind::Crun], "features") {
        return;
    }
    let features: Value = serde_json::from_str(&case.call(&["features"]).good().out).unwrap();
    for field in ["ociVersionMin", "ociVersionMax"] {
        assert!(features[field].as_str().is_some_and(|version| version.starts_with("1.")), "{field}");
    }
    let list = |value: &Value| -> Vec<String> {
        value.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let hooks = list(&features["hooks"]);
    for kind in ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"] {
        assert!(hooks.iter().any(|hook| hook == kind), "{kind}");
    }
    let options = list(&features["mountOptions"]);
    for option in ["bind", "rbind", "ro", "rro", "nosuid", "tmpcopyup", "rslave"] {
        assert!(options.iter().any(|one| one == option), "{option}");
    }
    let linux = &features["linux"];
    for namespace in ["cgroup", "ipc", "mount", "network", "pid", "user", "uts"] {
        assert!(list(&linux["namespaces"]).iter().any(|one| one == namespace), "{namespace}");
    }
    assert!(list(&linux["capabilities"]).iter().any(|one| one == "CAP_SYS_ADMIN"));
    assert_eq!(linux["cgroup"]["v1"], true);
    assert_eq!(linux["cgroup"]["v2"], true);
    assert_eq!(linux["seccomp"]["enabled"], true);
    for action in ["SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_ACT_KILL", "SCMP_ACT_NOTIFY"] {
        assert!(list(&linux["seccomp"]["actions"]).iter().any(|one| one == action), "{action}");
    }
}

#[test]
fn features_of_the_newer_specification_are_told() {
    let Some(case) = Case::new("features-new") else { return };
    if lacks(&[Kind::Runc, Kind::Crun], "the features of the specification 1.2") {
        return;
    }
    let features: Value = serde_json::from_str(&case.call(&["features"]).good().out).unwrap();
    let linux = &features["linux"];
    assert!(linux["namespaces"].as_array().unwrap().contains(&json!("time")));
    assert_eq!(linux["mountExtensions"]["idmap"]["enabled"], true);
    assert!(linux["intelRdt"].is_object() && linux["netDevices"]["enabled"] == true, "{linux}");
}

#[test]
fn spec_writes_a_configuration_that_runs() {
    let Some(case) = Case::new("spec") else { return };
    let file = case.bundle.path().join("config.json");
    let cgroups = case.bundle.config()["linux"]["cgroupsPath"].clone();
    std::fs::remove_file(&file).unwrap();
    let mut command = case.command(&["spec", "--bundle", case.bundle.path().to_str().unwrap()]);
    let _ = case.finish(command.current_dir("/")).good();
    let config = case.bundle.config();
    assert!(config["ociVersion"].is_string() && config["process"]["args"] == json!(["sh"]), "{config}");
    assert_eq!(config["root"]["path"], "rootfs");
    case.edit(|config| {
        config["process"]["terminal"] = json!(false);
        config["linux"]["cgroupsPath"] = cgroups;
    });
    assert_eq!(case.shell("echo ran").good().out, "ran\n");
    case.assert_nothing_left();
}

#[test]
fn spec_does_not_overwrite_a_configuration() {
    let Some(case) = Case::new("spec-there") else { return };
    let before = case.bundle.config();
    let said = case.call(&["spec"]).bad();
    assert!(said.contains("config.json"), "{said}");
    assert_eq!(case.bundle.config(), before);
}

#[test]
fn spec_for_users_without_root_has_a_user_namespace() {
    let Some(case) = Case::new("spec-rootless") else { return };
    if lacks(&[Kind::Crun], "mappings in its example") {
        return;
    }
    std::fs::remove_file(case.bundle.path().join("config.json")).unwrap();
    let _ = case.call(&["spec", "--rootless"]).good();
    let config = case.bundle.config();
    let kinds: Vec<_> =
        config["linux"]["namespaces"].as_array().unwrap().iter().map(|one| one["type"].clone()).collect();
    assert!(kinds.contains(&json!("user")), "{kinds:?}");
    assert!(config["linux"]["uidMappings"].is_array() && config["linux"]["gidMappings"].is_array());
}
