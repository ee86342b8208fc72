//! `pause` and `resume`.

use oci_suite::{Case, Kind, differs, output};

#[test]
fn a_paused_container_does_nothing_until_it_is_resumed() {
    let Some(case) = Case::new("pause") else { return };
    case.script("n=0; while :; do n=$((n+1)); echo $n > /count; sleep 0.01; done");
    let _ = case.run_detached();
    let count = || std::fs::read_to_string(case.bundle.root().join("count")).unwrap_or_default();
    output::until("the loop", || (!count().is_empty()).then_some(()));
    let _ = case.call(&["pause", &case.id]).good();
    assert_eq!(case.status(), "paused");
    let before = count();
    std::thread::sleep(std::time::Duration::from_millis(120));
    assert_eq!(count(), before);
    let _ = case.call(&["resume", &case.id]).good();
    assert_eq!(case.status(), "running");
    output::until("the loop again", || (count() != before && !count().is_empty()).then_some(()));
}

#[test]
fn pausing_what_does_not_run_and_resuming_what_is_not_paused_are_errors() {
    let Some(case) = Case::new("pause-wrong") else { return };
    let _ = case.script("true").create();
    case.start();
    case.await_status("stopped");
    let _ = case.call(&["pause", &case.id]).bad();
    case.delete_force();
    let _ = case.sleeps().run_detached();
    differs(&[Kind::Crun], "runc, resume.go: what is not paused cannot be resumed", || {
        drop(case.call(&["resume", &case.id]).bad());
    });
    let _ = case.call(&["pause", &case.id]).good();
    differs(&[Kind::Crun], "runc, pause.go: what is paused cannot be paused", || {
        drop(case.call(&["pause", &case.id]).bad());
    });
    let _ = case.call(&["resume", &case.id]).good();
}

#[test]
fn exec_in_a_paused_container_is_an_error_unless_it_is_told_to_wait() {
    let Some(case) = Case::new("pause-exec") else { return };
    if oci_suite::lacks(&[Kind::Crun], "--ignore-paused") {
        return;
    }
    let _ = case.sleeps().run_detached();
    let _ = case.call(&["pause", &case.id]).good();
    let said = case.exec("true").bad();
    assert!(said.contains("paused"), "{said}");
    let mut child = case.command(&["exec", "--ignore-paused", &case.id, "touch", "/told"]).spawn().unwrap();
    std::thread::sleep(std::time::Duration::from_millis(200));
    let early = case.bundle.root().join("told").exists();
    let _ = case.call(&["resume", &case.id]).good();
    let status = output::wait(&mut child, output::PATIENCE);
    assert!(!early && status.is_some_and(|status| status.success()), "{early} {status:?}");
    assert!(case.bundle.root().join("told").exists());
}
