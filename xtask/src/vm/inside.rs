//! The part that runs in the guest, as `xtask vm-guest JOB` with the host at both standard streams: every
//! test in a process of its own, two at a time, each with a time limit.

use super::job::{Job, Outcome, Report, Test, Word};
use std::fs::File;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Where the drive is mounted.
pub const DRIVE: &str = "/mnt/work";
/// As much of a failed test's output is sent.
const OUTPUT: usize = 12 * 1024;
/// Reasons of one test for skipping that are sent.
const SKIPS: usize = 20;
/// Failed tests that get a second try. Where more fail, it is not for a lack of time.
const AGAIN: usize = 10;
/// How often a running test is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// The command. It is for the guest's agent alone.
pub fn command(arguments: &[&str]) -> Result<(), String> {
    let [path] = arguments else { return Err("vm-guest runs in a guest, with its job's path".to_owned()) };
    let begin = Instant::now();
    let text = std::fs::read_to_string(path).map_err(|said| format!("cannot read {path}: {said}"));
    let outcome = text.and_then(|text| Job::read(&text)).and_then(|job| run(&job, begin));
    let last = match &outcome {
        Ok(()) => Word::DONE.to_owned(),
        // The host shows what it does not understand.
        Err(why) => why.replace('\n', " "),
    };
    say(&last);
    outcome
}

fn run(job: &Job, begin: Instant) -> Result<(), String> {
    let folder = Path::new("/run/corten-vm-output");
    std::fs::create_dir_all(folder).map_err(|said| format!("cannot make {}: {said}", folder.display()))?;
    for (path, program) in &job.links {
        link(Path::new(path), program).map_err(|said| format!("cannot link {path}: {said}"))?;
    }
    let left = || job.budget.saturating_sub(begin.elapsed());
    let (next, failed) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..job.workers {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(test) = job.tests.get(index) else { return };
                    let report = one(index, test, job, left(), &folder.join(index.to_string()));
                    if report.outcome.is_failure()
                        && let Ok(mut failed) = failed.lock()
                    {
                        failed.push(index);
                    }
                    say(&report.write());
                }
            });
        }
    });
    // Two at a time on an interpreted machine, a test that measures time may fail for that alone: once more,
    // by itself. The host tells both outcomes.
    for index in failed.into_inner().unwrap_or_default().into_iter().take(AGAIN) {
        if let Some(test) = job.tests.get(index) {
            let report = one(index, test, job, left(), &folder.join(index.to_string()));
            if report.outcome != Outcome::NotRun {
                say(&Report { again: true, ..report }.write());
            }
        }
    }
    if job.login {
        let _ = Command::new("systemctl").args(["start", "serial-getty@ttyS0.service"]).status();
    }
    Ok(())
}

fn link(path: &Path, program: &str) -> std::io::Result<()> {
    std::fs::create_dir_all(path.parent().unwrap_or(Path::new("/")))?;
    std::os::unix::fs::symlink(program, path)
}

/// A line is never broken by another: the stream is locked until it is whole.
fn say(line: &str) {
    let mut stream = std::io::stdout().lock();
    // Without a host nobody is left to tell.
    let _ = stream.write_all(format!("{line}\n").as_bytes()).and_then(|()| stream.flush());
}

fn one(index: usize, test: &Test, job: &Job, left: Duration, log: &Path) -> Report {
    let begin = Instant::now();
    let report = |outcome, output| Report {
        test: index,
        outcome,
        time: begin.elapsed(),
        output,
        skips: Vec::new(),
        again: false,
    };
    if left.is_zero() {
        return report(Outcome::NotRun, String::new());
    }
    let child = match start(test, job, log) {
        Ok(child) => child,
        Err(said) => return report(Outcome::Fail, format!("cannot start it: {said}")),
    };
    let status = wait(child, test.limit.min(left));
    let said = String::from_utf8_lossy(&std::fs::read(log).unwrap_or_default()).into_owned();
    let _ = std::fs::remove_file(log);
    match status {
        Some(status) if status.success() => {
            let skips = skips(&said);
            let outcome = if skips.is_empty() { Outcome::Pass } else { Outcome::Skip };
            Report { skips, ..report(outcome, String::new()) }
        }
        Some(status) => report(Outcome::Fail, format!("{}\nit ended with {status}", end(&said))),
        // The time for all was less than its own: that tells nothing about it.
        None if left < test.limit => report(Outcome::NotRun, String::new()),
        None => report(Outcome::TimedOut, end(&said).to_owned()),
    }
}

/// Its output goes to a file: a pipe would be held open by what a test leaves behind.
fn start(test: &Test, job: &Job, log: &Path) -> std::io::Result<Child> {
    let file = File::create(log)?;
    Command::new(PathBuf::from(DRIVE).join("tests").join(&test.file))
        .args(["--exact", &test.name, "--nocapture"])
        .env_clear()
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .envs([("HOME", "/root"), ("USER", "root"), ("LOGNAME", "root"), ("LANG", "C.UTF-8")])
        .envs(job.environment.iter().map(|(name, value)| (name, value)))
        .current_dir("/root")
        .stdin(Stdio::null())
        .stdout(file.try_clone()?)
        .stderr(file)
        .process_group(0)
        .spawn()
}

/// `None` when it was ended with its group at its limit.
fn wait(mut child: Child, limit: Duration) -> Option<ExitStatus> {
    let end = Instant::now() + limit;
    loop {
        match child.try_wait() {
            Ok(None) if Instant::now() < end => std::thread::sleep(LOOK),
            Ok(Some(status)) => return Some(status),
            Ok(None) | Err(_) => break,
        }
    }
    // Not waited for yet, so the id is still its own.
    let _ = Command::new("kill").args(["-KILL", "--", &format!("-{}", child.id())]).status();
    let _ = child.kill();
    let _ = child.wait();
    None
}

/// What tests print when they skip, as `skipped: no nft`. libtest may put a test's first line after its own
/// `test NAME ... `.
fn skips(output: &str) -> Vec<String> {
    output
        .lines()
        .map(|line| line.split_once(" ... ").map_or(line, |(_, rest)| rest).trim())
        .filter(|line| line.to_ascii_lowercase().starts_with("skip"))
        .take(SKIPS)
        .map(|line| line.chars().take(300).collect())
        .collect()
}

fn end(output: &str) -> &str {
    let mut at = output.len().saturating_sub(OUTPUT);
    while !output.is_char_boundary(at) {
        at += 1;
    }
    output[at..].trim_end()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_for_skipping_are_found_in_what_a_test_printed() {
        let output = "running 1 test\ntest a::b ... skipped: no nft\nSKIPPED c: no root\nfine\nok\n";
        assert_eq!(skips(output), ["skipped: no nft", "SKIPPED c: no root"]);
        assert_eq!(skips("test skip_list::works ... ok\n"), Vec::<String>::new());
    }

    #[test]
    fn a_test_is_ended_at_its_limit_with_what_it_started() {
        let mark = std::env::temp_dir().join(format!("xtask-inside-{}", std::process::id()));
        let script = format!("(sleep 1; : > '{}') & sleep 60", mark.display());
        let child = Command::new("sh").args(["-c", &script]).process_group(0).spawn().expect("started");
        let begin = Instant::now();
        assert!(wait(child, Duration::from_millis(100)).is_none());
        assert!(begin.elapsed() < Duration::from_secs(30));
        std::thread::sleep(Duration::from_millis(1500));
        assert!(!mark.exists(), "what it started still ran");
    }

    #[test]
    fn long_output_is_cut_between_characters() {
        let long = "é".repeat(OUTPUT);
        assert!(end(&long).len() <= OUTPUT);
        assert_eq!(end("short\n"), "short");
    }
}
