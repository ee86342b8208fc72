//! System call numbers by name. The numbers are data in `tables/`; nothing here asks the kernel.

use std::collections::HashMap;
use std::sync::OnceLock;

/// A way of calling the kernel that has numbers of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Abi {
    /// 64-bit x86.
    X86_64,
    /// x86-64 with 32-bit pointers; its numbers have bit 30 set.
    X32,
    /// 32-bit x86.
    I386,
    /// 64-bit Arm.
    Arm64,
    /// 32-bit Arm.
    Arm,
}

/// Bit 30, which marks x32 (`__X32_SYSCALL_BIT`).
pub const X32_BIT: u32 = 0x4000_0000;

impl Abi {
    const COUNT: usize = 5;

    /// `AUDIT_ARCH_*` (linux/audit.h), which is what a filter sees. x32 and x86-64 share one.
    pub fn audit(self) -> u32 {
        match self {
            Abi::X86_64 | Abi::X32 => 0xc000_003e,
            Abi::I386 => 0x4000_0003,
            Abi::Arm64 => 0xc000_00b7,
            Abi::Arm => 0x4000_0028,
        }
    }

    /// The number of a system call as a filter sees it; `None` where this ABI has none of that name.
    pub fn number(self, name: &str) -> Option<u32> {
        let number = *self.table().get(name)?;
        Some(if self == Abi::X32 { number | X32_BIT } else { number })
    }

    /// The first number that new system calls never get: x32 has calls of its own from 512 on
    /// (syscall_64.tbl), Arm private ones from 0x0f0000 on.
    pub(crate) fn end_of_common(self) -> u32 {
        match self {
            Abi::X86_64 => 512,
            Abi::X32 => X32_BIT | 512,
            Abi::Arm => 0x000f_0000,
            Abi::I386 | Abi::Arm64 => X32_BIT,
        }
    }

    fn table(self) -> &'static HashMap<&'static str, u32> {
        static TABLES: [OnceLock<HashMap<&'static str, u32>>; Abi::COUNT] =
            [const { OnceLock::new() }; Abi::COUNT];
        let (slot, text) = match self {
            Abi::X86_64 => (0, include_str!("../tables/x86_64.txt")),
            Abi::X32 => (1, include_str!("../tables/x32.txt")),
            Abi::I386 => (2, include_str!("../tables/i386.txt")),
            Abi::Arm64 => (3, include_str!("../tables/arm64.txt")),
            Abi::Arm => (4, include_str!("../tables/arm.txt")),
        };
        TABLES[slot].get_or_init(|| parse(text))
    }
}

fn parse(text: &'static str) -> HashMap<&'static str, u32> {
    let mut table = HashMap::new();
    let mut next = 0;
    for word in text.lines().filter(|line| !line.starts_with('#')).flat_map(str::split_whitespace) {
        if let Ok(number) = word.parse() {
            next = number;
            continue;
        }
        table.extend(word.split('/').map(|name| (name, next)));
        next += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn well_known_numbers_are_right() {
        for (abi, name, number) in [
            (Abi::X86_64, "read", 0),
            (Abi::X86_64, "clone3", 435),
            (Abi::X86_64, "file_setattr", 469),
            (Abi::X86_64, "uretprobe", 335),
            (Abi::X32, "read", X32_BIT),
            (Abi::X32, "rt_sigaction", X32_BIT | 512),
            (Abi::I386, "socketcall", 102),
            (Abi::I386, "clock_gettime64", 403),
            (Abi::Arm64, "openat", 56),
            (Abi::Arm64, "io_uring_setup", 425),
            (Abi::Arm, "set_tls", 0x000f_0005),
        ] {
            assert_eq!(abi.number(name), Some(number), "{abi:?} {name}");
        }
        assert_eq!(Abi::Arm64.number("open"), None);
        assert_eq!(Abi::X86_64.number("no_such_call"), None);
    }

    #[test]
    fn this_machines_libc_agrees_where_both_know_a_number() {
        let path = "/usr/include/x86_64-linux-gnu/asm/unistd_64.h";
        let Ok(text) = std::fs::read_to_string(path) else {
            eprintln!("skipped: {path} is not there");
            return;
        };
        let mut seen = 0;
        for line in text.lines() {
            let Some((name, number)) =
                line.strip_prefix("#define __NR_").and_then(|rest| rest.split_once(' '))
            else {
                continue;
            };
            let Ok(number) = number.parse::<u32>() else { continue };
            if let Some(ours) = Abi::X86_64.number(name) {
                assert_eq!(ours, number, "{name}");
                seen += 1;
            }
        }
        assert!(seen > 300);
    }
}
