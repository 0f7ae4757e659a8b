//! Signing in elsewhere: the authorization code flow of OpenID Connect Core 1.0, with PKCE (RFC 7636).
//!
//! A browser is sent to the provider with [`Provider::begin`], and comes back with a code, which [`Provider::finish`]
//! exchanges for an identity token. What must be remembered in between is [`Waiting`]; it belongs into the browser that
//! asked and nowhere else, so that nobody can be signed in by a foreign page.
//!
//! * `provider`: the flow, and what the provider publishes of itself, which is asked for when it is needed;
//! * `keys`: the provider's keys (RFC 7517), of RSA, P-256 and Ed25519;
//! * `token`: what makes an identity token good (RFC 7515, RFC 7519), as a pure function of token, keys and time.
//!
//! Signatures are `ring`'s, which lies under TLS here anyway; the crates for this flow bring a second set of ciphers
//! and a hundred claims that nobody reads. Knows nothing of members, sessions or pages.
#![warn(missing_docs)]

mod error;
mod keys;
mod provider;
#[cfg(feature = "testing")]
pub mod testing;
mod token;

pub use error::{Error, Result};
pub use provider::{Begun, Options, Provider, Returned, Waiting};
pub use token::Identity;
