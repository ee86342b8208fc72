//! Users and groups from an image's own files, read inside the root and bounded: a huge or hostile
//! `/etc/passwd` (CVE-2026-47262) costs at most [`FILE_MAX`] bytes, and numbers out of range are refused
//! instead of becoming root (CVE-2024-40635).

use crate::beneath;
use crate::failure::{Failure, Step, describe};
use crate::plan::{ResolvedUser, User};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{FileType, OFlags};
use rustix::io::Errno;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};

/// How much of `/etc/passwd` and `/etc/group` is read, in bytes.
pub const FILE_MAX: u64 = 4 << 20;
/// The longest line that is considered; longer ones are skipped.
const LINE_MAX: usize = 64 << 10;
/// `NGROUPS_MAX` of `linux/limits.h`.
const GROUPS_MAX: usize = 65_536;

/// Who the process will be, and the home directory that the image names for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// The numbers.
    pub user: ResolvedUser,
    /// From passwd; `/` where it says nothing.
    pub home: String,
}

/// Resolves `user` in the root of the container.
pub fn resolve(root: impl AsFd, user: &User) -> Step<Resolved> {
    match user {
        User::Ids { uid, gid, groups } => {
            let home =
                find_passwd(&root, |entry| entry.uid == *uid)?.map_or_else(|| "/".into(), |entry| entry.home);
            Ok(Resolved { user: ResolvedUser { uid: *uid, gid: *gid, groups: groups.clone() }, home })
        }
        User::Lookup { user, gid, groups, strict } => look_up(root, user, *gid, groups, *strict),
    }
}

fn look_up(root: impl AsFd, text: &str, gid: Option<u32>, extra: &[u32], strict: bool) -> Step<Resolved> {
    let (name, group) = match text.split_once(':') {
        Some((name, group)) => (name, (!group.is_empty()).then_some(group)),
        None => (text, None),
    };
    let name = if name.is_empty() { "0" } else { name };
    let number = parse_id(name)?;
    let entry =
        match number {
            Some(uid) => find_passwd(&root, |entry| entry.uid == uid)?,
            None => Some(find_passwd(&root, |entry| entry.name == name)?.ok_or_else(|| {
                Failure::request(format!("user {name:?} is not in the image's /etc/passwd"))
            })?),
        };
    let uid = match (&entry, number) {
        (_, Some(uid)) => uid,
        (Some(entry), None) => entry.uid,
        (None, None) => return Err(Failure::system("a user that was found has no entry")),
    };
    let primary = match (gid, group) {
        (Some(gid), _) => gid,
        (None, Some(group)) => group_id(&root, group)?,
        (None, None) => entry.as_ref().map_or(0, |entry| entry.gid),
    };
    let mut groups = extra.to_vec();
    if !strict && let Some(entry) = &entry {
        groups.extend(groups_of(&root, &entry.name)?);
    }
    // containerd and Docker put the primary group among the supplementary ones (CVE-2022-36109).
    groups.push(primary);
    groups.sort_unstable();
    groups.dedup();
    if groups.len() > GROUPS_MAX {
        return Err(Failure::request(format!("user {name:?} is in more than {GROUPS_MAX} groups")));
    }
    let home = entry.map_or_else(|| "/".into(), |entry| entry.home);
    Ok(Resolved { user: ResolvedUser { uid, gid: primary, groups }, home })
}

/// A number where the text is one; out of range is an error, anything else a name.
fn parse_id(text: &str) -> Step<Option<u32>> {
    if !text.bytes().all(|b| b.is_ascii_digit()) {
        return Ok(None);
    }
    match text.parse::<u32>() {
        // 2³²−1 means "no change" to setresuid(2).
        Ok(id) if id != u32::MAX => Ok(Some(id)),
        _ => Err(Failure::request(format!("user or group id {text:?} is out of range: 0 to 4294967294"))),
    }
}

/// A number of an image's file. 2³²−1 is none: setresuid(2) reads it as "no change", which would be root.
fn file_id(text: &str) -> Option<u32> {
    text.parse().ok().filter(|id| *id != u32::MAX)
}

struct PasswdEntry {
    name: String,
    uid: u32,
    gid: u32,
    home: String,
}

fn find_passwd(root: impl AsFd, mut wanted: impl FnMut(&PasswdEntry) -> bool) -> Step<Option<PasswdEntry>> {
    let mut found = None;
    each_line(root, "/etc/passwd", |line| {
        let fields: Vec<_> = line.split(':').collect();
        if let [name, _, uid, gid, _, home, ..] = fields[..]
            && let (Some(uid), Some(gid)) = (file_id(uid), file_id(gid))
        {
            let home = if home.starts_with('/') { home } else { "/" };
            let entry = PasswdEntry { name: name.into(), uid, gid, home: home.into() };
            if wanted(&entry) {
                found = Some(entry);
                return false;
            }
        }
        true
    })?;
    Ok(found)
}

fn group_id(root: impl AsFd, group: &str) -> Step<u32> {
    if let Some(gid) = parse_id(group)? {
        return Ok(gid);
    }
    let mut found = None;
    each_line(root, "/etc/group", |line| {
        let mut fields = line.split(':');
        if fields.next() == Some(group) {
            found = fields.nth(1).and_then(file_id);
        }
        found.is_none()
    })?;
    found.ok_or_else(|| Failure::request(format!("group {group:?} is not in the image's /etc/group")))
}

fn groups_of(root: impl AsFd, user: &str) -> Step<Vec<u32>> {
    let mut groups = Vec::new();
    each_line(root, "/etc/group", |line| {
        let fields: Vec<_> = line.split(':').collect();
        if let [_, _, gid, members, ..] = fields[..]
            && members.split(',').any(|member| member == user)
            && let Some(gid) = file_id(gid)
        {
            groups.push(gid);
        }
        groups.len() < GROUPS_MAX
    })?;
    Ok(groups)
}

/// Calls `each` for every line until it answers `false`. A file that is not there has no lines.
fn each_line(root: impl AsFd, path: &str, mut each: impl FnMut(&str) -> bool) -> Step {
    let Some(file) = open_regular(root, path)? else { return Ok(()) };
    let mut reader = BufReader::new(File::from(file).take(FILE_MAX));
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = (&mut reader)
            .take(LINE_MAX as u64)
            .read_until(b'\n', &mut line)
            .map_err(|e| Failure::request(format!("{path} of the image cannot be read: {e}")))?;
        if read == 0 {
            return Ok(());
        }
        if let Ok(text) = std::str::from_utf8(&line)
            && !each(text.trim_end_matches(['\n', '\r']))
        {
            return Ok(());
        }
    }
}

fn open_regular(root: impl AsFd, path: &str) -> Step<Option<OwnedFd>> {
    let refuse = |why: String| Failure::request(format!("{path} of the image {why}"));
    match beneath::open(&root, path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY) {
        Ok(file) => match beneath::kind(&file) {
            Ok(FileType::RegularFile) => Ok(Some(file)),
            Ok(_) => Err(refuse("is not a regular file".into())),
            Err(errno) => Err(refuse(format!("cannot be examined: {}", describe(errno)))),
        },
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(errno) => Err(refuse(format!("cannot be opened: {}", describe(errno)))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::Mode;

    fn image(passwd: &str, group: &str) -> (tempfile::TempDir, OwnedFd) {
        let dir = tempfile::tempdir().expect("temp");
        std::fs::create_dir(dir.path().join("etc")).expect("mkdir");
        std::fs::write(dir.path().join("etc/passwd"), passwd).expect("write");
        std::fs::write(dir.path().join("etc/group"), group).expect("write");
        let fd = rustix::fs::open(dir.path(), OFlags::PATH, Mode::empty()).expect("open");
        (dir, fd)
    }

    fn lookup(user: &str) -> User {
        User::Lookup { user: user.into(), gid: None, groups: vec![], strict: false }
    }

    #[test]
    fn names_and_numbers_are_looked_up_as_an_image_writes_them() {
        let (_dir, fd) = image(
            "root:x:0:0:root:/root:/bin/sh\nweb:x:33:34:w:/var/www:/bin/false\n",
            "root:x:0:\nwww:x:34:\nextra:x:50:a,web\n",
        );
        let of = |text: &str| resolve(&fd, &lookup(text)).expect(text);
        assert_eq!(of("web").user, ResolvedUser { uid: 33, gid: 34, groups: vec![34, 50] });
        assert_eq!(of("web").home, "/var/www");
        assert_eq!(of("33:extra").user, ResolvedUser { uid: 33, gid: 50, groups: vec![50] });
        assert_eq!(of("7777").user, ResolvedUser { uid: 7777, gid: 0, groups: vec![0] });
        assert_eq!(of("").user.uid, 0);
        let strict = User::Lookup { user: "web".into(), gid: Some(9), groups: vec![8], strict: true };
        assert_eq!(
            resolve(&fd, &strict).expect("strict").user,
            ResolvedUser { uid: 33, gid: 9, groups: vec![8, 9] }
        );
    }

    #[test]
    fn unknown_names_and_numbers_out_of_range_are_refused() {
        let (_dir, fd) = image("root:x:0:0::/root:\n", "root:x:0:\n");
        for bad in ["nobody", "4294967295", "99999999999999999999", "0:nogroup", "0:4294967296"] {
            assert!(resolve(&fd, &lookup(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_entry_with_the_number_that_means_no_change_is_nobody() {
        let (_dir, fd) = image("web:x:4294967295:0::/:\nok:x:5:4294967295::/:\n", "g:x:4294967295:\n");
        for bad in ["web", "ok", "5:g"] {
            assert!(resolve(&fd, &lookup(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_passwd_that_is_a_pipe_or_leads_out_is_refused_or_empty() {
        let (dir, fd) = image("", "");
        std::fs::remove_file(dir.path().join("etc/passwd")).expect("rm");
        std::os::unix::fs::symlink("/proc/self/environ", dir.path().join("etc/passwd")).expect("link");
        assert_eq!(resolve(&fd, &lookup("5")).expect("nothing inside").user.uid, 5);
        std::fs::remove_file(dir.path().join("etc/passwd")).expect("rm");
        rustix::fs::mknodat(&fd, "etc/passwd", FileType::Fifo, Mode::from_raw_mode(0o600), 0).expect("fifo");
        assert!(resolve(&fd, &lookup("5")).is_err());
    }
}
