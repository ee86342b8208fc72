//! `corten-fuzz [TARGET...] [--seconds N] [--seed N] [--replay FILE]`; `cargo xtask fuzz` runs it.
//!
//! An input that fails is written to the folder `target/fuzz-failures` and named; nothing else is written.

use corten_fuzz::{Failure, Settings, TARGETS, Target, driver, find};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

const SLOWEST: Duration = Duration::from_secs(10);
const STUCK: Duration = Duration::from_secs(60);
/// Address space; whoever allocates by a number from the input hits it.
const MEMORY: u64 = 2 << 30;

fn main() -> ExitCode {
    match work() {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::FAILURE
        }
    }
}

fn work() -> Result<(), String> {
    let (mut chosen, mut seconds, mut seed, mut replay) = (Vec::new(), 60, 1, None);
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut number = || {
            let value = words.next().and_then(|word| word.parse().ok());
            value.ok_or_else(|| format!("{word} needs a number"))
        };
        match word.as_str() {
            "--seconds" => seconds = number()?,
            "--seed" => seed = number()?,
            "--replay" => replay = Some(words.next().ok_or("--replay needs a file")?),
            name => chosen.push(find(name).ok_or_else(|| unknown(name))?),
        }
    }
    if chosen.is_empty() {
        chosen = TARGETS.iter().collect();
    }
    let limit = rustix::process::Rlimit { current: Some(MEMORY), maximum: Some(MEMORY) };
    rustix::process::setrlimit(rustix::process::Resource::As, limit)
        .map_err(|said| format!("cannot limit the memory: {said}"))?;
    if let Some(file) = replay {
        let input = std::fs::read(&file).map_err(|said| format!("cannot read {file}: {said}"))?;
        for target in chosen {
            let (outcome, took) = driver::once(target, &input, SLOWEST).map_err(|failure| failure.why)?;
            println!("{}: {outcome} ({:.3} s)", target.name, took.as_secs_f64());
        }
        return Ok(());
    }
    std::thread::spawn(|| {
        loop {
            std::thread::sleep(Duration::from_secs(1));
            if let Some(input) = driver::stuck(STUCK) {
                let failure = Failure { input, why: format!("it ran for {} s", STUCK.as_secs()) };
                eprintln!("error: {}", keep("stuck", &failure));
                std::process::exit(1);
            }
        }
    });
    for target in chosen {
        let time = Some(Duration::from_secs(seconds));
        let settings = Settings { seed, time, runs: None, slowest: SLOWEST };
        let report = driver::run(target, &settings).map_err(|failure| keep(target.name, &failure))?;
        println!(
            "{:<16} {:>9} inputs, {:>5} outcomes, slowest {:.3} s: {}",
            target.name,
            report.runs,
            report.outcomes,
            report.slowest.as_secs_f64(),
            target.promise
        );
    }
    Ok(())
}

fn unknown(name: &str) -> String {
    let names: Vec<&str> = TARGETS.iter().map(|target: &Target| target.name).collect();
    format!("{name:?} is no target; there are {}", names.join(", "))
}

/// Writes the input where it can be run again.
fn keep(name: &str, failure: &Failure) -> String {
    let folder = PathBuf::from("target/fuzz-failures");
    let file = folder.join(format!("{name}-{}", std::process::id()));
    let kept = std::fs::create_dir_all(&folder).and_then(|()| std::fs::write(&file, &failure.input));
    let place = match kept {
        Ok(()) => format!("the input is {}; run it again with --replay", file.display()),
        Err(said) => format!("the input ({} bytes) could not be kept: {said}", failure.input.len()),
    };
    format!("{name}: {}; {place}", failure.why)
}
