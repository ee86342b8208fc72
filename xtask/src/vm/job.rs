//! What the host and the program in the guest say to each other, as JSON: the job on the drive, and a line
//! for each test that is through.

use serde_json::{Value, json};
use std::time::Duration;

/// A test in the guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Test {
    /// `corten-cgroups it`
    pub program: String,
    /// The program's file on the drive.
    pub file: String,
    /// `module::name`
    pub name: String,
    /// When it is ended.
    pub limit: Duration,
}

/// All that the guest shall do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// Tests not begun by then are not run.
    pub budget: Duration,
    /// How many run at once.
    pub workers: u64,
    /// Variables of the tests.
    pub environment: Vec<(String, String)>,
    /// Paths of the host where a program of the drive must be found, and its path in the guest.
    pub links: Vec<(String, String)>,
    /// In the order in which they begin.
    pub tests: Vec<Test>,
    /// A login on the console comes after the tests.
    pub login: bool,
}

impl Job {
    /// The text on the drive.
    pub fn write(&self) -> String {
        let tests: Vec<_> = self
            .tests
            .iter()
            .map(|test| json!([test.program, test.file, test.name, test.limit.as_secs()]))
            .collect();
        let pairs = |list: &[(String, String)]| list.iter().map(|(a, b)| json!([a, b])).collect::<Vec<_>>();
        json!({
            "budget": self.budget.as_secs(),
            "workers": self.workers,
            "environment": pairs(&self.environment),
            "links": pairs(&self.links),
            "tests": tests,
            "login": self.login,
        })
        .to_string()
    }

    /// Reads it again.
    pub fn read(text: &str) -> Result<Self, String> {
        let value: Value =
            serde_json::from_str(text).map_err(|said| format!("the job is no JSON: {said}"))?;
        let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let list = |key: &str| value[key].as_array().cloned().unwrap_or_default();
        let pairs = |key: &str| list(key).iter().map(|pair| (word(&pair[0]), word(&pair[1]))).collect();
        let seconds = |value: &Value| Duration::from_secs(value.as_u64().unwrap_or(0));
        let test = |test: &Value| Test {
            program: word(&test[0]),
            file: word(&test[1]),
            name: word(&test[2]),
            limit: seconds(&test[3]),
        };
        Ok(Self {
            budget: seconds(&value["budget"]),
            workers: value["workers"].as_u64().unwrap_or(1),
            environment: pairs("environment"),
            links: pairs("links"),
            tests: list("tests").iter().map(test).collect(),
            login: value["login"] == Value::Bool(true),
        })
    }
}

/// How a test went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// It held.
    Pass,
    /// It said that it, or a part of it, could not run.
    Skip,
    /// The time for all tests was over before it began.
    NotRun,
    /// It did not hold.
    Fail,
    /// It was ended at its limit.
    TimedOut,
}

impl Outcome {
    const WORDS: [(Outcome, &'static str); 5] = [
        (Outcome::Pass, "PASS"),
        (Outcome::Skip, "SKIP"),
        (Outcome::NotRun, "NOT RUN"),
        (Outcome::Fail, "FAIL"),
        (Outcome::TimedOut, "TIMEOUT"),
    ];

    /// In capitals.
    pub fn word(self) -> &'static str {
        Self::WORDS.iter().find(|(outcome, _)| *outcome == self).map_or("", |(_, word)| word)
    }

    /// Whether the run failed with it.
    pub fn is_failure(self) -> bool {
        matches!(self, Outcome::Fail | Outcome::TimedOut)
    }
}

/// A line from the guest.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// Which of the job's tests.
    pub test: usize,
    /// How it went.
    pub outcome: Outcome,
    /// How long it took.
    pub time: Duration,
    /// The end of what it printed, where it failed.
    pub output: String,
    /// Why it skipped, a line each.
    pub skips: Vec<String>,
    /// It had failed before, beside another test, and ran once more by itself.
    pub again: bool,
}

/// Everything that the guest can say.
#[derive(Debug, Clone, PartialEq)]
pub enum Word {
    /// A test is through.
    Report(Report),
    /// All are.
    Done,
    /// Something else: why the guest cannot do its work.
    Other(String),
}

impl Report {
    /// As a line.
    pub fn write(&self) -> String {
        json!({
            "test": self.test,
            "outcome": self.outcome.word(),
            "milliseconds": u64::try_from(self.time.as_millis()).unwrap_or(u64::MAX),
            "output": self.output,
            "skips": self.skips,
            "again": self.again,
        })
        .to_string()
    }
}

impl Word {
    /// The line after the last report.
    pub const DONE: &'static str = r#"{"done":true}"#;

    /// Reads a line.
    pub fn read(line: &str) -> Self {
        let other = || Word::Other(line.to_owned());
        let Ok(value) = serde_json::from_str::<Value>(line) else { return other() };
        if value["done"] == Value::Bool(true) {
            return Word::Done;
        }
        let outcome =
            value["outcome"].as_str().and_then(|said| Outcome::WORDS.iter().find(|(_, word)| *word == said));
        let test = value["test"].as_u64().and_then(|test| usize::try_from(test).ok());
        let (Some((outcome, _)), Some(test)) = (outcome, test) else { return other() };
        let skips = value["skips"].as_array().cloned().unwrap_or_default();
        Word::Report(Report {
            test,
            outcome: *outcome,
            time: Duration::from_millis(value["milliseconds"].as_u64().unwrap_or(0)),
            output: value["output"].as_str().unwrap_or_default().to_owned(),
            skips: skips.iter().filter_map(|skip| skip.as_str().map(str::to_owned)).collect(),
            again: value["again"] == Value::Bool(true),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_comes_out_as_it_went_in() {
        let job = Job {
            budget: Duration::from_secs(9),
            workers: 2,
            environment: vec![("CORTEN".to_owned(), "/a b".to_owned())],
            links: vec![("/x".to_owned(), "/y".to_owned())],
            tests: vec![Test {
                program: "corten-cgroups it".to_owned(),
                file: "corten-cgroups-it".to_owned(),
                name: "kernel::freezes".to_owned(),
                limit: Duration::from_secs(60),
            }],
            login: true,
        };
        assert_eq!(Job::read(&job.write()), Ok(job));
        assert!(Job::read("no").is_err());
    }

    #[test]
    fn every_line_is_understood_or_shown() {
        for (outcome, _) in Outcome::WORDS {
            let report = Report {
                test: 3,
                outcome,
                time: Duration::from_millis(1500),
                output: "two\nlines \u{1b}[0m\"".to_owned(),
                skips: vec!["skipped: no nft".to_owned()],
                again: outcome == Outcome::Pass,
            };
            assert!(!report.write().contains('\n'));
            assert_eq!(Word::read(&report.write()), Word::Report(report));
        }
        assert_eq!(Word::read(Word::DONE), Word::Done);
        assert_eq!(Word::read("mount: bad"), Word::Other("mount: bad".to_owned()));
        assert_eq!(Word::read(r#"{"test":1}"#), Word::Other(r#"{"test":1}"#.to_owned()));
    }
}
