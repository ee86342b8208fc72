//! Credentials as command line tools keep them: Docker's `config.json` and the containers project's `auth.json`
//! (containers-auth.json(5)), and the credential helpers that these name. For the commands; the daemon is given
//! its credentials with each request. Nothing is written, and no secret is shown.

mod helper;

use crate::auth::{Auth, canonical};
use crate::hosts::{read, refuse};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use types::reference::shorten;
use types::{Reference, Result};

/// The key under which Docker keeps credentials for its Hub, and asks helpers for them.
const HUB: &str = "https://index.docker.io/v1/";

/// One file of credentials.
#[derive(Clone, Default)]
pub struct CredentialsFile {
    path: PathBuf,
    /// By normalized key: a host, or a host with a path.
    auths: BTreeMap<String, Entry>,
    /// Helpers by normalized key.
    helpers: BTreeMap<String, String>,
    /// The helper for all others.
    store: Option<String>,
}

#[derive(Clone, Default, Deserialize)]
#[serde(rename_all = "lowercase", default)]
struct Entry {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
    registrytoken: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawFile {
    #[serde(default)]
    auths: Option<BTreeMap<String, Option<Entry>>>,
    #[serde(default)]
    cred_helpers: Option<BTreeMap<String, String>>,
    #[serde(default)]
    creds_store: Option<String>,
}

impl CredentialsFile {
    /// Reads a file, 1 MiB at most; `None` where there is none.
    pub fn load(path: &Path) -> Result<Option<CredentialsFile>> {
        read(path)?.map(|bytes| Self::parse(path, &bytes)).transpose()
    }

    /// Reads the content of a file. `path` serves the messages.
    pub fn parse(path: &Path, bytes: &[u8]) -> Result<CredentialsFile> {
        // Not the whole error: it may show a value.
        let wrong = |cause: serde_json::Error| {
            let why = format!(
                "line {}, column {}: it is not the JSON of a credentials file",
                cause.line(),
                cause.column()
            );
            refuse(path, &why)
        };
        let raw: RawFile = serde_json::from_slice(bytes).map_err(wrong)?;
        let entries = raw.auths.unwrap_or_default().into_iter();
        Ok(CredentialsFile {
            path: path.to_owned(),
            auths: entries.filter_map(|(key, entry)| Some((normalized(&key), entry?))).collect(),
            helpers: raw
                .cred_helpers
                .unwrap_or_default()
                .into_iter()
                .map(|(k, v)| (normalized(&k), v))
                .collect(),
            store: raw.creds_store.filter(|store| !store.is_empty()),
        })
    }

    /// Where command line tools keep such files, the most specific first: `REGISTRY_AUTH_FILE`,
    /// `DOCKER_CONFIG`, then the users' folders. `variable` gives the environment.
    pub fn places(variable: &dyn Fn(&str) -> Option<String>) -> Vec<PathBuf> {
        let folder = |name: &str| variable(name).filter(|v| v.starts_with('/')).map(PathBuf::from);
        let set = |name: &str| variable(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        if let Some(file) = set("REGISTRY_AUTH_FILE") {
            return vec![file];
        }
        let home = folder("HOME");
        let settings = folder("XDG_CONFIG_HOME").or(home.as_ref().map(|home| home.join(".config")));
        let own = [folder("XDG_RUNTIME_DIR"), settings];
        let docker = set("DOCKER_CONFIG").or(home.map(|home| home.join(".docker")));
        own.into_iter()
            .flatten()
            .map(|folder| folder.join("containers/auth.json"))
            .chain(docker.map(|folder| folder.join("config.json")))
            .collect()
    }

    /// The credentials for an image, from the first of these files that has any. A file that is not there is
    /// passed over. Blocks, and may run a helper, for `patience` at most.
    pub fn find(places: &[PathBuf], reference: &Reference, patience: Duration) -> Result<Option<Auth>> {
        for place in places {
            if let Some(file) = Self::load(place)?
                && let Some(auth) = file.auth(reference, patience)?
            {
                return Ok(Some(auth));
            }
        }
        Ok(None)
    }

    /// The credentials for an image: those of the longest key that is its repository, a folder above it or its
    /// host; a helper's before the file's own. They are marked as the host's. Blocks, and may run a helper, for
    /// `patience` at most.
    pub fn auth(&self, reference: &Reference, patience: Duration) -> Result<Option<Auth>> {
        let keys = keys(reference);
        if let Some((key, name)) = keys.iter().find_map(|key| self.helpers.get_key_value(key)) {
            // Docker asks helpers for its Hub by this URL, for others by what the file says.
            let server = if key == "docker.io" { HUB } else { key };
            return Ok(self.ask(name, server, patience)?.map(|auth| auth.of(reference.host())));
        }
        if let Some(store) = &self.store {
            let server = if reference.host() == "docker.io" { HUB } else { reference.host() };
            if let Some(auth) = self.ask(store, server, patience)? {
                return Ok(Some(auth.of(reference.host())));
            }
        }
        let entry = keys.iter().find_map(|key| self.auths.get(key));
        let some = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        let auth = entry.map(|entry| Auth {
            username: some(&entry.username),
            password: some(&entry.password),
            auth: some(&entry.auth),
            identity_token: some(&entry.identitytoken),
            registry_token: some(&entry.registrytoken),
            server_address: None,
        });
        // With a helper, Docker leaves empty entries behind.
        Ok(auth.filter(|auth| *auth != Auth::default()).map(|auth| auth.of(reference.host())))
    }

    fn ask(&self, name: &str, server: &str, patience: Duration) -> Result<Option<Auth>> {
        helper::get(name, server, patience).map_err(|error| {
            error.context(format!("{} names a credential helper that does not help", self.path.display()))
        })
    }
}

/// The keys under which credentials of an image may be, the most specific first.
fn keys(reference: &Reference) -> Vec<String> {
    let full = reference.repository();
    let mut keys = vec![full.clone()];
    let mut rest = full.as_str();
    while let Some((above, _)) = rest.rsplit_once('/') {
        keys.push(above.to_owned());
        rest = above;
    }
    keys
}

/// A key without scheme, and Docker Hub by one name. A key with a scheme is Docker's old form, of which only the
/// host counts.
fn normalized(key: &str) -> String {
    let key = match key.strip_prefix("https://").or(key.strip_prefix("http://")) {
        Some(url) => url.split('/').next().unwrap_or_default(),
        None => key.trim_end_matches('/'),
    };
    match key.split_once('/') {
        Some((host, path)) => format!("{}/{path}", canonical(host)),
        None => canonical(key).to_owned(),
    }
}

impl Auth {
    /// These credentials, for one registry.
    fn of(mut self, host: &str) -> Auth {
        self.server_address = Some(host.to_owned());
        self
    }
}

impl fmt::Debug for CredentialsFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys: Vec<String> = self.auths.keys().map(|key| shorten(key)).collect();
        f.debug_struct("CredentialsFile")
            .field("path", &self.path)
            .field("auths", &keys)
            .finish_non_exhaustive()
    }
}

/// Reads a credentials file for fuzzing, and asks it about an image. It runs no helper.
#[doc(hidden)]
pub fn fuzz_docker_config(bytes: &[u8]) -> String {
    let mut file = match CredentialsFile::parse(Path::new("/nonexistent/config.json"), bytes) {
        Ok(file) => file,
        Err(error) => return error.chain(),
    };
    (file.helpers, file.store) = (BTreeMap::new(), None);
    match Reference::parse("registry.example/a/b:1")
        .and_then(|reference| file.auth(&reference, Duration::ZERO))
    {
        Ok(Some(auth)) => format!("some, usable: {}", auth.credential().is_ok()),
        Ok(None) => "none".to_owned(),
        Err(error) => error.chain(),
    }
}

#[cfg(test)]
mod tests;
