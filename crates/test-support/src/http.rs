//! A small blocking HTTP/1.1 client for loopback servers: one request, one connection, one answer.
//!
//! It knows no TLS, no redirect and no proxy, on purpose: a test that needs those tests the product's
//! own client. Answers are bounded in size and every wait in time.

use crate::{Problem, Result, Tried};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// How long one read or write may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// The longest header line, and the most lines, that are read.
const LINE: u64 = 16 * 1024;
const LINES: usize = 200;
/// The largest body.
const BODY: u64 = 1 << 30;

/// An answer, read to its end.
#[derive(Debug, Clone, Default)]
pub struct Response {
    /// 200, 404, …
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// What follows the header, without any chunking.
    pub body: Vec<u8>,
}

impl Response {
    /// The first header of that name (lower case).
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The body as text, whatever it holds.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// GET without further headers.
pub fn get(address: SocketAddr, path: &str) -> Result<Response> {
    request(address, "GET", path, &[], &[])
}

/// One request; `path` is sent as it is, so it must be encoded already.
pub fn request(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Result<Response> {
    let what = format!("{method} http://{address}{path}");
    let stream = TcpStream::connect_timeout(&address, PATIENCE).tried(format_args!("connect for {what}"))?;
    stream.set_read_timeout(Some(PATIENCE)).tried("set a time limit")?;
    stream.set_write_timeout(Some(PATIENCE)).tried("set a time limit")?;
    let mut head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: {}\r\n",
        body.len()
    );
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    let mut writer = &stream;
    writer.write_all(head.as_bytes()).tried(format_args!("send {what}"))?;
    writer.write_all(body).tried(format_args!("send the body of {what}"))?;
    read_response(&mut BufReader::new(&stream), method == "HEAD")
        .tried(format_args!("read the answer to {what}"))
}

fn read_response(reader: &mut impl BufRead, head_only: bool) -> Result<Response> {
    let status_line = read_line(reader)?;
    let status = status_line
        .strip_prefix("HTTP/1.")
        .and_then(|rest| rest.split(' ').nth(1))
        .and_then(|code| code.parse().ok())
        .ok_or_else(|| Problem(format!("{status_line:?} is no HTTP/1.1 status line")))?;
    let mut response = Response { status, headers: read_headers(reader)?, body: Vec::new() };
    if head_only || matches!(status, 100..=199 | 204 | 304) {
        return Ok(response);
    }
    if response.header("transfer-encoding").is_some_and(|coding| coding.contains("chunked")) {
        read_chunks(reader, &mut response.body)?;
        return Ok(response);
    }
    let length =
        response.header("content-length").map(str::parse::<u64>).transpose().tried("read Content-Length")?;
    let limit = length.unwrap_or(BODY).min(BODY);
    reader.take(limit).read_to_end(&mut response.body).tried("read a body")?;
    match length {
        Some(length) if length != response.body.len() as u64 => {
            Err(Problem(format!("the body ended after {} of {length} bytes", response.body.len())))
        }
        _ => Ok(response),
    }
}

/// Header lines up to the empty one, names in lower case. Also used by the server side.
pub(crate) fn read_headers(reader: &mut impl BufRead) -> Result<Vec<(String, String)>> {
    let mut headers = Vec::new();
    while headers.len() < LINES {
        let line = read_line(reader)?;
        if line.is_empty() {
            return Ok(headers);
        }
        let (name, value) = line.split_once(':').ok_or_else(|| Problem(format!("{line:?} is no header")))?;
        headers.push((name.trim().to_ascii_lowercase(), value.trim().to_owned()));
    }
    Err(Problem(format!("more than {LINES} header lines")))
}

/// One line without its line end.
pub(crate) fn read_line(reader: &mut impl BufRead) -> Result<String> {
    let mut line = Vec::new();
    reader.take(LINE).read_until(b'\n', &mut line).tried("read a line")?;
    if line.pop() != Some(b'\n') {
        return Err(Problem("the connection ended inside a line".to_owned()));
    }
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    String::from_utf8(line).tried("read a line as text")
}

/// RFC 9112, section 7.1. Trailers are read and dropped.
fn read_chunks(reader: &mut impl BufRead, body: &mut Vec<u8>) -> Result<()> {
    loop {
        let line = read_line(reader)?;
        let digits = line.split(';').next().unwrap_or_default().trim();
        let size = u64::from_str_radix(digits, 16).tried("read the size of a chunk")?;
        if size.saturating_add(body.len() as u64) > BODY {
            return Err(Problem(format!("the body is larger than {BODY} bytes")));
        }
        if size == 0 {
            return read_headers(reader).map(drop);
        }
        let before = body.len() as u64;
        reader.take(size).read_to_end(body).tried("read a chunk")?;
        if body.len() as u64 - before != size || !read_line(reader)?.is_empty() {
            return Err(Problem("a chunk is not as long as it says".to_owned()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(answer: &[u8]) -> Result<Response> {
        read_response(&mut BufReader::new(answer), false)
    }

    #[test]
    fn bodies_are_read_by_length_by_chunk_and_to_the_end() {
        let by_length = parse(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcdef").expect("an answer");
        assert_eq!((by_length.status, by_length.text().as_str()), (200, "abc"));
        let chunked =
            b"HTTP/1.1 201 Made\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1;x=y\r\nc\r\n0\r\n\r\n";
        assert_eq!(parse(chunked).expect("an answer").text(), "abc");
        assert_eq!(parse(b"HTTP/1.0 200 OK\r\n\r\nabc").expect("an answer").text(), "abc");
    }

    #[test]
    fn a_cut_answer_is_an_error() {
        for cut in [
            &b"HTTP/1.1 200"[..],
            b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabc",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
            b"HTTP/1.1 200 OK\r\nno header\r\n\r\n",
        ] {
            assert!(parse(cut).is_err(), "{}", String::from_utf8_lossy(cut));
        }
    }
}
