//! The runtime's own program as the prey (CVE-2019-5736).

use crate::races::rounds;
use crate::{all_but_ptrace, attacker, quietly, with_program, without_ptrace};
use oci_suite::Case;
use oci_suite::attack::{install_attacker, loot, stop_attacker};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

/// A container whose program waits for the runtime to come in, and an image whose programs are all the runtime itself:
/// a link to `/proc/self/exe`, and a script that has it as its interpreter.
fn trap(case: &Case) {
    install_attacker(&attacker(), &case.bundle.root());
    case.bundle.program("trap", b"#!/proc/self/exe\n");
    symlink("/proc/self/exe", case.bundle.root().join("bin/mirror")).unwrap();
    std::fs::create_dir(case.bundle.root().join("trap")).unwrap();
    symlink("/proc/self/exe", case.bundle.root().join("trap/sleep")).unwrap();
    case.capabilities(&all_but_ptrace().iter().map(String::as_str).collect::<Vec<_>>());
    case.args(&["/oci-attacker", "overwrite"]);
}

fn copy_of(program: &Path, case: &Case) -> std::path::PathBuf {
    // Busybox looks at its name.
    let copy = case.bundle.aside().join(program.file_name().unwrap());
    std::fs::copy(program, &copy).unwrap();
    std::fs::set_permissions(&copy, std::fs::Permissions::from_mode(0o755)).unwrap();
    copy
}

/// What no writer can set back: the kernel's time of the last change goes forward with each write (inode(7), `st_ctime`).
fn stamp(file: &Path) -> (u64, i64, i64) {
    let stat = std::fs::metadata(file).unwrap();
    (stat.len(), stat.ctime(), stat.ctime_nsec())
}

/// The container's program, or one that waits in it, opens `/proc/PID/exe` of whatever comes in, and writes to it once it
/// is no longer executed. Comes in: `exec` of a plain program, of a link to `/proc/self/exe` and of a script with that
/// as its interpreter, 1,000 times, and 100 times the first process of a second container in the same PID namespace. runc until 1.0-rc6 fell;
/// Debian's peers are newer, so the next test shows with a careless program that this attack works.
#[test]
fn cve_2019_5736_the_runtimes_program_cannot_be_overwritten() {
    let Some(case) = Case::new("5736") else { return };
    trap(&case);
    let copy = copy_of(case.runtime.program(), &case);
    let before = std::fs::read(&copy).unwrap();
    let _ = case.finish(&mut with_program(&case, &copy, &["run", "--detach", &case.id])).good();
    let Some(second) = Case::new("5736-second") else { return };
    trap(&second);
    second.namespace("pid", Some(case.process().path("ns/pid").to_str().unwrap()));
    let (unchanged, start) = (stamp(&copy), std::time::Instant::now());
    for round in 0..rounds() {
        let program = ["/bin/true", "/bin/mirror", "/bin/trap", "/proc/self/exe"][round % 4];
        quietly(&mut without_ptrace(&with_program(&case, &copy, &["exec", &case.id, program])));
        if round % 10 == 0 {
            second.args(&[["/bin/mirror", "/bin/trap", "/proc/self/exe"][round / 10 % 3]]);
            quietly(&mut without_ptrace(&with_program(&second, &copy, &["create", &second.id])));
            quietly(&mut without_ptrace(&with_program(&second, &copy, &["start", &second.id])));
            quietly(&mut without_ptrace(&with_program(&second, &copy, &["delete", "--force", &second.id])));
        }
        assert_eq!(unchanged, stamp(&copy), "the runtime's program was changed in round {round}");
    }
    let turns = stop_attacker(&case.bundle.root());
    println!("{} entries in {:?}; the attacker saw {turns} processes", rounds(), start.elapsed());
    assert!(before == std::fs::read(&copy).unwrap(), "the runtime's program was overwritten");
    let wrote = loot(&case.bundle.root(), "overwrite");
    assert!(wrote.is_empty(), "{wrote:?}");
    case.delete_force();
    case.assert_nothing_left();
    second.assert_nothing_left();
}

/// The same attacker and the same container, entered by `nsenter` of busybox, which is not made for hostile places.
#[test]
fn control_of_cve_2019_5736_a_careless_program_is_overwritten() {
    let Some(case) = Case::new("5736-control") else { return };
    trap(&case);
    let copy = copy_of(Path::new(oci_suite::bundle::BUSYBOX), &case);
    let before = std::fs::read(&copy).unwrap();
    let pid = case.run_detached().pid.to_string();
    for _ in 0..20 {
        // In the container the link is the program that came in, and stays for a moment as `sleep`.
        let mut command = Command::new(&copy);
        command.args(["nsenter", "-t", &pid, "-m", "-p", "/trap/sleep", "0.02"]);
        quietly(&mut without_ptrace(&command));
        if before != std::fs::read(&copy).unwrap() {
            break;
        }
    }
    stop_attacker(&case.bundle.root());
    assert!(before != std::fs::read(&copy).unwrap(), "the attack does not work any more: mend the attacker");
    case.delete_force();
}
