use super::{Value, read};
use crate::FileBytes;

/// A file with one metadata entry and these tensors: name, sizes, type, offset; 64 bytes of data.
fn file(tensors: &[(&str, &[u64], u32, u64)]) -> FileBytes {
    let mut bytes = b"GGUF".to_vec();
    bytes.extend(3_u32.to_le_bytes());
    bytes.extend((tensors.len() as u64).to_le_bytes());
    bytes.extend(1_u64.to_le_bytes());
    bytes.extend(1_u64.to_le_bytes());
    bytes.extend(b"k");
    bytes.extend(5_u32.to_le_bytes());
    bytes.extend((-7_i32).to_le_bytes());
    for (name, sizes, type_code, offset) in tensors {
        bytes.extend((name.len() as u64).to_le_bytes());
        bytes.extend(name.as_bytes());
        bytes.extend((sizes.len() as u32).to_le_bytes());
        sizes.iter().for_each(|size| bytes.extend(size.to_le_bytes()));
        bytes.extend(type_code.to_le_bytes());
        bytes.extend(offset.to_le_bytes());
    }
    bytes.resize(bytes.len().next_multiple_of(32) + 64, 0);
    FileBytes::Owned(bytes.into())
}

#[test]
fn dimensions_are_turned_and_names_translated() {
    let (metadata, weights) = read("f", &file(&[("blk.0.attn_q.weight", &[2, 4], 0, 32)])).unwrap();
    assert_eq!(metadata.get("k"), Some(&Value::Signed(-7)));
    let tensor = weights.get("layers.0.self_attn.q_proj.weight").unwrap();
    assert_eq!(tensor.shape(), [4, 2]);
    assert_eq!(tensor.bytes().len(), 32);
}

/// A file with no tensors and one entry `k`, an array of `element` that says it has `count` items.
fn with_array(element: u32, count: u64, items: &[u8]) -> FileBytes {
    let mut bytes = b"GGUF".to_vec();
    bytes.extend(3_u32.to_le_bytes());
    [0, 1, 1].iter().for_each(|number: &u64| bytes.extend(number.to_le_bytes()));
    bytes.extend(b"k");
    bytes.extend(9_u32.to_le_bytes());
    bytes.extend(element.to_le_bytes());
    bytes.extend(count.to_le_bytes());
    bytes.extend(items);
    FileBytes::Owned(bytes.into())
}

#[test]
fn a_list_is_read_where_it_lies() {
    let text = |text: &str| [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat();
    let items = [text("a"), text(""), text("ü")].concat();
    let (metadata, _) = read("f", &with_array(8, 3, &items)).unwrap();
    assert_eq!(metadata.strings("k").unwrap().to_vec(), ["a", "", "ü"]);
    assert_eq!(metadata.array("k").unwrap().len(), 3);
    assert!(metadata.items("another").is_empty() && metadata.strings("another").is_none());

    let numbers = [7_i16, -7].map(i16::to_le_bytes).concat();
    let (metadata, _) = read("f", &with_array(3, 2, &numbers)).unwrap();
    assert_eq!(metadata.items("k"), [Value::Signed(7), Value::Signed(-7)]);
    assert!(metadata.strings("k").is_none());

    let list = |numbers: &[u8]| [&0_u32.to_le_bytes()[..], &(numbers.len() as u64).to_le_bytes(), numbers].concat();
    let (metadata, _) = read("f", &with_array(9, 2, &[list(&[1, 2]), list(&[])].concat())).unwrap();
    assert_eq!(format!("{:?}", metadata.get("k").unwrap()), "Array([Array([Unsigned(1), Unsigned(2)]), Array([])])");
}

#[test]
fn a_list_that_does_not_fit_is_refused() {
    let refused = |element: u32, count: u64, items: &[u8], word: &str| {
        let error = read("f", &with_array(element, count, items)).unwrap_err().to_string();
        assert!(error.contains(word) && error.contains('k'), "{error}");
    };
    refused(4, 2, &[0; 7], "it ends inside");
    refused(12, u64::MAX, &[0; 16], "can be");
    refused(8, 2, &[[1, 0, 0, 0, 0, 0, 0, 0, b'a'].as_slice(), &[9, 0, 0, 0, 0, 0, 0, 0]].concat(), "it ends inside");
    refused(13, 1, &[0; 8], "unknown value type 13");
    let nested = [9_u32.to_le_bytes().as_slice(), &1_u64.to_le_bytes()].concat().repeat(6);
    refused(9, 1, &nested, "nests arrays deeper");
}

#[test]
fn overlapping_and_outlying_tensors_are_refused() {
    let refused = |tensors: &[(&str, &[u64], u32, u64)], word: &str| {
        let error = read("f", &file(tensors)).unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
    };
    refused(&[("a", &[8], 0, 0), ("b", &[8], 0, 16)], "overlap");
    refused(&[("a", &[17], 0, 0)], "does not lie inside");
    refused(&[("a", &[1], 0, u64::MAX)], "does not lie inside");
    refused(&[("a", &[1 << 40, 1 << 40, 1 << 40], 0, 0)], "does not lie inside");
    refused(&[("a", &[33], 8, 0)], "does not lie inside");
    refused(&[("a", &[1], 0, 0), ("a", &[1], 0, 32)], "two tensors");
    refused(&[("a", &[1, 1, 1, 1, 1], 0, 0)], "dimensions");
}

#[test]
fn a_type_that_cannot_be_read_is_named_when_it_is_asked_for() {
    let (_, weights) = read("f", &file(&[("a", &[1], 40, 0)])).unwrap();
    assert!(weights.get("a").unwrap_err().to_string().contains("GGML type 40"));
}
