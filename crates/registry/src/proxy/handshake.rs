//! What is said to a proxy before the connection is the registry's: `CONNECT` (RFC 9110 section 9.3.6), or SOCKS5
//! (RFC 1928, RFC 1929). Answers are bounded; what comes after them is not touched.

use super::Proxy;
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// The longest answer to a `CONNECT`, in bytes.
const ANSWER_MAX: usize = 16 << 10;

fn failed(proxy: &Proxy, why: &str) -> io::Error {
    io::Error::other(format!("the proxy {proxy} {why}"))
}

/// Asks for a tunnel to `target`, `host:port`.
pub(super) async fn connect(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    proxy: &Proxy,
    target: &str,
) -> io::Result<()> {
    let mut request =
        format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\nUser-Agent: {}\r\n", crate::exchange::AGENT);
    if let Some(value) = proxy.authorization().as_ref().and_then(|value| value.to_str().ok()) {
        request.push_str(&format!("Proxy-Authorization: {value}\r\n"));
    }
    request.push_str("\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut head = Vec::new();
    // One byte at a time: what comes after the head is the registry's.
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() >= ANSWER_MAX {
            return Err(failed(proxy, "answers with more than 16 KiB of headers"));
        }
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(cause) if cause.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(failed(proxy, "closed the connection without an answer"));
            }
            Err(cause) => return Err(cause),
        }
    }
    let first = String::from_utf8_lossy(&head).lines().next().unwrap_or_default().to_owned();
    let status = first.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..)).unwrap_or_default();
    match status.get(..3) {
        Some(code) if code.starts_with('2') => Ok(()),
        Some(code) if code.bytes().all(|b| b.is_ascii_digit()) => {
            let clean: String = status.chars().take(80).filter(|c| !c.is_control()).collect();
            Err(failed(proxy, &format!("does not connect to {target}: it answered {}", clean.trim())))
        }
        _ => Err(failed(proxy, "does not answer as HTTP does")),
    }
}

/// Asks a SOCKS5 proxy for a connection to `host` and `port`; the proxy resolves the name.
pub(super) async fn socks5(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    proxy: &Proxy,
    host: &str,
    port: u16,
) -> io::Result<()> {
    const VERSION: u8 = 5;
    const NONE: u8 = 0;
    const PASSWORD: u8 = 2;
    let method = if proxy.user.is_some() { PASSWORD } else { NONE };
    stream.write_all(&[VERSION, 1, method]).await?;
    let mut answer = [0; 2];
    stream.read_exact(&mut answer).await?;
    if answer != [VERSION, method] {
        return Err(failed(
            proxy,
            "does not accept the way in which it is asked; it may want credentials, or none",
        ));
    }
    if let Some((name, password)) = proxy.user.as_ref() {
        let length = |text: &str| {
            u8::try_from(text.len()).map_err(|_| failed(proxy, "has credentials of more than 255 bytes"))
        };
        let mut message = vec![1, length(name)?];
        message.extend_from_slice(name.as_bytes());
        message.push(length(password)?);
        message.extend_from_slice(password.as_bytes());
        stream.write_all(&message).await?;
        stream.read_exact(&mut answer).await?;
        if answer[1] != 0 {
            return Err(failed(proxy, "does not accept the credentials that its variable holds"));
        }
    }
    let mut message = vec![VERSION, 1, 0];
    match host.parse() {
        Ok(std::net::IpAddr::V4(v4)) => {
            message.push(1);
            message.extend_from_slice(&v4.octets());
        }
        Ok(std::net::IpAddr::V6(v6)) => {
            message.push(4);
            message.extend_from_slice(&v6.octets());
        }
        Err(_) => {
            let length =
                u8::try_from(host.len()).map_err(|_| failed(proxy, "cannot be asked for so long a name"))?;
            message.extend_from_slice(&[3, length]);
            message.extend_from_slice(host.as_bytes());
        }
    }
    message.extend_from_slice(&port.to_be_bytes());
    stream.write_all(&message).await?;
    let mut head = [0; 4];
    stream.read_exact(&mut head).await?;
    if head[0] != VERSION || head[1] != 0 {
        let why = match head[1] {
            2 => "its rules forbid it",
            3 => "the network is unreachable",
            4 => "the host is unreachable",
            5 => "the connection was refused",
            _ => "it failed",
        };
        return Err(failed(proxy, &format!("does not connect to {host}:{port}: {why}")));
    }
    let address = match head[3] {
        1 => 4,
        4 => 16,
        3 => usize::from(stream.read_u8().await?),
        _ => return Err(failed(proxy, "does not answer as SOCKS5 does")),
    };
    let mut rest = [0; 257];
    stream.read_exact(&mut rest[..address + 2]).await?;
    Ok(())
}
