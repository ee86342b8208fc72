//! The second container: adds a line to a file of the shared folder each second, and prints it.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

/// The file starts anew at this size.
const LIMIT: u64 = 64 * 1024;

/// Counts until the process ends.
pub fn tick(dir: &Path) -> Result<(), String> {
    let path = dir.join("ticks.txt");
    for number in 1_u64.. {
        add(&path, number).map_err(|said| format!("cannot write {}: {said}", path.display()))?;
        println!("tick {number}");
        std::thread::sleep(Duration::from_secs(1));
    }
    Ok(())
}

fn add(path: &Path, number: u64) -> std::io::Result<()> {
    let mut file = OpenOptions::new().create(true).append(true).open(path)?;
    if file.metadata()?.len() > LIMIT {
        file.set_len(0)?;
    }
    writeln!(file, "tick {number}")
}
