//! What a name stands for that has no registry's host, where a `registries.conf` says so: for pulls, and for finding
//! what was pulled. Without such a file Docker's defaults hold, and every name is one reference.

use crate::{ImageRecord, Images, ProgressSender, blocking};
use registry::{Auth, is_short_name};
use types::{Error, Reference, Result};

impl Images {
    /// The references that a name stands for, in the order in which they are tried. One at least.
    pub async fn resolve(&self, name: &str) -> Result<Vec<Reference>> {
        match self.0.transport.names() {
            Some(conf) if is_short_name(name) => {
                let name = name.to_owned();
                blocking(move || conf.resolve(&name)).await
            }
            _ => Reference::parse(name).map(|reference| vec![reference]),
        }
    }

    /// Pulls what a name stands for: the first of its references that can be pulled.
    pub async fn pull_named(
        &self,
        name: &str,
        auth: Option<Auth>,
        progress: Option<ProgressSender>,
    ) -> Result<ImageRecord> {
        let references = self.resolve(name).await?;
        // Who chose credentials for a short name took it for one of Docker Hub's, as the kubelet does.
        let for_hub = |auth: Auth| match &auth.server_address {
            Some(address) if !address.is_empty() => auth,
            _ => Auth { server_address: Some("docker.io".to_owned()), ..auth },
        };
        let usual = Reference::parse(name)?;
        let auth = if references.iter().any(|found| *found != usual) { auth.map(for_hub) } else { auth };
        let mut errors: Vec<Error> = Vec::new();
        for reference in &references {
            match self.pull(reference, auth.clone(), progress.clone()).await {
                Ok(record) => return Ok(record),
                Err(error) => errors.push(error),
            }
        }
        let all: Vec<String> = errors.iter().map(Error::chain).collect();
        match errors.pop() {
            Some(only) if all.len() == 1 => Err(only),
            last => {
                let kind = last.map_or(types::ErrorKind::NotFound, |last| last.kind());
                let name = types::reference::shorten(name);
                Err(Error::new(
                    kind,
                    format!("{name:?} is at none of the registries that it may be at: {}", all.join("; ")),
                ))
            }
        }
    }

    /// The name under which an image is here that `name` may stand for; `name` itself where there is none.
    pub(crate) fn known_name(&self, name: &str) -> String {
        let conf = self.0.transport.names().filter(|_| is_short_name(name));
        let references = conf.and_then(|conf| conf.resolve(name).ok()).unwrap_or_default();
        let here =
            references.iter().map(ToString::to_string).find(|full| self.0.index().find(full).is_some());
        here.unwrap_or_else(|| name.to_owned())
    }
}
