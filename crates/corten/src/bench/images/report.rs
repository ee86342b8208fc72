//! The table of `corten bench images`.

use super::{Figures, Side};
use crate::bench::samples::Samples;
use std::collections::BTreeMap;

/// For a terminal, or as Markdown.
pub fn text(
    sides: &[Side],
    sets: &[(String, Vec<String>)],
    plain: &BTreeMap<String, Samples>,
    markdown: bool,
) -> String {
    let mut rows = vec![header(sides)];
    for (name, images) in sets {
        let what = if images.len() > 1 { format!("{} images at once", images.len()) } else { name.clone() };
        let figures: Vec<_> = sides.iter().filter_map(|side| side.figures.get(name)).collect();
        let plain = plain.get(name).and_then(|samples| Some(samples.summary()?.p50));
        rows.extend(times(&format!("{what}: ready"), &figures, |f| &f.ready, plain));
        rows.extend(times(&format!("{what}: on the disk"), &figures, |f| &f.synced, None));
        rows.extend(times(&format!("{what}: unchanged"), &figures, |f| &f.again, None));
        if let Some(micros) = plain {
            let mut row = vec![format!("{what}: plain cost"), millis(micros)];
            row.resize(rows[0].len(), String::new());
            rows.push(row);
        }
        let peaks: Vec<String> = figures
            .iter()
            .map(|f| f.peak.map_or("none".to_owned(), |kib| kib.div_ceil(1024).to_string()))
            .collect();
        let mut row = vec![format!("{what}: memory above idle, MiB")];
        row.extend(peaks);
        row.resize(rows[0].len(), String::new());
        rows.push(row);
    }
    let names: Vec<_> = sides.iter().map(|side| side.target.name.clone()).collect();
    let head = format!("{}; medians, times in milliseconds", names.join(", then "));
    if markdown {
        super::super::report::markdown_of(&head, &rows)
    } else {
        super::super::report::text_of(&head, rows)
    }
}

fn header(sides: &[Side]) -> Vec<String> {
    let mut header = vec!["what".to_owned()];
    header.extend(sides.iter().map(|s| s.target.name.split(' ').next().unwrap_or_default().to_owned()));
    if sides.len() > 1 {
        header.push("ratio".to_owned());
    }
    header.push("of the plain cost".to_owned());
    header
}

fn times(
    title: &str,
    figures: &[&Figures],
    of: fn(&Figures) -> &Samples,
    plain: Option<u64>,
) -> Option<Vec<String>> {
    let medians: Vec<u64> = figures.iter().map(|f| Some(of(f).summary()?.p50)).collect::<Option<_>>()?;
    let first = *medians.first()?;
    let mut row = vec![title.to_owned()];
    row.extend(medians.iter().map(|micros| millis(*micros)));
    if let [one, other] = medians[..] {
        row.push(format!("{:.2}", other as f64 / one.max(1) as f64));
    }
    row.push(plain.map_or(String::new(), |plain| format!("{:.2}", first as f64 / plain.max(1) as f64)));
    Some(row)
}

fn millis(micros: u64) -> String {
    format!("{:.1}", micros as f64 / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn ratios_are_of_the_other_and_of_the_plain_cost() {
        let figures = |millis: u64| {
            let mut figures = Figures::default();
            figures.ready.add(Duration::from_millis(millis));
            figures
        };
        let (ours, theirs) = (figures(500), figures(2000));
        let row = times("x", &[&ours, &theirs], |f| &f.ready, Some(400_000)).expect("row");
        assert_eq!(row, ["x", "500.0", "2000.0", "4.00", "1.25"]);
        assert_eq!(times("x", &[&ours], |f| &f.again, None), None);
    }
}
