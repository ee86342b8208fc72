//! Developer commands: `cargo xtask build | test | check | vm | demo | bench | fuzz`.
//!
//! This is the only entry for people and for the build machine; every command says what it does, ends at
//! the first failure with what to do, and never changes the source.

mod bench;
mod build;
mod check;
mod demo;
mod fuzz;
mod install;
mod nextest;
mod steps;
mod suite;
mod vm;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

const HELP: &str = "\
Developer commands of this project.

  cargo xtask build [--debug]              programs into target/dist (or target/dist-debug)
  cargo xtask test [--no-install] [FILTER] everything that must hold: style, structure, tests
  cargo xtask check                        the structure alone: layers, unsafe, bans, documents
  cargo xtask vm [OPTION...] [TEST...]     tests in a Debian 12 guest with systemd and cgroup v2
  cargo xtask demo                         builds, runs a pod, stops it, proves that nothing is left
  cargo xtask bench [ARGUMENT...]          the same work on Corten and on Debian's containerd
  cargo xtask fuzz [TARGET...] [--seconds N] [--seed N] [--replay FILE]
                                           forged input for the parsers, a minute for each target
                                           (`bench oci`: OCI runtimes; `bench images`: large pulls)

FILTER is a part of a test's name. The target folder is CARGO_TARGET_DIR, else target.
A machine that cannot run a guest skips that step of `test`, unless CORTEN_REQUIRE_VM=1.

Options of vm; without TEST and -p the chosen set of `cargo xtask test` runs:
  TEST        a part of `PACKAGE PROGRAM NAME`, such as freeze or \"corten-cgroups it\"
  -p PACKAGE  only tests of this package, and only it is built
  --keep      the guest stays up after the tests, with a login on its console
  --no-build  takes the programs that target/dist-debug holds
  --rebuild   makes the guest anew
CORTEN_VM_DIR (default: corten/vm in the user's cache folder) is where the guest is kept,
CORTEN_VM_MIRROR the Debian mirror that it is built from (default: apt's).
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut words = arguments.iter().map(String::as_str);
    let command = words.next().unwrap_or("help");
    let rest: Vec<&str> = words.collect();
    let outcome = match command {
        "build" => build::command(&rest),
        "test" => suite::command(&rest),
        "check" => check::command(&rest),
        "vm" => vm::command(&rest),
        // Not for people: what runs in the guest.
        "vm-guest" => vm::inside::command(&rest),
        "demo" => demo::command(&rest),
        "bench" => bench::command(&rest),
        "fuzz" => fuzz::command(&rest),
        "help" | "--help" | "-h" => {
            print!("{HELP}");
            Ok(())
        }
        other => Err(format!("{other:?} is no command\n\n{HELP}")),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("\nerror: {message}");
            ExitCode::FAILURE
        }
    }
}

/// The folder of the workspace: the parent of this crate's.
fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

/// Where cargo puts what it builds. A relative folder counts from the workspace, as we run cargo there.
fn target() -> PathBuf {
    workspace()
        .join(std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| PathBuf::from("target"), PathBuf::from))
}

/// Fails on arguments that a command does not know.
fn no_arguments(arguments: &[&str]) -> Result<(), String> {
    match arguments.first() {
        Some(unknown) => Err(format!("{unknown:?} is not an argument of this command")),
        None => Ok(()),
    }
}
