use std::borrow::Cow;
use std::sync::Arc;

use models::vision::Features;

use super::{IDENTITY_FIRST, KEPT_BYTES_MAX, Media, Memory, digest};

fn features(bytes: usize) -> Arc<Features> {
    Arc::new(Features { grid: [1, 2, 2], merged: vec![0.0; bytes / 4], deep: Vec::new() })
}

#[test]
fn what_was_used_longest_ago_is_forgotten_first() {
    let mut memory = Memory::default();
    let third = features(KEPT_BYTES_MAX / 3);
    for picture in 0..3 {
        memory.keep([picture; 32], &third, None);
    }
    memory.kept.get_mut(&[0; 32]).unwrap().used = 100;
    memory.keep([9; 32], &features(8), None);
    assert!(memory.kept.contains_key(&[0; 32]) && !memory.kept.contains_key(&[1; 32]));
    assert!(memory.bytes <= KEPT_BYTES_MAX);
    memory.keep([10; 32], &features(KEPT_BYTES_MAX + 4), None);
    assert!(!memory.kept.contains_key(&[10; 32]), "what would leave no room for others is not kept");
}

#[test]
fn every_picture_has_a_number_of_its_own() {
    let mut memory = Memory::default();
    let numbers = [1, 2, 1].map(|picture| memory.number([picture; 32]).unwrap());
    assert_eq!(numbers, [IDENTITY_FIRST, IDENTITY_FIRST + 1, IDENTITY_FIRST]);
    memory.next = u32::MAX;
    assert!(memory.number([3; 32]).is_err());
}

#[test]
fn digests_differ_by_kind_content_and_project() {
    let picture = |bytes: &'static [u8]| Media::Picture(Cow::Borrowed(bytes));
    let frames = |a: &'static [u8], b: &'static [u8], fps| Media::Frames(vec![Cow::Borrowed(a), Cow::Borrowed(b)], fps);
    let digests = [
        digest(&picture(b"a"), ""),
        digest(&picture(b"a"), "p"),
        digest(&picture(b"b"), ""),
        digest(&Media::Animation(Cow::Borrowed(b"a")), ""),
        digest(&frames(b"ab", b"", 2.0), ""),
        digest(&frames(b"a", b"b", 2.0), ""),
        digest(&frames(b"a", b"b", 1.0), ""),
    ];
    for (index, one) in digests.iter().enumerate() {
        assert!(!digests[..index].contains(one), "{index}");
    }
}
