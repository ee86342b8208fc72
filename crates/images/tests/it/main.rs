//! Pulls from a registry inside this process, over real sockets and real TLS, into a real snapshotter; and
//! from Debian's docker-registry where it is installed.

mod auth;
mod hostile;
mod image;
mod lifecycle;
mod network;
mod node;
mod real;
mod server;
