//! Which streams are still heard, and whose silence counts. Pure: listeners report what they hear and what they do not.
//!
//! A peer says something on every connection every [`ALIVE_EVERY_MS`](crate::wire::ALIVE_EVERY_MS), so silence means
//! something. It does not always mean the network: on a loaded machine threads of either end may rest for longer. Three
//! rules keep that apart:
//!
//! * silence is counted in waits that ended without a byte, not in time that passed: a listener that did not run does
//!   not count the time against its peer;
//! * a plane is silent when none of its streams is heard while another plane's are: a peer that rests is silent on all;
//! * one stream alone, beside others that are heard, gets much longer.

/// A plane that was not heard for so long while another was is silent: the others carry its chunks.
pub const SILENT_MS: u64 = 120;
/// A stream that was not heard for so long while others on its own plane were is silent.
pub const STUCK_MS: u64 = 1_000;
/// A stream that was not heard for so long is given up, and connects again.
pub const DEAD_MS: u64 = 3_000;
/// Who was heard within so long speaks.
const SPEAKS_MS: u64 = 60;

/// How long every stream of a transfer was not heard. Stream `s` lies on plane `s % planes`.
#[derive(Debug)]
pub struct Hearing {
    planes: usize,
    /// [streams]; `None`: not connected.
    quiet_ms: Vec<Option<u64>>,
}

impl Hearing {
    /// No stream is connected.
    #[must_use]
    pub fn new(streams: usize, planes: usize) -> Self {
        Self { planes, quiet_ms: vec![None; streams] }
    }

    /// A stream was heard, for the first time or again.
    pub fn heard(&mut self, stream: usize) {
        self.quiet_ms[stream] = Some(0);
    }

    /// A stream's connection ended.
    pub fn lost(&mut self, stream: usize) {
        self.quiet_ms[stream] = None;
    }

    /// Someone listened to a stream for `ms` and heard nothing. How long that is by now.
    pub fn quiet(&mut self, stream: usize, ms: u64) -> u64 {
        let quiet_ms = self.quiet_ms[stream].unwrap_or(0) + ms;
        self.quiet_ms[stream] = Some(quiet_ms);
        quiet_ms
    }

    /// Whether others should carry what this stream holds.
    #[must_use]
    pub fn is_silent(&self, stream: usize) -> bool {
        let Some(own_ms) = self.quiet_ms[stream] else { return true };
        let plane = stream % self.planes;
        let on_plane_ms = self.quiet_ms.iter().skip(plane).step_by(self.planes).flatten().min();
        let speaks = |other: usize| self.quiet_ms[other].is_some_and(|quiet_ms| quiet_ms < SPEAKS_MS);
        let mut others = (0..self.quiet_ms.len()).filter(|&other| other != stream && speaks(other));
        if own_ms >= STUCK_MS {
            return others.next().is_some();
        }
        on_plane_ms.is_some_and(|&ms| ms >= SILENT_MS) && others.any(|other| other % self.planes != plane)
    }
}

const _: () = assert!(2 * crate::wire::ALIVE_EVERY_MS <= SPEAKS_MS && SPEAKS_MS < SILENT_MS);

#[cfg(test)]
mod tests {
    use super::{Hearing, SILENT_MS, STUCK_MS};

    /// Four streams on two planes, all heard: 0 and 2 on the first plane, 1 and 3 on the second.
    fn four() -> Hearing {
        let mut hearing = Hearing::new(4, 2);
        (0..4).for_each(|stream| hearing.heard(stream));
        hearing
    }

    fn silent(hearing: &Hearing) -> Vec<usize> {
        (0..4).filter(|&stream| hearing.is_silent(stream)).collect()
    }

    #[test]
    fn a_dead_plane_is_silent_beside_a_living_one() {
        let mut hearing = four();
        hearing.quiet(0, SILENT_MS);
        assert_eq!(silent(&hearing), [0; 0], "its neighbour is heard");
        hearing.quiet(2, SILENT_MS - 1);
        assert_eq!(silent(&hearing), [0; 0]);
        hearing.quiet(2, 1);
        assert_eq!(silent(&hearing), [0, 2]);
        hearing.heard(2);
        assert_eq!(silent(&hearing), [0; 0]);
    }

    #[test]
    fn a_peer_that_rests_is_silent_everywhere_and_nobody_is_blamed() {
        let mut hearing = four();
        for _ in 0..10 {
            for stream in 0..4 {
                hearing.quiet(stream, SILENT_MS);
            }
        }
        assert_eq!(silent(&hearing), [0; 0]);
    }

    #[test]
    fn one_stream_that_hangs_is_left_after_longer() {
        let mut hearing = four();
        assert_eq!(hearing.quiet(3, STUCK_MS - 1), STUCK_MS - 1);
        assert_eq!(silent(&hearing), [0; 0]);
        hearing.quiet(3, 1);
        assert_eq!(silent(&hearing), [3]);
    }

    #[test]
    fn a_lost_connection_neither_speaks_nor_is_heard() {
        let mut hearing = four();
        hearing.lost(1);
        hearing.lost(3);
        hearing.quiet(0, SILENT_MS);
        hearing.quiet(2, SILENT_MS);
        assert_eq!(silent(&hearing), [1, 3], "nobody else could carry the chunks of the first plane");
    }
}
