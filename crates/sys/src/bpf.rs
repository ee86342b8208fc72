//! bpf(2), as far as device programs of cgroups need it: load, attach, list, detach.
//!
//! Knows nothing of rules, makes no maps, calls no helpers, pins nothing. Every descriptor that it gives back is
//! close-on-exec: the kernel makes them so (`bpf_prog_new_fd`, kernel/bpf/syscall.c).

use rustix::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ffi::CStr;
use std::io;

/// Most instructions of a program. Our bound: the kernel takes a million from those who may load this kind at all
/// (Linux 5.2, `bpf_prog_load`).
pub const MAX_INSTRUCTIONS: usize = 16_384;
/// Most programs that one cgroup can have of one kind (`BPF_CGROUP_MAX_PROGS`, linux/bpf-cgroup-defs.h).
const MAX_ATTACHED: usize = 64;
/// Room for what the verifier says.
const LOG: usize = 64 << 10;
/// How much of it an error carries: its end, where the reason is.
const LOG_KEPT: usize = 2048;

/// Commands and numbers of `linux/bpf.h`.
const PROG_LOAD: i32 = 5;
const PROG_ATTACH: i32 = 8;
const PROG_DETACH: i32 = 9;
const PROG_GET_FD_BY_ID: i32 = 13;
const OBJ_GET_INFO_BY_FD: i32 = 15;
const PROG_QUERY: i32 = 16;
const TYPE_CGROUP_DEVICE: u32 = 15;
const ATTACH_CGROUP_DEVICE: u32 = 6;
const F_ALLOW_MULTI: u32 = 1 << 1;
const F_REPLACE: u32 = 1 << 2;

/// One instruction, `struct bpf_insn`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Instruction {
    /// What it does.
    pub code: u8,
    registers: u8,
    /// Where a jump goes, counted from the next instruction; or the place in memory.
    pub offset: i16,
    /// The constant.
    pub immediate: i32,
}

impl Instruction {
    /// Registers are numbered 0–10; other numbers are cut to four bits, which the verifier then refuses.
    pub const fn new(code: u8, destination: u8, source: u8, offset: i16, immediate: i32) -> Self {
        // Two bit fields of four bits, which C lays out from the low end on little-endian machines only.
        let registers = match cfg!(target_endian = "little") {
            true => (destination & 15) | (source & 15) << 4,
            false => (source & 15) | (destination & 15) << 4,
        };
        Self { code, registers, offset, immediate }
    }

    /// The register that is written or compared.
    pub const fn destination(&self) -> u8 {
        if cfg!(target_endian = "little") { self.registers & 15 } else { self.registers >> 4 }
    }

    /// The register that is read.
    pub const fn source(&self) -> u8 {
        if cfg!(target_endian = "little") { self.registers >> 4 } else { self.registers & 15 }
    }
}

/// Why a program was not loaded.
#[derive(Debug)]
pub struct LoadError {
    /// What the kernel said first.
    pub source: io::Error,
    /// The end of the verifier's log, at most 2 KiB; empty when the verifier was not reached.
    pub log: String,
}

/// `BPF_PROG_LOAD`, up to `expected_attach_type`. None of these structs has padding of its own.
#[derive(Clone, Copy)]
#[repr(C)]
struct Load {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
    prog_ifindex: u32,
    expected_attach_type: u32,
}

/// `BPF_PROG_ATTACH` and `BPF_PROG_DETACH`.
#[derive(Clone, Copy)]
#[repr(C)]
struct Attach {
    target_fd: u32,
    attach_bpf_fd: u32,
    attach_type: u32,
    attach_flags: u32,
    replace_bpf_fd: u32,
}

/// `BPF_PROG_QUERY`, up to `prog_cnt`.
#[derive(Clone, Copy)]
#[repr(C)]
struct Query {
    target_fd: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    prog_ids: u64,
    prog_cnt: u32,
    reserved: u32,
}

/// `BPF_OBJ_GET_INFO_BY_FD`.
#[derive(Clone, Copy)]
#[repr(C)]
struct Info {
    bpf_fd: u32,
    info_len: u32,
    info: u64,
}

/// `union bpf_attr` as it was when its newest field here was new; the kernel takes a shorter or longer one as long as
/// what it does not know is zero (`bpf_check_uarg_tail_zero`).
#[repr(C)]
union Attr {
    load: Load,
    attach: Attach,
    query: Query,
    prog_id: u32,
    info: Info,
    whole: [u64; 18],
}

impl Attr {
    /// All zero, padding too.
    const fn zeroed() -> Self {
        Self { whole: [0; 18] }
    }
}

/// # Safety
/// Every address in `attr` that `command` uses must be valid for the length that `attr` tells with it.
unsafe fn bpf(command: i32, attr: &mut Attr) -> io::Result<i32> {
    // SAFETY: `attr` is a bpf_attr of the size that is told, every byte of it initialised; what it points to is the
    // caller's promise.
    let done = unsafe {
        libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attr), std::mem::size_of::<Attr>() as u32)
    };
    if done >= 0 { Ok(done as i32) } else { Err(io::Error::last_os_error()) }
}

/// Loads a program of the kind `BPF_PROG_TYPE_CGROUP_DEVICE` (Linux 4.15). Needs CAP_BPF and CAP_NET_ADMIN, or
/// CAP_SYS_ADMIN.
///
/// `name` shows in lists of programs: at most 15 letters, digits, dots and underscores.
pub fn load_device_program(program: &[Instruction], name: &CStr) -> Result<OwnedFd, LoadError> {
    let refuse = |source| LoadError { source, log: String::new() };
    let letters = name.to_bytes();
    if program.is_empty() || program.len() > MAX_INSTRUCTIONS || letters.len() > 15 {
        return Err(refuse(io::Error::from_raw_os_error(libc::EINVAL)));
    }
    let mut prog_name = [0; 16];
    prog_name[..letters.len()].copy_from_slice(letters);
    match load(program, prog_name, &mut []) {
        Ok(fd) => Ok(fd),
        Err(source) if matches!(source.raw_os_error(), Some(libc::EPERM | libc::ENOSYS)) => {
            Err(refuse(source))
        }
        // Once more, now asking why. The first answer counts: a full log has an errno of its own.
        Err(source) => {
            let mut log = vec![0; LOG];
            match load(program, prog_name, &mut log) {
                Ok(fd) => Ok(fd),
                Err(_) => {
                    let end = log.iter().position(|byte| *byte == 0).unwrap_or(log.len());
                    let kept = &log[end.saturating_sub(LOG_KEPT)..end];
                    Err(LoadError { source, log: String::from_utf8_lossy(kept).trim().to_owned() })
                }
            }
        }
    }
}

fn load(program: &[Instruction], prog_name: [u8; 16], log: &mut [u8]) -> io::Result<OwnedFd> {
    // No helper that is kept for GPL programs is called.
    const LICENSE: &CStr = c"Apache";
    // A pending signal makes the verifier give up with EAGAIN.
    let mut tries = 5;
    loop {
        let mut attr = Attr::zeroed();
        attr.load = Load {
            prog_type: TYPE_CGROUP_DEVICE,
            insn_cnt: program.len() as u32,
            insns: program.as_ptr() as u64,
            license: LICENSE.as_ptr() as u64,
            log_level: u32::from(!log.is_empty()),
            log_size: log.len() as u32,
            // The kernel wants no address where there is no room.
            log_buf: if log.is_empty() { 0 } else { log.as_mut_ptr() as u64 },
            kern_version: 0,
            prog_flags: 0,
            prog_name,
            prog_ifindex: 0,
            expected_attach_type: ATTACH_CGROUP_DEVICE,
        };
        // SAFETY: `insns` is `insn_cnt` instructions, `license` a NUL-terminated string, `log_buf` `log_size` bytes that
        // we may write; all live for the call, which copies what it keeps.
        match unsafe { bpf(PROG_LOAD, &mut attr) } {
            // SAFETY: the call gave us a new descriptor that nobody else owns.
            Ok(fd) => return Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
            Err(error) if error.raw_os_error() == Some(libc::EAGAIN) && tries > 1 => tries -= 1,
            Err(error) => return Err(error),
        }
    }
}

/// Attaches a device program to a cgroup v2 directory, beside those of others (`BPF_F_ALLOW_MULTI`): all of them
/// must allow an access, also those of the groups above.
///
/// With `replace`, that program goes in the same step (Linux 5.6); ENOENT when it is not attached there any more.
pub fn attach_device_program(
    cgroup: BorrowedFd<'_>,
    program: BorrowedFd<'_>,
    replace: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    let mut attr = Attr::zeroed();
    attr.attach = Attach {
        target_fd: cgroup.as_raw_fd() as u32,
        attach_bpf_fd: program.as_raw_fd() as u32,
        attach_type: ATTACH_CGROUP_DEVICE,
        attach_flags: F_ALLOW_MULTI | if replace.is_some() { F_REPLACE } else { 0 },
        replace_bpf_fd: replace.map_or(0, |fd| fd.as_raw_fd() as u32),
    };
    // SAFETY: BPF_PROG_ATTACH uses no addresses; the descriptors are borrowed for the call.
    unsafe { bpf(PROG_ATTACH, &mut attr) }.map(drop)
}

/// Takes a device program off a cgroup v2 directory.
pub fn detach_device_program(cgroup: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let mut attr = Attr::zeroed();
    attr.attach = Attach {
        target_fd: cgroup.as_raw_fd() as u32,
        attach_bpf_fd: program.as_raw_fd() as u32,
        attach_type: ATTACH_CGROUP_DEVICE,
        attach_flags: 0,
        replace_bpf_fd: 0,
    };
    // SAFETY: BPF_PROG_DETACH uses no addresses; the descriptors are borrowed for the call.
    unsafe { bpf(PROG_DETACH, &mut attr) }.map(drop)
}

/// The ids of the device programs that are attached to this very directory, in their order. Needs CAP_NET_ADMIN.
pub fn attached_device_programs(cgroup: BorrowedFd<'_>) -> io::Result<Vec<u32>> {
    let mut ids = [0u32; MAX_ATTACHED];
    let mut attr = Attr::zeroed();
    attr.query = Query {
        target_fd: cgroup.as_raw_fd() as u32,
        attach_type: ATTACH_CGROUP_DEVICE,
        query_flags: 0,
        attach_flags: 0,
        prog_ids: ids.as_mut_ptr() as u64,
        prog_cnt: MAX_ATTACHED as u32,
        reserved: 0,
    };
    // SAFETY: `prog_ids` is room for `prog_cnt` ids and lives for the call.
    unsafe { bpf(PROG_QUERY, &mut attr) }?;
    // SAFETY: every byte of the union was initialised, and every pattern of bits is a valid `Query`.
    let count = unsafe { attr.query.prog_cnt } as usize;
    Ok(ids[..count.min(MAX_ATTACHED)].to_vec())
}

/// Opens a program by its id. Needs CAP_SYS_ADMIN. ENOENT when it is gone.
pub fn program_by_id(id: u32) -> io::Result<OwnedFd> {
    let mut attr = Attr::zeroed();
    attr.prog_id = id;
    // SAFETY: BPF_PROG_GET_FD_BY_ID uses no addresses.
    let fd = unsafe { bpf(PROG_GET_FD_BY_ID, &mut attr) }?;
    // SAFETY: the call gave us a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The name that a program was loaded with.
pub fn program_name(program: BorrowedFd<'_>) -> io::Result<Vec<u8>> {
    /// `struct bpf_prog_info` up to and with its name, which is 16 bytes at 64.
    const LENGTH: usize = 80;
    let mut info = [0u64; LENGTH / 8];
    let mut attr = Attr::zeroed();
    attr.info =
        Info { bpf_fd: program.as_raw_fd() as u32, info_len: LENGTH as u32, info: info.as_mut_ptr() as u64 };
    // SAFETY: `info` is `info_len` bytes that we may write. The kernel also reads it, for places and lengths of further
    // buffers: all are zero, which is none.
    unsafe { bpf(OBJ_GET_INFO_BY_FD, &mut attr) }?;
    let name = info[8..].iter().flat_map(|word| word.to_ne_bytes());
    Ok(name.take_while(|byte| *byte != 0).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXIT: Instruction = Instruction::new(0x95, 0, 0, 0, 0);

    #[test]
    fn structs_have_the_sizes_of_the_kernels() {
        assert_eq!(std::mem::size_of::<Instruction>(), 8);
        assert_eq!(std::mem::size_of::<Load>(), 72);
        assert_eq!(std::mem::size_of::<Attach>(), 20);
        assert_eq!(std::mem::size_of::<Query>(), 32);
        assert_eq!(std::mem::size_of::<Info>(), 16);
        assert_eq!(std::mem::size_of::<Attr>(), 144);
    }

    #[test]
    fn registers_come_back() {
        let one = Instruction::new(0x61, 2, 1, 4, 0);
        assert_eq!((one.destination(), one.source()), (2, 1));
    }

    #[test]
    fn programs_without_or_with_too_many_instructions_are_refused() {
        for program in [vec![], vec![EXIT; MAX_INSTRUCTIONS + 1]] {
            let error = load_device_program(&program, c"test").unwrap_err();
            assert_eq!(error.source.raw_os_error(), Some(libc::EINVAL));
        }
        assert!(load_device_program(&[EXIT], c"a_name_of_16_let").is_err());
    }

    #[test]
    fn a_bad_program_is_refused_with_the_verifiers_reason() {
        // Ends without having set the result.
        let error = load_device_program(&[EXIT], c"test").unwrap_err();
        if matches!(error.source.raw_os_error(), Some(libc::EPERM | libc::ENOSYS)) {
            eprintln!("skipped: no bpf(2) here: {}", error.source);
            return;
        }
        assert!(error.log.contains("R0"), "{error:?}");
        assert!(error.log.len() <= LOG_KEPT);
    }

    #[test]
    fn a_program_keeps_its_name() {
        let allow = Instruction::new(0xb4, 0, 0, 0, 1);
        match load_device_program(&[allow, EXIT], c"corten.test_1") {
            Ok(program) => {
                use rustix::fd::AsFd;
                assert_eq!(program_name(program.as_fd()).unwrap(), b"corten.test_1");
                assert!(rustix::io::fcntl_getfd(&program).unwrap().contains(rustix::io::FdFlags::CLOEXEC));
            }
            Err(error) => eprintln!("skipped: no bpf(2) here: {}", error.source),
        }
    }
}
