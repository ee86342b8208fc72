//! Connections: hyper over TCP and rustls (ring), HTTP/1.1 and 2, kept and reused between requests and
//! pulls. Every wait has a limit. It knows nothing of registries, and sends what it is given.

use crate::error::{ANSWERING, RegistryError};
use crate::hosts::Tls;
use crate::identity::Identities;
use crate::led::Led;
use crate::proxy::Proxies;
use crate::proxy::dial::Dialer;
use crate::registries_conf::RegistriesConf;
use bytes::Bytes;
use http::header::PROXY_AUTHORIZATION;
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Incoming;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Client as HyperClient, ResponseFuture};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The limits of waiting for a registry.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// For a TCP connection to open; `dial_timeout` in hosts.toml overrides it.
    pub connect: Duration,
    /// From the request to the headers of its answer, connecting included; and for all waits together that a busy
    /// registry asks for.
    pub headers: Duration,
    /// For progress of a transfer: within that time at least 16 KiB have to come or go.
    pub idle: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(15),
            headers: Duration::from_secs(60),
            idle: Duration::from_secs(60),
        }
    }
}

/// How long the body of an error is waited for.
const WORDS_WAIT: Duration = Duration::from_secs(5);

/// Blobs that are fetched at the same time where nobody says otherwise.
const DOWNLOADS: usize = 8;

/// Clients are kept for this many different settings; more are rebuilt.
const CLIENTS_MAX: usize = 32;

/// Fewer bytes than this in the time of a limit are no progress of a transfer.
pub const PROGRESS_MIN: u64 = 16 << 10;

/// The body of a request.
pub(crate) type Outgoing = UnsyncBoxBody<Bytes, std::io::Error>;

/// A connection pool.
#[derive(Clone)]
pub(crate) struct Client {
    pool: HyperClient<HttpsConnector<Dialer>, Outgoing>,
    proxies: Arc<Proxies>,
}

impl Client {
    fn request(&self, mut request: Request<Outgoing>) -> ResponseFuture {
        if let Some(value) = self.proxies.authorization(request.uri()) {
            request.headers_mut().insert(PROXY_AUTHORIZATION, value);
        }
        self.pool.request(request)
    }
}

/// Leave to fetch a blob; given back when dropped.
#[derive(Debug)]
pub struct DownloadTurn(#[allow(dead_code)] Option<OwnedSemaphorePermit>);

/// How hosts are reached: how that is secured, how long it may take, and who says where to.
type Way = (Tls, Option<Duration>, Led);

/// All connection pools, one for each way of reaching hosts.
pub struct Transport {
    pub timeouts: Timeouts,
    clients: Mutex<Vec<(Way, Client)>>,
    roots: OnceLock<Arc<RootCertStore>>,
    downloads: Arc<Semaphore>,
    pub(crate) registries_conf: Option<Arc<RegistriesConf>>,
    /// Or why they cannot be used.
    proxies: Result<Arc<Proxies>, String>,
}

impl Transport {
    pub fn new(timeouts: Timeouts) -> Transport {
        let downloads = Arc::new(Semaphore::new(DOWNLOADS));
        Transport {
            timeouts,
            clients: Mutex::default(),
            roots: OnceLock::new(),
            downloads,
            registries_conf: None,
            proxies: Proxies::from_environment().map(Arc::new),
        }
    }

    /// At most so many blobs are fetched at the same time, by all pulls together.
    pub fn max_concurrent_downloads(mut self, most: usize) -> Transport {
        self.downloads = Arc::new(Semaphore::new(most.clamp(1, Semaphore::MAX_PERMITS)));
        self
    }

    /// Where short names are resolved, if anywhere.
    pub fn names(&self) -> Option<Arc<RegistriesConf>> {
        self.registries_conf.clone()
    }

    /// Goes through these proxies in place of the environment's.
    pub fn proxies(mut self, proxies: Proxies) -> Transport {
        self.proxies = Ok(Arc::new(proxies));
        self
    }

    /// Reads a `registries.conf` at each pull.
    pub fn registries_conf(mut self, conf: Option<Arc<RegistriesConf>>) -> Transport {
        self.registries_conf = conf;
        self
    }

    /// Waits until a blob may be fetched: the limit holds for all pulls together, first come, first served. One
    /// turn is for one blob, with all its ranges and resumes; who holds one never waits for a second.
    pub async fn download_turn(&self) -> DownloadTurn {
        // The semaphore is never closed; if it were, a limit would be missing, not a pull.
        DownloadTurn(self.downloads.clone().acquire_owned().await.ok())
    }

    /// The pool for these settings. It blocks when it reads the system's certificates for the first time.
    pub(crate) fn client(&self, tls: &Tls, dial: Option<Duration>, led: Led) -> Result<Client, String> {
        let mut clients = self.clients.lock().unwrap_or_else(|e| e.into_inner());
        let same = |(way, _): &&(Way, Client)| way.0 == *tls && (way.1, way.2) == (dial, led);
        if let Some((_, client)) = clients.iter().find(same) {
            return Ok(client.clone());
        }
        let client = self.build(tls, dial, led)?;
        if clients.len() >= CLIENTS_MAX {
            clients.remove(0);
        }
        clients.push(((tls.clone(), dial, led), client.clone()));
        Ok(client)
    }

    fn build(&self, tls: &Tls, dial: Option<Duration>, led: Led) -> Result<Client, String> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|e| e.to_string())?;
        let builder = if tls.skip_verify {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(TrustAnyone(provider.clone())))
        } else {
            builder.with_root_certificates(self.roots(&tls.ca)?)
        };
        let config = if tls.client.is_empty() {
            builder.with_no_client_auth()
        } else {
            builder.with_client_cert_resolver(Arc::new(Identities::read(&tls.client, &provider)?))
        };
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(dial.unwrap_or(self.timeouts.connect)));
        tcp.set_keepalive(Some(Duration::from_secs(30)));
        let proxies = self.proxies.clone()?;
        let to_proxy = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| e.to_string())?
            .with_root_certificates(self.roots(&[])?)
            .with_no_client_auth();
        let patience = dial.unwrap_or(self.timeouts.connect);
        let dialer = Dialer { tcp, proxies: proxies.clone(), tls: Arc::new(to_proxy), patience, led };
        let connector = hyper_rustls::HttpsConnectorBuilder::new()
            .with_tls_config(config)
            .https_or_http()
            .enable_all_versions()
            .wrap_connector(dialer);
        let pool = HyperClient::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_secs(30))
            .pool_max_idle_per_host(8)
            // What a slow disk leaves unread waits in the kernel and at the sender, not in our memory.
            // Below what the allocator maps anew each time (`sys::memory::bound_heap`): a buffer that was used
            // before costs no page faults.
            .http1_max_buf_size(120 << 10)
            .http2_initial_stream_window_size(1 << 20)
            .http2_initial_connection_window_size(4 << 20)
            .http2_max_header_list_size(64 << 10)
            .build(connector);
        Ok(Client { pool, proxies })
    }

    /// The system's certificates and these.
    fn roots(&self, extra: &[Vec<u8>]) -> Result<Arc<RootCertStore>, String> {
        let system = self.roots.get_or_init(|| {
            let loaded = rustls_native_certs::load_native_certs();
            for error in &loaded.errors {
                tracing::debug!(%error, "a certificate of the system could not be read");
            }
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(loaded.certs);
            if roots.is_empty() {
                tracing::warn!("this system has no trusted certificates; only registries with a ca in hosts.toml can be verified");
            }
            Arc::new(roots)
        });
        if extra.is_empty() {
            return Ok(system.clone());
        }
        let mut roots = RootCertStore::clone(system);
        for pem in extra {
            for certificate in certificates(pem)? {
                roots.add(certificate).map_err(|e| format!("a certificate of ca: {e}"))?;
            }
        }
        Ok(Arc::new(roots))
    }
}

pub(crate) fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match all {
        Ok(all) if !all.is_empty() => Ok(all),
        Ok(_) => Err("a certificate file holds no PEM certificate".into()),
        Err(error) => Err(format!("a certificate file is not PEM: {error}")),
    }
}

/// Sends a request and waits for the headers of its answer. For a body that takes its time, `sent` tells how
/// far it is and where it ends: as long as it moves, the limit does not run.
pub(crate) async fn send(
    client: &Client,
    timeouts: &Timeouts,
    host: &str,
    request: Request<Outgoing>,
    sent: Option<(&AtomicU64, u64)>,
) -> Result<Response<Incoming>, RegistryError> {
    let answer = client.request(request);
    tokio::pin!(answer);
    let mut before = 0;
    loop {
        match tokio::time::timeout(timeouts.headers, &mut answer).await {
            Ok(Ok(response)) => return Ok(response),
            Ok(Err(cause)) => return Err(RegistryError::Connect { host: host.to_owned(), cause }),
            Err(_) => {
                let now = sent.map_or(0, |(sent, _)| sent.load(Ordering::Relaxed));
                // Enough to count, or the end of it, after which the registry may need its time.
                let moved = now.saturating_sub(before) >= PROGRESS_MIN;
                let ended = sent.is_some_and(|(_, end)| now == end && before != end);
                if !moved && !ended {
                    let (host, after) = (host.to_owned(), timeouts.headers);
                    return Err(RegistryError::Timeout { host, what: ANSWERING, after });
                }
                before = now;
            }
        }
    }
}

/// A body that is arriving. Only the time that is spent waiting for it counts, not that of a slow reader.
pub(crate) struct Receiving {
    body: Incoming,
    host: String,
    status: StatusCode,
    /// Spent waiting since there was enough progress.
    waited: Duration,
    /// What came in that time.
    bytes: u64,
}

impl Receiving {
    pub(crate) fn new(response: Response<Incoming>, host: &str) -> Receiving {
        let status = response.status();
        let body = response.into_body();
        Receiving { body, host: host.to_owned(), status, waited: Duration::ZERO, bytes: 0 }
    }

    /// The next part; `None` at its end. Nothing, and next to nothing, for the time of the limit is an end of its
    /// own: a server that gives a byte now and then would hold a pull for ever.
    pub(crate) async fn next(&mut self, timeouts: &Timeouts) -> Result<Option<Bytes>, RegistryError> {
        loop {
            let start = Instant::now();
            let left = timeouts.idle.saturating_sub(self.waited);
            let frame = tokio::time::timeout(left, self.body.frame()).await;
            self.waited += start.elapsed();
            let data = match frame {
                Ok(None) => return Ok(None),
                Ok(Some(Err(cause))) => {
                    return Err(RegistryError::Body { host: self.host.clone(), cause });
                }
                Ok(Some(Ok(frame))) => frame.into_data().unwrap_or_default(),
                Err(_) => Bytes::new(),
            };
            self.bytes += data.len() as u64;
            if self.bytes >= PROGRESS_MIN {
                (self.waited, self.bytes) = (Duration::ZERO, 0);
            } else if self.waited >= timeouts.idle {
                let (host, status, bytes, after) =
                    (self.host.clone(), self.status, self.bytes, timeouts.idle);
                return Err(RegistryError::Stalled { host, status, bytes, after });
            }
            if !data.is_empty() {
                return Ok(Some(data));
            }
        }
    }
}

/// A whole body, `limit` bytes at most.
pub(crate) async fn collect(
    response: Response<Incoming>,
    timeouts: &Timeouts,
    host: &str,
    what: &'static str,
    limit: u64,
) -> Result<Vec<u8>, RegistryError> {
    let mut receiving = Receiving::new(response, host);
    let mut all = Vec::new();
    while let Some(data) = receiving.next(timeouts).await? {
        if (all.len() + data.len()) as u64 > limit {
            return Err(RegistryError::TooLarge { host: host.to_owned(), what, limit });
        }
        all.extend_from_slice(&data);
    }
    Ok(all)
}

/// What comes of an error's body within a short time: a registry's words are worth no long wait.
pub(crate) async fn collect_some(response: Response<Incoming>, timeouts: &Timeouts, limit: usize) -> Vec<u8> {
    let mut body = response.into_body();
    let mut all = Vec::new();
    let reading = async {
        while let Some(Ok(frame)) = body.frame().await {
            let data = frame.into_data().unwrap_or_default();
            all.extend_from_slice(&data[..data.len().min(limit - all.len())]);
            if all.len() >= limit {
                break;
            }
        }
    };
    let _ = tokio::time::timeout(timeouts.idle.min(WORDS_WAIT), reading).await;
    all
}

/// Whether a connection failed because nobody speaks TLS there, or nobody is there at all. A certificate that is
/// refused is no such reason.
pub(crate) fn speaks_no_tls(cause: &hyper_util::client::legacy::Error) -> bool {
    if !cause.is_connect() {
        return false;
    }
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(cause);
    while let Some(error) = next {
        let tls = error
            .downcast_ref::<rustls::Error>()
            .or_else(|| error.downcast_ref::<std::io::Error>()?.get_ref()?.downcast_ref::<rustls::Error>());
        if let Some(tls) = tls {
            return matches!(tls, rustls::Error::InvalidMessage(_));
        }
        next = error.source();
    }
    true
}

/// For `skip_verify`: any certificate will do; signatures are checked all the same.
#[derive(Debug)]
struct TrustAnyone(Arc<CryptoProvider>);

impl ServerCertVerifier for TrustAnyone {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
