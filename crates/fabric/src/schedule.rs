//! Which chunk travels on which stream. Pure: streams ask for work and report what became of it.
//!
//! Chunks go out in their order, those that have to go again before new ones. A stream holds at most one chunk's length
//! of bytes that are not received, many small files or one large chunk: that is what a killed peer costs. A stream that
//! falls silent keeps what it holds and gets nothing new, and the others may take the same chunks.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::manifest::Manifest;

/// How often one chunk may arrive damaged before the transfer ends.
pub const DAMAGED_MAX: u32 = 8;

/// What is known of a chunk, in rising order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum State {
    Waiting,
    /// A stream began to send it.
    Begun,
    Received,
    Durable,
}

#[derive(Debug, Clone, Default)]
struct Stream {
    held: Vec<u32>,
    held_bytes: u64,
    silent: bool,
}

/// The chunks of a transfer and who carries them.
#[derive(Debug)]
pub struct Schedule {
    manifest: Arc<Manifest>,
    states: Vec<State>,
    /// Every chunk before this one was taken at least once, or was there.
    next: u32,
    again: VecDeque<u32>,
    streams: Vec<Stream>,
    damaged: HashMap<u32, u32>,
    /// The memories of receivers that answered a `join`.
    memories: Vec<u64>,
    count: Count,
}

/// Bytes by what became of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Count {
    /// Handed to streams, also twice.
    pub sent: u64,
    /// Handed to streams though they had been before.
    pub resent: u64,
    /// Checked and written by the receiver, or there before.
    pub received: u64,
    /// On the receiver's disk.
    pub durable: u64,
}

impl Schedule {
    /// Nothing is sent yet.
    #[must_use]
    pub fn new(manifest: Arc<Manifest>, streams: usize) -> Self {
        Self {
            states: vec![State::Waiting; manifest.chunks() as usize],
            manifest,
            next: 0,
            again: VecDeque::new(),
            streams: vec![Stream::default(); streams],
            damaged: HashMap::new(),
            memories: Vec::new(),
            count: Count::default(),
        }
    }

    /// What became of the bytes so far.
    #[must_use]
    pub fn count(&self) -> Count {
        self.count
    }

    /// Whether the receiver has every chunk.
    #[must_use]
    pub fn all_received(&self) -> bool {
        self.count.received == self.manifest.bytes()
    }

    /// The next chunk for a stream, if there is one and its window is open.
    pub fn take(&mut self, stream: usize) -> Option<u32> {
        if self.streams[stream].silent {
            return None;
        }
        while let Some(&number) = self.again.front() {
            if self.states[number as usize] >= State::Received || self.streams[stream].held.contains(&number) {
                self.again.pop_front();
                continue;
            }
            return self.hold(stream, number).then(|| self.again.pop_front()).flatten();
        }
        while self.next < self.manifest.chunks() {
            if self.states[self.next as usize] == State::Waiting {
                let number = self.next;
                if !self.hold(stream, number) {
                    return None;
                }
                self.next += 1;
                return Some(number);
            }
            self.next += 1;
        }
        None
    }

    fn hold(&mut self, stream: usize, number: u32) -> bool {
        let length = self.length(number);
        let stream = &mut self.streams[stream];
        if stream.held_bytes > 0 && stream.held_bytes + length > u64::from(self.manifest.chunk_bytes()) {
            return false;
        }
        stream.held.push(number);
        stream.held_bytes += length;
        self.count.sent += length;
        let state = &mut self.states[number as usize];
        if *state == State::Waiting {
            *state = State::Begun;
        } else {
            self.count.resent += length;
        }
        true
    }

    /// The receiver has written a chunk. Whether that was news.
    ///
    /// # Errors
    /// If there is no such chunk.
    pub fn received(&mut self, number: u32) -> Result<bool> {
        self.check(number)?;
        let length = self.length(number);
        for stream in &mut self.streams {
            if let Some(at) = stream.held.iter().position(|&held| held == number) {
                stream.held.swap_remove(at);
                stream.held_bytes -= length;
            }
        }
        let news = self.states[number as usize] < State::Received;
        if news {
            self.states[number as usize] = State::Received;
            self.count.received += length;
        }
        Ok(news)
    }

    /// A chunk is on the receiver's disk.
    ///
    /// # Errors
    /// If there is no such chunk.
    pub fn durable(&mut self, number: u32) -> Result<()> {
        self.received(number)?;
        if self.states[number as usize] < State::Durable {
            self.states[number as usize] = State::Durable;
            self.count.durable += self.length(number);
        }
        Ok(())
    }

    /// A chunk arrived damaged.
    ///
    /// # Errors
    /// If there is no such chunk, or it happens too often.
    pub fn damaged(&mut self, stream: usize, number: u32) -> Result<()> {
        self.check(number)?;
        let times = self.damaged.entry(number).or_default();
        *times += 1;
        if *times >= DAMAGED_MAX {
            return Err(Error::Damaged { number, times: *times });
        }
        let length = self.length(number);
        let stream = &mut self.streams[stream];
        if let Some(at) = stream.held.iter().position(|&held| held == number) {
            stream.held.swap_remove(at);
            stream.held_bytes -= length;
        }
        self.again.push_back(number);
        Ok(())
    }

    /// Nothing was heard on a stream: others may take what it holds.
    pub fn silent(&mut self, stream: usize) {
        if !std::mem::replace(&mut self.streams[stream].silent, true) {
            self.again.extend(&self.streams[stream].held);
        }
    }

    /// Whether a stream is silent.
    #[must_use]
    pub fn is_silent(&self, stream: usize) -> bool {
        self.streams[stream].silent
    }

    /// A silent stream speaks again.
    pub fn heard(&mut self, stream: usize) {
        self.streams[stream].silent = false;
    }

    /// A stream's connection ended.
    pub fn lost(&mut self, stream: usize) {
        let lost = std::mem::take(&mut self.streams[stream]);
        self.again.extend(lost.held);
    }

    /// What a receiver has that answered a `join`. If its memory is new, what it does not have is sent again.
    ///
    /// # Errors
    /// If it speaks of another number of chunks.
    pub fn have(&mut self, memory: u64, chunks: u32, bits: &[u8]) -> Result<()> {
        if !self.memories.contains(&memory) {
            self.lacks(chunks, bits)?;
            self.memories.push(memory);
        }
        self.has(chunks, bits)
    }

    /// What a receiver has that was asked to finish: the rest is sent again.
    ///
    /// # Errors
    /// If it speaks of another number of chunks.
    pub fn lacks(&mut self, chunks: u32, bits: &[u8]) -> Result<()> {
        self.check_count(chunks)?;
        for number in 0..chunks {
            if !is_set(bits, number) && self.states[number as usize] >= State::Received {
                let length = self.length(number);
                self.count.received -= length;
                if self.states[number as usize] == State::Durable {
                    self.count.durable -= length;
                }
                self.states[number as usize] = State::Begun;
                self.again.push_back(number);
            }
        }
        Ok(())
    }

    fn has(&mut self, chunks: u32, bits: &[u8]) -> Result<()> {
        self.check_count(chunks)?;
        (0..chunks).filter(|&number| is_set(bits, number)).try_for_each(|number| self.received(number).map(drop))
    }

    fn check_count(&self, chunks: u32) -> Result<()> {
        if chunks == self.manifest.chunks() {
            return Ok(());
        }
        Err(Error::malformed("frame have", format!("{chunks} chunks of {}", self.manifest.chunks())))
    }

    fn check(&self, number: u32) -> Result<()> {
        if number < self.manifest.chunks() {
            return Ok(());
        }
        Err(Error::malformed("frame", format!("chunk {number} of {}", self.manifest.chunks())))
    }

    fn length(&self, number: u32) -> u64 {
        self.manifest.place(number).map_or(0, |place| u64::from(place.length))
    }
}

fn is_set(bits: &[u8], number: u32) -> bool {
    bits[number as usize / 8] >> (number % 8) & 1 == 1
}

#[cfg(test)]
mod tests;
