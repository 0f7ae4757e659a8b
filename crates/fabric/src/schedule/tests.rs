use std::sync::Arc;

use base::Rng;
use proptest::prelude::*;

use super::{DAMAGED_MAX, Schedule};
use crate::manifest::{Entry, Manifest};

const CHUNK: u64 = 1 << 16;

fn schedule(sizes: &[u64], streams: usize) -> Schedule {
    let entry =
        |(index, &size): (usize, &u64)| Entry { name: format!("{index:03}"), size, changed_ns: 0, executable: false };
    let entries = sizes.iter().enumerate().map(entry).collect();
    Schedule::new(Arc::new(Manifest::new(CHUNK as u32, entries).unwrap()), streams)
}

#[test]
fn a_stream_holds_one_chunk_or_many_small_files() {
    let mut schedule = schedule(&[2 * CHUNK, 100, 100, 100], 2);
    assert_eq!(schedule.take(0), Some(0));
    assert_eq!(schedule.take(0), None, "its window is full");
    assert_eq!(schedule.take(1), Some(1));
    assert!(schedule.received(1).unwrap());
    assert_eq!((schedule.take(1), schedule.take(1), schedule.take(1)), (Some(2), Some(3), Some(4)));
}

#[test]
fn a_silent_stream_keeps_its_chunk_and_the_others_carry_it_too() {
    let mut schedule = schedule(&[2 * CHUNK], 2);
    assert_eq!((schedule.take(0), schedule.take(1)), (Some(0), Some(1)));
    schedule.silent(0);
    schedule.silent(0);
    schedule.received(1).unwrap();
    assert_eq!(schedule.take(0), None, "nothing new for a silent stream");
    assert_eq!((schedule.take(1), schedule.take(1)), (Some(0), None));
    assert_eq!(schedule.count().resent, CHUNK);
    schedule.heard(0);
    assert!(schedule.received(0).unwrap());
    assert!(!schedule.received(0).unwrap(), "the second copy is no news");
    assert!(schedule.all_received());
}

#[test]
fn a_chunk_that_is_always_damaged_ends_the_transfer() {
    let mut schedule = schedule(&[10], 1);
    for _ in 1..DAMAGED_MAX {
        assert_eq!(schedule.take(0), Some(0));
        schedule.damaged(0, 0).unwrap();
    }
    assert!(schedule.damaged(0, 0).is_err());
}

#[test]
fn a_receiver_that_lost_everything_gets_it_again() {
    let mut schedule = schedule(&[3 * CHUNK], 1);
    assert_eq!(schedule.take(0), Some(0));
    schedule.durable(0).unwrap();
    schedule.have(1, 3, &[0b100]).unwrap();
    assert_eq!(schedule.count().received, CHUNK);
    assert_eq!(schedule.count().durable, 0);
    assert_eq!(schedule.take(0), Some(0));
    schedule.received(0).unwrap();
    assert_eq!(schedule.take(0), Some(1));
    schedule.received(1).unwrap();
    assert!(schedule.all_received());
    assert!(schedule.have(1, 4, &[0]).is_err());
    assert!(schedule.received(3).is_err());
}

#[test]
fn an_older_view_of_the_same_receiver_takes_nothing_back() {
    let mut schedule = schedule(&[3 * CHUNK], 2);
    schedule.have(1, 3, &[0]).unwrap();
    assert_eq!(schedule.take(0), Some(0));
    schedule.received(0).unwrap();
    schedule.have(1, 3, &[0]).unwrap();
    assert_eq!(schedule.count().received, CHUNK, "the second stream's answer was written before the first chunk came");
    assert_eq!((schedule.take(0), schedule.take(1)), (Some(1), Some(2)));
    schedule.lacks(3, &[0b110]).unwrap();
    assert_eq!(schedule.count().received, 0, "chunk 0 is lost there, 1 and 2 were never received");
}

proptest! {
    /// Whatever happens to streams, everything arrives, and nothing is sent again without a reason.
    #[test]
    fn everything_arrives(seed in any::<u64>(), sizes in proptest::collection::vec(0_u64..5 * CHUNK, 1..8)) {
        let mut rng = Rng::seeded(seed);
        let mut schedule = schedule(&sizes, 3);
        let mut flying: Vec<(usize, u32)> = Vec::new();
        let mut disturbed = false;
        for turn in 0.. {
            prop_assert!(turn < 100_000, "it does not end");
            if schedule.all_received() {
                break;
            }
            let stream = rng.below(3) as usize;
            match rng.below(12) {
                0 if turn < 500 => {
                    flying.retain(|flight| flight.0 != stream);
                    schedule.lost(stream);
                    disturbed = true;
                }
                1 if turn < 500 => {
                    schedule.silent(stream);
                    disturbed = true;
                }
                2 => schedule.heard(stream),
                3..=6 => flying.extend(schedule.take(stream).map(|number| (stream, number))),
                _ if !flying.is_empty() => {
                    let (_, number) = flying.swap_remove(rng.below(flying.len() as u64) as usize);
                    schedule.received(number).unwrap();
                }
                _ => {}
            }
        }
        let count = schedule.count();
        prop_assert_eq!(count.received, sizes.iter().sum::<u64>());
        prop_assert!(count.sent - count.resent <= count.received);
        prop_assert!(disturbed || count.resent == 0);
    }
}
