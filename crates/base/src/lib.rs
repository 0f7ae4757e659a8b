//! What every crate of Sampan shares: error kinds, time, chance, names, and doing two things at once.
//!
//! Nothing here knows what a model or a request is. The crate exists so that three rules hold everywhere:
//!
//! * an error says what its receiver can do about it, in one of nine [`Kind`]s, and nothing below `api` knows HTTP;
//! * time is a `u64` of milliseconds that comes from a [`Clock`] somebody handed in;
//! * chance is a [`Rng`] with a seed, and secrets come from an [`Entropy`].
//!
//! The last two are why schedulers, ledgers and caches can be simulated: the same seed gives the same run.

#![warn(missing_docs)]

mod both;
mod chain;
mod clock;
mod entropy;
mod id;
mod kind;
mod pattern;
mod rng;

pub use both::both;
pub use chain::chain;
pub use clock::{Clock, ManualClock};
pub use entropy::{Entropy, SeededEntropy};
pub use id::RequestId;
pub use kind::Kind;
pub use pattern::is_like;
pub use rng::Rng;
