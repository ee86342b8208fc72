//! Our daemon in a root of its own.

use super::{Daemon, said, wait_for};
use std::path::Path;
use test_support::{Supervised, TempRoot};

/// Starts it and waits until it serves. Images are kept in `data`.
pub fn start(program: &Path, root: &TempRoot, data: &Path, conf_dir: &Path) -> Result<Daemon, String> {
    let socket = root.state().join("corten.sock");
    let config = root.config().join("bench.toml");
    let text = format!(
        "root = {data:?}\nstate = {:?}\n\n[grpc]\naddress = {socket:?}\n\n\
         [network]\nconf_dir = {conf_dir:?}\nbuiltin_plugins = true\n",
        root.state(),
    );
    std::fs::write(&config, text).map_err(|why| format!("cannot write {}: {why}", config.display()))?;
    let log = root.path().join("corten.log");
    let arguments = ["daemon".as_ref(), "--config".as_ref(), config.as_os_str()];
    let process = Supervised::start(program, &arguments, &log).map_err(said)?;
    wait_for(&socket, &log)?;
    Ok(Daemon { socket, log, _process: process })
}
