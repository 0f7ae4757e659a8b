//! Two things at once, when they are long.

use std::panic::resume_unwind;
use std::sync::{Mutex, PoisonError};
use std::thread::{Builder, scope};

/// Reading so many bytes takes longer than a thread takes to start and to be waited for.
const LONG_BYTES: usize = 256 << 10;

/// Does both, side by side if one of them reads so many bytes that it pays. Waits for both, so a thread that serves
/// requests does not call it.
///
/// # Panics
/// As the two do.
pub fn both<A: Send, B>(bytes: usize, one: impl FnOnce() -> A + Send, other: impl FnOnce() -> B) -> (A, B) {
    if bytes < LONG_BYTES {
        return (one(), other());
    }
    let one = Mutex::new(Some(one));
    let run_one = || {
        let one = one.lock().unwrap_or_else(PoisonError::into_inner).take();
        one.expect("it is done in one place")()
    };
    scope(|scope| match Builder::new().name("both".to_owned()).spawn_scoped(scope, run_one) {
        Ok(thread) => {
            let other = other();
            (thread.join().unwrap_or_else(|panic| resume_unwind(panic)), other)
        }
        // The system has no thread to give.
        Err(_) => (run_one(), other()),
    })
}

#[cfg(test)]
mod tests {
    use super::{LONG_BYTES, both};

    #[test]
    fn both_are_done_whatever_their_length() {
        for bytes in [0, LONG_BYTES] {
            let mut seen = 0;
            let answers = both(bytes, || "one", || std::mem::replace(&mut seen, 2));
            assert_eq!((answers, seen), (("one", 0), 2));
        }
    }

    #[test]
    #[should_panic(expected = "a bug of ours")]
    fn a_panic_is_passed_on() {
        both(LONG_BYTES, || panic!("a bug of ours"), || ());
    }
}
