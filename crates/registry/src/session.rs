//! What one pull or push knows of the hosts of one repository: which they are, in which order, which of them
//! failed, and what they accepted. It sends nothing; [`crate::exchange`] does.

use crate::auth::{Auth, Credential};
use crate::challenge::{Access, Challenge};
use crate::error::RegistryError;
use crate::hosts::{self, Endpoint};
use crate::led::Led;
use crate::registries_conf::Source;
use crate::token::Granted;
use crate::transport::{Client, Transport};
use crate::url::Url;
use http::HeaderValue;
use std::collections::{BTreeSet, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Instant;
use types::{Digest, ErrorKind, Reference};

/// The most hosts whose errors are shown.
const SHOWN_MAX: usize = 5;

/// What one pull uses to talk to the hosts of one repository.
pub struct Session {
    pub(crate) transport: Arc<Transport>,
    pub(crate) hosts: Vec<Host>,
    /// As references write it.
    registry: String,
    pub(crate) credential: Option<Credential>,
    pub(crate) secrets: Vec<String>,
    pub(crate) access: Access,
    /// Repositories that blobs are mounted from.
    pub(crate) sources: Mutex<BTreeSet<String>>,
}

pub(crate) struct Host {
    pub(crate) endpoint: Endpoint,
    /// The registry that this host stands for, as references write it.
    pub(crate) registry: String,
    /// The repository's path there.
    pub(crate) repository: String,
    /// Whether the session's credentials are for it.
    pub(crate) trusted: bool,
    client: Result<Client, String>,
    /// For where a redirect or a challenge leads: the same trust, without the client's certificate.
    elsewhere: Result<Client, String>,
    /// The same for this machine, whose certificates are by default not checked.
    nearby: Result<Client, String>,
    pub(crate) state: Mutex<HostState>,
    /// Held while a challenge is answered, so that many requests ask for one token.
    pub(crate) asking: tokio::sync::Mutex<()>,
}

#[derive(Default)]
pub(crate) struct HostState {
    /// What the registry was last given.
    pub(crate) authorization: Option<HeaderValue>,
    /// When that is to be renewed, and by which challenge.
    renewal: Option<(Instant, Challenge)>,
    /// Whether TLS is spoken, once that is known of a host that may speak either.
    pub(crate) https: Option<bool>,
    /// Not asked again in this pull.
    pub(crate) condemned: bool,
    /// Blobs that it gave with the wrong content.
    pub(crate) lied_about: HashSet<Digest>,
}

impl HostState {
    /// Keeps the answer to a challenge.
    pub(crate) fn accept(&mut self, granted: Granted, asked: Challenge) {
        self.authorization = Some(granted.value);
        self.renewal = granted.renew.map(|after| (Instant::now() + after, asked));
    }

    /// The challenge to answer again, where the time for that has come.
    pub(crate) fn running_out(&self) -> Option<Challenge> {
        self.renewal.as_ref().filter(|(at, _)| *at <= Instant::now()).map(|(_, asked)| asked.clone())
    }

    /// Drops what does not hold any more.
    pub(crate) fn forget(&mut self) {
        (self.authorization, self.renewal) = (None, None);
    }
}

impl Host {
    fn new(transport: &Transport, endpoint: Endpoint, source: &Source, trusted: bool) -> Host {
        let client = transport.client(&endpoint.tls, endpoint.dial_timeout, Led::No);
        let here = hosts::is_loopback(endpoint.authority.host());
        let led = if here { Led::FromHere } else { Led::FromAfar };
        let mut tls = endpoint.tls.clone();
        tls.client = Vec::new();
        let nearby = transport.client(&tls, None, led);
        tls.skip_verify &= !endpoint.skip_implied;
        let elsewhere = transport.client(&tls, None, led);
        Host {
            trusted: trusted && endpoint.origin,
            endpoint,
            registry: source.host.clone(),
            repository: source.repository.clone(),
            client,
            elsewhere,
            nearby,
            state: Mutex::default(),
            asking: tokio::sync::Mutex::default(),
        }
    }

    /// Whether TLS is spoken to it, as far as is known.
    pub(crate) fn https(&self) -> bool {
        let known = self.state.lock().unwrap_or_else(|e| e.into_inner()).https;
        known.unwrap_or(self.endpoint.scheme.https())
    }

    /// Whether a URL is of this host: its credentials and headers may go there.
    pub(crate) fn is_own(&self, url: &Url) -> bool {
        url.same_origin(self.https(), &self.endpoint.authority)
    }

    /// The connections for a URL: the host's own, or a place that it names.
    pub(crate) fn client_for(&self, url: &Url, own: bool) -> &Result<Client, String> {
        match own {
            true => &self.client,
            false if hosts::is_loopback(url.authority.host()) => &self.nearby,
            false => &self.elsewhere,
        }
    }
}

impl Session {
    /// Reads the configuration for the reference's registry. Blocks.
    pub fn open(
        transport: Arc<Transport>,
        config_path: Option<PathBuf>,
        reference: &Reference,
        auth: Option<&Auth>,
    ) -> types::Result<Session> {
        let sources = match &transport.registries_conf {
            Some(conf) => conf.pull_sources(reference)?,
            None => vec![Source::of(reference)],
        };
        Session::at(transport, config_path, reference, auth, sources, Access::Pull)
    }

    /// The same for pushing, and for reading what was pushed: only hosts that may be pushed to. Blocks.
    pub fn open_push(
        transport: Arc<Transport>,
        config_path: Option<PathBuf>,
        reference: &Reference,
        auth: Option<&Auth>,
    ) -> types::Result<Session> {
        let source = match &transport.registries_conf {
            Some(conf) => conf.push_source(reference)?,
            None => Source::of(reference),
        };
        let mut session = Session::at(transport, config_path, reference, auth, vec![source], Access::Push)?;
        session.hosts.retain(|host| host.endpoint.push);
        if session.hosts.is_empty() {
            let (registry, verb) = (session.registry, "push");
            return Err(RegistryError::NoHost { registry, verb }.into());
        }
        Ok(session)
    }

    fn at(
        transport: Arc<Transport>,
        config_path: Option<PathBuf>,
        reference: &Reference,
        auth: Option<&Auth>,
        sources: Vec<Source>,
        access: Access,
    ) -> types::Result<Session> {
        let mut hosts = Vec::new();
        for source in sources {
            let own = source.host == reference.host();
            let trusted = auth.is_some_and(|auth| auth.is_for(&source.host, own));
            for mut endpoint in hosts::endpoints(config_path.as_deref(), &source.host)? {
                if source.insecure && endpoint.origin {
                    endpoint.insecure();
                }
                hosts.push(Host::new(&transport, endpoint, &source, trusted));
            }
        }
        let credential = auth
            .filter(|_| hosts.iter().any(|host: &Host| host.trusted))
            .map(Auth::credential)
            .transpose()?
            .flatten();
        let secrets = credential.as_ref().map(Credential::secrets).unwrap_or_default();
        Ok(Session {
            transport,
            hosts,
            registry: reference.host().to_owned(),
            credential,
            secrets,
            access,
            sources: Mutex::default(),
        })
    }

    /// A path below the repository at a host, as `manifests/latest`.
    pub(crate) fn below(&self, at: usize, path: &str) -> String {
        format!("{}/{path}", self.hosts[at].repository)
    }

    /// As references write it, for messages.
    pub fn name(&self) -> String {
        self.registry.clone()
    }

    pub(crate) fn state(&self, at: usize) -> std::sync::MutexGuard<'_, HostState> {
        self.hosts[at].state.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Tries the hosts in order until one succeeds.
    pub(crate) async fn each<T, F: Future<Output = Result<T, RegistryError>>>(
        &self,
        verb: &'static str,
        able: impl Fn(&Endpoint) -> bool,
        attempt: impl Fn(usize) -> F,
    ) -> Result<T, RegistryError> {
        let mut errors: Vec<RegistryError> = Vec::new();
        let able: Vec<usize> = (0..self.hosts.len()).filter(|i| able(&self.hosts[*i].endpoint)).collect();
        for (nth, at) in able.iter().copied().enumerate() {
            let last = nth + 1 == able.len();
            // The last one is asked even when it failed before, so that there is always an answer.
            if self.state(at).condemned && !(last && errors.is_empty()) {
                continue;
            }
            match attempt(at).await {
                Ok(value) => return Ok(value),
                Err(error) => {
                    if error.condemns_host() {
                        self.state(at).condemned = true;
                    }
                    if !last {
                        tracing::info!(host = %self.hosts[at].endpoint.authority, error = %types::error::chain(&error), "host failed; trying the next");
                    }
                    errors.push(error);
                }
            }
        }
        let registry = self.registry.clone();
        match errors.len() {
            0 => Err(RegistryError::NoHost { registry, verb }),
            1 => Err(errors.remove(0)),
            count => {
                // The last is the registry itself: what it says counts.
                let kind = errors.last().map_or(ErrorKind::Unavailable, RegistryError::kind);
                let mut all: Vec<String> = errors.iter().map(|e| types::error::chain(e)).collect();
                // A message goes into headers of gRPC, which have a limit; first and last hosts tell most.
                if count > SHOWN_MAX {
                    all.splice(SHOWN_MAX - 1..count - 1, ["…".to_owned()]);
                }
                Err(RegistryError::AllFailed { registry, count, kind, all: all.join("; ") })
            }
        }
    }
}
