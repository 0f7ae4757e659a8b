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
