//! Who a process runs as, by what the caller wrote.

use oci_suite::{Case, Kind, differs};

/// crun 1.19 to 1.26 read `-u 1` as user 0 (Debian's 1.8.1 is older). Every spelling is either the user that it says, or
/// refused; none of them is root but 0.
#[test]
fn cve_2026_30892_exec_runs_as_the_user_that_was_written() {
    let Some(case) = Case::new("30892") else { return };
    case.sleeps().run_detached();
    let exec = |user: &str| case.call(&["exec", "--user", user, &case.id, "sh", "-c", "id -u; id -g"]);
    for (user, uid, gid) in [
        ("1", "1", "0"),
        ("10", "10", "0"),
        ("1:2", "1", "2"),
        ("0:5", "0", "5"),
        ("1000:1000", "1000", "1000"),
        ("2147483647", "2147483647", "0"),
    ] {
        let text = exec(user).good().out;
        assert_eq!(text.lines().collect::<Vec<_>>(), [uid, gid], "--user {user}");
    }
    let short = case.call(&["exec", "-u", "1", &case.id, "id", "-u"]).good().out;
    assert_eq!(short, "1\n");
    case.delete_force();
    case.assert_nothing_left();
}

/// Numbers that no user has, and what only looks like a number. 4294967295 is "leave it" to setresuid(2), which is root here;
/// 4294967296 is 0 in 32 bits. runc 1.1.5 takes numbers up to 2³¹−1 and refuses the rest; crun 1.8.1 reads with strtol.
#[test]
fn no_spelling_of_a_user_becomes_root_by_accident() {
    let Some(case) = Case::new("user-spelling") else { return };
    case.sleeps().run_detached();
    let promise = || {
        for user in [
            "4294967295",
            "4294967296",
            "18446744073709551616",
            "-1",
            "1x",
            ":",
            "1:",
            "1:x",
            " 1",
            "0x1",
            "1:4294967295",
            "1:4294967296",
        ] {
            let option = format!("--user={user}");
            let said = case.call(&["exec", &option, &case.id, "id"]);
            assert_ne!(said.code, 0, "{user:?} was taken: {}", said.out);
        }
    };
    differs(&[Kind::Runc, Kind::Crun], "--user is UID[:GID]; what is no number in range is no user", promise);
    case.delete_force();
    case.assert_nothing_left();
}
