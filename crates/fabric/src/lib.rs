//! The mover: a file or a folder from one machine to another, over several TCP streams on one or more planes.
//!
//! [`send`] reads and pushes, a [`Receiver`] takes. What they promise:
//!
//! * every chunk is checked (BLAKE3) before a byte of it is written, and both sides have proved that they know one
//!   token;
//! * a file appears under its name only when it is whole, checked and on the disk;
//! * whoever is killed may start again: at most one chunk a stream is sent twice, for what was received is in a
//!   [journal] before the sender is told, and durable before it is acknowledged;
//! * a plane that dies is noticed after [`hearing::SILENT_MS`] and a wait at most, and its chunks travel on the others;
//! * nothing that a peer says is believed: names, sizes and counts have limits, all of them named.
//!
//! The bytes are neither compressed nor encrypted. Whoever can read the network can read them; whoever can write to it
//! can break a transfer, but not change what arrives.
//!
//! * [`wire`]: the protocol, byte by byte. [`handshake`]: who is there. [`manifest`]: what is sent, and under which
//!   names.
//! * [`schedule`]: which chunk travels on which stream. [`hearing`]: whose silence counts. [`pace`]: how fast. All
//!   pure.
//! * [`send`], [`receive`]: the two ends. [`journal`]: what a receiver remembers when it is killed.
//!
//! Blocking sockets on own threads: two a stream, and at most [`manifest::STREAMS_MAX`] streams. From asynchronous code
//! call it where blocking is allowed. A byte is copied from the page cache into a buffer, hashed there while it is in
//! the processor's cache, and copied into the socket; on the other side out of the socket, hashed, and into the page
//! cache.

#![warn(missing_docs)]

pub mod error;
pub mod handshake;
pub mod hearing;
pub mod journal;
mod link;
pub mod manifest;
pub mod pace;
mod parts;
mod progress;
pub mod receive;
pub mod schedule;
pub mod send;
mod source;
mod transfer;
pub mod wire;

pub use error::{Error, Result};
pub use handshake::{Nonces, Token};
pub use progress::Progress;
pub use receive::{Receiver, ReceiverOptions};
pub use send::{SendOptions, Sent, send, send_files};

use std::sync::Arc;

use base::Clock;

/// What enters from outside the library: time and chance.
#[derive(Clone)]
pub struct Machine {
    /// The real time.
    pub clock: Arc<dyn Clock>,
    /// Numbers that nobody can guess.
    pub nonces: Arc<Nonces>,
}
