//! `cargo xtask test`: everything that must hold before a change is taken. The build machine runs this
//! and nothing else.

use crate::build::{Profile, build};
use crate::steps::{Steps, cargo, read, run};
use crate::{check, install};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

/// The command.
pub fn command(arguments: &[&str]) -> Result<(), String> {
    let (mut allowed, mut filter) = (true, None);
    for argument in arguments {
        match *argument {
            "--no-install" => allowed = false,
            unknown if unknown.starts_with('-') => {
                return Err(format!("{unknown:?} is not an argument of test"));
            }
            name => filter = Some(name),
        }
    }
    let mut steps = Steps::default();
    let outcome = all(&mut steps, allowed, filter);
    println!("\n{}", steps.summary());
    outcome
}

fn all(steps: &mut Steps, allowed: bool, filter: Option<&str>) -> Result<(), String> {
    steps.run("packages", || install::packages(allowed))?;
    if filter.is_none() {
        steps.run("format", || {
            run(
                &mut cargo(&["fmt", "--all", "--", "--check", "-l"]),
                "Run `cargo fmt --all`; it changes the files named above.",
            )
        })?;
        steps.run("structure", check::all)?;
        steps.run("clippy", || {
            let arguments = ["clippy", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"];
            run(&mut cargo(&arguments), "Mend what clippy names above; `allow` needs a reason beside it.")
        })?;
    }
    steps.run("programs for tests", || build(Profile::Debug))?;
    steps.run("tests", || {
        // An older report would tell of another run.
        let _ = std::fs::remove_file(report());
        run(&mut tests(filter), "The failed tests are named above; `cargo xtask test NAME` runs one.")?;
        for (reason, count) in skipped(&std::fs::read_to_string(report()).unwrap_or_default()) {
            println!("{count} x {reason}");
        }
        Ok(())
    })?;
    if filter.is_none() {
        steps.run("documentation", || {
            let mut command = cargo(&["test", "--doc", "--workspace", "--quiet"]);
            run(&mut command, "An example in a comment does not hold.")
        })?;
    }
    Ok(())
}

/// nextest where it is installed: a process per test, and a time limit for each.
fn tests(filter: Option<&str>) -> Command {
    let mut command = if read(&mut cargo(&["nextest", "--version"])).is_ok() {
        cargo(&["nextest", "run", "--workspace", "--no-fail-fast", "--cargo-quiet", "--no-tests=warn"])
    } else {
        println!("cargo nextest is not installed: cargo test runs instead, without time limits");
        cargo(&["test", "--workspace", "--lib", "--bins", "--tests", "--no-fail-fast", "--quiet"])
    };
    command.args(filter);
    for program in ["corten-shim", "corten-oci", "corten", "hello-web"] {
        command.env(test_support::programs::variable(program), Profile::Debug.dist().join(program));
    }
    command
}

/// Where nextest leaves its report (`.config/nextest.toml`); its store does not follow CARGO_TARGET_DIR.
fn report() -> PathBuf {
    crate::workspace().join("target/nextest/default/junit.xml")
}

/// What tests said that skipped, as `skipped: busybox is not installed`, and how many said it.
fn skipped(report: &str) -> BTreeMap<&str, usize> {
    let mut reasons = BTreeMap::new();
    let lines = report.lines().map(|line| line.rsplit_once('>').map_or(line, |(_, text)| text).trim());
    for line in lines.filter(|line| line.to_ascii_lowercase().starts_with("skip")) {
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
            <system-err>skipped: no nft\n</system-err><system-err>fine</system-err>";
        assert_eq!(skipped(report), BTreeMap::from([("skipped: no nft", 2)]));
    }
}
