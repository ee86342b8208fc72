//! Other machines, as trees of plain files: what is written where.

use cgroups::{Cgroups, Mode};
use std::path::Path;
use types::ErrorKind;
use types::pod::Resources;

const V2: &str = "30 24 0:26 / /cg rw - cgroup2 cgroup2 rw\n";

fn put(root: &Path, file: &str, text: &str) {
    let path = root.join(file);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

fn text(root: &Path, file: &str) -> String {
    std::fs::read_to_string(root.join(file)).unwrap()
}

fn unified() -> (tempfile::TempDir, Cgroups) {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), "cg/cgroup.controllers", "cpuset cpu io memory pids rdma misc");
    let cgroups = Cgroups::probe_at(dir.path(), V2, "0::/system.slice/corten.service\n").unwrap();
    (dir, cgroups)
}

#[test]
fn v2_controllers_are_handed_down_from_the_top_and_only_where_they_are_missing() {
    let (dir, cgroups) = unified();
    put(dir.path(), "cg/cgroup.subtree_control", "");
    put(dir.path(), "cg/kubepods/cgroup.subtree_control", "cpuset cpu io memory pids");
    put(dir.path(), "cg/kubepods/pod1/cgroup.subtree_control", "");
    cgroups.create("/kubepods/pod1/abc").unwrap();
    assert_eq!(cgroups.mode(), Mode::V2);
    assert!(dir.path().join("cg/kubepods/pod1/abc").is_dir());
    assert_eq!(text(dir.path(), "cg/cgroup.subtree_control"), "+cpuset +cpu +io +memory +pids");
    assert_eq!(text(dir.path(), "cg/kubepods/cgroup.subtree_control"), "cpuset cpu io memory pids");
    assert_eq!(text(dir.path(), "cg/kubepods/pod1/cgroup.subtree_control"), "+cpuset +cpu +io +memory +pids");
}

#[test]
fn v2_limits_are_written_in_v2_words() {
    let (dir, cgroups) = unified();
    let group = cgroups.create("/a").unwrap();
    for file in
        ["memory.max", "memory.swap.max", "cpu.weight", "cpu.max", "cpuset.cpus", "pids.max", "memory.high"]
    {
        put(dir.path(), &format!("cg/a/{file}"), "");
    }
    let unified = [("memory.high".to_owned(), "7".to_owned())].into();
    let resources = Resources {
        cpu_shares: 1024,
        cpu_quota: 5000,
        memory_limit: 100,
        memory_swap_limit: 150,
        cpuset_cpus: "0-1".into(),
        unified,
        ..Resources::default()
    };
    assert!(group.apply(&resources).unwrap().is_empty());
    group.limit_pids(None).unwrap();
    for (file, want) in [
        ("memory.max", "100"),
        ("memory.swap.max", "50"),
        ("cpu.weight", "100"),
        ("cpu.max", "5000 100000"),
        ("cpuset.cpus", "0-1"),
        ("pids.max", "max"),
        ("memory.high", "7"),
    ] {
        assert_eq!(text(dir.path(), &format!("cg/a/{file}")), want, "{file}");
    }
}

#[test]
fn a_new_v1_cpuset_gets_what_the_one_above_has() {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), "cpuset/cpuset.cpus", "0-3\n");
    put(dir.path(), "cpuset/cpuset.mems", "0\n");
    for group in ["a", "a/b"] {
        put(dir.path(), &format!("cpuset/{group}/cpuset.cpus"), "");
        put(dir.path(), &format!("cpuset/{group}/cpuset.mems"), "");
    }
    let cgroups =
        Cgroups::probe_at(dir.path(), "30 24 0:26 / /cpuset rw - cgroup cgroup rw,cpuset\n", "3:cpuset:/\n")
            .unwrap();
    assert_eq!(cgroups.mode(), Mode::V1);
    cgroups.create("/a/b").unwrap();
    assert_eq!(text(dir.path(), "cpuset/a/b/cpuset.cpus"), "0-3");
    assert_eq!(text(dir.path(), "cpuset/a/cpuset.mems"), "0");
}

#[test]
fn our_own_group_is_never_killed_frozen_or_removed() {
    let (_dir, cgroups) = unified();
    for path in ["/system.slice", "/system.slice/corten.service"] {
        let group = cgroups.create(path).unwrap();
        for error in [group.kill().unwrap_err(), group.freeze().unwrap_err(), group.remove().unwrap_err()] {
            assert_eq!(error.kind(), ErrorKind::FailedPrecondition, "{error}");
        }
    }
}

#[test]
fn a_link_in_the_tree_is_not_followed() {
    let (dir, cgroups) = unified();
    put(dir.path(), "outside/memory.max", "mine");
    std::os::unix::fs::symlink("../outside", dir.path().join("cg/link")).unwrap();
    assert!(cgroups.open("/link").is_err());
    let group = cgroups.create("/real").unwrap();
    std::fs::remove_dir(dir.path().join("cg/real")).unwrap();
    std::os::unix::fs::symlink("../outside", dir.path().join("cg/real")).unwrap();
    assert!(group.apply(&Resources { memory_limit: 5, ..Resources::default() }).is_err());
    assert_eq!(text(dir.path(), "outside/memory.max"), "mine");
}

#[test]
fn a_failed_creation_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["cpu", "memory"] {
        std::fs::create_dir(dir.path().join(name)).unwrap();
    }
    put(dir.path(), "memory/a", "a file is in the way");
    let info =
        "30 24 0:26 / /cpu rw - cgroup cgroup rw,cpu\n31 24 0:27 / /memory rw - cgroup cgroup rw,memory\n";
    let cgroups = Cgroups::probe_at(dir.path(), info, "2:cpu:/\n1:memory:/\n").unwrap();
    assert!(cgroups.create("/a/b").is_err());
    assert!(!dir.path().join("cpu/a").exists());
}

/// Runs as another user in a process of its own; see below.
#[test]
fn child_that_may_only_write_its_own_group() {
    let Some(root) = std::env::var_os("CORTEN_TEST_TREE") else { return };
    let cgroups = Cgroups::probe_at(Path::new(&root), V2, "0::/own\n").unwrap();
    assert!(cgroups.notes()[0].contains("below /own"), "{:?}", cgroups.notes());
    let group = cgroups.create("/a/b").unwrap();
    assert_eq!(group.path(), "/a/b");
    println!("nested");
}

#[test]
fn where_the_root_cannot_be_written_groups_nest_below_our_own() {
    use std::os::unix::fs::{PermissionsExt, chown};
    use std::os::unix::process::CommandExt;
    let (dir, _) = unified();
    std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
    std::fs::create_dir(dir.path().join("cg/own")).unwrap();
    if chown(dir.path().join("cg/own"), Some(65534), Some(65534)).is_err() {
        eprintln!("skipped: making another user's folder needs root");
        return;
    }
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "trees::child_that_may_only_write_its_own_group", "--nocapture"]);
    let output =
        match command.env("CORTEN_TEST_TREE", dir.path()).current_dir("/").uid(65534).gid(65534).output() {
            Ok(output) => output,
            Err(error) => {
                eprintln!("skipped: another user cannot run this test: {error}");
                return;
            }
        };
    assert!(String::from_utf8_lossy(&output.stdout).contains("nested"), "{output:?}");
    assert!(dir.path().join("cg/own/a/b").is_dir());
}

#[test]
fn v2_block_weights_go_to_bfq_else_converted_to_io_cost() {
    use cgroups::{BlockWeight, Limits};
    let (dir, cgroups) = unified();
    let group = cgroups.create("/a").unwrap();
    let mut limits = Limits::default();
    limits.block.weight = Some(500);
    let error = group.limit(&limits).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::FailedPrecondition, "{error}");
    put(dir.path(), "cg/a/io.weight", "");
    group.limit(&limits).unwrap();
    // 1 + (500 - 10) * 9999 / 990
    assert_eq!(text(dir.path(), "cg/a/io.weight"), "4950");
    put(dir.path(), "cg/a/io.bfq.weight", "");
    limits.block.devices = vec![BlockWeight { major: 8, minor: 16, weight: Some(300), leaf_weight: None }];
    put(dir.path(), "cg/a/io.weight", "untouched");
    limits.block.weight = None;
    group.limit(&limits).unwrap();
    assert_eq!(text(dir.path(), "cg/a/io.bfq.weight"), "8:16 300");
    assert_eq!(text(dir.path(), "cg/a/io.weight"), "untouched");
    limits.block.devices[0].leaf_weight = Some(300);
    assert!(group.limit(&limits).is_err());
}

#[test]
fn a_v2_limit_whose_controller_was_not_handed_down_is_an_error_that_says_so() {
    let (_dir, cgroups) = unified();
    let group = cgroups.create("/a").unwrap();
    let mut limits = cgroups::Limits { pids: Some(5), ..cgroups::Limits::default() };
    let error = group.limit(&limits).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::FailedPrecondition, "{error}");
    assert!(error.message().contains("pids.max cannot be set: the cgroup /a does not have"), "{error}");
    // And of a group that is gone it says that.
    group.remove().unwrap();
    limits.pids = Some(6);
    assert_eq!(group.limit(&limits).unwrap_err().kind(), ErrorKind::NotFound);
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]
    #[test]
    fn no_limits_make_the_setting_panic(
        numbers in proptest::collection::vec(proptest::prelude::any::<i64>(), 8),
        text in "[0-9,\\-]{0,6}|\\PC{0,12}", name in "[a-z.]{0,12}|\\PC{0,12}", v2 in proptest::bool::ANY,
    ) {
        use cgroups::{BlockLimit, Limits, RdmaLimit};
        let (dir, v2_cgroups) = unified();
        put(dir.path(), "memory/none", "");
        let info = "30 24 0:26 / /memory rw - cgroup cgroup rw,memory,cpu,cpuset,pids,blkio,hugetlb,rdma,net_cls,net_prio\n";
        let v1_cgroups = Cgroups::probe_at(
            dir.path(), info, "1:memory,cpu,cpuset,pids,blkio,hugetlb,rdma,net_cls,net_prio:/\n").unwrap();
        let group = (if v2 { v2_cgroups } else { v1_cgroups }).create("/a").unwrap();
        let mut limits = Limits { pids: Some(numbers[0]), ..Limits::default() };
        (limits.memory.limit, limits.memory.swap, limits.memory.reservation) =
            (Some(numbers[1]), Some(numbers[2]), Some(numbers[3]));
        let all = [
            limits.clone(),
            { let mut l = Limits::default(); l.cpu.shares = Some(numbers[4].cast_unsigned()); l.cpu.quota = Some(numbers[5]); l.cpu.cpus = text.clone(); l },
            { let mut l = Limits::default(); l.block.weight = Some(numbers[6] as u16); l.block.throttles = vec![BlockLimit::default()]; l },
            Limits { hugepages: vec![(text.clone(), numbers[7])], ..Limits::default() },
            Limits { rdma: vec![RdmaLimit { device: name.clone(), handles: Some(1), objects: None }], ..Limits::default() },
            Limits { unified: [(name.clone(), text.clone())].into(), ..Limits::default() },
            { let mut l = Limits::default(); l.network.priorities = vec![(name.clone(), 1)]; l },
        ];
        for limits in all {
            // Nothing of it is written outside of the group's own files, none of which is there.
            if let Err(error) = group.limit(&limits) {
                proptest::prop_assert!(!error.message().contains('\n'), "{}", error);
            }
        }
    }
}
