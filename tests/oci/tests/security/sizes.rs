//! Input that is larger than what carries it (CVE-2021-43784), or just too large.

use oci_suite::{Case, Kind};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Longest time in which a hostile configuration has to be answered.
const PATIENCE: Duration = Duration::from_secs(20);

/// runc (until 1.0.2) passed the configuration to its first process in netlink attributes, whose length has 16 bits: a mapping or
/// a namespace path of more than 64 KiB wrapped around, and its end was read as further attributes, such as one that turns the
/// user namespace off. Here: nothing that is long ends up shorter or as something else. Each is refused, or done to the letter.
#[test]
fn cve_2021_43784_what_is_too_long_is_refused_and_never_cut() {
    let Some(case) = Case::new("43784") else { return };
    let many = |count: u32| -> Value {
        (0..count).map(|n| json!({ "containerID": n, "hostID": 300_000 + n, "size": 1 })).collect()
    };
    // What a netlink attribute "clone flags: none" looks like, behind 64 KiB.
    let smuggled = format!("/proc/self/ns/{}{}", "x".repeat(65_536), "\u{8}\u{0}\u{91}j");
    let plain = case.bundle.config();
    let refused = |what: &str, change: &dyn Fn(&mut Value)| {
        let mut config = plain.clone();
        change(&mut config);
        case.edit(|old| *old = config);
        let start = Instant::now();
        let said = case.call(&["run", &case.id]);
        assert!(start.elapsed() < PATIENCE, "{what}: answered after {:?}", start.elapsed());
        let words = said.bad();
        let bound = if case.runtime.kind == Kind::Corten { 8192 } else { usize::MAX };
        assert!(words.len() < bound, "{what}: the answer has {} bytes: {}…", words.len(), &words[..200]);
        assert!(case.entries().is_empty(), "{what}: {:?}", case.entries());
    };
    let mapped = |config: &mut Value, uids: Value| {
        config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({ "type": "user" }));
        config["linux"]["uidMappings"] = uids;
        config["linux"]["gidMappings"] = json!([{ "containerID": 0, "hostID": 300_000, "size": 65_536 }]);
    };
    // The kernel takes 340 lines, and less than a page.
    refused("341 mappings", &|config| mapped(config, many(341)));
    refused("5,000 mappings", &|config| mapped(config, many(5_000)));
    refused("a mapping of 33 bits", &|config| {
        mapped(config, json!([{ "containerID": 0, "hostID": 1_u64 << 32, "size": 1 }]))
    });
    refused("a mapping that wraps", &|config| {
        mapped(config, json!([{ "containerID": 0, "hostID": 4_294_967_000_u64, "size": 65_536 }]))
    });
    refused("a mapping of nothing", &|config| {
        mapped(config, json!([{ "containerID": 0, "hostID": 300_000, "size": 0 }]))
    });
    refused("a negative mapping", &|config| {
        mapped(config, json!([{ "containerID": 0, "hostID": -1, "size": 1 }]))
    });
    for kind in ["network", "pid", "ipc", "uts"] {
        refused("a namespace path of 64 KiB", &|config| {
            let list = config["linux"]["namespaces"].as_array_mut().unwrap();
            list.retain(|namespace| namespace["type"] != kind);
            list.push(json!({ "type": kind, "path": smuggled }));
        });
    }
    refused("an argument of 1 MiB", &|config| {
        config["process"]["args"] = json!(["true", "x".repeat(1 << 20)])
    });
    refused("a working directory of 64 KiB", &|config| {
        config["process"]["cwd"] = format!("/{}", "x/".repeat(32_768)).into()
    });
    refused("a mount target of 64 KiB", &|config| {
        let target = format!("/{}", "x/".repeat(32_768));
        config["mounts"]
            .as_array_mut()
            .unwrap()
            .push(json!({ "destination": target, "type": "tmpfs", "source": "tmpfs" }));
    });
    refused("a root of 64 KiB", &|config| config["root"]["path"] = "x/".repeat(32_768).into());
    refused("a cgroup path of 64 KiB", &|config| {
        config["linux"]["cgroupsPath"] = format!("/{}", "x".repeat(65_536)).into()
    });
    refused("a user of 33 bits", &|config| config["process"]["user"]["uid"] = (1_u64 << 32).into());
    refused("a group of 33 bits", &|config| {
        config["process"]["user"]["additionalGids"] = json!([1_u64 << 32])
    });
    refused("no command", &|config| config["process"]["args"] = json!([]));
    case.assert_nothing_left();
}

/// Things that only ours has to refuse or to survive: runc and crun read without a bound.
#[test]
fn a_hostile_configuration_costs_neither_time_nor_memory() {
    let Some(case) = Case::new("hostile-json") else { return };
    let file = case.bundle.path().join("config.json");
    let promise = || {
        for (what, text) in [
            ("deep arrays", "[".repeat(2_000_000)),
            ("deep objects", "{\"a\":".repeat(500_000)),
            (
                "deep annotations",
                format!("{{\"ociVersion\":\"1.0.2\",\"annotations\":{}", "{\"a\":".repeat(500_000)),
            ),
            ("20 MiB of blanks", " ".repeat(20 << 20)),
            (
                "a huge number",
                format!(
                    "{{\"ociVersion\":\"1.0.2\",\"process\":{{\"oomScoreAdj\":{}}}}}",
                    "9".repeat(1 << 20)
                ),
            ),
            ("a NUL", "{\"ociVersion\":\"1.0.2\u{0}\"}".to_owned()),
            ("not UTF-8", String::new()),
        ] {
            let bytes = if text.is_empty() { vec![0xff; 4096] } else { text.into_bytes() };
            std::fs::write(&file, bytes).unwrap();
            let start = Instant::now();
            // 512 MiB of address space: what reads all into memory many times over fails.
            let inner = case.command(&["create", &case.id]);
            let mut command = std::process::Command::new("/bin/sh");
            command
                .args(["-c", "ulimit -v 524288; exec \"$0\" \"$@\""])
                .arg(inner.get_program())
                .args(inner.get_args());
            command.current_dir(case.bundle.path()).stdin(std::process::Stdio::null());
            let words = case.finish(&mut command).bad();
            assert!(start.elapsed() < PATIENCE, "{what}: answered after {:?}", start.elapsed());
            assert!(words.len() < 8192 && words.trim().lines().count() == 1, "{what}: {} bytes", words.len());
        }
        for odd in ["/dev/zero", "fifo"] {
            let _ = std::fs::remove_file(&file);
            if odd == "fifo" {
                rustix::fs::mknodat(
                    rustix::fs::CWD,
                    &file,
                    rustix::fs::FileType::Fifo,
                    rustix::fs::Mode::RUSR,
                    0,
                )
                .unwrap();
            } else {
                std::os::unix::fs::symlink(odd, &file).unwrap();
            }
            let start = Instant::now();
            let _ = case.call(&["create", &case.id]).bad();
            assert!(start.elapsed() < PATIENCE, "{odd}");
        }
    };
    if case.runtime.kind == Kind::Corten || case.runtime.kind == Kind::Other {
        promise();
    } else {
        // crun and runc would read /dev/zero until the memory of the machine is used up.
        println!("skipped: {} has no bound here", case.runtime.version);
    }
    case.assert_nothing_left();
}
