//! The seam: whoever has models.

use std::net::SocketAddr;
use std::ops::Range;

use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::name::Repository;

/// Takes bytes in order. An error ends the reading.
pub type Sink<'a> = dyn FnMut(&[u8]) -> Result<()> + 'a;

/// A place that has models: a hub, a folder, another machine.
///
/// Blocking. `read` is called from several threads at the same time.
pub trait Source: Send + Sync {
    /// Where that is, for people and for the record; no secret.
    fn name(&self) -> String;

    /// The files of a model, at the revision that is asked for or the newest.
    ///
    /// # Errors
    /// If there is no such model, the place cannot be reached, or it answers nonsense.
    fn list(&self, repository: &Repository) -> Result<Listing>;

    /// Hands the bytes of a part of a file to `sink`, in order and none twice. What was handed over before an error
    /// counts: the caller goes on from there.
    ///
    /// # Errors
    /// If fewer bytes came than were asked for, or `sink` fails.
    fn read(&self, listing: &Listing, file: &Remote, range: Range<u64>, sink: &mut Sink<'_>) -> Result<()>;

    /// Has files sent by the mover to whoever listens at `landing`, and returns when they are there. `tick` is called
    /// at least every few seconds meanwhile; an error of it ends the waiting.
    ///
    /// # Errors
    /// [`Error::NoMover`] of a place that cannot, or why they were not sent.
    fn send_to(
        &self,
        _listing: &Listing,
        _files: &[&Remote],
        _landing: &Landing,
        _tick: &mut dyn FnMut() -> Result<()>,
    ) -> Result<()> {
        Err(Error::NoMover { place: self.name() })
    }
}

/// Where the mover is to send.
#[derive(Clone)]
pub struct Landing {
    /// Where somebody listens, one address a network.
    pub addresses: Vec<SocketAddr>,
    /// What both ends must know. A secret, of this one transfer.
    pub token: String,
}

/// The files of a model at one revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// Which model.
    pub repository: Repository,
    /// The revision that the files have: a commit where the source has such.
    pub revision: String,
    /// All files.
    pub files: Vec<Remote>,
}

/// One file of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remote {
    /// Relative to the model, parts separated by `/`.
    pub path: String,
    /// How long it is.
    pub size_bytes: u64,
    /// What its bytes hash to, if the source says so.
    pub digest: Option<Digest>,
}
