//! nftables tables of our own network namespace, where the `nft` program is installed.

use crate::{Problem, Result};
use std::process::Command;

/// One `table family name` line each; none where there is no `nft`.
pub fn nft() -> Result<Option<Vec<String>>> {
    let output = match Command::new("nft").args(["list", "tables"]).output() {
        Ok(output) => output,
        Err(said) if said.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(said) => return Err(Problem::new("cannot run nft", said)),
    };
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(Problem::new("cannot list the nftables tables", said.trim()));
    }
    Ok(Some(String::from_utf8_lossy(&output.stdout).lines().map(|line| line.trim().to_owned()).collect()))
}
