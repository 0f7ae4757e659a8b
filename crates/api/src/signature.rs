//! Requests that are signed with a key pair, as Amazon (`sigv4`) and Alibaba Cloud (`oss4`) do it.
//!
//! Everything here is a pure function of the request, the secret and the time. A signature is compared in constant
//! time, and nothing of a secret is ever shown.

mod canonical;
pub(crate) mod oss4;
pub mod sigv4;

use std::sync::Arc;

use axum::http::HeaderMap;
use futures::future::BoxFuture;
use meta::Scopes;

/// How far the clocks of a client and of this server may differ; the limit of both vendors.
pub const SKEW_MS_MAX: u64 = 15 * 60 * 1000;

/// Who owns which key pair.
pub trait KeyPairs: Send + Sync {
    /// The pair with this access key, if there is one.
    fn find<'a>(&'a self, access_key: &'a str) -> BoxFuture<'a, Option<KeyPair>>;
}

/// A key pair and its owner.
#[derive(Clone)]
pub struct KeyPair {
    /// What only the owner and this server know.
    pub secret: String,
    /// Names the pair.
    pub access_key: Arc<str>,
    /// The owner's name in policies.
    pub user: String,
    /// The project that it acts for, where there are accounts.
    pub project: Option<Arc<str>>,
    /// What it is good for.
    pub scopes: Scopes,
}

/// A request as it was signed.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// `GET`, `POST` and so on.
    pub method: &'a str,
    /// As it came, percent signs and all.
    pub path: &'a str,
    /// As it came, without the question mark.
    pub query: &'a str,
    /// All headers.
    pub headers: &'a HeaderMap,
    /// The whole body.
    pub body: &'a [u8],
}

/// Why a signature does not count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// It is not written as the vendor says.
    Malformed(String),
    /// Nobody has this access key.
    UnknownKey(String),
    /// It was made too long ago or too far ahead: the time in it, and the time here.
    Skewed {
        /// In the signature, as it was written.
        signed: String,
        /// Milliseconds since 1970 on this server.
        now_ms: u64,
    },
    /// It was good until then.
    Expired {
        /// Milliseconds since 1970.
        until_ms: u64,
        /// Milliseconds since 1970 on this server.
        now_ms: u64,
    },
    /// It is not the signature of this request with this key pair.
    Mismatch,
}

impl std::fmt::Debug for KeyPair {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("KeyPair").field("user", &self.user).finish_non_exhaustive()
    }
}

/// The pairs of a query, decoded; what is no text is left out.
pub(crate) fn decoded_pairs(query: &str) -> impl Iterator<Item = (String, String)> {
    let text = |part| String::from_utf8(canonical::decoded(part)).ok();
    canonical::pairs(query).filter_map(move |(name, value)| Some((text(name)?, text(value)?)))
}

#[cfg(test)]
mod tests;
