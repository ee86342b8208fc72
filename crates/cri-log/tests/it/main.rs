//! Writer and reader together, over real files.

mod following;
mod reading;
mod round_trip;

use corten_cri_log::read::{Options, Reader};
use std::path::Path;

/// Everything that a reader gives: the text of each stream.
pub fn read_all(directory: &Path, options: Options) -> [Vec<u8>; 2] {
    let mut reader = Reader::open(directory, Path::new("0.log"), options).expect("a log");
    let mut out = [Vec::new(), Vec::new()];
    while let Some(piece) = reader.next_piece().expect("a piece") {
        piece.print(&mut out[piece.stream.index()], false).expect("memory");
    }
    out
}
