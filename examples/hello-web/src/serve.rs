//! HTTP: GET and HEAD of the files of one folder, and /healthz. One thread per connection, a request log
//! on standard output. Only plain file names are served: no folders, no hidden files, no way out.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// The longest request that is read, and the largest file that is served.
const REQUEST: u64 = 16 * 1024;
const FILE: u64 = 16 << 20;

/// Serves until the process ends.
pub fn serve(port: u16, dir: &Path) -> Result<(), String> {
    let address = SocketAddr::from(([0, 0, 0, 0], port));
    let listener =
        TcpListener::bind(address).map_err(|said| format!("cannot listen on {address}: {said}"))?;
    println!("serving {} on port {port}", dir.display());
    let dir: Arc<Path> = dir.into();
    for stream in listener.incoming().flatten() {
        let dir = Arc::clone(&dir);
        // Without a thread the connection is dropped, and the client sees that.
        let _ = std::thread::Builder::new().spawn(move || {
            if let Err(said) = answer(&stream, &dir) {
                eprintln!("a connection ended early: {said}");
            }
        });
    }
    Ok(())
}

fn answer(mut stream: &TcpStream, dir: &Path) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.set_write_timeout(Some(Duration::from_secs(10)))?;
    let mut reader = BufReader::new(stream.take(REQUEST));
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut header = String::new();
    while reader.read_line(&mut header)? > 2 {
        header.clear();
    }
    let mut words = line.split_whitespace();
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let (status, kind, body) = respond(method, path, dir);
    let peer = stream.peer_addr()?.ip();
    println!("{peer} {method} {path} {status} {}", body.len());
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes())?;
    if method == "HEAD" { Ok(()) } else { stream.write_all(&body) }
}

fn respond(method: &str, path: &str, dir: &Path) -> (&'static str, &'static str, Vec<u8>) {
    const TEXT: &str = "text/plain; charset=utf-8";
    if !matches!(method, "GET" | "HEAD") {
        return ("405 Method Not Allowed", TEXT, b"only GET\n".to_vec());
    }
    let path = path.split('?').next().unwrap_or_default();
    let name = match path.trim_start_matches('/') {
        "healthz" => return ("200 OK", TEXT, b"ok\n".to_vec()),
        "" => "index.html",
        name => name,
    };
    if name.starts_with('.') || name.contains(['/', '\\', '\0']) {
        return ("404 Not Found", TEXT, b"not found\n".to_vec());
    }
    match read(&dir.join(name)) {
        Ok(body) => ("200 OK", if name.ends_with(".html") { "text/html; charset=utf-8" } else { TEXT }, body),
        Err(_) => ("404 Not Found", TEXT, b"not found\n".to_vec()),
    }
}

fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut body = Vec::new();
    std::fs::File::open(path)?.take(FILE).read_to_end(&mut body)?;
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_names_of_the_folder_are_served() {
        let dir = std::env::temp_dir().join(format!("hello-web-{}", std::process::id()));
        std::fs::create_dir_all(dir.join("sub")).expect("a folder");
        std::fs::write(dir.join("index.html"), "hi").expect("a file");
        std::fs::write(dir.join(".hidden"), "no").expect("a file");
        let status = |method: &str, path: &str| respond(method, path, &dir).0;
        assert_eq!(respond("GET", "/?x=1", &dir).2, b"hi");
        assert_eq!(status("GET", "/healthz"), "200 OK");
        for gone in ["/.hidden", "/../etc/passwd", "/sub/x", "/sub", "/absent"] {
            assert_eq!(status("GET", gone), "404 Not Found", "{gone}");
        }
        assert_eq!(status("POST", "/"), "405 Method Not Allowed");
        std::fs::remove_dir_all(&dir).expect("removed");
    }
}
