//! Pod and container life cycles.

pub mod api;
