//! A program that makes the system calls of a list and writes down what they returned.
//!
//! Busybox cannot make any call with any arguments; this can, through each of the three entries of x86-64.
//! It is an ELF file of a few hundred bytes that is written here, so that it needs neither a compiler nor
//! libraries in the container.

/// Where the file is mapped; below 4 GiB, so that calls of 32 bits can name its memory.
const BASE: u64 = 0x40_0000;
/// ELF header and one program header.
const HEAD: u64 = 64 + 56;
/// Bit of calls of the x32 architecture (`__X32_SYSCALL_BIT`, asm/unistd.h).
pub const X32: u64 = 0x4000_0000;

/// The calls, in their order.
#[derive(Debug, Clone, Default)]
pub struct Probe {
    code: Vec<u8>,
    results: usize,
    data: Vec<u8>,
}

/// An argument of a call.
#[derive(Debug, Clone)]
pub enum Argument {
    /// A number.
    Value(u64),
    /// The address of these bytes, which stay writable.
    Bytes(Vec<u8>),
    /// What the call with this index, counted from 0, returned.
    Result(usize),
}

impl From<u64> for Argument {
    fn from(value: u64) -> Self {
        Self::Value(value)
    }
}

impl From<&str> for Argument {
    /// A text with the zero byte that ends it.
    fn from(text: &str) -> Self {
        Self::Bytes([text.as_bytes(), &[0]].concat())
    }
}

/// Results are here.
const RESULTS: u64 = BASE + 0x1_0000;
/// Bytes of arguments are here.
const DATA: u64 = BASE + 0x1_1000;
const END: u64 = BASE + 0x2_0000;

impl Probe {
    /// No calls yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A call by the `syscall` instruction; with [`X32`] in the number one of the x32 architecture.
    #[must_use]
    pub fn call(mut self, number: u64, arguments: &[Argument]) -> Self {
        // rdi, rsi, rdx, r10, r8, r9
        const MOVES: [[u8; 2]; 6] =
            [[0x48, 0xbf], [0x48, 0xbe], [0x48, 0xba], [0x49, 0xba], [0x49, 0xb8], [0x49, 0xb9]];
        const LOADS: [[u8; 4]; 6] = [
            [0x48, 0x8b, 0x3c, 0x25],
            [0x48, 0x8b, 0x34, 0x25],
            [0x48, 0x8b, 0x14, 0x25],
            [0x4c, 0x8b, 0x14, 0x25],
            [0x4c, 0x8b, 0x04, 0x25],
            [0x4c, 0x8b, 0x0c, 0x25],
        ];
        for (index, (mov, load)) in MOVES.iter().zip(LOADS).enumerate() {
            match arguments.get(index) {
                Some(Argument::Result(of)) => {
                    self.code.extend(load);
                    self.code.extend(((RESULTS + 8 * *of as u64) as u32).to_le_bytes());
                }
                other => {
                    let value = other.map_or(0, |argument| self.place(argument));
                    self.code.extend(mov);
                    self.code.extend(value.to_le_bytes());
                }
            }
        }
        self.code.extend([0x48, 0xb8]); // mov rax, number
        self.code.extend(number.to_le_bytes());
        self.code.extend([0x0f, 0x05]); // syscall
        self.store()
    }

    /// A call of x86 (i386) by `int 0x80`, with the numbers of that architecture.
    #[must_use]
    pub fn call_32(mut self, number: u32, arguments: &[Argument]) -> Self {
        // ebx, ecx, edx, esi, edi
        for (index, opcode) in [0xbb, 0xb9, 0xba, 0xbe, 0xbf].into_iter().enumerate() {
            let value = arguments.get(index).map_or(0, |argument| self.place(argument));
            self.code.push(opcode);
            self.code.extend((value as u32).to_le_bytes());
        }
        self.code.push(0xb8); // mov eax, number
        self.code.extend(number.to_le_bytes());
        self.code.extend([0xcd, 0x80]); // int 0x80
        self.code.extend([0x48, 0x98]); // cdqe: the result has 32 bits
        self.store()
    }

    /// Stores rax where the next result is.
    fn store(mut self) -> Self {
        self.code.extend([0x48, 0x89, 0x04, 0x25]); // mov [address], rax
        self.code.extend(((RESULTS + 8 * self.results as u64) as u32).to_le_bytes());
        self.results += 1;
        self
    }

    fn place(&mut self, argument: &Argument) -> u64 {
        match argument {
            Argument::Value(value) => *value,
            Argument::Bytes(bytes) => {
                let address = DATA + self.data.len() as u64;
                self.data.extend(bytes);
                self.data.resize(self.data.len().next_multiple_of(16), 0);
                address
            }
            Argument::Result(_) => panic!("a result is no argument of this call"),
        }
    }

    /// The program: makes the calls, writes all results to standard output and ends with 0.
    ///
    /// # Panics
    /// When there are too many calls.
    #[must_use]
    pub fn program(mut self) -> Vec<u8> {
        let calls = self.results;
        self = self.call(1, &[1.into(), RESULTS.into(), (8 * calls as u64).into()]).call(231, &[0.into()]);
        let mut file = vec![0; HEAD as usize];
        file.extend(&self.code);
        assert!(file.len() < 0x1_0000 && self.data.len() < 0xf000 && calls < 500, "too many calls");
        file.resize((DATA - BASE) as usize, 0);
        file.extend(&self.data);
        let size = file.len() as u64;
        let mut head = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        head.extend([2, 0, 62, 0, 1, 0, 0, 0]); // executable, x86-64, version 1
        head.extend((BASE + HEAD).to_le_bytes());
        head.extend(64_u64.to_le_bytes()); // program headers
        head.extend(0_u64.to_le_bytes()); // no sections
        head.extend([0, 0, 0, 0, 64, 0, 56, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
        head.extend([1, 0, 0, 0, 7, 0, 0, 0]); // PT_LOAD, rwx
        for value in [0, BASE, BASE, size, END - BASE, 0x1000] {
            head.extend(value.to_le_bytes());
        }
        file[..head.len()].copy_from_slice(&head);
        file
    }

    /// The results in what the program wrote: values, or negative error numbers.
    #[must_use]
    pub fn results(bytes: &[u8]) -> Vec<i64> {
        bytes
            .chunks_exact(8)
            .map(|eight| i64::from_le_bytes(eight.try_into().expect("eight bytes")))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_tells_what_its_calls_returned() {
        if !cfg!(target_arch = "x86_64") {
            eprintln!("skipped: this machine has no x86-64");
            return;
        }
        let program = Probe::new()
            .call(39, &[])
            .call(2, &["/none".into(), 0.into()])
            .call(2, &["/dev/null".into(), 0.into()])
            .call(3, &[Argument::Result(2)])
            .program();
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("probe");
        std::fs::write(&path, program).expect("written");
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("mode");
        let output = std::process::Command::new(&path).output().expect("started");
        let results = Probe::results(&output.stdout);
        assert_eq!((output.status.code(), results.len()), (Some(0), 4));
        assert!(results[0] > 0 && results[1] == -2 && results[2] >= 3 && results[3] == 0, "{results:?}");
    }
}
