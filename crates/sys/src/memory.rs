//! Keeping the heap small, and giving memory back to the kernel.

/// Returns free heap memory to the kernel (malloc_trim(3)), so that a supervisor stays small after a burst.
pub fn trim_heap() {
    // SAFETY: malloc_trim has no preconditions; it only releases memory that the allocator holds free.
    unsafe { libc::malloc_trim(0) };
}

/// Makes the allocator of this process give back what is large as soon as it is freed, and keep two arenas at most.
///
/// By itself glibc raises the size from which an allocation is a mapping of its own to up to 32 MiB once such a
/// one was freed (mallopt(3), M_MMAP_THRESHOLD), and then keeps windows of decoders and buffers in the heaps of up to
/// eight arenas per core. To be called before threads are started. Does nothing with another C library.
pub fn bound_heap() {
    #[cfg(target_env = "gnu")]
    for (option, value) in
        [(libc::M_MMAP_THRESHOLD, 128 << 10), (libc::M_TRIM_THRESHOLD, 1 << 20), (libc::M_ARENA_MAX, 2)]
    {
        // SAFETY: mallopt takes two numbers and changes how later allocations are made; one that it does not know or
        // take is refused by its result, and costs memory only.
        unsafe { libc::mallopt(option, value) };
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_is_large_and_freed_is_the_kernels_again() {
        super::bound_heap();
        let resident = || {
            let statm = std::fs::read_to_string("/proc/self/statm").expect("statm");
            statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).expect("pages") * 4096
        };
        let before = resident();
        for _ in 0..4 {
            drop(std::hint::black_box(vec![1_u8; 24 << 20]));
        }
        assert!(resident() < before + (16 << 20), "{} and {before}", resident());
    }
}
