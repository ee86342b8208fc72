//! `cargo xtask vm`: the same integration tests on another kind of node: Debian 12 under QEMU with systemd as
//! pid 1, cgroup v2 only, AppArmor, device-mapper and btrfs.
//!
//! The host builds; the guest only runs. A guest is made once (`recipe`, `image`), booted and saved once
//! (`saved`), and each run goes on from there with a drive of its own (`drive`) and throws away what it wrote.
//! Guests run side by side; nothing on the host is changed outside the cache folder (`place`).

mod drive;
mod guest;
mod image;
pub mod inside;
mod job;
mod machine;
mod mirror;
mod monitor;
mod place;
mod process;
mod programs;
mod recipe;
mod results;
mod saved;
mod selection;

use crate::build::{Profile, build};
use crate::steps::{interrupted, outlive_signals, stop};
use job::{Job, Word};
use place::Place;
use results::Results;
use std::time::{Duration, Instant};

/// All that is done in the guest by `cargo xtask test`, from the start of QEMU on.
const WHOLE: Duration = Duration::from_secs(15 * 60);
/// Of that, what is not for tests: the start, and the last test's end.
const START: Duration = Duration::from_secs(60);
/// All that is done for named tests.
const NAMED: Duration = Duration::from_secs(60 * 60);

/// Names the OCI runtime of the tests that are made for any.
const RUNTIME: &str = "OCI_RUNTIME";

/// What the command line says.
#[derive(Debug, Default, PartialEq, Eq)]
struct Options<'a> {
    keep: bool,
    rebuild: bool,
    no_build: bool,
    packages: Vec<&'a str>,
    names: Vec<&'a str>,
}

/// Why there is no result, which is not the same as a bad one.
pub enum Problem {
    /// This machine cannot run a guest.
    Unavailable(String),
    /// Tests failed, or do not build.
    Failed(String),
}

/// The command.
pub fn command(arguments: &[&str]) -> Result<(), String> {
    let options = options(arguments)?;
    outlive_signals()?;
    if !options.no_build {
        build(Profile::Debug)?;
    }
    let outcome = available().and_then(|()| {
        let built = programs::build(&if options.packages.is_empty() && options.names.is_empty() {
            selection::packages()
        } else {
            options.packages.clone()
        });
        let place = Place::open().map_err(Problem::Unavailable)?;
        saved::prepare(&place, options.rebuild).map_err(Problem::Unavailable)?;
        run(&place, &built.map_err(Problem::Failed)?, &options)
    });
    outcome.map_err(|problem| match problem {
        Problem::Unavailable(why) => format!("there is no guest: {why}"),
        Problem::Failed(why) => why,
    })
}

fn options<'a>(arguments: &[&'a str]) -> Result<Options<'a>, String> {
    let mut options = Options::default();
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        match *word {
            "--keep" => options.keep = true,
            "--rebuild" => options.rebuild = true,
            "--no-build" => options.no_build = true,
            "-p" | "--package" => {
                options.packages.push(words.next().ok_or("-p wants the name of a package")?)
            }
            unknown if unknown.starts_with('-') => {
                return Err(format!("{unknown:?} is not an argument of vm"));
            }
            name => options.names.push(name),
        }
    }
    Ok(options)
}

/// A guest that is made while other work goes on.
pub struct Preparation(Option<std::thread::JoinHandle<Result<(), String>>>);

impl Preparation {
    /// Begins.
    pub fn begin() -> Self {
        let make = || match image::missing() {
            Some(why) => Err(why),
            None => saved::prepare(&Place::open()?, false),
        };
        Self(Some(std::thread::spawn(make)))
    }

    /// Waits for its end, then runs the chosen tests of the whole workspace.
    pub fn run_chosen(mut self) -> Result<(), Problem> {
        let made = self.0.take().map(std::thread::JoinHandle::join);
        match made {
            Some(Ok(outcome)) => outcome.map_err(Problem::Unavailable)?,
            Some(Err(_)) | None => return Err(Problem::Unavailable("making the guest broke off".to_owned())),
        }
        // As the tests before: other features would build everything once more.
        let built = programs::build(&[]).map_err(Problem::Failed)?;
        let place = Place::open().map_err(Problem::Unavailable)?;
        outlive_signals().map_err(Problem::Failed)?;
        run(&place, &built, &Options::default())
    }
}

impl Drop for Preparation {
    fn drop(&mut self) {
        if let Some(thread) = self.0.take() {
            // The work before it failed; a build that nobody waits for would only cost time.
            stop();
            let _ = thread.join();
        }
    }
}

fn available() -> Result<(), Problem> {
    image::missing().map_or(Ok(()), |why| Err(Problem::Unavailable(why)))
}

fn run(place: &Place, built: &programs::Built, options: &Options) -> Result<(), Problem> {
    let begin = Instant::now();
    let chosen = options.packages.is_empty() && options.names.is_empty();
    let list = |program: &programs::Program| Ok((program.clone(), program.tests()?));
    let listed: Vec<_> =
        built.tests.iter().map(list).collect::<Result<_, String>>().map_err(Problem::Failed)?;
    let tests = if chosen {
        let (tests, lines) = selection::chosen(&listed);
        lines.iter().for_each(|line| println!("vm: {line}"));
        tests
    } else {
        selection::named(&listed, &options.names)
    };
    if tests.is_empty() {
        return Err(Problem::Failed("no test has such a name".to_owned()));
    }
    let whole = if chosen { WHOLE } else { NAMED };
    let mut environment = drive::environment();
    // The tests for any OCI runtime, with one of the guest's. What everyone runs is about ours.
    environment
        .extend(std::env::var(RUNTIME).ok().filter(|_| !chosen).map(|name| (RUNTIME.to_owned(), name)));
    let job = Job {
        budget: whole.saturating_sub(START),
        workers: u64::from(machine::PROCESSORS),
        environment,
        links: drive::links(built, &tests),
        tests,
        login: options.keep,
    };
    let folder = place.passing("run").map_err(Problem::Unavailable)?;
    let drive = drive::make(&folder, &job, &built.tests).map_err(Problem::Failed)?;
    let (mut guest, how) = saved::start(place, &folder).map_err(Problem::Unavailable)?;
    println!(
        "vm: the guest is up {how}, after {:.1} s; {} tests",
        begin.elapsed().as_secs_f64(),
        job.tests.len()
    );
    guest.send(&drive).map_err(Problem::Unavailable)?;
    let mut results = Results::new(&job.tests);
    let outcome = listen(&mut guest, &mut results, Instant::now() + whole);
    println!("\n{}", results.summary());
    results.not_run().iter().for_each(|name| println!("not run: {name}"));
    results.second_tries().iter().for_each(|name| println!("held only at its second try: {name}"));
    let failures = results.failures();
    failures.iter().for_each(|failure| print!("\n{failure}"));
    if options.keep && !interrupted() {
        wait_for_login(&folder);
    }
    drop(guest);
    // It was up and took its work: what goes wrong now is no missing guest.
    outcome.map_err(Problem::Failed)?;
    if failures.is_empty() {
        Ok(())
    } else {
        let advice = "`cargo xtask vm NAME` runs one, `--keep` leaves the guest up for a look";
        Err(Problem::Failed(format!("tests that failed in the guest: {}; {advice}", failures.len())))
    }
}

/// Takes the guest's reports until it is through.
fn listen(guest: &mut guest::Guest, results: &mut Results, end: Instant) -> Result<(), String> {
    loop {
        match guest.line(end)?.as_deref().map(Word::read) {
            Some(Word::Done) => return Ok(()),
            Some(Word::Report(report)) => {
                if let Some(line) = results.take(report) {
                    println!("{line}");
                }
            }
            Some(Word::Other(words)) => return Err(format!("the guest says: {words}")),
            None => return Err("the guest did not end in time".to_owned()),
        }
    }
}

fn wait_for_login(folder: &place::Passing) {
    println!(
        "\nvm: the guest stays up until Ctrl-C. Its console, as root: socat -,raw,echo=0,escape=0x1d unix-connect:{}",
        folder.path().join("console").display()
    );
    while !interrupted() {
        std::thread::sleep(Duration::from_millis(200));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_names_or_known() {
        let all =
            options(&["--keep", "-p", "corten-cgroups", "freezes", "--rebuild", "kills"]).expect("known");
        assert!(all.keep && all.rebuild && !all.no_build);
        assert_eq!((all.packages, all.names), (vec!["corten-cgroups"], vec!["freezes", "kills"]));
        assert!(options(&["--what"]).is_err());
        assert!(options(&["-p"]).is_err());
    }
}
