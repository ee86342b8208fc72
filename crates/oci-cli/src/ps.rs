//! `ps`: the processes of a container, as numbers or as ps(1) of the node shows them.

use crate::arguments::{Format, Ps};
use crate::folder::Folder;
use crate::id::ContainerName;
use crate::{Context, group, print};
use std::process::{Command, Stdio};
use types::{Error, ErrorKind, Result};

/// The verb.
pub fn ps(context: &Context, asked: &Ps) -> Result<()> {
    let folder = Folder::open(&context.root, &ContainerName::parse(&asked.id)?)?;
    let record = folder.known()?;
    let pids = match group::of(&record)? {
        Some(group) => group.processes()?,
        None => Vec::new(),
    };
    if asked.format == Format::Json {
        return print(&format!("{}\n", serde_json::json!(pids)));
    }
    let options: &[String] = if asked.options.is_empty() { &["-ef".to_owned()] } else { &asked.options };
    let answer = Command::new("ps").args(options).stdin(Stdio::null()).output().map_err(|e| {
        Error::with_source(
            ErrorKind::FailedPrecondition,
            "ps(1) cannot be executed on this node; --format json does without",
            e,
        )
    })?;
    if !answer.status.success() {
        return Err(Error::invalid(format!(
            "ps(1) failed: {}",
            String::from_utf8_lossy(&answer.stderr).trim()
        )));
    }
    print(&only(&String::from_utf8_lossy(&answer.stdout), &pids)?)
}

/// The heading, and the lines whose PID column has one of the numbers.
fn only(table: &str, pids: &[i32]) -> Result<String> {
    let mut lines = table.lines();
    let heading = lines.next().unwrap_or_default();
    let column = heading
        .split_whitespace()
        .position(|name| name == "PID")
        .ok_or_else(|| Error::invalid("these options make ps(1) print no PID column; add one"))?;
    let mut text = format!("{heading}\n");
    for line in lines {
        let pid = line.split_whitespace().nth(column).and_then(|pid| pid.parse::<i32>().ok());
        if pid.is_some_and(|pid| pids.contains(&pid)) {
            text.push_str(line);
            text.push('\n');
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_containers_lines_are_shown() {
        let table = "UID   PID  PPID CMD\nroot    1     0 init\nroot   12     1 sh -c 12\n";
        assert_eq!(only(table, &[12]).expect("good"), "UID   PID  PPID CMD\nroot   12     1 sh -c 12\n");
        assert!(only("CMD\nsh\n", &[1]).is_err());
        assert!(only("", &[1]).is_err());
    }
}
