//! Feeds damaged and forged input to whatever reads from outside: layers, manifests, references, configuration.
//!
//! A driver of our own on the stable toolchain: it begins with seeds, changes them with a knowledge of their format,
//! and keeps what gives an outcome that was not seen before. It looks for panics, for inputs that take too long,
//! and for promises of the target that do not hold. It needs no network and keeps nothing but failing inputs.

pub mod driver;
mod mutate;
mod random;
mod tar;
mod targets;
mod tree;

pub use driver::{Failure, Report, Settings};
pub use random::Random;
pub use targets::{TARGETS, find};

/// One reader of foreign input.
pub struct Target {
    /// As the command line has it.
    pub name: &'static str,
    /// What is promised of it.
    pub promise: &'static str,
    /// Where it starts: small, well formed, and forged in known ways.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Changes an input a little; the second one is another input of the corpus to take parts from.
    pub mutate: fn(&mut Random, &mut Vec<u8>, &[u8]),
    /// Reads the input and gives what came of it, in words that differ where something else happened. It panics where
    /// a promise does not hold.
    pub run: fn(&[u8]) -> String,
    /// Runs of the short test.
    pub short: u64,
}
