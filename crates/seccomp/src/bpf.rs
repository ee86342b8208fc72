//! Classic BPF instructions, as far as seccomp filters need them (linux/filter.h, seccomp(2)).

/// One instruction: `struct sock_filter`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Instruction {
    pub code: u16,
    /// Instructions skipped when the test is true.
    pub yes: u8,
    /// Instructions skipped when the test is false.
    pub no: u8,
    pub value: u32,
}

/// Longest program that the kernel takes (`BPF_MAXINSNS`).
pub(crate) const LONGEST: usize = 4096;

/// BPF_LD | BPF_W | BPF_ABS: load a word of `struct seccomp_data`.
const LOAD: u16 = 0x20;
/// BPF_ALU | BPF_AND | BPF_K.
const AND: u16 = 0x54;
/// BPF_JMP | BPF_JA.
const JUMP: u16 = 0x05;
/// BPF_RET | BPF_K.
const RETURN: u16 = 0x06;

/// Tests against a constant (BPF_JMP | … | BPF_K), unsigned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Test {
    Equal = 0x15,
    Greater = 0x25,
    GreaterOrEqual = 0x35,
}

pub(crate) fn load(offset: u32) -> Instruction {
    Instruction { code: LOAD, yes: 0, no: 0, value: offset }
}

pub(crate) fn and(mask: u32) -> Instruction {
    Instruction { code: AND, yes: 0, no: 0, value: mask }
}

pub(crate) fn jump(distance: u32) -> Instruction {
    Instruction { code: JUMP, yes: 0, no: 0, value: distance }
}

pub(crate) fn ret(value: u32) -> Instruction {
    Instruction { code: RETURN, yes: 0, no: 0, value }
}

pub(crate) fn test(test: Test, value: u32, yes: u8, no: u8) -> Instruction {
    Instruction { code: test as u16, yes, no, value }
}

/// The bytes that the kernel reads, in this machine's order.
pub(crate) fn bytes(program: &[Instruction]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(program.len() * 8);
    for i in program {
        bytes.extend_from_slice(&i.code.to_ne_bytes());
        bytes.extend_from_slice(&[i.yes, i.no]);
        bytes.extend_from_slice(&i.value.to_ne_bytes());
    }
    bytes
}
