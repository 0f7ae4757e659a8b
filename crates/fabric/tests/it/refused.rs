//! What is refused, and what is said of it.

use base::Kind;
use fabric::{Progress, Receiver, ReceiverOptions, SendOptions, Token, send};

use crate::ends::{machine, options, send_to, token, with_receiver, write_random};

#[test]
fn another_token_gets_nothing() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let path = from.path().join("weights");
    write_random(&path, 1_000);
    let (refused, events) = with_receiver(to.path(), ReceiverOptions::default(), 1, |planes| {
        let other = Token::new("some other token of the tests").unwrap();
        send(&path, &options(planes), &other, &machine(1), &Progress::default()).unwrap_err()
    });
    assert_eq!(refused.kind(), Kind::Unauthenticated);
    // The first connection that is refused ends the others, which may not have shown their token yet.
    assert!(events.iter().any(|event| event.contains("does not know our token")), "{events:?}");
    assert!(events.iter().all(|event| event.starts_with("failed ")), "{events:?}");
    assert!(!to.path().join("weights").exists());
}

#[test]
fn more_than_the_receiver_takes_is_refused_with_both_numbers() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let path = from.path().join("weights");
    write_random(&path, 1_001);
    let limited = ReceiverOptions { bytes_max: Some(1_000), ..ReceiverOptions::default() };
    let (refused, _) = with_receiver(to.path(), limited, 1, |planes| send_to(&path, &options(planes)).unwrap_err());
    assert!(refused.to_string().contains("1001") && refused.to_string().contains("1000"), "{refused}");
}

#[test]
fn nothing_is_written_through_a_link_that_stands_in_the_way() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let outside = tempfile::tempdir().unwrap();
    std::fs::create_dir(from.path().join("model")).unwrap();
    write_random(&from.path().join("model/weights"), 1_000);
    std::os::unix::fs::symlink(outside.path(), to.path().join("model")).unwrap();
    let (refused, _) = with_receiver(to.path(), ReceiverOptions::default(), 1, |planes| {
        send_to(&from.path().join("model"), &options(planes)).unwrap_err()
    });
    assert!(refused.to_string().contains("a link stands in its way"), "{refused}");
    assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0);
}

#[test]
fn two_receivers_do_not_share_a_folder() {
    let to = tempfile::tempdir().unwrap();
    let (second, _) = with_receiver(to.path(), ReceiverOptions::default(), 1, |_| {
        Receiver::bind(to.path(), &[], ReceiverOptions::default(), token(), machine(3)).err()
    });
    assert_eq!(second.unwrap().kind(), Kind::Conflict);
}

#[test]
fn a_report_that_panics_ends_the_receiver_when_it_is_stopped_and_hangs_nothing() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let path = from.path().join("weights");
    write_random(&path, 1_000);
    let listen = ["127.0.0.1:0".parse().unwrap()];
    let receiver = Receiver::bind(to.path(), &listen, ReceiverOptions::default(), token(), machine(2)).unwrap();
    let planes = receiver.addresses().unwrap();
    let ended = std::thread::scope(|scope| {
        let running = scope.spawn(|| receiver.run(&|_| panic!("a report of this test")));
        let impatient = SendOptions { patience_ms: 1, ..options(&planes) };
        assert_eq!(send_to(&path, &impatient).unwrap_err().kind(), Kind::Unavailable);
        receiver.stop();
        running.join()
    });
    assert!(ended.is_err(), "the panic reaches who runs the receiver");
}

#[test]
fn impossible_numbers_of_streams_are_refused() {
    let path = std::path::Path::new(".");
    for (planes, streams_per_plane) in [(0, 1), (1, 0), (2, 33)] {
        let planes = vec!["127.0.0.1:1".parse().unwrap(); planes];
        let refused = send_to(path, &SendOptions { planes, streams_per_plane, ..SendOptions::default() }).unwrap_err();
        assert_eq!(refused.kind(), Kind::Invalid, "{refused}");
    }
}

#[test]
fn a_receiver_that_is_not_there_is_named() {
    let from = tempfile::tempdir().unwrap();
    write_random(&from.path().join("weights"), 10);
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let impatient = SendOptions { patience_ms: 50, ..options(&[nobody]) };
    let refused = send_to(&from.path().join("weights"), &impatient).unwrap_err();
    assert_eq!(refused.kind(), Kind::Unavailable);
    assert!(refused.to_string().contains(&nobody.to_string()), "{refused}");
}
