//! `state`: runtime.md, "State".

use oci_suite::Case;
use serde_json::json;

#[test]
fn the_state_has_what_the_specification_and_runcs_users_ask_for() {
    let Some(case) = Case::new("state") else { return };
    case.edit(|config| config["annotations"] = json!({ "com.example": "yes" }));
    let process = case.sleeps().run_detached();
    let state = case.state();
    assert!(state["ociVersion"].as_str().is_some_and(|version| version.starts_with("1.")), "{state}");
    assert_eq!(state["id"], json!(case.id));
    assert_eq!(state["status"], "running");
    assert_eq!(state["pid"], json!(process.pid));
    assert_eq!(state["bundle"], json!(case.bundle.path()));
    assert_eq!(state["annotations"]["com.example"], "yes");
    // Of runc's own (utils_linux.go, containerState): Podman and others read them.
    assert!(
        state["rootfs"] == json!(case.bundle.root()) || case.runtime.kind == oci_suite::Kind::Crun,
        "{state}"
    );
    assert!(
        state["created"].as_str().is_some_and(|time| time.starts_with("20") && time.contains('T')),
        "{state}"
    );
    assert!(state["owner"].is_string(), "{state}");
}

#[test]
fn a_stopped_container_has_no_process() {
    let Some(case) = Case::new("state-stopped") else { return };
    let _ = case.script("true").create();
    case.start();
    case.await_status("stopped");
    assert!(case.state()["pid"].as_i64().is_none_or(|pid| pid == 0));
}

#[test]
fn a_process_that_was_killed_from_outside_is_stopped() {
    let Some(case) = Case::new("state-outside") else { return };
    let process = case.sleeps().run_detached();
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(process.pid).unwrap(),
        rustix::process::Signal::KILL,
    )
    .unwrap();
    case.await_status("stopped");
    let _ = case.call(&["delete", &case.id]).good();
    case.assert_nothing_left();
}
