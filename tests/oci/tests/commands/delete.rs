//! `delete`.

use oci_suite::{Case, Groups, Kind, lacks};

#[test]
fn force_ends_a_running_container_and_removes_it() {
    let Some(case) = Case::new("delete-force") else { return };
    for flag in ["--force", "-f"] {
        let process = case.sleeps().run_detached();
        let _ = case.call(&["delete", flag, &case.id]).good();
        assert!(!process.lives());
        case.assert_nothing_left();
    }
}

#[test]
fn force_on_an_unknown_container_is_no_error() {
    let Some(case) = Case::new("delete-unknown") else { return };
    let _ = case.call(&["delete", "--force", "none-such"]).good();
}

#[test]
fn force_removes_a_paused_container() {
    let Some(case) = Case::new("delete-paused") else { return };
    if lacks(&[Kind::Crun], "deleting a frozen group of version 1") {
        return;
    }
    let _ = case.sleeps().run_detached();
    let _ = case.call(&["pause", &case.id]).good();
    case.delete_force();
    case.assert_nothing_left();
}

#[test]
fn force_removes_what_was_only_created() {
    let Some(case) = Case::new("delete-created") else { return };
    let process = case.create();
    case.delete_force();
    assert!(!process.lives());
    case.assert_nothing_left();
}

#[test]
fn children_in_the_containers_groups_are_ended_and_the_groups_removed() {
    let Some(case) = Case::new("delete-children") else { return };
    case.without_namespace("pid").script("sleep 1000 & sleep 1000 & touch /up; wait");
    let process = case.run_detached();
    oci_suite::output::until("the children", || case.bundle.root().join("up").exists().then_some(()));
    let group = process.groups().dir("memory").unwrap().to_owned();
    case.delete_force();
    assert!(!group.exists());
    assert_eq!(Groups::named(&case.id), Vec::<std::path::PathBuf>::new());
    case.assert_nothing_left();
}
