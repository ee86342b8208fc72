//! The programs from outside: a real daemon, a real registry, real pods. Everything is in `tests/it`.
