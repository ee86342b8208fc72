//! Following a log while it is written and rotated.

use super::{Piece, Reader, open_read};
use crate::error::Error;
use std::ops::ControlFlow;
use std::os::unix::fs::MetadataExt;
use std::thread::sleep;
use std::time::Duration;

/// How long a reader waits before it looks again. Polling works on every file system and costs a `stat`.
const PAUSE: Duration = Duration::from_millis(100);

impl Reader {
    /// Hands every piece to `each`, and waits for more until `each` breaks off, the limit is reached, or
    /// `running` says that nothing more will be written; then what is left is handed out, too.
    ///
    /// A rotated file is read to its end before the next one is begun. The new file is there only once its
    /// writer has let go of the old one ([`crate::Writer::reopen`]), so nothing is lost between the two, unless
    /// the log is rotated twice within a pause.
    pub fn follow(
        &mut self,
        mut running: impl FnMut() -> bool,
        mut each: impl FnMut(Piece<'_>) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        loop {
            let last = !running();
            // Looked up before the old file is drained: what was written to it before the new one came is read.
            let next = self.successor()?;
            while let Some(piece) = self.next_piece()? {
                if each(piece).is_break() {
                    return Ok(());
                }
            }
            if self.is_done() {
                return Ok(());
            }
            match next {
                Some(file) => {
                    self.file = file;
                    self.window.restart();
                    self.start = [0, 0];
                }
                None if last => return Ok(()),
                None => sleep(PAUSE),
            }
        }
    }

    /// The file that is at the path now, where it is another one, or the same one cut short.
    fn successor(&self) -> Result<Option<std::fs::File>, Error> {
        let read = |source| Error::Read { source };
        let new = match open_read(&self.directory, &self.path) {
            Ok(file) => file,
            // Renamed away, and the next one is not there yet.
            Err(Error::Open { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let (old, now) = (self.file.metadata().map_err(read)?, new.metadata().map_err(read)?);
        let same = old.dev() == now.dev() && old.ino() == now.ino();
        let cut = now.len() < self.window.offset;
        Ok((!same || cut).then_some(new))
    }
}
