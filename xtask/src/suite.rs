//! `cargo xtask test`: everything that must hold before a change is taken. The build machine runs this
//! and nothing else.

use crate::build::{Profile, build};
use crate::steps::{Steps, cargo, run};
use crate::vm::{self, Preparation};
use crate::{check, install, nextest};

/// With the value 1 a machine without a guest fails.
const REQUIRED: &str = "CORTEN_REQUIRE_VM";

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
    // Making it takes minutes on a fresh machine, and is not needed before the end.
    let guest = filter.is_none().then(Preparation::begin);
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
    steps.run("tests", || nextest::all(filter))?;
    if filter.is_none() {
        for runtime in nextest::PEERS {
            steps.run(&format!("OCI tests with {runtime}"), || nextest::peer(runtime))?;
        }
        steps.run("documentation", || {
            let mut command = cargo(&["test", "--doc", "--workspace", "--quiet"]);
            run(&mut command, "An example in a comment does not hold.")
        })?;
    }
    match guest {
        Some(guest) => steps.run("tests in the guest", || in_guest(guest)),
        None => Ok(()),
    }
}

/// A machine that cannot run a guest goes without, unless it must not.
fn in_guest(guest: Preparation) -> Result<(), String> {
    match guest.run_chosen() {
        Ok(()) => Ok(()),
        Err(vm::Problem::Failed(why)) => Err(why),
        Err(vm::Problem::Unavailable(why)) if std::env::var(REQUIRED).is_ok_and(|value| value == "1") => {
            Err(format!("{REQUIRED}=1, and there is no guest: {why}"))
        }
        Err(vm::Problem::Unavailable(why)) => {
            println!("skipped: all tests in the guest, as there is none: {why}");
            Ok(())
        }
    }
}
