//! Models that another Sampan sends by the mover.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use base::{Clock, Kind};
use fabric::{Machine, Nonces, Progress, SendOptions, Token};
use hub::{Depot, HuggingFace, Landing, Listing, Options, Planes, Remote, Repository, Result, Sink, Source};

use crate::hub::{Hub, assert_is_there, assert_nothing_is_there, model, options, pulled};

struct RealClock(Instant);

impl Clock for RealClock {
    fn now_ms(&self) -> u64 {
        0
    }

    fn monotonic_us(&self) -> u64 {
        self.0.elapsed().as_micros() as u64
    }
}

#[expect(clippy::disallowed_methods, reason = "sockets are waited for in real time")]
fn machine(seed: u8) -> Machine {
    Machine { clock: Arc::new(RealClock(Instant::now())), nonces: Arc::new(Nonces::seeded([seed; 32])) }
}

fn over_planes(count: usize) -> Options {
    let listen = vec!["127.0.0.1:0".parse().unwrap(); count];
    Options { planes: Some(Planes { listen, machine: machine(1) }), ..options() }
}

/// A hub that sends from a folder by the mover.
struct Lender {
    hub: HuggingFace,
    folder: PathBuf,
    sendings: AtomicUsize,
    /// What it says instead of sending.
    refuses: Option<&'static str>,
}

impl Lender {
    fn new(hub: &Hub, folder: &Path) -> Self {
        for (path, bytes) in model() {
            std::fs::write(folder.join(path), bytes).unwrap();
        }
        Self { hub: hub.source(), folder: folder.to_owned(), sendings: AtomicUsize::new(0), refuses: None }
    }
}

impl Source for Lender {
    fn name(&self) -> String {
        self.hub.name()
    }

    fn list(&self, repository: &Repository) -> Result<Listing> {
        self.hub.list(repository)
    }

    fn read(&self, listing: &Listing, file: &Remote, range: Range<u64>, sink: &mut Sink<'_>) -> Result<()> {
        self.hub.read(listing, file, range, sink)
    }

    fn send_to(
        &self,
        _: &Listing,
        files: &[&Remote],
        landing: &Landing,
        tick: &mut dyn FnMut() -> Result<()>,
    ) -> Result<()> {
        self.sendings.fetch_add(1, Ordering::AcqRel);
        if let Some(message) = self.refuses {
            return Err(hub::Error::NotSent { place: self.name(), message: message.to_owned() });
        }
        let names: Vec<String> = files.iter().map(|file| file.path.clone()).collect();
        let planes = landing.addresses.clone();
        let options = SendOptions { planes, chunk_bytes: 64 << 10, ..SendOptions::default() };
        let token = Token::new(&landing.token).unwrap();
        fabric::send_files(&self.folder, &names, &options, &token, &machine(2), &Progress::default()).unwrap();
        tick()
    }
}

#[test]
fn what_the_mover_brings_is_checked_kept_and_not_fetched() {
    let hub = Hub::with(&model(), &[]);
    let [from, to] = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let (lender, depot) = (Lender::new(&hub, from.path()), Depot::new(to.path()));
    let (result, retries, corrupt) = pulled(&depot, &lender, &over_planes(2));
    assert_eq!((result.unwrap().name.as_str(), retries, corrupt), ("Tiny", 0, 0));
    assert_is_there(&depot, "Tiny", &model()[2..]);
    assert_eq!((hub.sent_bytes(), lender.sendings.load(Ordering::Acquire)), (0, 1));
    assert_eq!(std::fs::read_dir(to.path().join(".store/carried")).unwrap().count(), 0, "nothing is left behind");
    pulled(&depot, &lender, &over_planes(2)).0.unwrap();
    assert_eq!(lender.sendings.load(Ordering::Acquire), 1, "what is here is not sent");
}

#[test]
fn a_file_that_is_not_what_was_listed_is_fetched_over_http() {
    let hub = Hub::with(&model(), &[]);
    let [from, to] = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let (lender, depot) = (Lender::new(&hub, from.path()), Depot::new(to.path()));
    let path = from.path().join("model-2.safetensors");
    let mut changed = std::fs::read(&path).unwrap();
    changed[29_000] ^= 1;
    std::fs::write(&path, changed).unwrap();
    let (result, _, corrupt) = pulled(&depot, &lender, &over_planes(1));
    result.unwrap();
    assert_is_there(&depot, "Tiny", &model()[2..]);
    assert_eq!((hub.sent_bytes(), corrupt), (30_001, 1));
}

#[test]
fn a_place_that_does_not_send_is_named_and_nothing_appears() {
    let hub = Hub::with(&model(), &[]);
    let [from, to] = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let depot = Depot::new(to.path());
    // A hub that has never heard of it, and one that gives up.
    let unknown = pulled(&depot, &hub.source(), &over_planes(1)).0.unwrap_err();
    assert!(matches!(unknown.kind(), Kind::NotFound | Kind::Invalid), "{unknown}");
    let lender = Lender { refuses: Some("nobody listens"), ..Lender::new(&hub, from.path()) };
    let refused = pulled(&depot, &lender, &over_planes(1)).0.unwrap_err();
    assert_eq!(refused.kind(), Kind::Unavailable);
    assert!(refused.to_string().contains("nobody listens"), "{refused}");
    let foreign = Planes { listen: vec!["192.0.2.1:0".parse().unwrap()], machine: machine(1) };
    let options = Options { planes: Some(foreign), ..options() };
    let refused = pulled(&depot, &lender, &options).0.unwrap_err();
    assert!(base::chain(&refused).contains("192.0.2.1"), "{refused:?}");
    assert_nothing_is_there(&depot);
    // The next try, over HTTP, is not in its way.
    pulled(&depot, &lender, &crate::hub::options()).0.unwrap();
    depot.remove_unfinished().unwrap();
    assert_is_there(&depot, "Tiny", &model()[2..]);
}
