//! What a pull cannot do without, and nothing else: each layer is read, hashed, inflated by the library that
//! pulls use, hashed again, and both forms are written, one file each. On two threads.

use super::super::Error;
use content::Hasher;
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};
use types::digest::Algorithm;

/// Bytes that are read, or handed on, at once.
const PART: usize = 128 << 10;
/// Parts between the two threads of one layer.
const WAITING: usize = 16;

/// How long it takes. Several layers: each thread takes one after the other. One layer: the second thread hashes
/// and writes what the first one inflates.
pub fn cost(layers: &[PathBuf]) -> Result<Duration, Error> {
    let folder = std::env::temp_dir().join(format!("corten-bench-plain-{}", std::process::id()));
    let failed = |action, path: &Path| {
        let path = path.to_owned();
        move |source| Error::File { action, path, source }
    };
    std::fs::create_dir_all(&folder).map_err(failed("make", &folder))?;
    let begin = Instant::now();
    let outcome = match layers {
        [one] => pair(one, &folder.join("0")).map_err(failed("unpack", one)),
        many => all(many, &folder),
    };
    let time = begin.elapsed();
    std::fs::remove_dir_all(&folder).map_err(failed("remove", &folder))?;
    outcome.map(|()| time)
}

fn all(layers: &[PathBuf], folder: &Path) -> Result<(), Error> {
    let next = AtomicUsize::new(0);
    let outcome = Mutex::new(Ok(()));
    std::thread::scope(|scope| {
        let run = || {
            while let Some((at, layer)) = {
                let at = next.fetch_add(1, Ordering::Relaxed);
                layers.get(at).map(|layer| (at, layer))
            } {
                if let Err(source) = alone(layer, &folder.join(at.to_string())) {
                    let error = Error::File { action: "unpack", path: layer.clone(), source };
                    *outcome.lock().unwrap_or_else(|e| e.into_inner()) = Err(error);
                }
            }
        };
        scope.spawn(run);
        scope.spawn(run);
    });
    outcome.into_inner().unwrap_or_else(|e| e.into_inner())
}

/// A layer on one thread.
fn alone(layer: &Path, to: &Path) -> std::io::Result<()> {
    let mut inflated = open(layer, to)?;
    let (mut file, mut hash) = (File::create(to)?, Hasher::new(Algorithm::Sha256));
    let mut part = vec![0; PART];
    loop {
        let count = inflated.read(&mut part)?;
        if count == 0 {
            std::hint::black_box(hash.finish());
            return Ok(());
        }
        hash.update(&part[..count]);
        file.write_all(&part[..count])?;
    }
}

/// A layer on two threads.
fn pair(layer: &Path, to: &Path) -> std::io::Result<()> {
    let mut inflated = open(layer, to)?;
    let (send, receive) = mpsc::sync_channel::<Vec<u8>>(WAITING);
    let (give_back, empty) = mpsc::channel::<Vec<u8>>();
    std::thread::scope(|scope| {
        let writer = scope.spawn(move || {
            let (mut file, mut hash) = (File::create(to)?, Hasher::new(Algorithm::Sha256));
            for part in receive {
                hash.update(&part);
                file.write_all(&part)?;
                // The other side may have ended.
                let _ = give_back.send(part);
            }
            std::hint::black_box(hash.finish());
            Ok(())
        });
        loop {
            let mut part = empty.try_recv().unwrap_or_default();
            part.resize(PART, 0);
            let count = inflated.read(&mut part)?;
            part.truncate(count);
            if count == 0 || send.send(part).is_err() {
                break;
            }
        }
        drop(send);
        writer.join().unwrap_or_else(|_| Err(std::io::Error::other("the writing thread failed")))
    })
}

/// Hashes and writes what it reads.
struct Compressed {
    from: File,
    copy: File,
    hash: Hasher,
}

impl Read for Compressed {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.from.read(buffer)?;
        self.hash.update(&buffer[..count]);
        self.copy.write_all(&buffer[..count])?;
        Ok(count)
    }
}

fn open(layer: &Path, to: &Path) -> std::io::Result<Box<dyn Read>> {
    let mut magic = [0; 4];
    File::open(layer)?.read_exact(&mut magic)?;
    let (from, copy) = (File::open(layer)?, File::create(to.with_extension("blob"))?);
    let reader = Compressed { from, copy, hash: Hasher::new(Algorithm::Sha256) };
    layers::decoder(reader, layers::detect(&magic)).map_err(std::io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_layer_and_several_leave_nothing_behind() {
        let dir = tempfile::tempdir().expect("temp dir");
        let layer = dir.path().join("layer");
        std::fs::write(&layer, vec![7; 300_000]).expect("write");
        assert!(cost(std::slice::from_ref(&layer)).expect("one") > Duration::ZERO);
        assert!(cost(&[layer.clone(), layer]).expect("two") > Duration::ZERO);
        assert!(cost(&[dir.path().join("nothing")]).is_err());
        let left = std::env::temp_dir().join(format!("corten-bench-plain-{}", std::process::id()));
        assert!(!left.exists());
    }
}
