//! The two ends of a transfer, in one process.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use base::{Clock, Rng};
use fabric::receive::Event;
use fabric::{Error, Machine, Nonces, Progress, Receiver, ReceiverOptions, SendOptions, Sent, Token, send};

struct RealClock(Instant);

impl Clock for RealClock {
    fn now_ms(&self) -> u64 {
        0
    }

    fn monotonic_us(&self) -> u64 {
        self.0.elapsed().as_micros() as u64
    }
}

#[expect(clippy::disallowed_methods, reason = "what is tested is how real sockets behave in real time")]
pub(crate) fn machine(seed: u8) -> Machine {
    Machine { clock: Arc::new(RealClock(Instant::now())), nonces: Arc::new(Nonces::seeded([seed; 32])) }
}

pub(crate) fn token() -> Token {
    Token::new("the token of the tests").unwrap()
}

pub(crate) const CHUNK: u32 = 64 << 10;

/// Runs a receiver on as many ports as `planes`, hands their addresses to `body`, and stops it.
pub(crate) fn with_receiver<T>(
    target: &Path,
    options: ReceiverOptions,
    planes: usize,
    body: impl FnOnce(&[SocketAddr]) -> T,
) -> (T, Vec<String>) {
    let listen = vec!["127.0.0.1:0".parse().unwrap(); planes];
    let receiver = Receiver::bind(target, &listen, options, token(), machine(2)).unwrap();
    let events = Mutex::new(Vec::new());
    let report = |event: Event| {
        let line = match event {
            Event::Began { transfer, .. } => format!("began {}", transfer.name),
            Event::Done { transfer, .. } => format!("done {} {}", transfer.name, transfer.bytes),
            Event::Failed { error, .. } => format!("failed {error}"),
        };
        events.lock().unwrap().push(line);
    };
    let result = std::thread::scope(|scope| {
        let running = scope.spawn(|| receiver.run(&report));
        let addresses = receiver.addresses().unwrap();
        let result = body(&addresses);
        receiver.stop();
        running.join().unwrap().unwrap();
        result
    });
    (result, events.into_inner().unwrap())
}

pub(crate) fn options(planes: &[SocketAddr]) -> SendOptions {
    SendOptions { planes: planes.to_vec(), streams_per_plane: 2, chunk_bytes: CHUNK, ..SendOptions::default() }
}

pub(crate) fn send_to(path: &Path, options: &SendOptions) -> Result<Sent, Error> {
    send(path, options, &token(), &machine(1), &Progress::default())
}

/// A file of random bytes.
pub(crate) fn write_random(path: &Path, bytes: usize) -> Vec<u8> {
    let mut rng = Rng::seeded(bytes as u64);
    let content: Vec<u8> = (0..bytes.div_ceil(8)).flat_map(|_| rng.next_u64().to_le_bytes()).take(bytes).collect();
    std::fs::write(path, &content).unwrap();
    content
}
