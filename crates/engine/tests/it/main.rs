//! The engine on the real kernel with the real shim and an image pulled from loopback.

mod containers;
mod node;
mod pods;
mod restart;
