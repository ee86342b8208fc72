//! `cargo xtask fuzz`: feeds damaged and forged input to the parsers for as long as one likes.
//!
//! The crate in `tests/fuzz` does the work; a short run of it is part of `cargo xtask test`.

use crate::steps::{cargo, run};

/// The command; the program checks the arguments.
pub fn command(arguments: &[&str]) -> Result<(), String> {
    // Not optimized: numbers that overflow panic.
    let mut command = cargo(&["run", "--quiet", "--package", "corten-fuzz", "--"]);
    command.args(arguments);
    run(&mut command, "Mend what reads the input named above, and add a test with it.")
}
