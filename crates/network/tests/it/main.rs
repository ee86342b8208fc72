//! The network against the real kernel and the real plugins, each test on a node of its own.

mod default_network;
mod namespaces;
mod node;
mod plugins;
mod traffic;
