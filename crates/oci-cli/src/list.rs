//! `state` and `list`: what is there. Changes nothing and takes no lock.

use crate::arguments::{Format, List};
use crate::folder::{self, Folder};
use crate::id::ContainerName;
use crate::record::Record;
use crate::{Context, print};
use rustix::fs::Dir;
use types::{Error, Result};

/// `state`.
pub fn state(context: &Context, id: &str) -> Result<()> {
    let folder = Folder::open(&context.root, &ContainerName::parse(id)?)?;
    let record = folder.known()?;
    print(&format!("{}\n", json(&record.told(record.status(&folder)))?))
}

/// `list`.
pub fn list(context: &Context, asked: &List) -> Result<()> {
    let all = containers(context)?;
    let told: Vec<_> = all.iter().map(|(folder, record)| record.told(record.status(folder))).collect();
    if asked.quiet {
        return print(&told.iter().map(|one| format!("{}\n", one.id)).collect::<String>());
    }
    if asked.format == Format::Json {
        return print(&format!("{}\n", json(&told)?));
    }
    let mut rows = vec![["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"].map(str::to_owned)];
    rows.extend(told.iter().map(|one| {
        [one.id, &one.pid.to_string(), one.status, one.bundle, one.created, one.owner].map(str::to_owned)
    }));
    print(&table(&rows))
}

/// Every container that can be read; the others are told in the log.
fn containers(context: &Context) -> Result<Vec<(Folder, Record)>> {
    let mut found = Vec::new();
    let Some(root) = folder::open_root(&context.root, false)? else { return Ok(found) };
    let listing = |errno| folder::failed("list", &context.root, errno);
    for entry in Dir::new(root).map_err(listing)? {
        let entry = entry.map_err(listing)?;
        let Some(name) = entry.file_name().to_str().ok().and_then(|name| ContainerName::parse(name).ok())
        else {
            continue;
        };
        let read = || {
            let folder = Folder::open(&context.root, &name)?;
            let record = folder.known()?;
            Ok::<_, Error>((folder, record))
        };
        match read() {
            Ok(one) => found.push(one),
            Err(error) => context.log.warn(&error.chain()),
        }
    }
    found.sort_by(|(_, a), (_, b)| a.id.cmp(&b.id));
    Ok(found)
}

/// Columns as wide as their longest entry and at least 12, three blanks apart, as runc's.
fn table(rows: &[[String; 6]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0).max(9) + 3;
    let widths: Vec<usize> = (0..6).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let line: String = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn json(value: &impl serde::Serialize) -> Result<String> {
    serde_json::to_string_pretty(value).map_err(|e| Error::internal(format!("the state is no JSON: {e}")))
}
