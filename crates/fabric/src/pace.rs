//! How fast to send: a bucket that fills with the rate.

/// Bytes that may be sent at once after a rest, in microseconds of the rate.
const BURST_US: u64 = 5_000;

/// A token bucket over all streams of a transfer. Pure: the caller brings the time and does the waiting.
#[derive(Debug)]
pub struct Pace {
    bytes_per_s: u64,
    /// When the bytes that were granted so far are through at the rate.
    through_us: u64,
}

impl Pace {
    /// A bucket for a rate above zero.
    #[must_use]
    pub fn new(bytes_per_s: u64) -> Self {
        Self { bytes_per_s: bytes_per_s.max(1), through_us: 0 }
    }

    /// Grants `bytes`, and says how many microseconds to wait before they are sent.
    pub fn grant(&mut self, bytes: u64, now_us: u64) -> u64 {
        let earliest_us = now_us.saturating_sub(BURST_US);
        self.through_us = self.through_us.max(earliest_us);
        let start_us = self.through_us;
        let takes_us = u128::from(bytes) * 1_000_000 / u128::from(self.bytes_per_s);
        self.through_us = start_us.saturating_add(u64::try_from(takes_us).unwrap_or(u64::MAX));
        start_us.saturating_sub(now_us)
    }
}

#[cfg(test)]
mod tests {
    use super::Pace;

    #[test]
    fn a_second_carries_the_rate_and_a_rest_is_not_saved_up() {
        let mut pace = Pace::new(1_000_000);
        let (mut now_us, mut sent) = (10_000_000, 0);
        while now_us < 11_000_000 {
            now_us += pace.grant(10_000, now_us);
            sent += 10_000;
        }
        assert!((990_000..=1_030_000).contains(&sent), "{sent} bytes in a second of a million");
        now_us += 60_000_000;
        let burst = (0..100).take_while(|_| pace.grant(1_000, now_us) == 0).count();
        assert!(burst <= 6, "{burst} kB at once after a minute's rest");
    }

    #[test]
    fn absurd_numbers_do_not_overflow() {
        let mut pace = Pace::new(0);
        assert_eq!(pace.grant(u64::MAX, 0), 0);
        assert!(pace.grant(u64::MAX, 1) > 0);
    }
}
