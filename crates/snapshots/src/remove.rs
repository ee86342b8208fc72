//! How a folder of the layout is removed, where more belongs to it than what lies in it.

use std::ffi::OsStr;
use std::os::fd::BorrowedFd;

/// Removes a directory of the layout with everything in it, whatever that is made of.
pub(crate) trait Remove: Send + Sync {
    /// `name` in `parent`. What is gone already is no error.
    fn remove(&self, parent: BorrowedFd<'_>, name: &OsStr) -> std::result::Result<(), layers::Error>;
}

impl<F> Remove for F
where
    F: Fn(BorrowedFd<'_>, &OsStr) -> std::result::Result<(), layers::Error> + Send + Sync,
{
    fn remove(&self, parent: BorrowedFd<'_>, name: &OsStr) -> std::result::Result<(), layers::Error> {
        self(parent, name)
    }
}

impl std::fmt::Debug for dyn Remove {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Remove")
    }
}
