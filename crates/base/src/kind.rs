//! What the receiver of an error can do about it.

/// The nine kinds of failure. A tenth needs a decision page under `docs/decisions`.
///
/// Every library error maps itself to one kind with an exhaustive `match`, so a new cause has to choose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The request itself is wrong; sending it again unchanged cannot succeed.
    Invalid,
    /// Nobody we know: no key, or a key that does not check.
    Unauthenticated,
    /// Somebody we know, who may not do this.
    Forbidden,
    /// The thing named does not exist.
    NotFound,
    /// The thing named is in a state that excludes the request, for example it exists already.
    Conflict,
    /// A quota, budget or queue is used up; waiting or paying helps.
    Exhausted,
    /// A part is not reachable or not ready now; the same request may succeed later.
    Unavailable,
    /// Stored or received bytes are not what they must be.
    Corrupt,
    /// Our bug.
    Internal,
}

impl Kind {
    /// Whether the text of the error may be shown to the caller.
    ///
    /// `Internal` and `Corrupt` describe our side; a caller sees a request id instead.
    #[must_use]
    pub fn is_public(self) -> bool {
        !matches!(self, Self::Internal | Self::Corrupt)
    }
}

#[cfg(test)]
mod tests {
    use super::Kind;

    #[test]
    fn our_own_faults_are_not_shown() {
        assert!(!Kind::Internal.is_public());
        assert!(!Kind::Corrupt.is_public());
        assert!(Kind::Invalid.is_public());
        assert!(Kind::Unavailable.is_public());
    }
}
