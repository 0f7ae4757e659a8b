//! Packed weights that are kept on disk: the same numbers to the bit, and never those of another model.

use std::path::{Path, PathBuf};
use std::time::Duration;

use kernels::Precision;
use models::{Checkpoint, Error, WeightCache};

use crate::streaming::{Reader, copy};
use crate::truth::fixtures;

const ALL: u64 = 1 << 30;

fn open(path: &Path, cache: &Path, limit_bytes: u64) -> Checkpoint {
    let weight_cache = Some(WeightCache { folder: cache.to_owned(), limit_bytes, least_bytes: 0 });
    Checkpoint { weight_cache, ..Checkpoint::open(path).unwrap() }
}

/// Logits of a model, behind which the cache is written.
fn logits(checkpoint: &Checkpoint, precision: Precision) -> Vec<f32> {
    Reader::resident(checkpoint, precision).logits().unwrap()
}

fn files(folder: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
}

/// Overwrites all panels of the only file.
fn spoil_panels(folder: &Path) {
    let path = files(folder).pop().unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    let directory = u64::from_le_bytes(bytes[8..16].try_into().unwrap()) as usize;
    bytes[4096..directory].fill(0);
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn what_was_kept_computes_the_same() {
    for path in
        ["tiny/qwen3_dense", "tiny/qwen3_vl_moe", "tiny/qwen3_next", "gguf/qwen3_moe.Q8_0.gguf", "quant/fp8_moe"]
    {
        for precision in [Precision::Exact, Precision::Fast] {
            let (path, cache) = (fixtures().join(path), tempfile::tempdir().unwrap());
            let expected = logits(&Checkpoint::open(&path).unwrap(), precision);
            let checkpoint = open(&path, cache.path(), ALL);
            for _ in 0..3 {
                assert!(logits(&checkpoint, precision) == expected, "{}, {precision:?}", path.display());
                assert_eq!(files(cache.path()).len(), 1, "one file, and none that is not finished");
            }
            spoil_panels(cache.path());
            assert!(
                logits(&checkpoint, precision) != expected,
                "{}: the file is what was computed with",
                path.display()
            );
        }
    }
}

#[test]
fn precisions_and_streamed_experts_have_files_of_their_own() {
    let (path, cache) = (fixtures().join("tiny/qwen3_moe"), tempfile::tempdir().unwrap());
    let checkpoint = open(&path, cache.path(), ALL);
    let expected = logits(&checkpoint, Precision::Exact);
    for _ in 0..2 {
        let streaming = Reader::streaming(&checkpoint, Precision::Exact, 1 << 30).unwrap();
        assert!(streaming.logits().unwrap() == expected);
    }
    logits(&checkpoint, Precision::Fast);
    assert_eq!(files(cache.path()).len(), 3);
}

#[test]
fn experts_that_are_streamed_take_none_of_the_limit() {
    let (path, cache) = (fixtures().join("tiny/qwen3_moe"), tempfile::tempdir().unwrap());
    let too_little = Checkpoint::open(&path).unwrap().packed_bytes(Precision::Exact) - 1;
    let checkpoint = open(&path, cache.path(), too_little);
    logits(&checkpoint, Precision::Exact);
    assert_eq!(files(cache.path()).len(), 0);
    Reader::streaming(&checkpoint, Precision::Exact, 1 << 30).unwrap().logits().unwrap();
    assert_eq!(files(cache.path()).len(), 1);
}

#[test]
fn a_model_that_was_replaced_is_packed_again() {
    let (folder, cache) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    copy(&fixtures().join("tiny/qwen3_dense"), folder.path());
    let before = logits(&open(folder.path(), cache.path(), ALL), Precision::Exact);
    let weights = folder.path().join("model.safetensors");
    let mut bytes = std::fs::read(&weights).unwrap();
    let head = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    bytes[head + 2000..head + 4000].fill(0);
    std::fs::write(&weights, bytes).unwrap();
    let after = logits(&open(folder.path(), cache.path(), ALL), Precision::Exact);
    assert!(after != before);
    assert!(after == logits(&Checkpoint::open(folder.path()).unwrap(), Precision::Exact));
}

#[test]
fn damage_is_noticed_and_mended() {
    let (path, cache) = (fixtures().join("tiny/qwen3_dense"), tempfile::tempdir().unwrap());
    let checkpoint = open(&path, cache.path(), ALL);
    let expected = logits(&checkpoint, Precision::Exact);
    let kept = files(cache.path()).pop().unwrap();
    let whole = std::fs::read(&kept).unwrap();
    let mut damaged = vec![Vec::new(), whole[..10].to_vec(), whole[..whole.len() - 1].to_vec()];
    for at in [0, 9, 17, 30, whole.len() - 20] {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x40;
        damaged.push(bytes);
    }
    for bytes in damaged {
        std::fs::write(&kept, bytes).unwrap();
        assert!(logits(&checkpoint, Precision::Exact) == expected);
        assert!(std::fs::read(&kept).unwrap() == whole, "it is written again");
    }
}

#[test]
fn what_was_not_used_for_longest_goes_first() {
    let cache = tempfile::tempdir().unwrap();
    let (dense, mixture) = (fixtures().join("tiny/qwen3_dense"), fixtures().join("tiny/qwen3_moe"));
    logits(&open(&dense, cache.path(), ALL), Precision::Exact);
    let old = files(cache.path()).pop().unwrap();
    let found = std::fs::metadata(&old).unwrap();
    let (size, long_ago) = (found.len(), found.modified().unwrap() - Duration::from_hours(48));
    std::fs::File::options().write(true).open(&old).unwrap().set_modified(long_ago).unwrap();
    // A file that somebody never finished, and one that is none of ours.
    let abandoned = cache.path().join("x.1-0.part");
    std::fs::File::create(&abandoned).unwrap().set_modified(long_ago).unwrap();
    std::fs::write(cache.path().join("notes.txt"), "").unwrap();
    let mixture = open(&mixture, cache.path(), ALL);
    logits(&mixture, Precision::Fast);
    assert!(old.exists() && !abandoned.exists() && cache.path().join("notes.txt").exists());
    let all: u64 = files(cache.path()).iter().map(|path| std::fs::metadata(path).unwrap().len()).sum();
    logits(&open(&fixtures().join("tiny/qwen3_next"), cache.path(), all + size / 2), Precision::Fast);
    assert!(!old.exists(), "there was no room for three");
}

#[test]
fn a_load_that_fails_leaves_nothing() {
    let (folder, cache) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    copy(&fixtures().join("tiny/qwen3_dense"), folder.path());
    let weights = folder.path().join("model.safetensors");
    let mut bytes = std::fs::read(&weights).unwrap();
    let head = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    bytes[head..].fill(0xff);
    std::fs::write(&weights, bytes).unwrap();
    let refused = Reader::try_resident(&open(folder.path(), cache.path(), ALL), Precision::Exact).map(|_| ());
    assert!(matches!(refused, Err(Error::NotFinite { .. })), "{refused:?}");
    assert_eq!(files(cache.path()).len(), 0);
}

#[test]
fn what_is_kept_of_a_model_goes_with_it() {
    let cache = tempfile::tempdir().unwrap();
    let (dense, mixture) = (fixtures().join("tiny/qwen3_dense"), fixtures().join("tiny/qwen3_moe"));
    let (dense, mixture) = (open(&dense, cache.path(), ALL), open(&mixture, cache.path(), ALL));
    logits(&dense, Precision::Exact);
    logits(&mixture, Precision::Exact);
    logits(&mixture, Precision::Fast);
    Reader::streaming(&mixture, Precision::Exact, 1 << 30).unwrap();
    assert_eq!(files(cache.path()).len(), 4);
    let kept = mixture.weight_cache.as_ref().unwrap();
    kept.forget(&mixture).unwrap();
    assert_eq!(files(cache.path()).len(), 1, "that of the other one");
    kept.forget(&mixture).unwrap();
}

#[test]
fn what_cannot_be_kept_does_no_harm() {
    let path = fixtures().join("tiny/qwen3_dense");
    let expected = logits(&Checkpoint::open(&path).unwrap(), Precision::Exact);
    let cache = tempfile::tempdir().unwrap();
    assert!(logits(&open(&path, cache.path(), 1000), Precision::Exact) == expected);
    assert_eq!(files(cache.path()).len(), 0, "the limit");
    let small = WeightCache { folder: cache.path().to_owned(), limit_bytes: ALL, least_bytes: ALL };
    let small = Checkpoint { weight_cache: Some(small), ..Checkpoint::open(&path).unwrap() };
    assert!(logits(&small, Precision::Exact) == expected);
    assert_eq!(files(cache.path()).len(), 0, "too small to be worth it");
    let no_folder = cache.path().join("file");
    std::fs::write(&no_folder, "").unwrap();
    assert!(logits(&open(&path, &no_folder, ALL), Precision::Exact) == expected);
}
