//! Opens connections, straight or through a proxy. What is spoken on them is the caller's business.

use super::{Protocol, Proxies, Proxy, handshake};
use crate::led::Led;
use futures_util::stream::{FuturesUnordered, StreamExt};
use http::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
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
    /// Who says where to.
    pub led: Led,
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
        let (mut tcp, tls, patience, led) = (self.tcp.clone(), self.tls.clone(), self.patience, self.led);
        let Some(proxy) = self.proxies.of(&target) else {
            if led == Led::No {
                let connecting = self.tcp.call(target);
                return Box::pin(
                    async move { Ok(Stream { io: Box::new(connecting.await?), proxied: false }) },
                );
            }
            return Box::pin(straight(tcp, target, led, patience));
        };
        Box::pin(async move {
            // Names are the proxy's to resolve, and what it may reach is its own affair.
            if let Some(address) = literal(&target) {
                led.allows(address, target.scheme_str() == Some("https"))?;
            }
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

/// Where a URL names an address and not a host.
fn literal(target: &Uri) -> Option<IpAddr> {
    target.host()?.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

/// Connects to where somebody else says, unless that is a place that may not be asked. The addresses that are looked at
/// are those that are connected to: a name that means another one a moment later gains nothing.
async fn straight(tcp: HttpConnector, target: Uri, led: Led, patience: Duration) -> Result<Stream, Problem> {
    let https = target.scheme_str() == Some("https");
    let port = target.port_u16().unwrap_or(if https { 443 } else { 80 });
    let addresses: Vec<SocketAddr> = match literal(&target) {
        Some(address) => vec![SocketAddr::new(address, port)],
        None => {
            let looked_up = tokio::net::lookup_host((target.host().unwrap_or_default(), port));
            match tokio::time::timeout(patience, looked_up).await {
                Ok(found) => found?.collect(),
                Err(_) => return Err(io::Error::from(io::ErrorKind::TimedOut).into()),
            }
        }
    };
    for address in &addresses {
        led.allows(address.ip(), https)?;
    }
    let attempts = in_turn(addresses).into_iter().map(|address| {
        let mut tcp = tcp.clone();
        async move {
            let place: Uri = format!("http://{address}").parse()?;
            std::future::poll_fn(|context| tcp.poll_ready(context)).await?;
            let io = tcp.call(place).await?;
            Ok(Stream { io: Box::new(io), proxied: false })
        }
    });
    match tokio::time::timeout(patience, first(attempts)).await {
        Ok(found) => found,
        Err(_) => Err(io::Error::from(io::ErrorKind::TimedOut).into()),
    }
}

/// Addresses of both families alternately, the family that came first before (RFC 8305, section 4).
fn in_turn(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let sixth = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (one, other): (Vec<_>, Vec<_>) = addresses.into_iter().partition(|a| a.is_ipv6() == sixth);
    let (mut one, mut other) = (one.into_iter(), other.into_iter());
    let mut all = Vec::new();
    loop {
        let before = all.len();
        all.extend(one.next());
        all.extend(other.next());
        if all.len() == before {
            return all;
        }
    }
}

/// How long an address may take before the next one is tried beside it (RFC 8305, section 5).
const NEXT_AFTER: Duration = Duration::from_millis(250);

/// What the first attempt that succeeds gives. An address that does not answer holds up none of those behind it.
async fn first<T>(
    attempts: impl Iterator<Item = impl Future<Output = Result<T, Problem>>>,
) -> Result<T, Problem> {
    let mut last: Problem = io::Error::other("its name has no address").into();
    let mut running = FuturesUnordered::new();
    for attempt in attempts {
        running.push(attempt);
        let soon = tokio::time::sleep(NEXT_AFTER);
        tokio::select! {
            biased;
            Some(ended) = running.next() => match ended {
                Ok(found) => return Ok(found),
                Err(cause) => last = cause,
            },
            () = soon => {}
        }
    }
    while let Some(ended) = running.next().await {
        match ended {
            Ok(found) => return Ok(found),
            Err(cause) => last = cause,
        }
    }
    Err(last)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_address_that_does_not_answer_holds_up_none_behind_it() {
        let begin = std::time::Instant::now();
        let attempts = (0..4).map(|at| async move {
            match at {
                3 => Ok(at),
                1 => Err(io::Error::from(io::ErrorKind::ConnectionRefused).into()),
                _ => std::future::pending().await,
            }
        });
        assert_eq!(first(attempts).await.expect("the last one answers"), 3);
        assert!(begin.elapsed() < Duration::from_secs(5));
        let refused = (0..2).map(|at| async move { Err::<(), Problem>(format!("refused by {at}").into()) });
        assert_eq!(first(refused).await.expect_err("all refuse").to_string(), "refused by 1");
        assert!(first(std::iter::empty::<std::future::Ready<Result<(), Problem>>>()).await.is_err());
    }

    #[test]
    fn both_families_are_tried_in_turn() {
        let parse = |all: &[&str]| all.iter().map(|a| a.parse().expect(a)).collect::<Vec<SocketAddr>>();
        let found = parse(&["[::1]:1", "[::2]:1", "[::3]:1", "127.0.0.1:1", "127.0.0.2:1"]);
        let wanted = parse(&["[::1]:1", "127.0.0.1:1", "[::2]:1", "127.0.0.2:1", "[::3]:1"]);
        assert_eq!(in_turn(found), wanted);
        assert!(in_turn(Vec::new()).is_empty());
    }
}
