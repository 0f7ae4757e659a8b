use base::Rng;

use crate::codec::checksum;
use crate::manifest::{Manifest, SegmentEntry};
use crate::types::{Metric, Shape};

/// 2,000 inputs each: noise, and a good object with a few bytes changed, cut or repeated, with its checksum put right
/// in half of the cases, so that the reader gets beyond it.
fn smoke(target: fn(&[u8]), good: &[u8], header: Option<usize>) {
    let mut rng = Rng::seeded(11);
    target(good);
    for round in 0..2_000 {
        let mut bytes =
            if round % 4 == 0 { (0..rng.below(300)).map(|_| rng.next_u64() as u8).collect() } else { good.to_vec() };
        for _ in 0..rng.below(6) {
            if !bytes.is_empty() {
                let at = rng.below(bytes.len() as u64) as usize;
                bytes[at] = [0, 1, 0x7f, 0x80, 0xff, rng.next_u64() as u8][rng.below(6) as usize];
            }
        }
        match rng.below(6) {
            0 => bytes.truncate(rng.below(bytes.len() as u64 + 1) as usize),
            1 => bytes.extend_from_slice(&good[..rng.below(good.len() as u64) as usize]),
            _ => {}
        }
        if rng.below(2) == 0 {
            if let Some(end) = header.filter(|end| end + 4 <= bytes.len()) {
                let sum = checksum(&bytes[..end]);
                bytes[end..end + 4].copy_from_slice(&sum.to_le_bytes());
            }
            if let Some(end) = bytes.len().checked_sub(4) {
                let sum = checksum(&bytes[..end]);
                bytes[end..].copy_from_slice(&sum.to_le_bytes());
            }
        }
        target(&bytes);
    }
}

#[test]
fn no_log_entry_makes_the_reader_panic() {
    let ops = [("key", "{\"a\":[1,true],\"b\":\"x\"}"), ("other", "")];
    let mut entry = crate::log::Entry { number: 7, previous: 1, writer: 2, serial: 3, ops: Vec::new() };
    for (key, metadata) in ops {
        let key = crate::Key::parse(key).unwrap();
        let metadata = crate::Metadata::from_json_text(metadata.as_bytes()).unwrap();
        entry.ops.push(crate::Op::Delete(key.clone()));
        entry.ops.push(crate::Op::Put(crate::Row { key, vector: [1.0; 4].into(), metadata }.into()));
    }
    smoke(super::log, &entry.encode(), Some(40));
}

#[test]
fn no_manifest_makes_the_reader_panic() {
    let shape = Shape { dimension: 4, metric: Metric::Cosine, not_filterable: vec!["text".to_owned()] };
    let mut manifest = Manifest { number: 7, ..Manifest::first(shape) };
    manifest.writers.note(1, 2);
    let dead = (0..400).step_by(3).collect();
    manifest.segments.push(SegmentEntry { id: "7-1".to_owned(), rows: 500, head_checksum: 3, dead });
    smoke(super::manifest, &manifest.encode(), None);
}

#[test]
fn no_head_no_filter_index_and_no_newest_manifest_makes_the_reader_panic() {
    let mut head = crate::segment::Head { dimension: 70, centres: vec![0.5; 140], ..Default::default() };
    head.lists = [0, 9].map(|first_row| crate::segment::List { first_row, spread: 1.0 }).to_vec();
    head.codes = crate::rabitq::Codes::new(128);
    let mut filter = crate::segment::FilterIndexBuilder::default();
    let metadata = crate::Metadata::from_json_text(b"{\"a\":1,\"b\":\"x\",\"c\":[true]}").unwrap();
    for row in 0..20 {
        head.codes.push(&[row as f32 - 9.5; 128]);
        head.keys.push(u64::from(row * 7) << 32 | u64::from(row));
        head.document_starts.push(row * 10);
        head.rows += 1;
        filter.push(&metadata, &[]);
    }
    head.parts.push(crate::segment::Part { first_row: 0, documents_bytes: 200 });
    let (head, filter) = (head.encode(), filter.finish().encode());
    smoke(super::segment_head, &head, None);
    smoke(super::filter_index, &filter, None);
    let shape = Shape { dimension: 70, metric: Metric::Cosine, not_filterable: Vec::new() };
    let mut manifest = Manifest { number: 7, ..Manifest::first(shape) };
    let head_checksum = u32::from_le_bytes(*head.last_chunk().unwrap());
    let dead = roaring::RoaringBitmap::new();
    manifest.segments.push(SegmentEntry { id: "7-1".to_owned(), rows: 20, head_checksum, dead });
    let mut newest = crate::codec::Writer(b"SVN1".to_vec());
    newest.u64(7);
    newest.long_bytes(&manifest.encode());
    newest.u8(1);
    newest.long_bytes(&head);
    newest.long_bytes(&filter);
    newest.seal(0);
    let read = crate::newest::Newest::decode(&newest.0).unwrap();
    let store: std::sync::Arc<dyn store::Store> = std::sync::Arc::new(store::Memory::new());
    assert_eq!(read.open(&store, &store::Name::parse("i").unwrap()).unwrap().len(), 1);
    smoke(super::newest, &newest.0, None);
}

#[test]
fn no_row_and_no_words_make_the_reader_panic() {
    let mut row = crate::codec::Writer::default();
    let metadata = crate::Metadata::from_json_text(b"{\"a\":[1,true],\"b\":\"x\"}").unwrap();
    crate::segment::write_document(&crate::Key::parse("key").unwrap(), &metadata, &mut row);
    smoke(super::row, &row.0[..row.len() - 4], None);
    for good in crate::text::examples() {
        smoke(super::words, &good, None);
    }
}

#[test]
fn no_document_of_the_catalogue_makes_the_reader_panic() {
    let good = br#"{"format":1,"nonce":7,"is":{"bucket":{"id":"00ff","name":"films","created_ms":1,"settings":{}}}}"#;
    smoke(super::catalogue, good, None);
    let gone = br#"{"format":1,"nonce":7,"is":{"index_gone":{"folder":"data/00ff"}}}"#;
    smoke(super::catalogue, gone, None);
}
