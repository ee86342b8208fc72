//! `ps`.

use oci_suite::{Case, Kind, lacks, output};

#[test]
fn ps_lists_the_processes_of_the_container_by_their_ids_on_the_host() {
    let Some(case) = Case::new("ps") else { return };
    case.script("sleep 1000 & touch /up; wait");
    let process = case.run_detached();
    output::until("the child", || case.bundle.root().join("up").exists().then_some(()));
    for flag in ["--format", "-f"] {
        let text = case.call(&["ps", flag, "json", &case.id]).good().out;
        let pids: Vec<i32> = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text}"));
        assert!(pids.len() == 2 && pids.contains(&process.pid), "{text}");
    }
    let text = case.call(&["ps", &case.id]).good().out;
    assert!(text.lines().next().is_some_and(|line| line.contains("PID")), "{text}");
    assert!(text.contains(&process.pid.to_string()), "{text}");
    let _ = case.call(&["ps", "--format", "none-such", &case.id]).bad();
}

#[test]
fn ps_passes_its_options_to_ps() {
    let Some(case) = Case::new("ps-options") else { return };
    if lacks(&[Kind::Crun], "options of ps") {
        return;
    }
    let process = case.sleeps().run_detached();
    let text = case.call(&["ps", &case.id, "-e", "-o", "pid,comm"]).good().out;
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 2, "only the container's: {text}");
    assert!(lines[1].contains(&process.pid.to_string()) && lines[1].contains("sleep"), "{text}");
}
