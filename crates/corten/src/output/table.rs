//! Tables without borders, as crictl's: columns with three spaces between them. No colours.

use super::clean;
use comfy_table::{ContentArrangement, Table, presets};

/// The header and the rows as text, without spaces at the ends of lines.
pub fn table(header: &[&str], rows: Vec<Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header);
    // A line break in a cell would look like another row.
    let cell = |text: String| clean(&text).replace(['\n', '\t'], " ");
    table.add_rows(rows.into_iter().map(|row| row.into_iter().map(cell).collect::<Vec<_>>()));
    for column in table.column_iter_mut() {
        column.set_padding((0, 3));
    }
    let text = table.to_string();
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    format!("{}\n", lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_aligned_columns_and_no_borders() {
        let got = table(
            &["IMAGE", "TAG"],
            vec![vec!["docker.io/x".into(), "1".into()], vec!["y".into(), "a\nb".into()]],
        );
        assert_eq!(got, "IMAGE         TAG\ndocker.io/x   1\ny             a b\n");
    }

    #[test]
    fn an_empty_table_is_its_header() {
        assert_eq!(table(&["A", "B C"], Vec::new()), "A   B C\n");
    }
}
