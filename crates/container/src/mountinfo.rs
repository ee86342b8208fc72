//! `/proc/thread-self/mountinfo` (proc(5)), as far as it is needed to find file systems of the kernel.

use crate::failure::{Step, Tried};

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// The directory of the file system that is mounted.
    pub root: String,
    /// Where.
    pub place: String,
    /// Type of the file system.
    pub kind: String,
    /// Options of the file system.
    pub options: String,
}

/// The mounts of this process's namespace.
pub(crate) fn read() -> Step<Vec<Entry>> {
    let text = std::fs::read_to_string("/proc/thread-self/mountinfo")
        .tried(|| "cannot read /proc/self/mountinfo".into())?;
    Ok(text.lines().filter_map(parse).collect())
}

fn parse(line: &str) -> Option<Entry> {
    let (mount, system) = line.split_once(" - ")?;
    let mut fields = mount.split(' ').skip(3);
    let (root, place) = (fields.next()?, fields.next()?);
    let mut fields = system.split(' ');
    let (kind, options) = (fields.next()?, fields.nth(1)?);
    Some(Entry { root: unescape(root), place: unescape(place), kind: kind.into(), options: options.into() })
}

/// Space, tab, newline and backslash are written as `\` and three octal digits.
fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let code = rest.get(at + 1..at + 4).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match code {
            Some(code) if code.is_ascii() => {
                out.push(char::from(code));
                rest = &rest[at + 4..];
            }
            _ => {
                out.push('\\');
                rest = &rest[at + 1..];
            }
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_with_optional_fields_and_escapes() {
        let line =
            r"36 35 98:0 /a\040b /mnt/x\134y rw,noatime master:1 shared:2 - cgroup cgroup rw,cpu,cpuacct";
        let entry = parse(line).expect("an entry");
        assert_eq!((entry.root.as_str(), entry.place.as_str()), ("/a b", r"/mnt/x\y"));
        assert_eq!((entry.kind.as_str(), entry.options.as_str()), ("cgroup", "rw,cpu,cpuacct"));
        assert_eq!(parse("36 35 98:0 / /"), None);
        assert_eq!(unescape(r"\0\é\04"), r"\0\é\04");
    }
}
