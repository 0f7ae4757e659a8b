//! Files that another Sampan sends by the mover, over every network that leads here.
//!
//! Whoever pulls listens, and asks the other one to send there ([`crate::Source::send_to`]). What arrives grows in a
//! folder of the store, `.store/carried/KEY`, where the next try goes on; whole files are checked against their digests
//! like any others, and one that is not what was listed is fetched in the usual way.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use fabric::receive::Event as Arrival;
use fabric::{Progress, Receiver, ReceiverOptions, Token};

use crate::depot::{Stays, clear};
use crate::digest::{hash_file, hex};
use crate::error::{Error, Result};
use crate::pull::{Event, Fetch, Origin, Run, lock};
use crate::source::{Landing, Remote};

/// Where a pull listens for the mover.
#[derive(Clone)]
pub struct Planes {
    /// Addresses of this machine, one a network; port 0 is any that is free.
    pub listen: Vec<SocketAddr>,
    /// The time, and numbers that nobody can guess.
    pub machine: fabric::Machine,
}

/// Ends a receiver's run, also by a panic; whoever waits for its thread would wait forever.
struct Stop<'a>(&'a Receiver);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.stop();
    }
}

impl Run<'_> {
    /// Has the files sent here, and takes in those that are what was listed.
    pub(crate) fn carry(&self, planes: &Planes, fetches: &[Fetch<'_>]) -> Result<()> {
        if fetches.is_empty() {
            return Ok(());
        }
        let key = format!("{}\0{}\0{}", self.source.name(), self.listing.repository.id, self.listing.revision);
        let folder = self.depot.place("carried")?.join(blake3::hash(key.as_bytes()).to_hex().as_str());
        self.receive(planes, &folder, fetches)?;
        for fetch in fetches {
            self.take_in(&folder, fetch)?;
        }
        clear(&folder)
    }

    fn receive(&self, planes: &Planes, folder: &std::path::Path, fetches: &[Fetch<'_>]) -> Result<()> {
        let files: Vec<&Remote> = fetches.iter().map(|fetch| fetch.remote).collect();
        let bytes = files.iter().map(|file| file.size_bytes).sum();
        let secret = hex(&planes.machine.nonces.draw());
        let options = ReceiverOptions { discard: false, bytes_max: Some(bytes) };
        let token = Token::new(&secret)?;
        let receiver = Receiver::bind(folder, &planes.listen, options, token, planes.machine.clone())?;
        let landing = Landing { addresses: receiver.addresses()?, token: secret };
        let progress: Mutex<Option<Arc<Progress>>> = Mutex::default();
        let arrived = |event| {
            if let Arrival::Began { progress: begun, .. } = event {
                *lock(&progress) = Some(begun);
            }
        };
        let mut told = 0;
        let mut tick = || {
            let here = lock(&progress).as_ref().map_or(0, |progress| progress.received());
            (self.tell)(Event::Moved(here as i64 - told));
            told = here as i64;
            if self.is_stopped() { Err(Error::Stopped) } else { Ok(()) }
        };
        std::thread::scope(|scope| {
            let receiving = scope.spawn(|| receiver.run(&arrived));
            let stop = Stop(&receiver);
            let sent = self.source.send_to(self.listing, &files, &landing, &mut tick);
            drop(stop);
            let received = receiving.join().unwrap_or(Err(fabric::Error::Stopped));
            sent.and_then(|()| received.map_err(Error::Mover))?;
            tick()
        })
    }

    /// Moves a file into the store if it is the one that was listed.
    fn take_in(&self, folder: &std::path::Path, fetch: &Fetch<'_>) -> Result<()> {
        let Remote { path, size_bytes, digest } = fetch.remote;
        let carried = folder.join(path);
        let hashed = hash_file(&carried, *digest, &mut |_| ())?;
        if hashed.digest == *digest {
            let kept = self.depot.keep(&carried, &hashed.blake3, digest.as_ref(), Stays::No)?;
            *lock(&fetch.hash) = Some(kept);
            (self.tell)(Event::Whole { path, bytes: *size_bytes, origin: Origin::Fetched });
            return Ok(());
        }
        let kind = digest.map_or("", |digest| digest.kind());
        let [found, expected] = [hashed.digest, *digest].map(|digest| digest.map(|it| it.hex()).unwrap_or_default());
        let why = Error::Digest { file: path.clone(), kind, found, expected };
        (self.tell)(Event::Moved(-(*size_bytes as i64)));
        (self.tell)(Event::Corrupt { path, why: &why });
        Ok(())
    }
}
