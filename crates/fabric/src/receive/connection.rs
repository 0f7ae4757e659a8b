//! One connection of a receiver: chunks in, answers out.

use std::io::BufReader;
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use super::{Event, Hub, LINGER_MS, summary};
use crate::error::{Error, Result};
use crate::handshake::answer;
use crate::link::{Opener, Sealer, fill};
use crate::parts::Buffer;
use crate::transfer::Transfer;
use crate::wire::{ALIVE_EVERY_MS, Frame, Hash};

/// How long a stranger may take to show who they are.
const HANDSHAKE_MS: u64 = 3_000;
/// A sender that says nothing for so long is gone.
const IDLE_MS: u64 = 15_000;
/// How often a reader looks at the time.
const TICK_MS: u64 = 50;
/// How long an answer may wait for a full socket.
const WRITE_MS: u64 = 5_000;
/// Answers that wait to be written; the reader waits when there are more.
const ANSWERS_MAX: usize = 64;
/// Bytes that are taken from the socket and hashed at once.
const PIECE_BYTES: usize = 256 << 10;

/// What the writer of a connection is told.
enum Answer {
    Frame(Frame),
    /// From now on, what becomes durable of this transfer is to be told.
    Joined(Arc<Transfer>),
}

pub(super) fn serve(hub: &Hub, socket: &TcpStream, report: &(dyn Fn(Event) + Sync)) -> Result<()> {
    let failed = |source| Error::Transport { what: "set up a connection", source };
    let timeout = |ms| Some(Duration::from_millis(ms));
    socket
        .set_nonblocking(false)
        .and_then(|()| socket.set_nodelay(true))
        .and_then(|()| socket.set_read_timeout(timeout(HANDSHAKE_MS)))
        .and_then(|()| socket.set_write_timeout(timeout(WRITE_MS)))
        .map_err(failed)?;
    let mut shaken = socket;
    let (sealer, opener) = answer(&mut shaken, &hub.token, &hub.machine.nonces.draw())?;
    socket.set_read_timeout(timeout(TICK_MS)).map_err(failed)?;
    let (answers, to_write) = sync_channel(ANSWERS_MAX);
    std::thread::scope(|scope| {
        scope.spawn(move || write_answers(socket, sealer, &to_write));
        let mut reader = Reader { hub, opener, from: BufReader::new(socket), answers, report, chunk: Buffer::new(0) };
        let ended = reader.run();
        if let Err(error) = &ended {
            // The writer may be gone; then nobody listens.
            let _ = reader.answers.send(Answer::Frame(refusal(error)));
        }
        match ended {
            Err(Error::Closed) | Ok(()) => Ok(()),
            other => other,
        }
    })
}

/// What the peer is told of an error: that it was ours to fix or theirs, and the words where they are theirs.
fn refusal(error: &Error) -> Frame {
    let kind = error.kind();
    let message = match error {
        Error::Refused { message, .. } => message.clone(),
        Error::File { what, source, .. } => format!("cannot {what} a file there: {source}"),
        other => other.to_string(),
    };
    Frame::Refused { kind, message }
}

/// Writes until the reader is gone and everything is said.
fn write_answers(socket: &TcpStream, mut sealer: Sealer, answers: &Receiver<Answer>) {
    let mut scratch = Vec::new();
    let mut transfer: Option<Arc<Transfer>> = None;
    let mut seen = 0;
    loop {
        let mut frames = Vec::with_capacity(2);
        let answer = answers.recv_timeout(Duration::from_millis(ALIVE_EVERY_MS));
        if let Some(transfer) = &transfer {
            let numbers = transfer.durable_since(seen);
            seen += numbers.len();
            if !numbers.is_empty() {
                frames.push(Frame::Durable { numbers });
            }
        }
        match answer {
            Ok(Answer::Frame(frame)) => frames.push(frame),
            Ok(Answer::Joined(joined)) => transfer = Some(joined),
            Err(RecvTimeoutError::Timeout) => frames.push(Frame::Alive),
            Err(RecvTimeoutError::Disconnected) => break,
        }
        let mut to = socket;
        if frames.iter().any(|frame| sealer.write(frame, &mut to, &mut scratch).is_err()) {
            break;
        }
    }
    // Ends the reader too, if it is the writer that failed.
    let _ = socket.shutdown(Shutdown::Both);
}

struct Reader<'a> {
    hub: &'a Hub,
    opener: Opener,
    from: BufReader<&'a TcpStream>,
    answers: SyncSender<Answer>,
    report: &'a (dyn Fn(Event) + Sync),
    chunk: Buffer,
}

impl Reader<'_> {
    fn run(&mut self) -> Result<()> {
        let transfer = self.join()?;
        self.chunk = Buffer::new(transfer.manifest().chunk_bytes() as usize);
        loop {
            match self.next()? {
                Frame::Alive => {}
                Frame::Chunk { number, length } => self.take_chunk(&transfer, number, length)?,
                Frame::Finish => match transfer.finish()? {
                    Some(root) => {
                        self.say(Frame::Done { root })?;
                        (self.report)(Event::Done { transfer: summary(transfer.manifest()), root });
                    }
                    None => self.say(transfer.have())?,
                },
                other => return Err(Error::malformed("frame", format!("{other:?} from a sender"))),
            }
        }
    }

    fn join(&mut self) -> Result<Arc<Transfer>> {
        let Frame::Join { transfer: id } = self.next()? else {
            return Err(Error::malformed("frame", "a connection begins with join"));
        };
        let transfer = match self.hub.known(&id) {
            Some(transfer) => transfer,
            None => {
                self.say(Frame::Want)?;
                let Frame::Manifest { bytes } = self.next()? else {
                    return Err(Error::malformed("frame", "the manifest was asked for"));
                };
                self.hub.open(&id, &bytes)?
            }
        };
        let (summary, progress) = (summary(transfer.manifest()), Arc::clone(transfer.progress()));
        (self.report)(Event::Began { transfer: summary, progress });
        self.say(transfer.have())?;
        self.answers.send(Answer::Joined(Arc::clone(&transfer))).map_err(|_| Error::Closed)?;
        Ok(transfer)
    }

    fn take_chunk(&mut self, transfer: &Transfer, number: u32, length: u32) -> Result<()> {
        let place = transfer.manifest().place(number).filter(|place| place.length == length);
        if place.is_none() {
            return Err(Error::malformed("frame chunk", format!("number {number} of {length} bytes")));
        }
        let mut hasher = blake3::Hasher::new();
        for piece in self.chunk.first_mut(length as usize).chunks_mut(PIECE_BYTES) {
            fill(&mut self.from, piece, &mut patience(self.hub))?;
            hasher.update(piece);
        }
        let Frame::End { number: ended, hash } = self.next()? else {
            return Err(Error::malformed("frame", "a chunk has no end"));
        };
        if ended != number {
            return Err(Error::malformed("frame end", format!("chunk {ended} behind chunk {number}")));
        }
        self.settle(transfer, number, &hash, hasher.finalize())
    }

    fn settle(&self, transfer: &Transfer, number: u32, said: &Hash, found: blake3::Hash) -> Result<()> {
        if found != blake3::Hash::from_bytes(*said) {
            return self.say(Frame::Bad { number });
        }
        let length = transfer.manifest().place(number).map_or(0, |place| place.length as usize);
        transfer.receive(number, self.chunk.first(length), said)?;
        self.say(Frame::Received { number })
    }

    fn next(&mut self) -> Result<Frame> {
        self.opener.open(&mut self.from, &mut patience(self.hub))
    }

    fn say(&self, frame: Frame) -> Result<()> {
        self.answers.send(Answer::Frame(frame)).map_err(|_| Error::Closed)
    }
}

/// Waits for a sender that is quiet, within limits.
fn patience(hub: &Hub) -> impl FnMut() -> Result<()> + '_ {
    let start_us = hub.machine.clock.monotonic_us();
    move || {
        let silent_ms = (hub.machine.clock.monotonic_us() - start_us) / 1_000;
        if silent_ms >= IDLE_MS {
            return Err(Error::Silent { silent_ms });
        }
        if hub.is_stopped() && silent_ms >= LINGER_MS { Err(Error::Stopped) } else { Ok(()) }
    }
}
