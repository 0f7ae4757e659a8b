//! One connection of a sender: chunks out, answers in.

use std::io::{BufReader, Write as _};
use std::net::{Shutdown, TcpStream};
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::{Shared, Work};
use crate::error::{Error, Result};
use crate::handshake::call;
use crate::hearing::DEAD_MS;
use crate::link::{Opener, Sealer};
use crate::source::Reader;
use crate::wire::Frame;

/// How long a connection may take to be made.
const CONNECT_MS: u64 = 1_000;
/// How long a listener waits for a byte before it says that it heard nothing.
const TICK_MS: u64 = 20;
/// Bytes that are read, hashed and written at once: they stay in the processor's second cache.
const PIECE_BYTES: usize = 256 << 10;

/// Connects and works until the transfer ends (`Ok`) or the connection does.
pub(super) fn run(shared: &Shared<'_>, stream: usize) -> Result<()> {
    let address = shared.plane(stream);
    let failed = |what| move |source| Error::Socket { what, address, source };
    let mut socket =
        TcpStream::connect_timeout(&address, Duration::from_millis(CONNECT_MS)).map_err(failed("connect to"))?;
    let timeout = |ms| Some(Duration::from_millis(ms));
    socket
        .set_nodelay(true)
        .and_then(|()| socket.set_read_timeout(timeout(DEAD_MS)))
        .map_err(failed("set up the connection to"))?;
    shared.keep(stream, socket.try_clone().map_err(failed("set up the connection to"))?)?;
    let (sealer, opener) = call(&mut socket, shared.token, &shared.machine.nonces.draw())?;
    socket.set_read_timeout(timeout(TICK_MS)).map_err(failed("set up the connection to"))?;
    let mut listener = Listener { shared, stream, opener, from: BufReader::new(&socket) };
    let mut writer = Writer { shared, socket: &socket, sealer, scratch: Vec::new(), piece: Vec::new() };
    join(&mut writer, &mut listener)?;
    let broken = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let heard = scope.spawn(|| {
            let ended = listener.listen();
            broken.store(true, Ordering::Release);
            shared.changed.notify_all();
            // Wakes the writer, which may be stuck in a full socket.
            let _ = socket.shutdown(Shutdown::Both);
            ended
        });
        let written = writer.work(stream, &broken);
        let _ = socket.shutdown(Shutdown::Both);
        let heard = heard.join().unwrap_or(Err(Error::Stopped));
        if shared.is_over() {
            return Ok(());
        }
        // What the peer said explains more than a socket that broke.
        match (heard, written) {
            (Err(error), Ok(())) => Err(error),
            (Err(error), Err(_)) if !matches!(error, Error::Closed | Error::Transport { .. }) => Err(error),
            (_, written) => written,
        }
    })
}

/// Names the transfer, brings the manifest if it is not known, and hears what is there.
fn join(writer: &mut Writer<'_>, listener: &mut Listener<'_>) -> Result<()> {
    let shared = writer.shared;
    writer.write(&Frame::Join { transfer: shared.transfer })?;
    let mut was_asked = false;
    loop {
        match listener.next(false)? {
            Frame::Alive => {}
            Frame::Want if !was_asked => {
                was_asked = true;
                writer.write(&Frame::Manifest { bytes: shared.encoded.clone() })?;
            }
            Frame::Have { memory, chunks, bits } => {
                return shared.update(|state| {
                    state.schedule.have(memory, chunks, &bits)?;
                    if state.had_bytes.is_none() {
                        state.had_bytes = Some(state.schedule.count().received);
                    }
                    Ok(())
                });
            }
            Frame::Refused { kind, message } => return Err(Error::Refused { kind, message }),
            other => return Err(Error::malformed("answer to join", format!("{other:?}"))),
        }
    }
}

struct Writer<'a> {
    shared: &'a Shared<'a>,
    socket: &'a TcpStream,
    sealer: Sealer,
    scratch: Vec<u8>,
    piece: Vec<u8>,
}

impl Writer<'_> {
    fn work(&mut self, stream: usize, broken: &AtomicBool) -> Result<()> {
        let shared = self.shared;
        let mut reader = shared.source.reader();
        self.piece.resize(PIECE_BYTES, 0);
        loop {
            match shared.next(stream, broken)? {
                Work::Chunk(number) => self.chunk(number, &mut reader)?,
                Work::Finish => {
                    shared.source.check_unchanged(&shared.manifest)?;
                    self.write(&Frame::Finish)?;
                }
                Work::Greet => self.write(&Frame::Alive)?,
                Work::End => return Ok(()),
            }
        }
    }

    fn chunk(&mut self, number: u32, reader: &mut Reader<'_>) -> Result<()> {
        let place = self.shared.manifest.place(number).expect("the schedule knows the manifest");
        self.write(&Frame::Chunk { number, length: place.length })?;
        let mut hasher = blake3::Hasher::new();
        let mut offset = 0;
        while offset < place.length as usize {
            let length = PIECE_BYTES.min(place.length as usize - offset);
            let piece = &mut self.piece[..length];
            reader.read(place.file, place.offset + offset as u64, piece)?;
            hasher.update(piece);
            self.wait_for_the_pace(length as u64);
            let sent = self.socket.write_all(&self.piece[..length]);
            sent.map_err(|source| Error::Transport { what: "write to the peer", source })?;
            offset += length;
        }
        self.write(&Frame::End { number, hash: *hasher.finalize().as_bytes() })
    }

    fn wait_for_the_pace(&self, bytes: u64) {
        let Some(pace) = &self.shared.pace else { return };
        let now_us = self.shared.machine.clock.monotonic_us();
        let wait_us = pace.lock().unwrap_or_else(PoisonError::into_inner).grant(bytes, now_us);
        if wait_us > 0 {
            std::thread::sleep(Duration::from_micros(wait_us));
        }
    }

    fn write(&mut self, frame: &Frame) -> Result<()> {
        self.sealer.write(frame, &mut self.socket, &mut self.scratch)
    }
}

struct Listener<'a> {
    shared: &'a Shared<'a>,
    stream: usize,
    opener: Opener,
    from: BufReader<&'a TcpStream>,
}

impl Listener<'_> {
    /// Hears until the transfer ends, or the connection.
    fn listen(&mut self) -> Result<()> {
        let (shared, stream) = (self.shared, self.stream);
        loop {
            match self.next(true)? {
                Frame::Alive => {}
                Frame::Received { number } => {
                    shared.update(|state| state.schedule.received(number))?;
                }
                Frame::Durable { numbers } => {
                    shared.update(|state| numbers.iter().try_for_each(|&number| state.schedule.durable(number)))?;
                }
                Frame::Bad { number } => {
                    tracing::warn!(number, plane = %shared.plane(stream), "a chunk arrived damaged");
                    if let Err(error) = shared.update(|state| state.schedule.damaged(stream, number)) {
                        shared.end(Err(error));
                    }
                }
                Frame::Have { chunks, bits, .. } => shared.update(|state| {
                    state.finisher = None;
                    state.schedule.lacks(chunks, &bits)
                })?,
                Frame::Done { root } => {
                    shared.end(Ok(root));
                    return Ok(());
                }
                Frame::Refused { kind, message } => return Err(Error::Refused { kind, message }),
                other => return Err(Error::malformed("frame", format!("{other:?} from a receiver"))),
            }
        }
    }

    /// The next frame. With `hedge`, a silence lets other streams take this one's chunks.
    fn next(&mut self, hedge: bool) -> Result<Frame> {
        let (shared, stream) = (self.shared, self.stream);
        let mut is_silent = false;
        let mut idle = || {
            if shared.is_over() {
                return Err(Error::Stopped);
            }
            let mut state = shared.lock();
            let silent_ms = state.hearing.quiet(stream, TICK_MS);
            if hedge && !is_silent && state.hearing.is_silent(stream) {
                is_silent = true;
                state.schedule.silent(stream);
                if state.finisher == Some(stream) {
                    state.finisher = None;
                }
                drop(state);
                shared.changed.notify_all();
            }
            if silent_ms >= DEAD_MS { Err(Error::Silent { silent_ms }) } else { Ok(()) }
        };
        let frame = self.opener.open(&mut self.from, &mut idle)?;
        let mut state = shared.lock();
        state.hearing.heard(stream);
        if is_silent {
            state.schedule.heard(stream);
            drop(state);
            shared.changed.notify_all();
        }
        Ok(frame)
    }
}
