//! Which tests `cargo xtask test` runs in the guest: those that meet another kernel there (cgroup v2,
//! systemd, AppArmor), few enough for a machine on which a process costs 60 times as much.

use super::job::Test;
use super::programs::Program;
use std::time::Duration;

/// Some tests of one program.
pub struct Choice {
    /// `corten-cgroups`
    pub package: &'static str,
    /// As [`Program::target`].
    pub target: &'static str,
    /// Parts of names of the wanted tests; none means all.
    pub wanted: &'static [&'static str],
    /// Parts of names of tests that are left out.
    pub without: &'static [&'static str],
    /// When each test is ended.
    pub limit: Duration,
    /// Why these.
    pub reason: &'static str,
}

/// What a test may take in a guest, where a second of the host is a minute.
pub const LIMIT: Duration = Duration::from_secs(150);

const fn all(package: &'static str, target: &'static str, reason: &'static str) -> Choice {
    Choice { package, target, wanted: &[], without: &[], limit: LIMIT, reason }
}

/// In this order; when time runs out, the last ones are not run. Tests that only read and compute run on the
/// host alone.
pub const CHOSEN: &[Choice] = &[
    all("corten-cgroups", "it", "every promise about cgroups, on v2 with all controllers"),
    all("corten-systemd", "it", "scopes need a systemd that is pid 1"),
    Choice {
        wanted: &["rootless::", "systemds_scopes"],
        ..all("corten-oci", "it", "an ordinary user's containers, and a crowd in systemd's scopes")
    },
    Choice {
        wanted: &["systemd::"],
        // Dozens of calls of engines in each, which take a second or two.
        limit: Duration::from_secs(300),
        ..all("corten-oci-clients", "it", "Podman and containerd with systemd's scopes")
    },
    Choice {
        wanted: &["resources::", "device_rules::", "labels::", "idmap::", "user_namespaces::"],
        ..all(
            "corten-oci-suite",
            "specification",
            "limits of v2, AppArmor, and user namespaces of another kernel",
        )
    },
    Choice {
        wanted: &["global::systemd_", "update::", "pause::", "events::", "kill::", "delete::", "ps::"],
        ..all("corten-oci-suite", "commands", "the commands that work on cgroups")
    },
    Choice {
        wanted: &["update::", "pause::", "events::", "life::", "exec::", "security::", "listener::"],
        ..all("corten-oci", "it", "what the program keeps and ends, on v2")
    },
    Choice {
        // Attacks that start dozens of containers, and races of a thousand rounds, take too long here.
        wanted: &["capabilities::", "cgroups::", "writes::", "users::"],
        without: &["races::"],
        ..all("corten-oci-suite", "security", "attacks on a kernel with AppArmor and on v2")
    },
    all("corten-monitor", "it", "a container's whole life under its monitor, on v2"),
    Choice {
        wanted: &["containers::", "pods::"],
        without: &["twenty_pods"],
        ..all("corten-engine", "it", "pods with cgroups of v2")
    },
    Choice {
        wanted: &["mounts::", "mount_options::", "scheduling::"],
        ..all("corten-oci-suite", "specification", "mounts and schedulers of another kernel")
    },
    Choice {
        wanted: &["bounded::", "images::", "mapped::overlayfs", "mapped::erofs", "views::"],
        ..all(
            "corten-snapshots",
            "it",
            "project quota, fs-verity, images by loop devices, overlays by one string",
        )
    },
    Choice {
        wanted: &["corners::"],
        // Thousands of files take too long here.
        without: &["large_directories", "deep_trees", "every_size_of_a_directory"],
        ..all("corten-erofs", "it", "images as an older kernel reads them")
    },
    Choice {
        wanted: &["devmapper::", "thin::"],
        // Hundreds of processes under strace.
        without: &["killed::", "replaced::"],
        ..all("corten-snapshots", "it", "layers and containers on thin devices, which need the device-mapper")
    },
    Choice {
        wanted: &["snapshotters::pods_live_on_", "snapshotters::bounded::a_container_on_"],
        // A dozen commands and three daemons in each.
        limit: Duration::from_secs(300),
        ..all("corten-e2e", "it", "whole pods on thin devices, by loop devices, and on containerd's layers")
    },
    all("corten-container", "supervisor", "layers that this kernel wants attached for a moment"),
    all("corten-container", "lib", "system calls of another kernel"),
    all("corten-sys", "lib", "system calls of another kernel"),
];

/// The packages of the table, each once.
pub fn packages() -> Vec<&'static str> {
    let mut names: Vec<_> = CHOSEN.iter().map(|choice| choice.package).collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// The tests of the table, in its order, and a line about each choice.
pub fn chosen(programs: &[(Program, Vec<String>)]) -> (Vec<Test>, Vec<String>) {
    let (mut tests, mut lines) = (Vec::new(), Vec::new());
    for choice in CHOSEN {
        let before = tests.len();
        let of = |program: &Program| program.package == choice.package && program.target == choice.target;
        for (program, names) in programs.iter().filter(|(program, _)| of(program)) {
            let wanted = names.iter().filter(|name| {
                let named = |parts: &[&str]| parts.iter().any(|part| name.contains(part));
                (choice.wanted.is_empty() || named(choice.wanted)) && !named(choice.without)
            });
            for found in wanted.map(|name| test(program, name, choice.limit)) {
                // Two choices may want the same one.
                if !tests.contains(&found) {
                    tests.push(found);
                }
            }
        }
        let Choice { package, target, reason, .. } = choice;
        lines.push(format!("{:>3} tests of {package} {target}: {reason}", tests.len() - before));
    }
    (tests, lines)
}

/// The tests whose whole name (`PACKAGE TARGET NAME`) holds one of some parts.
pub fn named(programs: &[(Program, Vec<String>)], parts: &[&str]) -> Vec<Test> {
    let all =
        programs.iter().flat_map(|(program, names)| names.iter().map(move |name| test(program, name, LIMIT)));
    all.filter(|test| {
        let whole = format!("{} {}", test.program, test.name);
        parts.is_empty() || parts.iter().any(|part| whole.contains(part))
    })
    .collect()
}

fn test(program: &Program, name: &str, limit: Duration) -> Test {
    Test {
        program: format!("{} {}", program.package, program.target),
        file: program.file(),
        name: name.to_owned(),
        limit,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn programs() -> Vec<(Program, Vec<String>)> {
        let program = |package: &str, target: &str, names: &[&str]| {
            let program =
                Program { package: package.to_owned(), target: target.to_owned(), path: "/t".into() };
            (program, names.iter().map(|name| (*name).to_owned()).collect())
        };
        vec![
            program("corten-oci-suite", "security", &["writes::swap", "races::of_writes::"]),
            program("corten-engine", "it", &["containers::starts", "restart::finds"]),
            program("corten-cgroups", "it", &["kernel::freezes"]),
            program("corten-oci-suite", "specification", &["resources::mounts::both", "paths::none"]),
        ]
    }

    #[test]
    fn the_table_is_in_order_and_keeps_out_what_is_too_slow() {
        let (tests, lines) = chosen(&programs());
        let names: Vec<_> = tests.iter().map(|test| test.name.as_str()).collect();
        assert_eq!(
            names,
            ["kernel::freezes", "resources::mounts::both", "writes::swap", "containers::starts"]
        );
        assert!(lines.iter().any(|line| line.starts_with("  0 tests of corten-monitor it")), "{lines:?}");
    }

    #[test]
    fn a_name_may_be_part_of_package_program_and_test() {
        assert_eq!(named(&programs(), &["corten-engine it rest"]).len(), 1);
        assert_eq!(named(&programs(), &["freezes", "swap"]).len(), 2);
        assert_eq!(named(&programs(), &[]).len(), 7);
    }
}
