use std::fmt;
use std::sync::Arc;

use crate::{Error, Result};

/// The longest name of a bucket or an index; the limit of both vendors.
const NAME_BYTES_MAX: usize = 63;

/// Names a bucket: 3 to 63 characters of `a-z 0-9 . -`, the first and the last a letter or a digit.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BucketName(Arc<str>);

/// Names an index in its bucket: 1 to 63 characters of `A-Z a-z 0-9 . - _`, the first and the last a letter or a digit.
/// The vendors' dialects allow less, each something else.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IndexName(Arc<str>);

impl BucketName {
    /// Parses a name.
    ///
    /// # Errors
    /// If it breaks the rule.
    pub fn parse(text: &str) -> Result<Self> {
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'-');
        let fits = text.len() >= 3 && is_name(text, allowed);
        if fits { Ok(Self(text.into())) } else { Err(refused("bucket", text)) }
    }

    /// The text of the name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl IndexName {
    /// Parses a name.
    ///
    /// # Errors
    /// If it breaks the rule.
    pub fn parse(text: &str) -> Result<Self> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
        if is_name(text, allowed) { Ok(Self(text.into())) } else { Err(refused("index", text)) }
    }

    /// The text of the name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_name(text: &str, allowed: impl Fn(u8) -> bool) -> bool {
    let ends = [text.bytes().next(), text.bytes().next_back()];
    (1..=NAME_BYTES_MAX).contains(&text.len())
        && text.bytes().all(allowed)
        && ends.iter().all(|end| end.is_some_and(|byte| byte.is_ascii_alphanumeric()))
}

fn refused(field: &'static str, text: &str) -> Error {
    let shown: String = text.chars().take(80).collect();
    Error::Invalid { field, why: format!("{shown:?} is no name") }
}

impl fmt::Display for BucketName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl fmt::Debug for BucketName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

impl fmt::Display for IndexName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl fmt::Debug for IndexName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}
