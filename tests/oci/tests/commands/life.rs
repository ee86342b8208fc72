//! runtime.md, "Lifecycle" and "Operations": which operation is an error in which state, and has no effect then.

use oci_suite::{Case, Kind, differs};
use serde_json::json;

#[test]
fn a_container_is_created_then_running_then_stopped_then_gone() {
    let Some(case) = Case::new("life") else { return };
    let folder = case.bundle.aside();
    case.mount("/aside", "bind", folder.to_str().unwrap(), &["bind"]);
    case.script("touch /aside/ran; while ! test -e /aside/end; do sleep 0.02; done");
    let process = case.create();
    assert_eq!(case.status(), "created");
    assert!(process.lives() && !folder.join("ran").exists(), "create MUST NOT run the user's program");
    case.start();
    assert_eq!(case.status(), "running");
    oci_suite::output::until("the program", || folder.join("ran").exists().then_some(()));
    std::fs::write(folder.join("end"), "").unwrap();
    case.await_status("stopped");
    let _ = case.call(&["delete", &case.id]).good();
    let _ = case.call(&["state", &case.id]).bad();
    case.assert_nothing_left();
}

#[test]
fn operations_on_an_unknown_container_are_errors() {
    let Some(case) = Case::new("unknown-id") else { return };
    for args in [
        &["state", "none-such"][..],
        &["start", "none-such"],
        &["kill", "none-such", "TERM"],
        &["delete", "none-such"],
        &["exec", "none-such", "true"],
        &["ps", "none-such"],
        &["pause", "none-such"],
        &["resume", "none-such"],
        &["update", "--pids-limit", "5", "none-such"],
    ] {
        let said = case.call(args).bad();
        assert!(said.contains("none-such") || said.contains("not exist"), "{args:?}: {said}");
    }
}

#[test]
fn operations_without_a_container_are_errors() {
    let Some(case) = Case::new("no-id") else { return };
    for verb in
        ["create", "run", "start", "state", "kill", "delete", "exec", "ps", "pause", "resume", "update"]
    {
        let _ = case.call(&[verb]).bad();
    }
    case.assert_nothing_left();
}

#[test]
fn starting_a_running_container_is_an_error_without_effect() {
    let Some(case) = Case::new("start-twice") else { return };
    let process = case.sleeps().run_detached();
    let _ = case.call(&["start", &case.id]).bad();
    assert!(process.lives());
    assert_eq!(case.status(), "running");
}

#[test]
fn starting_a_stopped_container_is_an_error() {
    let Some(case) = Case::new("start-stopped") else { return };
    let _ = case.script("true").create();
    case.start();
    case.await_status("stopped");
    let _ = case.call(&["start", &case.id]).bad();
    assert_eq!(case.status(), "stopped");
}

#[test]
fn killing_a_stopped_container_is_an_error() {
    let Some(case) = Case::new("kill-stopped") else { return };
    let _ = case.script("true").create();
    case.start();
    case.await_status("stopped");
    let words = "runtime.md, Kill: \"Attempting to send a signal to a container that is neither created nor running MUST \
        have no effect on the container and MUST generate an error.\"";
    differs(&[], words, || drop(case.call(&["kill", &case.id, "TERM"]).bad()));
}

#[test]
fn deleting_a_running_container_is_an_error_without_effect() {
    let Some(case) = Case::new("delete-running") else { return };
    let process = case.sleeps().run_detached();
    let _ = case.call(&["delete", &case.id]).bad();
    assert!(process.lives());
    assert_eq!(case.status(), "running");
    assert_eq!(case.exec("echo fine").good().out, "fine\n");
}

#[test]
fn deleting_a_created_container_is_no_error_here() {
    // runtime.md, Delete: "Attempting to delete a container that is not stopped MUST have no effect on the container
    // and MUST generate an error." runc deletes a created one (delete.go), on which its users rely; so do we.
    let Some(case) = Case::new("delete-created") else { return };
    let _ = case.create();
    let _ = case.call(&["delete", &case.id]).good();
    case.assert_nothing_left();
}

#[test]
fn creating_with_a_name_in_use_is_an_error_and_leaves_the_other_alone() {
    let Some(case) = Case::new("create-twice") else { return };
    let process = case.sleeps().run_detached();
    let _ = case.call(&["create", &case.id]).bad();
    let _ = case.call(&["run", &case.id]).bad();
    assert!(process.lives());
    assert_eq!(case.status(), "running");
    assert_eq!(case.exec("echo fine").good().out, "fine\n");
}

#[test]
fn a_name_can_be_used_again_after_delete() {
    let Some(case) = Case::new("again") else { return };
    for _ in 0..3 {
        let _ = case.sleeps().run_detached();
        case.delete_force();
    }
    case.assert_nothing_left();
}

#[test]
fn changes_of_the_configuration_after_create_have_no_effect() {
    let Some(case) = Case::new("late-change") else { return };
    case.edit(|config| config["hostname"] = json!("early"));
    case.script("hostname > /told; exec sleep 1000");
    let _ = case.create();
    case.edit(|config| {
        config["process"]["args"] = json!(["sh", "-c", "echo late > /told"]);
        config["hostname"] = json!("late");
    });
    case.start();
    let text = oci_suite::output::until("the program", || {
        std::fs::read_to_string(case.bundle.root().join("told")).ok().filter(|text| !text.is_empty())
    });
    assert_eq!(text, "early\n");
    std::fs::remove_file(case.bundle.path().join("config.json")).unwrap();
    assert_eq!(case.status(), "running");
    case.delete_force();
    case.assert_nothing_left();
}

#[test]
fn names_that_are_no_names_are_errors_and_make_nothing() {
    let Some(case) = Case::new("names") else { return };
    if oci_suite::lacks(&[Kind::Crun], "that a name may hold no slash") {
        return;
    }
    let outside = case.state_dir.path().with_file_name(format!("outside-{}", std::process::id()));
    let climbing = format!("../{}", outside.file_name().unwrap().to_str().unwrap());
    for name in ["..", ".", "a/b", climbing.as_str(), "", "a b", "/abs"] {
        let _ = case.call(&["run", name]).bad();
    }
    assert!(!outside.exists());
    assert_eq!(case.entries(), Vec::<String>::new());
    // What runc allows: letters, digits, and these.
    let name = format!("{}+a.b_C-9", case.id);
    let _ = case.call(&["run", "--detach", &name]).good();
}
