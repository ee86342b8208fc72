//! Connections of daemons (one, and for a moment two around a restart). None may slow the pod down: what a
//! peer does not take at once costs it the connection, and it finds the exit records on disk.

use rustix::fd::{AsFd, OwnedFd};
use shim_protocol::{MESSAGE_MAX, Message, Request, transport};
use std::io;

/// The most connections at a time.
const PEERS_MAX: usize = 8;

/// All connected daemons.
#[derive(Default)]
pub struct Peers(Vec<Option<OwnedFd>>);

/// What one read brought: a request with its descriptors, or nothing yet.
type Received = Option<(Request, Vec<OwnedFd>)>;

impl Peers {
    /// An index for a new connection; the oldest gives way where there are too many.
    pub fn free(&mut self) -> u32 {
        let index = self.0.iter().position(Option::is_none).unwrap_or(self.0.len());
        if index == PEERS_MAX { 0 } else { index as u32 }
    }

    /// Keeps a connection.
    pub fn add(&mut self, index: u32, socket: OwnedFd) {
        let index = index as usize;
        if index < self.0.len() {
            self.0[index] = Some(socket);
        } else {
            self.0.push(Some(socket));
        }
    }

    /// Closes a connection.
    pub fn remove(&mut self, index: u32) {
        if let Some(slot) = self.0.get_mut(index as usize) {
            *slot = None;
        }
    }

    /// Whether nobody is connected.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(Option::is_none)
    }

    /// The next request; an error once the peer is gone, with the reason where it misbehaved.
    pub fn receive(&self, index: u32) -> Result<Received, Option<io::Error>> {
        let Some(Some(socket)) = self.0.get(index as usize) else { return Ok(None) };
        // Requests are rare; the buffer lives only while one is read.
        let mut buffer = vec![0; MESSAGE_MAX];
        match transport::receive(socket.as_fd(), &mut buffer) {
            Ok(Some(request)) => Ok(Some(request)),
            Ok(None) => Err(None),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(Some(error)),
        }
    }

    /// Sends to one peer, which is dropped where it does not take the message.
    pub fn send(&mut self, index: u32, message: &Message) {
        if let Some(slot) = self.0.get_mut(index as usize)
            && let Some(socket) = slot
            && transport::send(socket.as_fd(), message, &[]).is_err()
        {
            *slot = None;
        }
    }

    /// Sends to every peer.
    pub fn broadcast(&mut self, message: &Message) {
        for index in 0..self.0.len() {
            self.send(index as u32, message);
        }
    }
}
