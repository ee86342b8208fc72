//! Runs one target: seeds first, then changed inputs, for a time or a number of runs.
//!
//! It ends at the first failure and gives the input back. It never hides a panic.

use crate::{Random, Target};
use std::collections::HashSet;
use std::panic::AssertUnwindSafe;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Inputs that are kept for changing them further.
const CORPUS: usize = 4096;

/// How long a target runs.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Begins the row of changes.
    pub seed: u64,
    /// Ends after this time.
    pub time: Option<Duration>,
    /// Ends after so many changed inputs.
    pub runs: Option<u64>,
    /// One input may take as long as this.
    pub slowest: Duration,
}

/// What a run came to.
#[derive(Debug)]
pub struct Report {
    /// Changed inputs that were run.
    pub runs: u64,
    /// Different outcomes that were seen.
    pub outcomes: usize,
    /// The longest that one input took.
    pub slowest: Duration,
}

/// An input that breaks a promise.
#[derive(Debug)]
pub struct Failure {
    /// The input.
    pub input: Vec<u8>,
    /// Why it is a failure.
    pub why: String,
}

/// What runs now, for whoever watches from outside of this thread.
static CURRENT: Mutex<Option<(Instant, Vec<u8>)>> = Mutex::new(None);

/// The input that has been running for longer than `limit`, if one has.
pub fn stuck(limit: Duration) -> Option<Vec<u8>> {
    let current = CURRENT.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    current.as_ref().filter(|(since, _)| since.elapsed() > limit).map(|(_, input)| input.clone())
}

fn set_current(input: Option<&[u8]>) {
    let mut current = CURRENT.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    *current = input.map(|input| (Instant::now(), input.to_vec()));
}

/// One input.
pub fn once(target: &Target, input: &[u8], slowest: Duration) -> Result<(String, Duration), Failure> {
    let failed = |why: String| Failure { input: input.to_vec(), why };
    set_current(Some(input));
    let begin = Instant::now();
    let result = std::panic::catch_unwind(AssertUnwindSafe(|| (target.run)(input)));
    let took = begin.elapsed();
    set_current(None);
    let outcome = result.map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        failed(text.unwrap_or_else(|| "it panicked".to_owned()))
    })?;
    if took > slowest {
        return Err(failed(format!("it took {:.1} s", took.as_secs_f64())));
    }
    Ok((outcome, took))
}

/// An outcome without its numbers, its digests and without what it quotes: two that differ in these are one.
fn shape(outcome: &str) -> String {
    let mut quoted = false;
    let words: Vec<&str> = outcome.split_whitespace().filter(|word| word.len() < 40).collect();
    words
        .join(" ")
        .chars()
        .filter(|c| {
            quoted ^= *c == '"';
            !quoted && !c.is_ascii_digit()
        })
        .take(400)
        .collect()
}

/// Runs a target.
pub fn run(target: &Target, settings: &Settings) -> Result<Report, Failure> {
    let mut random = Random::new(settings.seed);
    let mut seen = HashSet::new();
    let mut report = Report { runs: 0, outcomes: 0, slowest: Duration::ZERO };
    let mut corpus = (target.seeds)();
    for seed in &corpus {
        let (outcome, took) = once(target, seed, settings.slowest)?;
        seen.insert(shape(&outcome));
        report.slowest = report.slowest.max(took);
    }
    let begin = Instant::now();
    while settings.time.is_none_or(|time| begin.elapsed() < time)
        && settings.runs.is_none_or(|runs| report.runs < runs)
    {
        let mut input = random.pick(&corpus).clone();
        let other = random.pick(&corpus).clone();
        for _ in 0..1 + random.below(4) {
            (target.mutate)(&mut random, &mut input, &other);
        }
        let (outcome, took) = once(target, &input, settings.slowest)?;
        report.runs += 1;
        report.slowest = report.slowest.max(took);
        if seen.insert(shape(&outcome)) {
            if corpus.len() < CORPUS {
                corpus.push(input);
            } else {
                let at = random.below(CORPUS);
                corpus[at] = input;
            }
        }
    }
    report.outcomes = seen.len();
    Ok(report)
}
