use base::Rng;
use proptest::prelude::*;

use super::{BYTES_MAX, Entry, Manifest, fuzz_manifest};

fn entry(name: &str, size: u64) -> Entry {
    Entry { name: name.to_owned(), size, changed_ns: 1, executable: false }
}

fn refusal(entries: Vec<Entry>) -> String {
    Manifest::new(1 << 16, entries).unwrap_err().to_string()
}

proptest! {
    #[test]
    fn what_is_written_is_read(
        sizes in proptest::collection::btree_map("[a-z]{1,9}(/[a-z.]{1,5}x){0,3}", 0_u64..1 << 20, 1..20)
    ) {
        let entries: Vec<Entry> = sizes.iter().map(|(name, size)| entry(name, *size)).collect();
        // A draw may hold a file that is also a folder; then it is refused, which another test looks at.
        if let Ok(manifest) = Manifest::new(1 << 16, entries) {
            prop_assert_eq!(Manifest::decode(&manifest.encode()).unwrap(), manifest);
        }
    }

    #[test]
    fn chunks_tile_the_files(sizes in proptest::collection::vec(0_u64..300_000, 1..12)) {
        let entries = sizes.iter().enumerate().map(|(index, size)| entry(&format!("{index:03}"), *size)).collect();
        let manifest = Manifest::new(1 << 16, entries).unwrap();
        let mut covered = vec![0; sizes.len()];
        for number in 0..manifest.chunks() {
            let place = manifest.place(number).unwrap();
            prop_assert_eq!(place.offset, covered[place.file as usize]);
            prop_assert!(place.length > 0 && manifest.chunks_of(place.file).contains(&number));
            covered[place.file as usize] += u64::from(place.length);
        }
        prop_assert_eq!(covered, sizes);
        prop_assert_eq!(manifest.place(manifest.chunks()), None);
    }
}

#[test]
fn hostile_names_are_refused_with_the_reason() {
    let long = "x".repeat(256);
    let deep = "a/".repeat(70) + "b";
    for name in [
        "",
        "/etc/passwd",
        "../up",
        "a/../../b",
        "a//b",
        "a/",
        ".",
        "a\0b",
        "a\nb",
        "c:\\d",
        ".sampan-net/x",
        &long,
        &deep,
    ] {
        let refused = refusal(vec![entry(name, 1)]);
        assert!(refused.contains("is refused"), "{name:?}: {refused}");
    }
    assert!(refusal(vec![entry("a", 1), entry("a/b", 1), entry("a-b", 1)]).contains("a file and a folder"));
    assert!(refusal(vec![entry("a", 1), entry("a", 1)]).contains("twice"));
}

#[test]
fn hostile_sizes_are_refused_with_the_limit() {
    assert!(refusal(vec![entry("a", u64::MAX)]).contains(&BYTES_MAX.to_string()));
    let petabyte = Manifest::new(64 << 20, vec![entry("a", BYTES_MAX), entry("b", u64::MAX)]).unwrap_err().to_string();
    assert!(petabyte.contains("bytes in a transfer"), "{petabyte}");
    assert!(refusal(vec![entry("a", BYTES_MAX)]).contains("chunks in a transfer"));
    for chunk_bytes in [0, 1, 3 << 16, 128 << 20] {
        let refused = Manifest::new(chunk_bytes, vec![entry("a", 1)]).unwrap_err().to_string();
        assert!(refused.contains(&chunk_bytes.to_string()), "{refused}");
    }
    let mut bytes = Manifest::new(1 << 16, vec![entry("a", 1)]).unwrap().encode();
    bytes[12..16].copy_from_slice(&u32::MAX.to_le_bytes());
    assert!(Manifest::decode(&bytes).unwrap_err().to_string().contains("files"));
}

#[test]
fn smoke_of_the_manifest_reader() {
    let names = (0..9).map(|index| entry(&format!("dir/{index}"), 1 << (2 * index))).collect();
    let whole = Manifest::new(1 << 16, names).unwrap().encode();
    fuzz_manifest(&whole);
    let mut rng = Rng::seeded(3);
    for _ in 0..2_000 {
        let mut bytes = whole.clone();
        for _ in 0..=rng.below(3) {
            let at = rng.below(bytes.len() as u64) as usize;
            bytes[at] = rng.next_u64() as u8;
        }
        bytes.truncate(rng.below(bytes.len() as u64 * 2) as usize);
        fuzz_manifest(&bytes);
    }
}
