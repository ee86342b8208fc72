//! Real packets: servers that say their name and whom they see, and a network beyond the node.

use crate::node::{Namespace, up};
use corten_network::cidr::Cidr;
use corten_network::netlink::link::{Veth, create_veth};
use corten_network::netlink::{Socket, address};
use corten_network::netns::Netns;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(2);

/// Work for the inside of a namespace.
pub type Work<T> = Box<dyn FnOnce() -> T + Send>;

/// Listens on a port of every address inside a namespace, and answers every connection with its
/// name and the client's address, until the test process ends.
pub fn serve(inside: impl FnOnce(Work<TcpListener>) -> TcpListener, port: u16, name: &'static str) {
    let listener = inside(Box::new(move || {
        TcpListener::bind(("::", port)).or_else(|_| TcpListener::bind(("0.0.0.0", port))).expect("listen")
    }));
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let peer = stream.peer_addr().map(|a| a.ip().to_canonical().to_string()).unwrap_or_default();
            let _ = stream.write_all(format!("{name} {peer}").as_bytes());
        }
    });
}

/// The same over UDP, without the client's address.
pub fn serve_udp(inside: impl FnOnce(Work<UdpSocket>) -> UdpSocket, port: u16, name: &'static str) {
    let socket = inside(Box::new(move || UdpSocket::bind(("0.0.0.0", port)).expect("bind")));
    std::thread::spawn(move || {
        let mut packet = [0; 64];
        while let Ok((_, peer)) = socket.recv_from(&mut packet) {
            let _ = socket.send_to(name.as_bytes(), peer);
        }
    });
}

/// Who answers on an address and port, and whom they see.
pub fn answer(ip: &str, port: u16) -> std::io::Result<(String, String)> {
    let address = SocketAddr::new(ip.parse::<IpAddr>().expect("an address"), port);
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let (name, peer) = text.rsplit_once(' ').unwrap_or_default();
    Ok((name.to_owned(), peer.to_owned()))
}

/// Whether nobody answers on an address and port within a moment.
pub fn silent(ip: &str, port: u16) -> bool {
    let address = SocketAddr::new(ip.parse::<IpAddr>().expect("an address"), port);
    TcpStream::connect_timeout(&address, Duration::from_millis(400)).is_err()
}

/// Who answers a datagram; tried for a while, for the first one may be lost on the way.
pub fn udp_answer(client: &UdpSocket, to: &str) -> Option<String> {
    client.set_read_timeout(Some(Duration::from_millis(200))).expect("a timeout");
    for _ in 0..10 {
        client.send_to(b"who", to).expect("send");
        let mut packet = [0; 64];
        if let Ok((length, _)) = client.recv_from(&mut packet) {
            return Some(String::from_utf8_lossy(&packet[..length]).into_owned());
        }
    }
    None
}

/// A namespace beyond the node, at `<prefix>.2`; the node is `<prefix>.1` to it.
pub fn outside(prefix: &str) -> Namespace {
    let open = || {
        crate::node::unshare_network();
        Netns::open(Path::new("/proc/thread-self/ns/net")).expect("open").expect("there")
    };
    let namespace = Namespace(std::thread::spawn(open).join().expect("a namespace"));
    let address_of = |end: u8| Cidr::parse(&format!("{prefix}.{end}/24")).expect("an address");
    let veth =
        Veth { name: "out0", master: 0, mtu: None, peer: "out1", peer_mac: None, netns: namespace.0.as_fd() };
    let mut socket = Socket::route().expect("a socket");
    socket.apply(vec![create_veth(&veth)]).expect("a veth pair");
    let configure = |name: &str, end: u8| {
        let mut socket = Socket::route().expect("a socket");
        let index = socket.link(name).expect("netlink").expect("the link").index;
        socket.apply(vec![address::add(index, name, &address_of(end))]).expect("an address");
        up(name);
    };
    configure("out0", 1);
    namespace.inside(|| configure("out1", 2));
    namespace
}
