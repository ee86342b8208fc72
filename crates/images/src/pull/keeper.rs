//! Hashes a blob and writes it to the content store, beside whoever unpacks it: on a thread of its own where one can be
//! had, so that decoding, which takes longest, does nothing else.

use bytes::Bytes;
use content::{Hasher, Ingest};
use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{Builder, JoinHandle};
use types::{Digest, Error, Result};

/// Batches that wait for the thread, beside the one in its hands.
const WAITING: usize = 1;

type Batch = VecDeque<Bytes>;

/// What is known and kept of a blob so far.
pub(super) struct Keeper {
    hasher: Hasher,
    ingest: Option<Ingest>,
}

impl Keeper {
    pub(super) fn new(digest: &Digest, ingest: Option<Ingest>) -> Box<Keeper> {
        Box::new(Keeper { hasher: Hasher::new(digest.algorithm()), ingest })
    }

    fn take(&mut self, part: &[u8]) -> Result<()> {
        self.hasher.update(part);
        self.ingest.as_mut().map_or(Ok(()), |ingest| ingest.write(part))
    }

    fn run(mut self: Box<Self>, batches: &Receiver<Batch>) -> Result<Box<Keeper>> {
        for batch in batches {
            batch.iter().try_for_each(|part| self.take(part))?;
        }
        Ok(self)
    }
}

/// Where the keeper is.
pub(super) enum Keeping {
    Here(Box<Keeper>),
    Beside(SyncSender<Batch>, JoinHandle<Result<Box<Keeper>>>),
    /// It failed, and said why.
    Gone,
}

impl Keeping {
    /// Gives it a thread. Without one it goes on here.
    pub(super) fn spread(&mut self) {
        let Keeping::Here(_) = self else { return };
        // What waits for its keeper ends without it: a thread that cannot be started costs nothing but time.
        let (give, take) = sync_channel::<Box<Keeper>>(1);
        let (send, batches) = sync_channel(WAITING);
        let work = move || match take.recv() {
            Ok(keeper) => keeper.run(&batches),
            Err(_) => Err(Error::internal("a layer's keeper was not given its work")),
        };
        let Ok(thread) = Builder::new().name("layer-keep".to_owned()).spawn(work) else { return };
        if let Keeping::Here(keeper) = std::mem::replace(self, Keeping::Beside(send, thread)) {
            // There is room for it.
            let _ = give.send(keeper);
        }
    }

    /// Takes what came, in order.
    pub(super) fn take(&mut self, batch: &Batch) -> Result<()> {
        match self {
            Keeping::Here(keeper) => batch.iter().try_for_each(|part| keeper.take(part)),
            Keeping::Beside(send, _) => match send.send(batch.clone()) {
                Ok(()) => Ok(()),
                // It ends early only where it failed.
                Err(_) => self.end().map(drop),
            },
            Keeping::Gone => Err(gone()),
        }
    }

    /// The digest of all that was taken, and the file that it was written to.
    pub(super) fn finish(mut self) -> Result<(Digest, Option<Ingest>)> {
        let keeper = self.end()?;
        Ok((keeper.hasher.finish(), keeper.ingest))
    }

    fn end(&mut self) -> Result<Box<Keeper>> {
        match std::mem::replace(self, Keeping::Gone) {
            Keeping::Here(keeper) => Ok(keeper),
            Keeping::Beside(send, thread) => {
                drop(send);
                thread.join().unwrap_or_else(|_| Err(gone()))
            }
            Keeping::Gone => Err(gone()),
        }
    }
}

fn gone() -> Error {
    Error::internal("storing a layer failed before")
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::digest::Algorithm;

    #[test]
    fn here_and_beside_it_comes_to_the_same() {
        let dir = tempfile::tempdir().expect("temp dir");
        let content = content::Content::open(dir.path()).expect("content");
        let digest = Hasher::of(Algorithm::Sha256, b"hello world");
        for beside in [false, true] {
            let mut keeping = Keeping::Here(Keeper::new(&digest, Some(content.ingest().expect("ingest"))));
            if beside {
                keeping.spread();
                assert!(matches!(keeping, Keeping::Beside(..)));
            }
            keeping.take(&[Bytes::from_static(b"hel"), Bytes::from_static(b"lo")].into()).expect("first");
            keeping.take(&[Bytes::from_static(b" world")].into()).expect("second");
            let (found, ingest) = keeping.finish().expect("whole");
            assert_eq!(found, digest);
            content.commit(ingest.expect("kept"), &digest).expect("commit");
            assert_eq!(content.read(&digest, 20).expect("read").as_deref(), Some(&b"hello world"[..]));
        }
    }

    #[test]
    fn what_the_disk_refuses_is_said_once_and_ends_it() {
        // Nothing can be written to it (full(4)).
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").expect("full");
        let digest = Hasher::of(Algorithm::Sha256, b"");
        let mut keeping = Keeping::Here(Keeper::new(&digest, Some(Ingest::over(full))));
        keeping.spread();
        let batch: Batch = [Bytes::from_static(b"hello")].into();
        let error = (0..100).find_map(|_| keeping.take(&batch).err()).expect("refused");
        assert_eq!(error.kind(), types::ErrorKind::ResourceExhausted, "{}", error.chain());
        assert!(keeping.finish().is_err());
    }
}
