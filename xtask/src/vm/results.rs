//! What came back from the guest: a line per test as it is through, then the count, what skipped and why,
//! and what failed.

use super::job::{Outcome, Report, Test};
use std::collections::BTreeMap;
use std::time::Duration;

/// Tests and how they went.
pub struct Results<'a> {
    tests: &'a [Test],
    reports: BTreeMap<usize, Report>,
}

impl<'a> Results<'a> {
    /// Nothing is known yet.
    pub fn new(tests: &'a [Test]) -> Self {
        Self { tests, reports: BTreeMap::new() }
    }

    /// Takes a report and returns the line for it; `None` where the guest speaks of a test it was not given.
    pub fn take(&mut self, report: Report) -> Option<String> {
        let test = self.tests.get(report.test)?;
        let again = if report.again { ", run once more by itself" } else { "" };
        let line = format!(
            "{:>8} [{:>7.2}s] {} {}{again}",
            report.outcome.word(),
            report.time.as_secs_f64(),
            test.program,
            test.name
        );
        self.reports.insert(report.test, report);
        Some(line)
    }

    /// Tests that held only when nothing ran beside them.
    pub fn second_tries(&self) -> Vec<String> {
        let held = self.reports.values().filter(|report| report.again && !report.outcome.is_failure());
        held.map(|report| self.name(report.test)).collect()
    }

    /// Reasons for skipping with how often each was given, and the count of all outcomes.
    pub fn summary(&self) -> String {
        let mut reasons = BTreeMap::new();
        for reason in self.reports.values().flat_map(|report| &report.skips) {
            *reasons.entry(reason.as_str()).or_insert(0) += 1;
        }
        let mut text: String =
            reasons.iter().map(|(reason, count)| format!("{count} x {reason}\n")).collect();
        let of = |outcome| self.reports.values().filter(|report| report.outcome == outcome).count();
        let slow: Duration = self.reports.values().map(|report| report.time).sum();
        let not_run = of(Outcome::NotRun) + self.tests.len() - self.reports.len();
        text += &format!(
            "{} passed, {} skipped, {} failed, {} ended at their limit, {not_run} not run; {:.0} s of tests",
            of(Outcome::Pass),
            of(Outcome::Skip),
            of(Outcome::Fail),
            of(Outcome::TimedOut),
            slow.as_secs_f64(),
        );
        text
    }

    /// Tests that were not run for want of time.
    pub fn not_run(&self) -> Vec<String> {
        let run =
            |index: &usize| self.reports.get(index).is_some_and(|report| report.outcome != Outcome::NotRun);
        (0..self.tests.len()).filter(|index| !run(index)).map(|index| self.name(index)).collect()
    }

    /// Each failed test with the end of its output.
    pub fn failures(&self) -> Vec<String> {
        let failed = self.reports.values().filter(|report| report.outcome.is_failure());
        failed
            .map(|report| {
                let output: String = report.output.lines().map(|line| format!("    {line}\n")).collect();
                format!("{} {}\n{output}", report.outcome.word(), self.name(report.test))
            })
            .collect()
    }

    fn name(&self, index: usize) -> String {
        self.tests.get(index).map(|test| format!("{} {}", test.program, test.name)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_are_counted_and_tests_without_a_report_are_not_run() {
        let test = |name: &str| Test {
            program: "corten-x it".to_owned(),
            file: "corten-x-it".to_owned(),
            name: name.to_owned(),
            limit: Duration::from_secs(1),
        };
        let tests = ["a", "b", "c", "d"].map(test);
        let report = |test, outcome, output: &str, skips: &[&str]| Report {
            test,
            outcome,
            time: Duration::from_secs(1),
            output: output.to_owned(),
            skips: skips.iter().map(|skip| (*skip).to_owned()).collect(),
            again: false,
        };
        let mut results = Results::new(&tests);
        let line = results.take(report(0, Outcome::Pass, "", &[])).expect("known");
        assert_eq!(line, "    PASS [   1.00s] corten-x it a");
        results.take(report(1, Outcome::Skip, "", &["skipped: no nft"])).expect("known");
        results.take(report(2, Outcome::Fail, "panicked", &[])).expect("known");
        assert_eq!(results.take(report(9, Outcome::Pass, "", &[])), None);
        let summary = results.summary();
        assert!(summary.starts_with("1 x skipped: no nft\n1 passed, 1 skipped, 1 failed"), "{summary}");
        assert_eq!(results.not_run(), ["corten-x it d"]);
        assert_eq!(results.failures(), ["FAIL corten-x it c\n    panicked\n"]);
        results.take(Report { again: true, ..report(2, Outcome::Pass, "", &[]) }).expect("known");
        assert_eq!((results.failures().len(), results.second_tries()), (0, vec!["corten-x it c".to_owned()]));
    }
}
