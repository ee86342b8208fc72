//! A short run of every target: all seeds, and a number of changed inputs that are the same each time.
//!
//! `cargo xtask fuzz TARGET --seconds N` runs longer. `CORTEN_FUZZ_SEED` takes another row of changes.

use corten_fuzz::{Settings, TARGETS, driver};
use std::time::Duration;

fn short(name: &str) {
    let target = corten_fuzz::find(name).expect("a target");
    let seed = std::env::var("CORTEN_FUZZ_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    let settings = Settings { seed, time: None, runs: Some(target.short), slowest: Duration::from_secs(20) };
    match driver::run(target, &settings) {
        Ok(report) => {
            assert_eq!(report.runs, target.short);
            assert!(report.outcomes > 2, "only {} outcomes: the inputs say nothing", report.outcomes);
        }
        Err(failure) => {
            let input = failure.input.escape_ascii();
            panic!("{name} with the seed {seed}: {}\ninput: {input}", failure.why);
        }
    }
}

macro_rules! targets {
    ($($test:ident: $name:literal),* $(,)?) => {
        $(#[test] fn $test() { short($name); })*

        #[test]
        fn every_target_has_its_short_run() {
            let mut here = vec![$($name),*];
            let mut all: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
            here.sort_unstable();
            all.sort_unstable();
            assert_eq!(here, all);
        }
    };
}

targets! {
    layers_touch_nothing_outside: "tar",
    compressed_streams_are_read_or_refused: "compressed",
    manifests_are_read_or_refused: "manifest",
    configurations_are_read_or_refused: "config",
    references_are_read_or_refused: "reference",
    hosts_toml_is_read_or_refused: "hosts",
    registries_conf_is_read_or_refused: "registries",
    challenges_are_read_or_passed_over: "challenge",
    docker_config_is_read_or_refused: "docker-config",
    policies_are_read_or_refused: "policy",
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let target = corten_fuzz::find("reference").expect("a target");
    let run = |seed| {
        let settings = Settings { seed, time: None, runs: Some(3000), slowest: Duration::from_secs(20) };
        driver::run(target, &settings).map(|report| report.outcomes).map_err(|failure| failure.why)
    };
    assert_eq!(run(5), run(5));
}

#[test]
fn a_panic_is_a_failure_with_its_input() {
    let target = corten_fuzz::Target {
        name: "panics",
        promise: "none",
        seeds: || vec![b"ok".to_vec()],
        mutate: |random, input, _| input.push(b'a' + random.below(26) as u8),
        run: |input| {
            assert!(!input.ends_with(b"z"), "it ends with z");
            String::new()
        },
        short: 0,
    };
    let settings = Settings { seed: 1, time: None, runs: Some(10_000), slowest: Duration::from_secs(20) };
    let failure = driver::run(&target, &settings).expect_err("z comes up");
    assert!(failure.input.ends_with(b"z") && failure.why.contains("ends with z"), "{failure:?}");
}
