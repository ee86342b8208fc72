//! Words as Go's `flag` package takes them, in the form that clap takes: `-name` is `--name`, switches take
//! `=true` and `=false`, and an empty value is no value. Knows nothing of what the flags mean.

use clap::{Arg, ArgAction, Command};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// The command line in clap's form, the program's name first.
pub fn plain(program: &Command, words: Vec<OsString>) -> Vec<OsString> {
    let mut plain = Vec::with_capacity(words.len() + 1);
    let mut words = words.into_iter();
    plain.extend(words.next());
    let mut command = program;
    let mut is_verb = false;
    while let Some(word) = words.next() {
        let bytes = word.as_bytes();
        if bytes == b"--" {
            plain.push(word);
            break;
        }
        if bytes.len() < 2 || bytes[0] != b'-' {
            if !is_verb {
                is_verb = true;
                if let Some(verb) = word.to_str().and_then(|name| program.find_subcommand(name)) {
                    command = verb;
                }
            } else if ends_at_first_word(command) {
                // What follows are another program's words (runc's `exec` and `ps` have `SkipArgReorder`).
                plain.push("--".into());
                plain.push(word);
                let mut rest = words.by_ref().peekable();
                rest.next_if(|word| word == "--");
                plain.extend(rest);
                break;
            }
            plain.push(word);
            continue;
        }
        flag(command, word, &mut words, &mut plain);
    }
    plain.extend(words);
    plain
}

fn flag(
    command: &Command,
    word: OsString,
    words: &mut impl Iterator<Item = OsString>,
    plain: &mut Vec<OsString>,
) {
    let bytes = word.as_bytes();
    let named = bytes.strip_prefix(b"--").unwrap_or(&bytes[1..]);
    let (name, value) = match named.iter().position(|b| *b == b'=') {
        Some(at) => (&named[..at], Some(OsStr::from_bytes(&named[at + 1..]).to_owned())),
        None => (named, None),
    };
    let Some(known) = find(command, name) else { return plain.push(word) };
    let mut long = b"--".to_vec();
    long.extend(known.get_long().unwrap_or_default().bytes());
    if !known.get_action().takes_values() {
        match value.as_ref().map(|value| value.to_str().and_then(truth)) {
            None | Some(Some(true)) => plain.push(OsString::from_vec(long)),
            // Off is what it is anyway.
            Some(Some(false)) => {}
            Some(None) => plain.push(word),
        }
        return;
    }
    let Some(value) = value.or_else(|| words.next()) else {
        // It lacks its value; the parser says so.
        return plain.push(OsString::from_vec(long));
    };
    if value.is_empty() && !matches!(known.get_action(), ArgAction::Append) {
        return;
    }
    long.push(b'=');
    long.extend(value.as_bytes());
    plain.push(OsString::from_vec(long));
}

/// The flag of that name: its long one, or its letter.
fn find<'a>(command: &'a Command, name: &[u8]) -> Option<&'a Arg> {
    let name = std::str::from_utf8(name).ok()?;
    let mut letters = name.chars();
    let letter = letters.next().filter(|_| letters.next().is_none());
    command
        .get_arguments()
        .filter(|known| known.get_long().is_some())
        .find(|known| known.get_long() == Some(name) || (letter.is_some() && known.get_short() == letter))
}

fn ends_at_first_word(command: &Command) -> bool {
    command.get_arguments().any(Arg::is_trailing_var_arg_set)
}

/// A truth value as Go writes it (`strconv.ParseBool`).
pub fn truth(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}
