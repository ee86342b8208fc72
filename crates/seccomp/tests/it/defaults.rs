//! What the runtime's own profile lets through.

use crate::machine::{Data, run};
use crate::{ALLOW, errno};
use seccomp::{Abi, compile_for, runtime_default};

fn answer(capabilities: &[&str], abi: Abi, name: &str, first: u64) -> u32 {
    let capabilities: Vec<String> = capabilities.iter().map(|c| (*c).to_owned()).collect();
    let native = if matches!(abi, Abi::Arm | Abi::Arm64) { Abi::Arm64 } else { Abi::X86_64 };
    let mut profile = runtime_default(&capabilities);
    if native == Abi::Arm64 {
        profile.set_architectures(Some(vec![oci_spec::runtime::Arch::ScmpArchArm]));
    }
    let filter = compile_for(native, &profile).unwrap();
    let number = abi.number(name).unwrap_or_else(|| panic!("{abi:?} has no {name}"));
    run(&filter.program, &Data { number, architecture: abi.audit(), arguments: [first, 0, 0, 0, 0, 0] })
}

#[test]
fn dangerous_calls_are_shut_on_every_architecture() {
    for abi in [Abi::X86_64, Abi::X32, Abi::I386, Abi::Arm64, Abi::Arm] {
        for name in [
            "io_uring_setup",
            "io_uring_enter",
            "io_uring_register",
            "keyctl",
            "userfaultfd",
            "kexec_load",
            "mount",
            "bpf",
            "unshare",
            "setns",
            "open_by_handle_at",
            "init_module",
            "perf_event_open",
            "pivot_root",
        ] {
            // x32's calls of its own, from 512 on, are ENOSYS where no rule names them.
            let want = if abi == Abi::X32 && name == "kexec_load" { errno(38) } else { errno(1) };
            assert_eq!(answer(&[], abi, name, 0), want, "{abi:?} {name}");
        }
        assert_eq!(answer(&[], abi, "clone3", 0), errno(38), "{abi:?}");
        assert_eq!(answer(&[], abi, "read", 0), ALLOW, "{abi:?}");
        for family in [3, 9, 38, 40, 0x1_0000_0026, u64::MAX] {
            assert_eq!(answer(&[], abi, "socket", family), errno(1), "{abi:?} {family}");
        }
        for family in [1, 2, 10, 16, 17] {
            assert_eq!(answer(&[], abi, "socket", family), ALLOW, "{abi:?} {family}");
        }
    }
    assert_eq!(answer(&[], Abi::I386, "socketcall", 1), errno(38));
}

#[test]
fn capabilities_open_what_belongs_to_them_and_no_more() {
    assert_eq!(answer(&["CAP_SYS_ADMIN"], Abi::X86_64, "mount", 0), ALLOW);
    assert_eq!(answer(&["CAP_SYS_ADMIN"], Abi::X86_64, "clone3", 0), ALLOW);
    assert_eq!(answer(&["CAP_SYS_ADMIN"], Abi::X86_64, "clone", 0x1000_0000), ALLOW);
    assert_eq!(answer(&["CAP_SYS_ADMIN"], Abi::X86_64, "init_module", 0), errno(1));
    assert_eq!(answer(&["CAP_SYS_ADMIN"], Abi::X86_64, "socket", 38), errno(1));
    assert_eq!(answer(&["CAP_BPF"], Abi::X86_64, "bpf", 0), ALLOW);
    assert_eq!(answer(&["CAP_SYSLOG"], Abi::X86_64, "syslog", 0), ALLOW);
    assert_eq!(answer(&["CAP_SYS_TIME"], Abi::I386, "clock_settime64", 0), ALLOW);
    assert_eq!(answer(&["CAP_SYS_PTRACE"], Abi::X86_64, "pidfd_getfd", 0), ALLOW);
}

#[test]
fn namespaces_need_an_administrator_and_threads_do_not() {
    for flag in [0x0002_0000u64, 0x0200_0000, 0x0400_0000, 0x0800_0000, 0x1000_0000, 0x2000_0000, 0x4000_0000]
    {
        assert_eq!(answer(&[], Abi::X86_64, "clone", flag | 17), errno(1), "{flag:#x}");
    }
    // What pthread_create passes.
    assert_eq!(answer(&[], Abi::X86_64, "clone", 0x003d_0f00), ALLOW);
    assert_eq!(answer(&[], Abi::X86_64, "clone", 17), ALLOW);
}

#[test]
fn address_randomization_cannot_be_switched_off() {
    assert_eq!(answer(&[], Abi::X86_64, "personality", 0xffff_ffff), ALLOW);
    assert_eq!(answer(&[], Abi::X86_64, "personality", 0x8), ALLOW);
    assert_eq!(answer(&[], Abi::X86_64, "personality", 0x0004_0000), errno(1));
}

#[test]
fn it_is_small_and_quick_to_make() {
    let start = std::time::Instant::now();
    let profile = runtime_default(&[]);
    let read = start.elapsed();
    let filter = compile_for(Abi::X86_64, &profile).unwrap();
    let compiled = start.elapsed() - read;
    eprintln!("{} instructions; read in {read:?}, compiled in {compiled:?}", filter.program.len() / 8);
    assert!(filter.program.len() / 8 < 1500);
}
