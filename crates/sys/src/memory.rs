//! Giving memory back to the kernel.

/// Returns free heap memory to the kernel (malloc_trim(3)), so that a supervisor stays small after a burst.
pub fn trim_heap() {
    // SAFETY: malloc_trim has no preconditions; it only releases memory that the allocator holds free.
    unsafe { libc::malloc_trim(0) };
}
