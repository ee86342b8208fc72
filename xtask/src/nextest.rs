//! How tests are run: by nextest where it is installed, which gives each a process and a time limit, else by
//! cargo; and what the tests said that did not run in full.

use crate::build::Profile;
use crate::steps::{cargo, read, run};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

/// Programs that tests start; a variable tells where each is.
const PROGRAMS: [&str; 4] = ["corten-shim", "corten-oci", "corten", "hello-web"];
/// Other OCI runtimes, which are also the names of nextest's profiles for them (`.config/nextest.toml`).
pub const PEERS: [&str; 2] = ["runc", "crun"];
/// In one process, a program that one test writes cannot be executed while another test forks (execve(2), ETXTBSY).
const ONE_BY_ONE: [&str; 2] = ["--", "--test-threads=1"];
/// The tests that are made for any OCI runtime. Those of security are long and about ours.
const SUITE: [&str; 2] = ["specification", "commands"];

/// Every test, or those whose name holds the filter.
pub fn all(filter: Option<&str>) -> Result<(), String> {
    let mut command = match installed() {
        true => nextest("default", &["--no-tests=warn"]),
        false => {
            println!("cargo nextest is not installed: cargo test runs instead, without time limits");
            cargo(&["test", "--workspace", "--lib", "--bins", "--tests", "--no-fail-fast", "--quiet"])
        }
    };
    // Without a name the tests for any OCI runtime take ours.
    command.args(filter).env_remove("OCI_RUNTIME");
    if !installed() {
        command.args(ONE_BY_ONE);
    }
    told(command, "default", "The failed tests are named above; `cargo xtask test NAME` runs one.")
}

/// The tests for any OCI runtime, with another one than ours.
pub fn peer(runtime: &str) -> Result<(), String> {
    if read(Command::new(runtime).arg("--version")).is_err() {
        println!("skipped: {runtime} is not installed");
        return Ok(());
    }
    let mut command = match installed() {
        true => {
            let binaries = SUITE.map(|name| format!("binary(={name})")).join(" + ");
            let expression = format!("package(=corten-oci-suite) & ({binaries})");
            // A runtime may lack a whole group of tests, but not all.
            nextest(runtime, &["--no-tests=fail", "-E", &expression])
        }
        false => {
            let mut command = cargo(&["test", "--package", "corten-oci-suite", "--no-fail-fast", "--quiet"]);
            command.args(SUITE.iter().flat_map(|name| ["--test", name])).args(ONE_BY_ONE);
            command
        }
    };
    command.env("OCI_RUNTIME", runtime);
    let advice = format!(
        "OCI_RUNTIME={runtime} runs one with it. Where it and the specification differ, the test says so."
    );
    told(command, runtime, &advice)
}

fn installed() -> bool {
    read(&mut cargo(&["nextest", "--version"])).is_ok()
}

/// Always of the whole workspace: other features would build everything once more.
fn nextest(profile: &str, arguments: &[&str]) -> Command {
    let mut command = cargo(&["nextest", "run", "--workspace", "--no-fail-fast", "--cargo-quiet"]);
    command.args(["--profile", profile]).args(arguments);
    command
}

/// Runs tests, then says what did not run in full.
fn told(mut command: Command, profile: &str, advice: &str) -> Result<(), String> {
    for program in PROGRAMS {
        command.env(test_support::programs::variable(program), Profile::Debug.dist().join(program));
    }
    let report = report(profile);
    // An older report would tell of another run.
    let _ = std::fs::remove_file(&report);
    run(&mut command, advice)?;
    for (reason, count) in skipped(&std::fs::read_to_string(report).unwrap_or_default()) {
        println!("{count} x {reason}");
    }
    Ok(())
}

/// Where nextest leaves its report (`.config/nextest.toml`); its store does not follow CARGO_TARGET_DIR.
fn report(profile: &str) -> PathBuf {
    crate::workspace().join("target/nextest").join(profile).join("junit.xml")
}

/// What tests said that skipped, as `skipped: busybox is not installed`, or that hold a difference of another
/// runtime, as `differs: runc 1.1.5: …`; and how many said it.
fn skipped(report: &str) -> BTreeMap<&str, usize> {
    let mut reasons = BTreeMap::new();
    let lines = report.lines().map(|line| line.rsplit_once('>').map_or(line, |(_, text)| text).trim());
    let told = |line: &&str| {
        let line = line.to_ascii_lowercase();
        line.starts_with("skip") || line.starts_with("differs: ")
    };
    for line in lines.filter(told) {
        *reasons.entry(line).or_insert(0) += 1;
    }
    reasons
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_that_skipped_are_counted_by_reason() {
        let report = "<system-out>\nrunning 1 test\n</system-out>\n<system-err>skipped: no nft\n</system-err>\n\
            <system-err>skipped: no nft\n</system-err><system-err>fine</system-err>\n\
            <system-err>the next failure is expected\ndiffers: runc 1: words\n</system-err>\n";
        assert_eq!(skipped(report), BTreeMap::from([("skipped: no nft", 2), ("differs: runc 1: words", 1)]));
    }
}
