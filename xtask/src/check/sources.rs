//! Rules for source files: how each opens, how long it may be, and what it may not hold.

use std::path::{Path, PathBuf};

/// The longest file. One that is longer is more than one thing.
const LINES: usize = 700;
/// Words that say "not finished". Written in parts, so that this file does not hold them.
const UNFINISHED: &[(&str, &str)] = &[("to", "do!("), ("unimplement", "ed!("), ("#[ign", "ore")];

/// A source file, by its path in the workspace.
pub struct Source {
    /// `crates/types/src/lib.rs`
    pub path: String,
    /// Its text.
    pub text: String,
}

/// Every `.rs` file of the workspace, without what cargo builds.
pub fn files(root: &Path) -> Result<Vec<Source>, String> {
    let mut found = Vec::new();
    for folder in ["crates", "examples", "tests", "xtask"] {
        if root.join(folder).is_dir() {
            walk(&root.join(folder), &mut found)?;
        }
    }
    found.sort();
    let source = |path: PathBuf| -> Result<Source, String> {
        let text = super::read(&path)?;
        let path = path.strip_prefix(root).unwrap_or(&path).display().to_string();
        Ok(Source { path, text })
    };
    found.into_iter().map(source).collect()
}

fn walk(dir: &Path, found: &mut Vec<PathBuf>) -> Result<(), String> {
    let entries = std::fs::read_dir(dir).map_err(|said| format!("cannot read {}: {said}", dir.display()))?;
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() && entry.file_name() != "target" {
            walk(&path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    Ok(())
}

/// A file opens with what it is for.
pub fn opening(file: &Source) -> Option<String> {
    let first = file.text.lines().next().unwrap_or_default();
    (!first.starts_with("//! ")).then(|| format!("{} does not open with `//!`: what is it for?", file.path))
}

/// A file is one thing. What is generated says so in its first line.
pub fn length(file: &Source) -> Option<String> {
    let generated = file.text.lines().next().is_some_and(|first| first.contains("enerated"));
    let lines = file.text.lines().count();
    (lines > LINES && !generated).then(|| format!("{} has {lines} lines, more than {LINES}", file.path))
}

/// Nothing is left unfinished, and no test is switched off.
pub fn unfinished(file: &Source) -> Vec<String> {
    let mut found = Vec::new();
    for (number, line) in file.text.lines().enumerate().filter(|(_, line)| !is_comment(line)) {
        for (first, second) in UNFINISHED {
            let word = format!("{first}{second}");
            if line.contains(&word) {
                found.push(format!("{}:{} holds {word}", file.path, number + 1));
            }
        }
    }
    found
}

/// `unsafe` is in crates/sys and nowhere else, and there each has its proof just before it.
pub fn unsafe_code(file: &Source) -> Vec<String> {
    let lines: Vec<_> = file.text.lines().collect();
    let mut found = Vec::new();
    for index in (0..lines.len()).filter(|index| !is_comment(lines[*index]) && is_unsafe(lines[*index])) {
        if !file.path.starts_with("crates/sys/") {
            found.push(format!("{}:{} is unsafe code outside crates/sys", file.path, index + 1));
        } else if !lines[index.saturating_sub(12)..=index]
            .iter()
            .any(|line| line.contains("SAFETY") || line.contains("# Safety"))
        {
            found.push(format!("{}:{} is unsafe code without a SAFETY comment", file.path, index + 1));
        }
    }
    found
}

fn is_comment(line: &str) -> bool {
    line.trim_start().starts_with("//")
}

/// The keyword before a block, function, implementation, trait or foreign block; not a lint's name.
fn is_unsafe(line: &str) -> bool {
    line.match_indices("unsafe").any(|(at, word)| {
        let before = line[..at].chars().next_back();
        let rest = line[at + word.len()..].trim_start();
        let free = before.is_none_or(|c| !c.is_alphanumeric() && !matches!(c, '_' | '"' | '`' | '('));
        free && ["{", "fn ", "impl", "extern", "trait"].iter().any(|next| rest.starts_with(next))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, text: &str) -> Source {
        Source { path: path.to_owned(), text: text.to_owned() }
    }

    #[test]
    fn a_file_says_first_what_it_is_for() {
        assert!(opening(&file("a.rs", "//! For this.\n")).is_none());
        assert!(opening(&file("a.rs", "use x;\n")).is_some());
        assert!(opening(&file("a.rs", "")).is_some());
    }

    #[test]
    fn long_files_are_told_unless_they_are_generated() {
        let long = "x\n".repeat(LINES);
        assert!(length(&file("a.rs", &long)).is_none());
        assert!(length(&file("a.rs", &format!("//! Long.\n{long}"))).is_some());
        assert!(length(&file("a.rs", &format!("//! Generated.\n{long}"))).is_none());
    }

    #[test]
    fn unfinished_code_and_tests_that_are_off_are_told() {
        for (first, second) in UNFINISHED {
            assert_eq!(unfinished(&file("a.rs", &format!("x {first}{second})"))).len(), 1, "{first}{second}");
            assert_eq!(unfinished(&file("a.rs", &format!("// {first}{second})"))).len(), 0);
        }
    }

    #[test]
    fn unsafe_code_is_told_outside_sys_and_without_its_proof() {
        let block = format!("    let x = {} {{ call() }};", "unsafe");
        assert_eq!(unsafe_code(&file("crates/store/src/a.rs", &block)).len(), 1);
        assert_eq!(unsafe_code(&file("crates/sys/src/a.rs", &block)).len(), 1);
        assert_eq!(
            unsafe_code(&file("crates/sys/src/a.rs", &format!("// SAFETY: it holds.\n{block}"))).len(),
            0
        );
        assert_eq!(unsafe_code(&file("crates/store/src/a.rs", "#![forbid(unsafe_code)]")).len(), 0);
    }
}
