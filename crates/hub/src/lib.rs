//! The model store: models are pulled from a hub, a mirror or another machine, and kept by what they hold.
//!
//! A [`Source`] lists the files of a model and reads ranges of them: [`HuggingFace`] (and whoever speaks its protocol),
//! [`ModelScope`], a [`Mirror`] folder. [`pull`](fn@pull) fetches pieces of files on several threads into a [`Depot`],
//! the folder of models; a [`Queue`] does so for those who do not wait. What it promises:
//!
//! * a model appears under its name at once and whole, after every file was checked against the hub's digest and is on
//!   the disk; before that nothing of it is listed;
//! * whoever is killed goes on where they stopped: pieces and how far each got are on the disk;
//! * a connection that is cut or silent is taken up again where it ended; a file that does not have its digest is
//!   fetched again, and refused in the end;
//! * another Sampan may be asked to send over several networks at once ([`Planes`]), by the mover of [`fabric`];
//! * the same bytes lie there once: files are named by their BLAKE3 hash, a model's folder holds links to them. What a
//!   Hugging Face [`Cache`] on this machine has is linked, not fetched.
//!
//! Blocking, on own threads; call it where blocking is allowed. Nothing here knows what a tensor is.

#![warn(missing_docs)]

mod cache;
mod carry;
mod choose;
mod depot;
mod digest;
mod error;
mod http;
mod huggingface;
mod mirror;
mod modelscope;
mod name;
mod partial;
mod pull;
mod queue;
mod record;
mod source;

pub use cache::{Cache, Cached};
pub use carry::Planes;
pub use choose::FILES_MAX;
pub use depot::{Depot, Fault, Removed};
pub use digest::{Digest, hex};
pub use error::{Error, Result};
pub use http::{HttpOptions, ensure_address};
pub use huggingface::HuggingFace;
pub use mirror::Mirror;
pub use modelscope::ModelScope;
pub use name::{Repository, Wanted};
pub use pull::{Event, Options, Origin, Pulled, pull};
pub use queue::{Arrived, Order, Progress, Queue, Stage, WAITING_MAX};
pub use record::{RECORD_FILE, Record, RecordedFile};
pub use source::{Landing, Listing, Remote, Sink, Source};
