//! Opens connections, straight or through a proxy. What is spoken on them is the caller's business.

use super::{Protocol, Proxies, Proxy, handshake};
use http::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tower::Service;

type Problem = Box<dyn std::error::Error + Send + Sync>;

/// See the module.
#[derive(Clone)]
pub(crate) struct Dialer {
    pub tcp: HttpConnector,
    pub proxies: Arc<Proxies>,
    /// For proxies that are spoken to by TLS; the system's authorities.
    pub tls: Arc<ClientConfig>,
    /// For all that is said before the connection is the registry's.
    pub patience: Duration,
}

/// An open connection.
pub(crate) struct Stream {
    io: Box<dyn Io>,
    /// Requests on it name their host in full (RFC 9112 section 3.2.2).
    proxied: bool,
}

trait Io: Read + Write + Send + Unpin {}
impl<T: Read + Write + Send + Unpin> Io for T {}

trait Raw: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Raw for T {}

impl Service<Uri> for Dialer {
    type Response = Stream;
    type Error = Problem;
    type Future = Pin<Box<dyn Future<Output = Result<Stream, Problem>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Problem>> {
        self.tcp.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, target: Uri) -> Self::Future {
        let Some(proxy) = self.proxies.of(&target) else {
            let connecting = self.tcp.call(target);
            return Box::pin(async move { Ok(Stream { io: Box::new(connecting.await?), proxied: false }) });
        };
        let (mut tcp, tls, patience) = (self.tcp.clone(), self.tls.clone(), self.patience);
        Box::pin(async move {
            let place: Uri = format!("http://{}", proxy.place()).parse()?;
            let stream = tcp.call(place).await.map_err(|cause| through(&proxy, cause.into()))?;
            let opened = open(stream.into_inner(), &proxy, tls, &target);
            match tokio::time::timeout(patience, opened).await {
                Ok(opened) => opened.map_err(Into::into),
                Err(_) => {
                    let why = format!("the proxy {proxy} did not answer within {} s", patience.as_secs());
                    Err(io::Error::new(io::ErrorKind::TimedOut, why).into())
                }
            }
        })
    }
}

fn through(proxy: &Proxy, cause: Problem) -> Problem {
    let mut why = cause.to_string();
    if let Some(inner) = cause.source() {
        why = format!("{why}: {inner}");
    }
    io::Error::other(format!("the proxy {proxy} cannot be reached: {why}")).into()
}

async fn open(stream: TcpStream, proxy: &Proxy, tls: Arc<ClientConfig>, target: &Uri) -> io::Result<Stream> {
    let https = target.scheme_str() == Some("https");
    let host = target.host().unwrap_or_default();
    let port = target.port_u16().unwrap_or(if https { 443 } else { 80 });
    let mut stream: Box<dyn Raw> =
        match proxy.protocol {
            Protocol::Https => {
                let name = ServerName::try_from(proxy.host.clone()).map_err(io::Error::other)?;
                let connector = tokio_rustls::TlsConnector::from(tls);
                let opened = connector.connect(name, stream).await;
                Box::new(opened.map_err(|cause| {
                    io::Error::other(format!("the proxy {proxy} cannot be trusted: {cause}"))
                })?)
            }
            Protocol::Http | Protocol::Socks5 => Box::new(stream),
        };
    let proxied = match proxy.protocol {
        Protocol::Socks5 => {
            let bare = host.trim_start_matches('[').trim_end_matches(']');
            handshake::socks5(&mut stream, proxy, bare, port).await?;
            false
        }
        _ if https => {
            handshake::connect(&mut stream, proxy, &format!("{host}:{port}")).await?;
            false
        }
        _ => true,
    };
    Ok(Stream { io: Box::new(TokioIo::new(stream)), proxied })
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        Connected::new().proxy(self.proxied)
    }
}

impl Read for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(context, buffer)
    }
}

impl Write for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(context, bytes)
    }
}
