//! What a supervisor does before it forks, in processes of one thread as supervisors are, so without libtest: each test is
//! a process of its own, in a mount namespace of its own whose mounts are shared, as systemd has them.
//!
//! Kernels differ in what they want attached for a moment. Here one kernel shows all ways
//! ([`container::root::at_most`]), and older kernels their own.
//!
//! Needs root; without it each test says that it skipped.

extern crate corten_container as container;

mod elsewhere;
mod launches;
mod place;

use std::process::{Command, ExitCode};

const TESTS: &[(&str, fn())] = &[
    ("elsewhere::nothing_is_attached_in_the_callers_namespace_or_its_peers", elsewhere::nothing_is_attached),
    ("elsewhere::a_kill_at_any_moment_leaves_no_mount_and_no_process", elsewhere::a_kill_leaves_nothing),
    ("elsewhere::what_fails_there_is_told_in_the_same_words", elsewhere::failures_are_told),
    ("launches::a_container_in_a_user_namespace_has_its_overlay_and_images", launches::in_a_user_namespace),
    ("launches::a_bounded_layer_is_opened_before_the_fork_and_shown_to_nobody", launches::on_a_disk),
    (
        "launches::what_a_container_mounts_in_a_mapped_directory_is_seen_by_nobody",
        launches::on_a_mapped_directory,
    ),
];

/// As much of libtest's command line as cargo and nextest use.
fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if let [first, rest @ ..] = &words[..]
        && first == elsewhere::FOREVER
    {
        elsewhere::mount_forever(rest);
    }
    let has = |flag: &str| words.iter().any(|word| word == flag);
    if has("--list") {
        let names = TESTS.iter().filter(|_| !has("--ignored")).map(|(name, _)| name);
        names.for_each(|name| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    let filters: Vec<&str> =
        words.iter().map(String::as_str).filter(|word| word.contains(|c: char| c.is_alphabetic())).collect();
    let filters: Vec<&str> = filters.into_iter().filter(|word| !word.starts_with('-')).collect();
    let wanted = |name: &str| match has("--exact") {
        true => filters.contains(&name),
        false => filters.is_empty() || filters.iter().any(|part| name.contains(part)),
    };
    let mut good = true;
    for (name, test) in TESTS.iter().filter(|(name, _)| wanted(name)) {
        if has("--exact") {
            one(*test);
            continue;
        }
        let own = std::env::current_exe().expect("this program");
        let ended = Command::new(own).args(["--exact", name]).status().expect("this program runs");
        println!("test {name} ... {}", if ended.success() { "ok" } else { "FAILED" });
        good &= ended.success();
    }
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn one(test: fn()) {
    if !rustix::process::geteuid().is_root() {
        println!("SKIPPED: mounts need root");
        return;
    }
    place::leave_the_node();
    test();
}
