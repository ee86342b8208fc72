//! A machine for classic BPF, with the checks of the kernel's `seccomp_check_filter` and `bpf_check_classic`.

/// What a filter sees (`struct seccomp_data`).
#[derive(Debug, Clone, Copy)]
pub struct Data {
    pub number: u32,
    pub architecture: u32,
    pub arguments: [u64; 6],
}

impl Data {
    fn word(&self, offset: u32) -> u32 {
        assert!(offset.is_multiple_of(4) && offset < 64, "load at {offset}");
        let argument = |at: u32| self.arguments[((at - 16) / 8) as usize];
        match offset {
            0 => self.number,
            4 => self.architecture,
            8 | 12 => 0,
            at if at % 8 == 0 => argument(at) as u32,
            at => (argument(at) >> 32) as u32,
        }
    }
}

/// A program, taken apart once.
pub struct Program(Vec<(u16, u8, u8, u32)>);

impl Program {
    /// From the bytes that the kernel would read.
    pub fn new(bytes: &[u8]) -> Self {
        assert!(bytes.len().is_multiple_of(8), "{} bytes are no program", bytes.len());
        let record = |r: &[u8]| {
            (u16::from_ne_bytes([r[0], r[1]]), r[2], r[3], u32::from_ne_bytes([r[4], r[5], r[6], r[7]]))
        };
        Program(bytes.chunks_exact(8).map(record).collect())
    }

    /// How many instructions it has.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// What it returns, and after how many instructions.
    pub fn run(&self, data: &Data) -> (u32, usize) {
        let (mut at, mut a, mut steps) = (0usize, 0u32, 0);
        loop {
            let (op, yes, no, k) = self.0[at];
            let branch = |truth: bool| usize::from(if truth { yes } else { no });
            at += 1;
            steps += 1;
            match op {
                0x20 => a = data.word(k),
                0x54 => a &= k,
                0x05 => at += k as usize,
                0x15 => at += branch(a == k),
                0x25 => at += branch(a > k),
                0x35 => at += branch(a >= k),
                0x45 => at += branch(a & k != 0),
                0x06 => return (k, steps),
                other => panic!("instruction {other:#x} is not used by filters"),
            }
        }
    }
}

/// Runs a program to its return value.
pub fn run(program: &[u8], data: &Data) -> u32 {
    let program = Program::new(program);
    assert!(program.len() <= 4096);
    program.run(data).0
}

/// The kernel refuses jumps out of the program and programs that can run off their end.
pub fn check(program: &[u8]) {
    let count = program.len() / 8;
    for (at, r) in program.chunks_exact(8).enumerate() {
        let op = u16::from_ne_bytes([r[0], r[1]]);
        let k = u32::from_ne_bytes([r[4], r[5], r[6], r[7]]) as usize;
        let ends = match op {
            0x05 => at + 1 + k,
            0x15 | 0x25 | 0x35 => at + 1 + usize::from(r[2].max(r[3])),
            _ => at + 1,
        };
        assert!(ends < count || op == 0x06, "instruction {at} leads out of the program");
    }
}
