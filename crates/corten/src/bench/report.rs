//! The report: a table for a terminal, a Markdown table for documents, JSON for programs.

use super::memory::{Memory, Usage};
use super::samples::Summary;
use super::target::{Measure, Target};
use serde_json::{Value, json};

/// For a terminal.
pub fn text(targets: &[Target]) -> String {
    text_of(&heading(targets), rows(targets))
}

/// A table below a heading; the first row is the header.
pub fn text_of(heading: &str, rows: Vec<Vec<String>>) -> String {
    let mut table = comfy_table::Table::new();
    table.load_preset(comfy_table::presets::NOTHING);
    table.set_header(rows.first().cloned().unwrap_or_default());
    rows.into_iter().skip(1).for_each(|row| {
        table.add_row(row);
    });
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(comfy_table::CellAlignment::Right);
    }
    format!("{heading}\n{table}\n")
}

/// For a document.
pub fn markdown(targets: &[Target]) -> String {
    markdown_of(&heading(targets), &rows(targets))
}

/// As [`text_of`], in Markdown.
pub fn markdown_of(heading: &str, rows: &[Vec<String>]) -> String {
    let width = rows.first().map_or(0, Vec::len);
    let line = |row: &Vec<String>| format!("| {} |\n", row.join(" | "));
    let mut out = format!("{heading}\n\n");
    for (index, row) in rows.iter().enumerate() {
        out.push_str(&line(row));
        if index == 0 {
            out.push_str(&format!("|---|{}\n", "---:|".repeat(width.saturating_sub(1))));
        }
    }
    out
}

/// For programs: microseconds and KiB.
pub fn json(targets: &[Target]) -> String {
    let list: Vec<Value> = targets
        .iter()
        .map(|target| {
            let times: serde_json::Map<String, Value> = Measure::ALL
                .iter()
                .filter_map(|measure| Some((measure.key().to_owned(), json!(summary(target, *measure)?))))
                .collect();
            json!({
                "endpoint": target.path,
                "runtime": target.name,
                "daemon_pid": target.daemon,
                "microseconds": times,
                "memory": target.memory,
            })
        })
        .collect();
    format!("{:#}\n", json!({ "runtimes": list }))
}

fn heading(targets: &[Target]) -> String {
    let names: Vec<_> = targets.iter().map(|t| format!("{} at {}", t.name, t.path.display())).collect();
    format!("{}; times in milliseconds", names.join(", then "))
}

fn summary(target: &Target, measure: Measure) -> Option<Summary> {
    target.samples.get(&measure)?.summary()
}

/// The first row is the header.
fn rows(targets: &[Target]) -> Vec<Vec<String>> {
    let mut header = vec!["what".to_owned()];
    let short = |target: &Target| target.name.split(' ').next().unwrap_or_default().to_owned();
    for target in targets {
        let name = if targets.len() > 1 { format!("{} ", short(target)) } else { String::new() };
        header.extend(["p50", "p90", "p99", "max"].map(|column| format!("{name}{column}")));
    }
    if targets.len() > 1 {
        header.push("ratio of p50".to_owned());
    }
    let width = header.len();
    let mut rows = vec![header];
    rows.extend(Measure::ALL.iter().filter_map(|measure| time_row(targets, *measure)));
    for (title, figure) in MEMORY {
        rows.extend(memory_row(targets, title, *figure, width));
    }
    rows
}

fn time_row(targets: &[Target], measure: Measure) -> Option<Vec<String>> {
    let summaries: Vec<_> = targets.iter().map(|target| summary(target, measure)).collect::<Option<_>>()?;
    let mut row = vec![format!("{} ({})", measure.title(), summaries.first()?.count)];
    for s in &summaries {
        row.extend([s.p50, s.p90, s.p99, s.max].map(millis));
    }
    if let [one, other] = summaries[..] {
        row.push(ratio(one.p50, other.p50));
    }
    Some(row)
}

type Figure = fn(&Memory) -> Option<u64>;

/// What is told of memory, in KiB.
const MEMORY: &[(&str, Figure)] = &[
    ("daemon without pods, private KiB", |m| m.daemon_idle.map(|usage| usage.private_kib)),
    ("daemon with pods, PSS KiB", |m| m.daemon.map(|usage| usage.pss_kib)),
    ("daemon with pods, private KiB", |m| m.daemon.map(|usage| usage.private_kib)),
    ("monitors per pod, PSS KiB", |m| per_pod(m, m.monitors, |usage| usage.pss_kib)),
    ("monitors per pod, private KiB", |m| per_pod(m, m.monitors, |usage| usage.private_kib)),
    ("pause process per pod, private KiB", |m| per_pod(m, m.pauses, |usage| usage.private_kib)),
];

/// None where no such process was found: that is not the same as none being used.
fn per_pod(memory: &Memory, usage: Usage, figure: fn(Usage) -> u64) -> Option<u64> {
    (usage.processes > 0).then(|| figure(usage) / memory.pods.max(1) as u64)
}

fn memory_row(targets: &[Target], title: &str, figure: Figure, width: usize) -> Option<Vec<String>> {
    let figures: Vec<_> = targets.iter().map(|target| target.memory.as_ref().and_then(figure)).collect();
    figures.iter().find(|figure| figure.is_some())?;
    let mut row = vec![title.to_owned()];
    for figure in &figures {
        row.push(figure.map_or_else(|| "none".to_owned(), |kib| kib.to_string()));
        row.extend(["", "", ""].map(str::to_owned));
    }
    if let [Some(one), Some(other)] = figures[..] {
        row.push(ratio(one, other));
    }
    row.resize(width, String::new());
    Some(row)
}

fn millis(micros: u64) -> String {
    format!("{}.{:02}", micros / 1000, micros % 1000 / 10)
}

/// How many times the second is of the first: above 1 the first is better.
fn ratio(one: u64, other: u64) -> String {
    if one == 0 { "none".to_owned() } else { format!("{:.1}", other as f64 / one as f64) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_shown_as_people_read_them() {
        assert_eq!(millis(12_345), "12.34");
        assert_eq!(millis(50), "0.05");
        assert_eq!(ratio(10, 25), "2.5");
        assert_eq!(ratio(0, 25), "none");
    }

    #[test]
    fn every_measure_has_its_own_key() {
        let keys: std::collections::BTreeSet<_> = Measure::ALL.iter().map(|measure| measure.key()).collect();
        assert_eq!(keys.len(), Measure::ALL.len());
    }
}
