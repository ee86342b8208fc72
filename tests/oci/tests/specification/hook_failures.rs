//! runtime.md, "Lifecycle": what happens when a hook fails or takes too long.

use oci_suite::{Case, Kind, differs, lacks};
use serde_json::json;

fn failing(case: &Case, kind: &str) {
    case.edit(|config| config["hooks"][kind] = json!([]));
    case.hook(kind, "echo the reason >&2; exit 3");
    let file = case.bundle.aside().join("second");
    case.hook(kind, &format!("echo second > {}", file.display()));
}

/// Steps 3, 4 and 5: "If any … hook fails, the runtime MUST generate an error, stop the container, and continue
/// the lifecycle at step 12", which destroys it.
fn create_fails(kind: &str) {
    let Some(case) = Case::new(&format!("hook-fails-{kind}")) else { return };
    failing(&case, kind);
    let marker = case.bundle.aside().join("poststop");
    case.hook("poststop", &format!("echo ran > {}", marker.display()));
    case.script("echo the program ran");
    let said = case.call(&["create", &case.id]);
    assert_eq!(said.out, "");
    let text = said.bad();
    assert!(text.contains("hook") || text.contains("exit"), "{text}");
    assert!(!case.bundle.aside().join("second").exists(), "no hook of the kind follows one that failed");
    let words =
        "runtime.md, Lifecycle, step 13: \"The poststop hooks MUST be invoked by the runtime\" after step 12";
    let peers: &[Kind] = if kind == "createContainer" { &[Kind::Runc, Kind::Crun] } else { &[Kind::Crun] };
    let missing: Vec<_> = peers.iter().copied().filter(|_| !marker.exists()).collect();
    differs(&missing, words, || assert!(marker.exists(), "poststop hooks are invoked after the destruction"));
    case.assert_nothing_left();
}

#[test]
fn a_failed_prestart_hook_destroys_the_container() {
    create_fails("prestart");
}

#[test]
fn a_failed_create_runtime_hook_destroys_the_container() {
    create_fails("createRuntime");
}

#[test]
fn a_failed_create_container_hook_destroys_the_container() {
    create_fails("createContainer");
}

#[test]
fn a_failed_start_container_hook_stops_the_container_before_its_program() {
    let Some(case) = Case::new("hook-fails-start") else { return };
    case.edit(|config| config["hooks"]["startContainer"] = json!([{ "path": "/bin/false" }]));
    case.script("echo the program ran > /proc/1/fd/1; touch /ran");
    let _ = case.create();
    let said = case.call(&["start", &case.id]);
    let words = "runtime.md, Lifecycle, step 7: \"If any startContainer hook fails, the runtime MUST generate an error\"";
    differs(&[Kind::Runc, Kind::Crun], words, || drop(said.clone().bad()));
    assert!(!case.bundle.root().join("ran").exists());
    case.delete_leftover();
    case.assert_nothing_left();
}

#[test]
fn a_failed_poststart_hook_is_an_error_and_stops_the_container() {
    let Some(case) = Case::new("hook-fails-poststart") else { return };
    failing(&case, "poststart");
    case.sleeps();
    let words = "runtime.md, Lifecycle, step 9: \"If any poststart hook fails, the runtime MUST generate an error, stop \
        the container, and continue the lifecycle at step 12.\" (1.2; before, it was a warning)";
    differs(&[Kind::Crun], words, || {
        let _ = case.call(&["run", "--detach", &case.id]).bad();
        case.assert_nothing_left();
    });
}

#[test]
fn a_failed_poststop_hook_is_a_warning_and_the_next_one_runs() {
    let Some(case) = Case::new("hook-fails-poststop") else { return };
    failing(&case, "poststop");
    let said = case.shell("true");
    assert_eq!(said.code, 0, "{said:?}");
    let words = "runtime.md, Lifecycle, step 13: \"If any poststop hook fails, the runtime MUST log a warning, but the \
        remaining hooks and lifecycle continue as if the hook had succeeded.\"";
    differs(&[Kind::Runc], words, || assert!(case.bundle.aside().join("second").exists()));
    differs(&[Kind::Crun], words, || assert!(!said.err.is_empty(), "no warning"));
    case.assert_nothing_left();
}

#[test]
fn a_hook_that_takes_longer_than_its_timeout_is_killed_and_has_failed() {
    let Some(case) = Case::new("hook-timeout") else { return };
    case.edit(|config| {
        config["hooks"]["createRuntime"] =
            json!([{ "path": "/bin/sleep", "args": ["sleep", "7654"], "timeout": 1 }]);
    });
    let start = std::time::Instant::now();
    let _ = case.run().bad();
    assert!(start.elapsed().as_secs_f64() < 5.0, "{:?}", start.elapsed());
    case.assert_nothing_left();
}

#[test]
fn a_timeout_that_is_not_positive_is_an_error() {
    let Some(case) = Case::new("hook-timeout-zero") else { return };
    if lacks(&[Kind::Runc, Kind::Crun], "that the timeout of a hook MUST be greater than zero") {
        return;
    }
    for wrong in [0, -1] {
        case.edit(|config| {
            config["hooks"]["createRuntime"] = json!([{ "path": "/bin/true", "timeout": wrong }])
        });
        let _ = case.run().bad();
        case.assert_nothing_left();
    }
}

#[test]
fn the_path_of_a_hook_must_be_absolute() {
    let Some(case) = Case::new("hook-relative") else { return };
    std::fs::copy("/bin/true", case.bundle.path().join("hook")).unwrap();
    case.edit(|config| config["hooks"]["createRuntime"] = json!([{ "path": "./hook" }]));
    let words = "config.md, POSIX-platform Hooks, path: \"This specification extends the IEEE standard in that path MUST be absolute.\"";
    differs(&[Kind::Runc, Kind::Crun], words, || drop(case.run().bad()));
    case.assert_nothing_left();
}

#[test]
fn a_hook_that_is_not_there_is_an_error_that_names_it() {
    let Some(case) = Case::new("hook-missing") else { return };
    case.edit(|config| config["hooks"]["createRuntime"] = json!([{ "path": "/no/such/hook" }]));
    let said = case.run().bad();
    assert!(said.contains("/no/such/hook"), "{said}");
    case.assert_nothing_left();
}
