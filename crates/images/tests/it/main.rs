//! Pulls from a registry inside this process, over real sockets and real TLS, into a real snapshotter; and
//! from Debian's docker-registry where it is installed.

mod artifacts;
mod auth;
mod fetching;
mod hostile;
mod image;
mod keep;
mod lazy;
mod lifecycle;
mod memory;
mod names;
mod network;
mod node;
mod real;
mod server;
mod transfer;
mod trusted;
