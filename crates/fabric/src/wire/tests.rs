use base::Rng;
use proptest::prelude::*;

use super::{DURABLE_MAX, Frame, HEAD_BYTES, KINDS, decode_head, fuzz_frame};

fn any_frame() -> impl Strategy<Value = Frame> {
    let hash = || any::<[u8; 32]>();
    prop_oneof![
        hash().prop_map(|transfer| Frame::Join { transfer }),
        Just(Frame::Want),
        proptest::collection::vec(any::<u8>(), 0..200).prop_map(|bytes| Frame::Manifest { bytes }),
        (any::<u64>(), 0_u32..900).prop_map(|(memory, chunks)| Frame::Have {
            memory,
            chunks,
            bits: vec![0x5a; chunks.div_ceil(8) as usize]
        }),
        (any::<u32>(), any::<u32>()).prop_map(|(number, length)| Frame::Chunk { number, length }),
        (any::<u32>(), hash()).prop_map(|(number, hash)| Frame::End { number, hash }),
        any::<u32>().prop_map(|number| Frame::Received { number }),
        proptest::collection::vec(any::<u32>(), 0..DURABLE_MAX).prop_map(|numbers| Frame::Durable { numbers }),
        any::<u32>().prop_map(|number| Frame::Bad { number }),
        Just(Frame::Alive),
        Just(Frame::Finish),
        hash().prop_map(|root| Frame::Done { root }),
        (0..KINDS.len(), "\\PC{0,300}").prop_map(|(kind, message)| Frame::Refused { kind: KINDS[kind], message }),
    ]
}

proptest! {
    #[test]
    fn what_is_written_is_read(frame in any_frame()) {
        let mut bytes = Vec::new();
        frame.encode(&mut bytes);
        let (head, body) = bytes.split_first_chunk::<HEAD_BYTES>().unwrap();
        let (kind, length) = decode_head(*head).unwrap();
        prop_assert_eq!(length as usize, body.len());
        prop_assert_eq!(Frame::decode(kind, body).unwrap(), frame);
    }
}

#[test]
fn a_long_refusal_is_cut_between_characters() {
    let frame = Frame::Refused { kind: base::Kind::Invalid, message: "ä".repeat(2_000) };
    let mut bytes = Vec::new();
    frame.encode(&mut bytes);
    let (head, body) = bytes.split_first_chunk::<HEAD_BYTES>().unwrap();
    let (kind, _) = decode_head(*head).unwrap();
    let Frame::Refused { message, .. } = Frame::decode(kind, body).unwrap() else { panic!("another kind") };
    assert!(message.chars().all(|character| character == 'ä') && message.len() > 1_000);
}

#[test]
fn a_body_beyond_its_limit_is_refused_before_it_is_read() {
    for (kind, length) in [(1_u8, 33_u32), (2, 1), (3, u32::MAX), (4, u32::MAX), (5, 9), (8, 16_388), (13, 1_025)] {
        let mut head = [kind, 0, 0, 0, 0, 0, 0, 0];
        head[4..].copy_from_slice(&length.to_le_bytes());
        let refused = decode_head(head).unwrap_err().to_string();
        assert!(refused.contains(&length.to_string()), "{refused}");
    }
    assert!(decode_head([0, 0, 0, 0, 0, 0, 0, 0]).is_err());
    assert!(decode_head([10, 1, 0, 0, 0, 0, 0, 0]).is_err());
}

#[test]
fn smoke_of_the_frame_reader() {
    let mut rng = Rng::seeded(7);
    for _ in 0..2_000 {
        let mut bytes: Vec<u8> = (0..8 + rng.below(80)).map(|_| rng.next_u64() as u8).collect();
        bytes[0] = rng.below(15) as u8;
        bytes[1..4].fill(0);
        let length = if rng.below(2) == 0 { bytes.len() as u32 - 8 } else { rng.below(100) as u32 };
        bytes[4..8].copy_from_slice(&length.to_le_bytes());
        fuzz_frame(&bytes);
    }
}
