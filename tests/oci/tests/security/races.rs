//! Mount targets that change while they are mounted on (CVE-2021-30465), and what is made on the way to them
//! (CVE-2024-45310). Races of other files run as often as these.

mod of_writes;

use crate::{loses_at_times, quietly};
use oci_suite::attack::{Exchange, Witness};
use oci_suite::{Case, Kind};
use serde_json::json;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Command;

/// How often each race is run.
pub(crate) const ROUNDS: usize = 1000;

/// As often, and less with a peer, which is there to compare and slower.
pub(crate) fn rounds() -> usize {
    let peer = [Kind::Runc, Kind::Crun].contains(&oci_suite::Runtime::under_test().kind);
    if peer { ROUNDS / 10 } else { ROUNDS }
}

/// A volume in which the folder `t` and a link to a folder of the node change places.
struct Arena {
    volume: PathBuf,
    /// Of the node; the link leads here.
    stage: PathBuf,
    /// Of the attacker; mounted at `t` it makes `stage/loot` a link to `secret`.
    evil: PathBuf,
    exchange: Exchange,
}

impl Arena {
    fn new(case: &Case) -> Self {
        let aside = case.bundle.aside();
        let (volume, stage, evil, secret) =
            (aside.join("volume"), aside.join("stage"), aside.join("evil"), aside.join("secret"));
        for folder in [
            &volume.join("t"),
            &stage.join("loot"),
            &evil,
            &secret,
            &case.bundle.root().join("vol"),
            &case.bundle.root().join("loot"),
        ] {
            std::fs::create_dir_all(folder).unwrap();
        }
        // The link leads somewhere inside of the root as well, so that a careful runtime need not fail.
        std::fs::create_dir_all(case.bundle.root().join(stage.strip_prefix("/").unwrap())).unwrap();
        std::fs::write(secret.join("secret"), "secret").unwrap();
        symlink(&secret, evil.join("loot")).unwrap();
        symlink(&stage, volume.join("link")).unwrap();
        let exchange = Exchange::start(volume.join("t"), volume.join("link"));
        Self { volume, stage, evil, exchange }
    }
}

/// The attacker's folder is mounted at a name that is a link to the node's folder at times; had the mount followed it, the next
/// mount, whose source is in that folder, would be of whatever the attacker's link says: the node's secret, or its root (runc
/// until 1.0-rc94). Debian's peers have the fix, so the next test shows that the exchange works.
#[test]
fn cve_2021_30465_a_mount_target_that_is_exchanged_for_a_link_1000_times_stays_in_the_root() {
    let Some(case) = Case::new("30465") else { return };
    let arena = Arena::new(&case);
    let bind = |target: &str, source: PathBuf| json!({ "destination": target, "type": "bind", "source": source, "options": ["rbind"] });
    case.script("[ ! -e /loot/secret ] && echo safe >/tmp/seen || echo secret >/tmp/seen").edit(|config| {
        // As few mounts as can be, to be quick.
        let list = config["mounts"].as_array_mut().unwrap();
        list.truncate(1);
        list.extend([
            bind("/vol", arena.volume.clone()),
            bind("/vol/t", arena.evil.clone()),
            bind("/loot", arena.stage.join("loot")),
        ]);
        config["linux"]["maskedPaths"] = json!([]);
        config["linux"]["readonlyPaths"] = json!([]);
        config["linux"]["namespaces"] = json!([{ "type": "mount" }, { "type": "pid" }]);
        config.as_object_mut().unwrap().remove("hostname");
    });
    let seen = case.bundle.root().join("tmp/seen");
    let (mut safe, start) = (0, std::time::Instant::now());
    for round in 0..ROUNDS {
        let _ = std::fs::remove_file(&seen);
        quietly(&mut case.command(&["run", &case.id]));
        let text = std::fs::read_to_string(&seen).unwrap_or_default();
        assert_ne!(text, "secret\n", "round {round}: the container sees the node's folder");
        safe += usize::from(text == "safe\n");
    }
    println!(
        "{ROUNDS} starts in {:?}, {safe} of them came up; {} exchanges",
        start.elapsed(),
        arena.exchange.count()
    );
    // A runtime that never comes up proves nothing.
    assert!(safe > 0, "no start came up");
    drop(arena);
    case.assert_nothing_left();
}

/// The same arena, and a shell that looks at the target before it mounts on it, as the fallen runtimes did.
#[test]
fn control_of_cve_2021_30465_who_looks_before_it_mounts_is_fooled() {
    let Some(case) = Case::new("30465-control") else { return };
    let arena = Arena::new(&case);
    let script =
        "[ -d \"$0/t\" ] && [ ! -L \"$0/t\" ] && mount --bind \"$1\" \"$0/t\" && [ -e \"$2/loot/secret\" ]";
    let fooled = (0..2000).any(|_| {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "/bin/sh", "-c", script]);
        quietly(command.args([&arena.volume, &arena.evil, &arena.stage]))
    });
    assert!(fooled, "the attack does not work any more: mend the exchange");
}

/// Mount points that are missing are made. On the way to them, a folder changes places with a link to a folder of the node; runc
/// (until 1.1.13) made files and folders there. 1,000 mount points, folders and files, in 125 starts.
#[test]
fn cve_2024_45310_1000_missing_mount_points_are_made_nowhere_on_the_node() {
    let Some(case) = Case::new("45310") else { return };
    let aside = case.bundle.aside();
    let (volume, node) = (aside.join("volume"), aside.join("node"));
    for folder in [&volume.join("t"), &node, &case.bundle.root().join("vol")] {
        std::fs::create_dir_all(folder).unwrap();
    }
    std::fs::write(aside.join("file"), "").unwrap();
    symlink(&node, volume.join("link")).unwrap();
    let before = Witness::of(&node);
    let exchange = Exchange::start(volume.join("t"), volume.join("link"));
    let plain = case.bundle.config()["mounts"][0].clone();
    let (mut up, start) = (0, std::time::Instant::now());
    let mut promise = || {
        for round in 0..ROUNDS / 8 {
            let mut mounts = vec![
                plain.clone(),
                json!({ "destination": "/vol", "type": "bind", "source": volume, "options": ["bind"] }),
            ];
            for number in 0..4 {
                mounts.push(json!({ "destination": format!("/vol/t/{round}/{number}/a/b/c"), "type": "tmpfs", "source": "tmpfs" }));
                let target = format!("/vol/t/file-{round}-{number}");
                mounts.push(json!({ "destination": target, "type": "bind", "source": aside.join("file"), "options": ["bind"] }));
            }
            case.edit(|config| config["mounts"] = mounts.into());
            up += usize::from(quietly(&mut case.command(&["run", &case.id])));
            before.assert_untouched(&format!("round {round}"));
        }
    };
    loses_at_times(
        &[Kind::Runc, Kind::Crun],
        "a mount point that is missing is made in the root",
        &mut promise,
    );
    println!(
        "{ROUNDS} mount points in {:?}, {up} starts came up; {} exchanges",
        start.elapsed(),
        exchange.count()
    );
    assert!(up > 0 || case.runtime.kind != Kind::Corten, "no start came up");
    drop(exchange);
    case.assert_nothing_left();
}

/// As CVE-2019-19921 by a race: the folder at `/proc` changes places with a link to another one, in a root that somebody shares.
/// Were proc mounted through the link, nothing of it would be masked. 1,000 starts; runc 1.1.5 loses about one of 200.
#[test]
fn proc_is_never_mounted_through_a_link_that_takes_its_place() {
    let Some(case) = Case::new("proc-race") else { return };
    std::fs::create_dir(case.bundle.root().join("elsewhere")).unwrap();
    symlink("elsewhere", case.bundle.root().join("link")).unwrap();
    case.edit(|config| config["mounts"].as_array_mut().unwrap().truncate(1));
    case.script("cat /proc/mounts /elsewhere/mounts >/tmp/seen 2>/dev/null");
    let seen = case.bundle.root().join("tmp/seen");
    let exchange = Exchange::start(case.bundle.root().join("proc"), case.bundle.root().join("link"));
    let mut up = 0;
    loses_at_times(&[Kind::Runc, Kind::Crun], "proc is where it was asked for", || {
        for round in 0..ROUNDS {
            let _ = std::fs::remove_file(&seen);
            quietly(&mut case.command(&["run", &case.id]));
            let text = std::fs::read_to_string(&seen).unwrap_or_default();
            up += usize::from(text.contains("proc /proc proc"));
            let astray = text.lines().any(|line| line.starts_with("proc /elsewhere proc"));
            assert!(!astray, "round {round}: proc is at another place than it was asked for: {text}");
        }
    });
    println!("{ROUNDS} starts, {up} of them came up; {} exchanges", exchange.count());
    assert!(up > 0 || case.runtime.kind != Kind::Corten, "no start came up");
    drop(exchange);
    case.assert_nothing_left();
}
