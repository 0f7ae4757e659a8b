//! When the pieces of one answer came, in as few numbers as a picture needs.

use serde::Serialize;

/// Times that are kept of one answer.
const MARKS_MAX: usize = 256;

/// The times of an answer's pieces. Memory is bounded: when there are more than 256, every second one is forgotten, and
/// from then on only every second is kept. The longest pause and how many there were stay exact.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Steps {
    /// Pieces of text, of thought or of a call.
    pieces: u32,
    /// Between two of the kept times there are so many pieces.
    every: u32,
    /// Microseconds from the arrival of the request.
    at_us: Vec<u64>,
    /// The longest time between two pieces that followed each other.
    longest_us: u64,
    /// When it was over.
    longest_at_us: u64,
    #[serde(skip)]
    last_us: u64,
}

impl Default for Steps {
    fn default() -> Self {
        Self { pieces: 0, every: 1, at_us: Vec::new(), longest_us: 0, longest_at_us: 0, last_us: 0 }
    }
}

impl Steps {
    /// A piece came now.
    pub(super) fn piece(&mut self, now_us: u64) {
        let pause_us = now_us.saturating_sub(self.last_us);
        if self.pieces > 0 && pause_us > self.longest_us {
            (self.longest_us, self.longest_at_us) = (pause_us, now_us);
        }
        self.last_us = now_us;
        if self.pieces.is_multiple_of(self.every) {
            self.at_us.push(now_us);
        }
        self.pieces = self.pieces.saturating_add(1);
        if self.at_us.len() > MARKS_MAX {
            let mut number = 0;
            self.at_us.retain(|_| {
                number += 1;
                number % 2 == 1
            });
            self.every *= 2;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{MARKS_MAX, Steps};

    #[test]
    fn few_times_are_kept_and_they_are_those_of_every_so_many_pieces() {
        for pieces in [0_u32, 1, 2, 255, 256, 257, 258, 1000, 100_003] {
            let mut steps = Steps::default();
            for number in 0..u64::from(pieces) {
                // One pause is longer than all others.
                steps.piece(10 * number + if number >= 200 { 77 } else { 0 });
            }
            assert_eq!(steps.pieces, pieces);
            assert!(steps.at_us.len() <= MARKS_MAX, "{pieces}");
            assert_eq!(steps.at_us.len(), pieces.div_ceil(steps.every) as usize, "{pieces}");
            for (mark, &at_us) in steps.at_us.iter().enumerate() {
                let number = mark as u64 * u64::from(steps.every);
                assert_eq!(at_us, 10 * number + if number >= 200 { 77 } else { 0 });
            }
            if pieces > 200 {
                assert_eq!((steps.longest_us, steps.longest_at_us), (87, 2077));
            }
        }
    }
}
