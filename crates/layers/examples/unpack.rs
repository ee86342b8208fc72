//! Unpacks one layer file into a new directory and says how long it took: `unpack FILE DIRECTORY`.
//!
//! For measuring by hand, also under `strace -c -f`. It never removes what it made.

extern crate corten_layers as layers;

use std::io::Read;
use std::os::fd::AsFd;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut words = std::env::args().skip(1);
    let (Some(file), Some(target)) = (words.next(), words.next()) else {
        return Err("usage: unpack FILE DIRECTORY".into());
    };
    let mut magic = [0; 4];
    std::fs::File::open(&file)?.read_exact(&mut magic)?;
    std::fs::create_dir(&target)?;
    let root = std::fs::File::open(&target)?;
    let begin = std::time::Instant::now();
    let unpacked = layers::unpack(
        std::fs::File::open(&file)?,
        layers::detect(&magic),
        root.as_fd(),
        layers::WhiteoutMode::Overlay,
        &layers::UnpackLimits::default(),
    )?;
    println!("{:.3} s, {} inodes, {} bytes", begin.elapsed().as_secs_f64(), unpacked.inodes, unpacked.bytes);
    Ok(())
}
