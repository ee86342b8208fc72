//! Who the process runs as, as far as it can be said without the image's files. Numbers outside
//! 0..=4294967294 are refused wherever they stand (CVE-2024-40635, CVE-2026-46680: they became root), and so
//! are names that could be more than a name in passwd (CVE-2022-4318, CVE-2026-15809).

use crate::limits;
use container::plan::User;
use types::container::ContainerSecurity;
use types::reference::shorten;
use types::{Error, Result};

/// The highest id: 2³²−1 means "leave it" to setresuid(2).
const ID_MAX: i64 = u32::MAX as i64 - 1;
/// The longest user or group name; useradd(8) allows 32, others write longer ones.
const NAME_MAX: usize = 256;

/// The plan's user.
///
/// The CRI's rules (`LinuxContainerSecurityContext`): a name wins over a number, both win over the image; a
/// group without either of them is refused. Groups of the image's `/etc/group` are added unless `strict`.
pub(crate) fn decide(security: &ContainerSecurity, image_user: &str) -> Result<User> {
    limits::count("supplemental groups", security.supplemental_groups.len())?;
    let mut groups = Vec::with_capacity(security.supplemental_groups.len());
    for group in &security.supplemental_groups {
        groups.push(id("supplemental group", *group)?);
    }
    let gid = security.run_as_group.map(|gid| id("group", gid)).transpose()?;
    let strict = security.supplemental_groups_strict;
    if !security.run_as_username.is_empty() {
        let name = &security.run_as_username;
        if name.contains(':') {
            return Err(Error::invalid(format!("user name {:?} has a colon", shorten(name))));
        }
        part("user name", name)?;
        return Ok(User::Lookup { user: name.clone(), gid, groups, strict });
    }
    match (security.run_as_user, gid) {
        (Some(uid), Some(gid)) if strict => {
            // Nothing is left to look up. The primary group is among the groups (CVE-2022-36109).
            groups.push(gid);
            groups.sort_unstable();
            groups.dedup();
            Ok(User::Ids { uid: id("user", uid)?, gid, groups })
        }
        (Some(uid), gid) => Ok(User::Lookup { user: id("user", uid)?.to_string(), gid, groups, strict }),
        (None, Some(gid)) => Err(Error::invalid(format!(
            "group {gid} is asked for without a user; set run_as_user or run_as_username, too"
        ))),
        (None, None) => {
            image(image_user)?;
            Ok(User::Lookup { user: image_user.to_owned(), gid: None, groups, strict })
        }
    }
}

fn id(what: &str, number: i64) -> Result<u32> {
    u32::try_from(number).ok().filter(|n| i64::from(*n) <= ID_MAX).ok_or_else(|| {
        Error::invalid(format!("{what} {number} is out of range: a number from 0 to {ID_MAX} is expected"))
    })
}

/// `""`, `user` or `user:group`, each a name or a number.
fn image(text: &str) -> Result<()> {
    let (user, group) = text.split_once(':').unwrap_or((text, ""));
    if group.contains(':') {
        return Err(Error::invalid(format!("the image's user {:?} has more than one colon", shorten(text))));
    }
    for word in [user, group] {
        if !word.is_empty() {
            part("the image's user", word)?;
        }
    }
    Ok(())
}

fn part(what: &str, word: &str) -> Result<()> {
    let refuse = |why: &str| Err(Error::invalid(format!("{what} {:?}: {why}", shorten(word))));
    if word.len() > NAME_MAX {
        return refuse("it is longer than 256 bytes");
    }
    if word.contains(|c: char| c.is_control() || c.is_whitespace() || matches!(c, ',' | '/')) {
        return refuse("it has white space, control characters, commas or slashes");
    }
    // A sign makes it a number too: Go's strconv.Atoi, which the peers read it with, takes `+1` and `-1`.
    let digits = word.strip_prefix(['+', '-']).unwrap_or(word);
    if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) {
        match word.parse::<i64>() {
            Ok(number) if (0..=ID_MAX).contains(&number) && digits.len() == word.len() => {}
            _ => return refuse("as a number it is out of range; 0 to 4294967294 is expected"),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::ErrorKind;

    fn security() -> ContainerSecurity {
        ContainerSecurity::default()
    }

    #[test]
    fn names_win_over_numbers_and_both_over_the_image() {
        let both = ContainerSecurity { run_as_username: "web".into(), run_as_user: Some(7), ..security() };
        assert!(matches!(decide(&both, "img"), Ok(User::Lookup { user, gid: None, .. }) if user == "web"));
        let number = ContainerSecurity { run_as_user: Some(7), run_as_group: Some(8), ..security() };
        assert!(matches!(decide(&number, "img"), Ok(User::Lookup { user, gid: Some(8), .. }) if user == "7"));
        assert!(matches!(decide(&security(), "img:grp"), Ok(User::Lookup { user, .. }) if user == "img:grp"));
    }

    #[test]
    fn strict_numbers_need_no_image() {
        let strict = ContainerSecurity {
            run_as_user: Some(1000),
            run_as_group: Some(3000),
            supplemental_groups: vec![4000, 2000, 4000],
            supplemental_groups_strict: true,
            ..security()
        };
        let user = decide(&strict, "root").expect("plain");
        assert_eq!(user, User::Ids { uid: 1000, gid: 3000, groups: vec![2000, 3000, 4000] });
    }

    #[test]
    fn a_group_alone_is_refused() {
        let group = ContainerSecurity { run_as_group: Some(8), ..security() };
        assert_eq!(decide(&group, "1000").map_err(|e| e.kind()), Err(ErrorKind::InvalidArgument));
    }

    #[test]
    fn numbers_that_would_wrap_to_root_are_refused_everywhere() {
        for number in [-1, 4_294_967_295, 4_294_967_296, i64::MAX, i64::MIN] {
            for broken in [
                ContainerSecurity { run_as_user: Some(number), ..security() },
                ContainerSecurity { run_as_user: Some(1), run_as_group: Some(number), ..security() },
                ContainerSecurity { supplemental_groups: vec![number], ..security() },
                ContainerSecurity { run_as_username: number.to_string(), ..security() },
            ] {
                assert!(decide(&broken, "").is_err(), "{broken:?}");
            }
            for text in
                [number.to_string(), format!("{number}:0"), format!("0:{number}"), format!("x:{number}")]
            {
                assert!(decide(&security(), &text).is_err(), "{text}");
            }
        }
        for text in ["+0", "-0", "99999999999999999999999", "1:99999999999999999999999"] {
            assert!(decide(&security(), text).is_err(), "{text}");
        }
        for text in
            ["", "0", "4294967294", "1000:1000", "nobody:nogroup", ":5", "web:", "_apt", "a-b.c", "-x"]
        {
            assert!(decide(&security(), text).is_ok(), "{text}");
        }
    }

    #[test]
    fn names_that_are_more_than_a_name_are_refused() {
        for name in ["a\nroot", "a:0", "a b", "a,b", "../a", "a\0", &"a".repeat(257)] {
            let asked = ContainerSecurity { run_as_username: name.into(), ..security() };
            assert!(decide(&asked, "").is_err(), "{name:?}");
        }
        for text in ["a\nroot:x:0:0", "a:b:c", "a\r"] {
            assert!(decide(&security(), text).is_err(), "{text:?}");
        }
    }
}
