//! What can go wrong while an image is written.

use rustix::io::Errno;
use types::ErrorKind;

/// A tree did not become an image.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A system call.
    #[error("cannot {action} {path}")]
    System {
        /// What was tried.
        action: &'static str,
        /// On what, from the tree's top.
        path: String,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The format has no place for it.
    #[error("{path} cannot be in an EROFS image: {what}")]
    Unsupported {
        /// From the tree's top.
        path: String,
        /// Why.
        what: String,
    },
    /// Somebody writes to the tree.
    #[error("{path} changed while its image was written")]
    Changed {
        /// From the tree's top.
        path: String,
    },
}

/// With [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub(crate) fn system(action: &'static str, path: &[u8], source: Errno) -> Self {
        Self::System { action, path: show(path), source: source.into() }
    }

    pub(crate) fn unsupported(path: &[u8], what: impl Into<String>) -> Self {
        Self::Unsupported { path: show(path), what: what.into() }
    }

    pub(crate) fn changed(path: &[u8]) -> Self {
        Self::Changed { path: show(path) }
    }
}

/// A path for people: bounded, and without what a terminal would obey.
fn show(path: &[u8]) -> String {
    const MOST: usize = 256;
    let shown = path.get(..MOST).unwrap_or(path).escape_ascii();
    format!("/{shown}{}", if path.len() > MOST { "…" } else { "" })
}

impl From<Error> for types::Error {
    fn from(error: Error) -> Self {
        let kind = match &error {
            Error::System { source, .. } => match Errno::from_io_error(source) {
                Some(Errno::NOSPC | Errno::DQUOT | Errno::MFILE | Errno::NFILE) => {
                    ErrorKind::ResourceExhausted
                }
                _ => ErrorKind::Internal,
            },
            Error::Unsupported { .. } => ErrorKind::InvalidArgument,
            Error::Changed { .. } => ErrorKind::Internal,
        };
        types::Error::with_source(kind, "cannot write the layer's image", error)
    }
}
