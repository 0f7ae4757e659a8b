//! Connections that are cut, silent or lie.

use std::num::NonZeroUsize;
use std::time::Duration;

use hub::{Depot, Event, Options};

use crate::hub::{Behaviour, Fault, Hub, assert_is_there, assert_nothing_is_there, model, options, pulled, wanted};

/// A pull with these faults succeeds; how often it tried again, how often a file was corrupt, how many bytes came.
fn survives(faults: &[Fault], options: &Options) -> (usize, usize, usize) {
    let hub = Hub::with(&model(), faults);
    let folder = tempfile::tempdir().unwrap();
    let depot = Depot::new(folder.path());
    let (pulled, retries, corrupt) = pulled(&depot, &hub.source(), options);
    pulled.unwrap_or_else(|error| panic!("{faults:?}: {error:?}"));
    assert_is_there(&depot, "Tiny", &model());
    (retries, corrupt, hub.sent_bytes())
}

#[test]
fn a_cut_connection_goes_on_where_it_ended() {
    let (retries, corrupt, bytes) = survives(&[Fault::Cut(5_000), Fault::Cut(0), Fault::Cut(100)], &options());
    assert_eq!((retries, corrupt), (3, 0));
    assert_eq!(bytes, 80_003, "no byte was sent twice");
}

#[test]
fn silence_counts_as_cut() {
    let hub = Hub::with(&model(), &[Fault::Stall(3_000), Fault::None, Fault::Stall(0)]);
    let _ = rustls::crypto::ring::default_provider().install_default();
    let impatient = hub::HttpOptions { silence: Duration::from_millis(300), ..hub.options() };
    let source = hub::HuggingFace::new(&impatient).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let depot = Depot::new(folder.path());
    // A machine under load may keep the hub's threads silent too: more tries, and no count of them.
    let patient = Options { retries: 100, ..options() };
    let (pulled, retries, _) = pulled(&depot, &source, &patient);
    pulled.unwrap();
    assert_is_there(&depot, "Tiny", &model());
    assert!(retries >= 2, "{retries}");
}

#[test]
fn many_threads_fetch_what_one_does() {
    let many = Options { jobs: NonZeroUsize::new(16).unwrap(), piece_bytes: 1_000, ..options() };
    let faults = [Fault::Cut(10), Fault::None, Fault::Cut(0), Fault::Status(503), Fault::Cut(999), Fault::Corrupt];
    survives(&faults, &many);
}

#[test]
fn a_busy_hub_is_asked_again() {
    let (retries, ..) = survives(&[Fault::Status(503), Fault::Status(429), Fault::Status(500)], &options());
    assert_eq!(retries, 3);
}

#[test]
fn a_hub_without_ranges_serves_too() {
    survives(&[Fault::WholeFile; 20], &options());
}

#[test]
fn a_corrupt_file_is_fetched_again() {
    let (_, corrupt, bytes) = survives(&[Fault::Corrupt], &options());
    assert_eq!((corrupt, bytes), (1, 80_003 + 50_000));
}

#[test]
fn a_file_that_is_always_corrupt_is_refused_and_nothing_appears() {
    let files = model().into_iter().map(|(path, bytes)| (path.to_owned(), bytes)).collect();
    let hub = Hub::start(Behaviour { files, always: Some(Fault::Corrupt), ..Behaviour::default() });
    let folder = tempfile::tempdir().unwrap();
    let depot = Depot::new(folder.path());
    let error = pulled(&depot, &hub.source(), &options()).0.unwrap_err();
    assert_eq!(error.kind(), base::Kind::Corrupt);
    assert!(error.to_string().contains("is not what the hub says"), "{error}");
    assert_nothing_is_there(&depot);
}

#[test]
fn a_hub_that_never_answers_is_given_up_on() {
    for fault in [Fault::Status(503), Fault::Cut(0)] {
        let files = model().into_iter().map(|(path, bytes)| (path.to_owned(), bytes)).collect();
        let hub = Hub::start(Behaviour { files, always: Some(fault), ..Behaviour::default() });
        let folder = tempfile::tempdir().unwrap();
        let depot = Depot::new(folder.path());
        let error = pulled(&depot, &hub.source(), &options()).0.unwrap_err();
        assert_eq!(error.kind(), base::Kind::Unavailable, "{error}");
        assert_nothing_is_there(&depot);
    }
}

#[test]
fn another_range_than_the_one_asked_for_is_refused() {
    let files = model().into_iter().map(|(path, bytes)| (path.to_owned(), bytes)).collect();
    let hub = Hub::start(Behaviour { files, always: Some(Fault::WrongRange), ..Behaviour::default() });
    let folder = tempfile::tempdir().unwrap();
    let error = pulled(&Depot::new(folder.path()), &hub.source(), &options()).0.unwrap_err();
    assert!(error.to_string().contains("the range"), "{error}");
}

#[test]
fn whoever_gave_up_goes_on_later_without_fetching_a_byte_twice() {
    let folder = tempfile::tempdir().unwrap();
    let depot = Depot::new(folder.path());
    let one = Options { retries: 0, ..options() };
    // Every try ends with the connection, somewhere else in a file.
    let mut sent = 0;
    for cut in [100, 4_000, 7_000, 1, 8_000, 400] {
        let hub = Hub::with(&model(), &[Fault::None, Fault::Cut(cut)]);
        assert!(pulled(&depot, &hub.source(), &one).0.is_err());
        assert_nothing_is_there(&depot);
        sent += hub.sent_bytes();
    }
    let hub = Hub::with(&model(), &[]);
    let mut resumed = 0;
    let tell = std::sync::Mutex::new(&mut resumed);
    let first = |event: Event<'_>| {
        if let Event::Moved(bytes) = event {
            **tell.lock().unwrap() += bytes;
        }
    };
    hub::pull(&depot, &hub.source(), &wanted(), &one, &first).unwrap();
    assert_is_there(&depot, "Tiny", &model());
    assert_eq!(sent + hub.sent_bytes(), 80_003);
    assert_eq!(resumed, 80_003, "the bar ends where the bytes end");
}
