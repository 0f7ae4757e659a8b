//! What arrives, whatever happens on the way.

use std::os::unix::fs::PermissionsExt as _;

use fabric::ReceiverOptions;

use crate::ends::{CHUNK, options, send_to, with_receiver, write_random};
use crate::plane::{Fate, Plane};

const SIZE: usize = 6 << 20;

#[test]
fn a_folder_arrives_as_it_is_and_a_second_time_costs_nothing() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let root = from.path().join("model");
    std::fs::create_dir_all(root.join("deep/er")).unwrap();
    let large = write_random(&root.join("deep/er/large"), 1_000_001);
    let small = write_random(&root.join("small"), 17);
    std::fs::write(root.join("empty"), "").unwrap();
    std::fs::write(root.join("tool"), "run").unwrap();
    std::fs::set_permissions(root.join("tool"), std::fs::Permissions::from_mode(0o755)).unwrap();
    // On one plane nothing is sent twice, however loaded the machine is: there is no other to carry it.
    let (sent, events) = with_receiver(to.path(), ReceiverOptions::default(), 1, |planes| {
        [send_to(&root, &options(planes)).unwrap(), send_to(&root, &options(planes)).unwrap()]
    });
    assert_eq!((sent[0].files, sent[0].bytes), (4, 1_000_021));
    assert_eq!((sent[0].sent_bytes, sent[0].resent_bytes), (1_000_021, 0));
    assert_eq!((sent[1].sent_bytes, sent[1].had_bytes), (0, 1_000_021));
    let arrived = to.path().join("model");
    assert_eq!(std::fs::read(arrived.join("deep/er/large")).unwrap(), large);
    assert_eq!(std::fs::read(arrived.join("small")).unwrap(), small);
    assert_eq!(std::fs::read(arrived.join("empty")).unwrap(), b"");
    assert_ne!(std::fs::metadata(arrived.join("tool")).unwrap().permissions().mode() & 0o100, 0);
    assert!(events.contains(&"done model 1000021".to_owned()), "{events:?}");
    let left: Vec<_> = std::fs::read_dir(to.path().join(".sampan-net")).unwrap().collect();
    assert_eq!(left.len(), 1, "only the lock is left: {left:?}");
}

/// Sends over two planes of which the first has this fate, and looks at what arrives.
fn check_fate(fate: Fate) -> fabric::Sent {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let path = from.path().join("weights");
    let content = write_random(&path, SIZE);
    let (sent, events) = with_receiver(to.path(), ReceiverOptions::default(), 2, |addresses| {
        let first = Plane::to(addresses[0], fate);
        let second = Plane::after(&first, fate.at(), addresses[1]);
        let planes = [first, second];
        let sent = send_to(&path, &options(&planes.each_ref().map(|plane| plane.address))).unwrap();
        assert!(planes[0].carried() > 0 && planes[1].carried() > 0, "both planes carried something");
        sent
    });
    assert!(std::fs::read(to.path().join("weights")).unwrap() == content, "the bytes differ; {events:?}");
    sent
}

#[test]
fn both_planes_carry() {
    let sent = check_fate(Fate::Lives);
    assert_eq!(sent.sent_bytes - sent.resent_bytes, SIZE as u64);
}

#[test]
fn a_plane_that_dies_costs_a_chunk_a_stream() {
    let sent = check_fate(Fate::Dies(SIZE as u64 / 5));
    assert_eq!(sent.sent_bytes - sent.resent_bytes, SIZE as u64);
}

#[test]
fn a_plane_that_falls_silent_is_left_before_it_counts_as_dead() {
    let sent = check_fate(Fate::FallsSilent(SIZE as u64 / 5));
    assert!(sent.resent_bytes >= 1, "{sent:?}");
}

#[test]
fn a_turned_bit_costs_a_chunk_or_a_connection_and_never_arrives() {
    for at in [SIZE as u64 / 7, SIZE as u64 / 5] {
        let sent = check_fate(Fate::TurnsABit(at));
        assert!(sent.resent_bytes >= 1, "{sent:?}");
    }
}

#[test]
fn a_receiver_that_starts_anew_gets_at_most_a_chunk_a_stream_twice() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let path = from.path().join("weights");
    let content = write_random(&path, SIZE);
    let (plane, sending) = with_receiver(to.path(), ReceiverOptions::default(), 1, |addresses| {
        let plane = Plane::to(addresses[0], Fate::Dies(SIZE as u64 / 2));
        let options = options(&[plane.address]);
        let sending = std::thread::spawn(move || send_to(&path, &options));
        while !plane.is_cut() {
            std::thread::yield_now();
        }
        (plane, sending)
    })
    .0;
    assert!(!to.path().join("weights").exists(), "half a file has no name");
    let sent = with_receiver(to.path(), ReceiverOptions::default(), 1, |addresses| {
        plane.revive(addresses[0]);
        sending.join().unwrap().unwrap()
    })
    .0;
    assert!(std::fs::read(to.path().join("weights")).unwrap() == content, "the bytes differ");
    assert!(sent.resent_bytes <= 2 * u64::from(CHUNK), "{sent:?}");
}

#[test]
fn a_sender_that_starts_anew_goes_on() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let path = from.path().join("weights");
    let content = write_random(&path, SIZE);
    let sent = with_receiver(to.path(), ReceiverOptions::default(), 1, |addresses| {
        let plane = Plane::to(addresses[0], Fate::Dies(SIZE as u64 / 2));
        let mut options = options(&[plane.address]);
        options.patience_ms = 1;
        assert!(send_to(&path, &options).unwrap_err().to_string().contains("no plane made progress"));
        options.planes = addresses.to_vec();
        send_to(&path, &options).unwrap()
    })
    .0;
    assert!(std::fs::read(to.path().join("weights")).unwrap() == content, "the bytes differ");
    assert!(sent.had_bytes > SIZE as u64 / 3 && sent.had_bytes + sent.sent_bytes <= SIZE as u64, "{sent:?}");
}

#[test]
fn a_path_can_be_measured_without_keeping_anything() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let path = from.path().join("weights");
    write_random(&path, SIZE);
    let options_of = ReceiverOptions { discard: true, ..ReceiverOptions::default() };
    let (sent, _) = with_receiver(to.path(), options_of, 1, |planes| send_to(&path, &options(planes)).unwrap());
    assert_eq!(sent.sent_bytes, SIZE as u64);
    assert_eq!(std::fs::read_dir(to.path()).unwrap().count(), 0);
}

#[test]
fn a_rate_is_kept() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let path = from.path().join("weights");
    write_random(&path, 1 << 20);
    let (sent, _) = with_receiver(to.path(), ReceiverOptions::default(), 1, |planes| {
        let rate_bytes_per_s = Some(4 << 20);
        send_to(&path, &fabric::SendOptions { rate_bytes_per_s, ..options(planes) }).unwrap()
    });
    assert!(sent.elapsed_us > 200_000, "{sent:?}");
}
