//! Object storage: whole objects under names, and the one promise that everything above stands on.
//!
//! **The promise.** When a write answers `Ok`, the object is whole and durable: it survives the loss of power, and
//! every later read or listing, from any process, sees it. When a write answers an error of kind
//! [`Unavailable`](base::Kind::Unavailable), nobody knows whether it happened: it may have happened before the error. A
//! reader never sees half an object. [`Store::put_create`] is the only way two processes agree on anything: of all that
//! try one name, exactly one succeeds. There is therefore no `sync` to forget: a write that is not yet durable has not
//! answered yet.
//!
//! * [`Store`]: the trait. Asynchronous, so that S3 fits and so that a simulation can interleave tasks by a seed
//!   (`docs/decisions/0020-store.md`).
//! * [`Name`]: a name that is valid on every store.
//! * [`Memory`]: for tests. [`Folder`]: a local folder, every write fsync'd. [`Remote`]: a bucket of S3 or OSS, where
//!   [`Location`] says. [`Cached`]: any of them, with objects that never change kept in memory and on the local disk.
//! * `sim` and `conformance`, with the feature `testing`: a store that fails by a seed, an executor that orders tasks
//!   by a seed, and the suite that every store passes.
//!
//! This crate knows nothing of vectors, files or models: bytes under names.

#![warn(missing_docs)]

mod cached;
#[cfg(feature = "testing")]
pub mod conformance;
mod error;
mod folder;
mod location;
mod memory;
mod name;
mod remote;
#[cfg(feature = "testing")]
pub mod sim;
mod traits;

pub use cached::{CacheSettings, Cached};
pub use error::{Error, Result};
pub use folder::Folder;
pub use location::{Location, Service};
pub use memory::Memory;
pub use name::Name;
pub use remote::{Credentials, Remote};
pub use traits::{Entry, OBJECT_BYTES_MAX, Store};
