//! What a started registry asks of its clients, and the configuration file that says so.

use crate::{Result, Tried};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// The user that a registry with `basic_auth` knows.
pub const USER: &str = "tester";
/// That user's password.
pub const PASSWORD: &str = "only-for-tests";
/// bcrypt of [`PASSWORD`], the only scheme that docker-registry takes.
const HTPASSWD: &str = "tester:$2b$04$QfxdSE39gDNZP.NBWJUjRuql4CliO9zPGbo7yTAxgxfqcrSJ5kiQ6\n";

/// What a registry asks of its clients.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Asks for [`USER`] and [`PASSWORD`].
    pub basic_auth: bool,
    /// Serves HTTPS with this certificate chain and key, both PEM files.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// Serves what lies in this folder, and keeps it; without it an empty one of its own.
    pub storage: Option<PathBuf>,
}

/// Writes docker-registry's configuration and returns its path.
///
/// `mark` comes back as a header of every answer, so that a starting test can tell its registry from
/// another that took the port first. There is no blob cache: a second process fills the same storage.
pub(super) fn write_config(
    dir: &Path,
    name: &str,
    address: SocketAddr,
    mark: &str,
    options: &Options,
) -> Result<PathBuf> {
    let storage = options.storage.clone().unwrap_or_else(|| dir.join("storage"));
    let mut text = format!(
        "version: 0.1\n\
         log: {{level: warn, accesslog: {{disabled: true}}}}\n\
         storage:\n  filesystem: {{rootdirectory: {storage}}}\n  delete: {{enabled: true}}\n\
         http:\n  addr: {address}\n  secret: only-for-tests\n  headers: {{X-Test-Registry: [{mark}]}}\n",
        storage = quoted(&storage),
    );
    if let Some((chain, key)) = &options.tls {
        text.push_str(&format!("  tls: {{certificate: {}, key: {}}}\n", quoted(chain), quoted(key)));
    }
    if options.basic_auth {
        let users = dir.join("htpasswd");
        std::fs::write(&users, HTPASSWD).tried(format_args!("write {}", users.display()))?;
        text.push_str(&format!("auth:\n  htpasswd: {{realm: test, path: {}}}\n", quoted(&users)));
    }
    let path = dir.join(name);
    std::fs::write(&path, text).tried(format_args!("write {}", path.display()))?;
    Ok(path)
}

/// A YAML double-quoted scalar; paths of tests hold no control characters.
fn quoted(path: &Path) -> String {
    format!("{:?}", path.display().to_string())
}
