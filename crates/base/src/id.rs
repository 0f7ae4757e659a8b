//! Names of things, so that one kind of id is never taken for another.

use std::fmt;

use crate::Rng;

/// Names one request from the wire to the log. 96 random bits, written as 24 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct RequestId(u128);

impl RequestId {
    const BITS: u32 = 96;

    /// Draws a new id.
    pub fn random(rng: &mut Rng) -> Self {
        let wide = (u128::from(rng.next_u64()) << 64) | u128::from(rng.next_u64());
        Self(wide >> (u128::BITS - Self::BITS))
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:024x}", self.0)
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

#[cfg(test)]
mod tests {
    use super::RequestId;
    use crate::Rng;

    #[test]
    fn ids_are_24_digits_and_follow_the_seed() {
        let one = RequestId::random(&mut Rng::seeded(7)).to_string();
        let same = RequestId::random(&mut Rng::seeded(7)).to_string();
        let other = RequestId::random(&mut Rng::seeded(8)).to_string();
        assert_eq!(one.len(), 24);
        assert_eq!(one, same);
        assert_ne!(one, other);
    }
}
