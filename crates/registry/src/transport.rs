//! Connections: hyper over TCP and rustls (ring), HTTP/1.1 and 2, kept and reused between requests and
//! pulls. Every wait has a limit. It knows nothing of registries, and sends what it is given.

use crate::error::{ANSWERING, RegistryError};
use crate::hosts::Tls;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client as HyperClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

/// The limits of waiting for a registry.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// For a TCP connection to open; `dial_timeout` in hosts.toml overrides it.
    pub connect: Duration,
    /// From the request to the headers of its answer, connecting included.
    pub headers: Duration,
    /// Between two parts of a body.
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

/// Clients are kept for this many different settings; more are rebuilt.
const CLIENTS_MAX: usize = 32;

/// A connection pool.
pub type Client = HyperClient<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// All connection pools, one for each way of securing connections.
pub struct Transport {
    pub timeouts: Timeouts,
    clients: Mutex<Vec<(Tls, Option<Duration>, Client)>>,
    roots: OnceLock<Arc<RootCertStore>>,
}

impl Transport {
    pub fn new(timeouts: Timeouts) -> Transport {
        Transport { timeouts, clients: Mutex::default(), roots: OnceLock::new() }
    }

    /// The pool for these settings. It blocks when it reads the system's certificates for the first time.
    pub(crate) fn client(&self, tls: &Tls, dial: Option<Duration>) -> Result<Client, String> {
        let mut clients = self.clients.lock().unwrap_or_else(|e| e.into_inner());
        if let Some((_, _, client)) = clients.iter().find(|(t, d, _)| t == tls && *d == dial) {
            return Ok(client.clone());
        }
        let client = self.build(tls, dial)?;
        if clients.len() >= CLIENTS_MAX {
            clients.remove(0);
        }
        clients.push((tls.clone(), dial, client.clone()));
        Ok(client)
    }

    fn build(&self, tls: &Tls, dial: Option<Duration>) -> Result<Client, String> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|e| e.to_string())?;
        let builder = if tls.skip_verify {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(TrustAnyone(provider)))
        } else {
            builder.with_root_certificates(self.roots(&tls.ca)?)
        };
        let config = match &tls.client {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let chain = certificates(certificate)?;
                let key = PrivateKeyDer::from_pem_slice(key).map_err(|e| format!("the client's key: {e}"))?;
                builder
                    .with_client_auth_cert(chain, key)
                    .map_err(|e| format!("the client's certificate: {e}"))?
            }
        };
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(dial.unwrap_or(self.timeouts.connect)));
        tcp.set_keepalive(Some(Duration::from_secs(30)));
        let connector = hyper_rustls::HttpsConnectorBuilder::new()
            .with_tls_config(config)
            .https_or_http()
            .enable_all_versions()
            .wrap_connector(tcp);
        Ok(HyperClient::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_secs(30))
            .pool_max_idle_per_host(8)
            // What a slow disk leaves unread waits in the kernel and at the sender, not in our memory.
            .http1_max_buf_size(256 << 10)
            .http2_initial_stream_window_size(1 << 20)
            .http2_initial_connection_window_size(4 << 20)
            .http2_max_header_list_size(64 << 10)
            .build(connector))
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

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match all {
        Ok(all) if !all.is_empty() => Ok(all),
        Ok(_) => Err("a certificate file holds no PEM certificate".into()),
        Err(error) => Err(format!("a certificate file is not PEM: {error}")),
    }
}

/// Sends a request and waits for the headers of its answer.
pub async fn send(
    client: &Client,
    timeouts: &Timeouts,
    host: &str,
    request: Request<Full<Bytes>>,
) -> Result<Response<Incoming>, RegistryError> {
    match tokio::time::timeout(timeouts.headers, client.request(request)).await {
        Ok(Ok(response)) => Ok(response),
        Ok(Err(cause)) => Err(RegistryError::Connect { host: host.to_owned(), cause }),
        Err(_) => {
            Err(RegistryError::Timeout { host: host.to_owned(), what: ANSWERING, after: timeouts.headers })
        }
    }
}

/// The next part of a body; `None` at its end.
pub async fn next(
    body: &mut Incoming,
    timeouts: &Timeouts,
    host: &str,
) -> Result<Option<Bytes>, RegistryError> {
    loop {
        let frame = tokio::time::timeout(timeouts.idle, body.frame()).await.map_err(|_| {
            RegistryError::Timeout { host: host.to_owned(), what: "sending more", after: timeouts.idle }
        })?;
        match frame {
            None => return Ok(None),
            Some(Err(cause)) => return Err(RegistryError::Body { host: host.to_owned(), cause }),
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data()
                    && !data.is_empty()
                {
                    return Ok(Some(data));
                }
            }
        }
    }
}

/// A whole body, `limit` bytes at most.
pub async fn collect(
    mut body: Incoming,
    timeouts: &Timeouts,
    host: &str,
    what: &'static str,
    limit: u64,
) -> Result<Vec<u8>, RegistryError> {
    let mut all = Vec::new();
    while let Some(data) = next(&mut body, timeouts, host).await? {
        if (all.len() + data.len()) as u64 > limit {
            return Err(RegistryError::TooLarge { host: host.to_owned(), what, limit });
        }
        all.extend_from_slice(&data);
    }
    Ok(all)
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
