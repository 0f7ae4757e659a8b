//! The object `newest` of an index: the newest manifest again, with what readers keep of its segments, under a name
//! that needs no listing. Whoever opens the index then knows in one round trip what else takes three.
//!
//! | bytes | what |
//! |---|---|
//! | 4 | `SVN1` |
//! | 8 | the number of the manifest |
//! | 4 + n | the manifest, as it lies under its number |
//! | 1 | 1 if its segments follow, in the manifest's order; 0 if they would take more than 15 MiB |
//! | then each 4 + n, 4 + n | the head; the filter index, put together and without checksums |
//! | 4 | checksum of all before it |
//!
//! It is a shortcut and decides nothing (`docs/decisions/0021-first-query.md`). A compaction replaces it after its
//! manifest counts, so it may be older than the newest manifest, and one that is missing or damaged is passed over. A
//! reader that takes an old one knows as much as one that opened the index then and slept since: it finds the log or
//! the manifests gone on.

use std::sync::Arc;

use bytes::Bytes;
use store::{Name, OBJECT_BYTES_MAX, Store};

use crate::codec::{Reader, Writer, unseal};
use crate::error::tried;
use crate::manifest::{MANIFEST_BYTES_MAX, Manifest, SegmentEntry};
use crate::rotate::Rotation;
use crate::segment::Segment;
use crate::state::Live;
use crate::{Error, Result};

const MAGIC: &[u8] = b"SVN1";
/// What heads and filter indexes may take here: of 384 dimensions about 170,000 rows. A compaction of 8,192 rows writes
/// 12 MB of rows, and this once more.
const SEGMENTS_BYTES_MAX: usize = 15 << 20;

const _: () = assert!(MANIFEST_BYTES_MAX + SEGMENTS_BYTES_MAX as u64 + (1 << 10) <= OBJECT_BYTES_MAX);

/// What stands in the object.
#[derive(Debug)]
pub(crate) struct Newest<'a> {
    pub(crate) manifest: Manifest,
    /// Head and filter index of each segment of the manifest; `None` if they are left out.
    pub(crate) segments: Option<Vec<(&'a [u8], &'a [u8])>>,
}

pub(crate) fn name(folder: &Name) -> Result<Name> {
    folder.join("newest").map_err(tried("name the newest manifest"))
}

/// The object for a manifest, of which these are the segments.
pub(crate) fn encode(manifest: &Manifest, segments: &[Live]) -> Vec<u8> {
    let mut out = Writer(MAGIC.to_vec());
    out.u64(manifest.number);
    out.long_bytes(&manifest.encode());
    let mut parts = Writer::default();
    let fits = segments.iter().all(|live| {
        parts.long_bytes(&live.segment.head.encode());
        parts.long_bytes(&live.segment.filter_index.encode());
        parts.len() <= SEGMENTS_BYTES_MAX
    });
    out.u8(u8::from(fits));
    if fits {
        out.0.append(&mut parts.0);
    }
    out.seal(0);
    out.0
}

impl<'a> Newest<'a> {
    /// Reads the object; the error says what is wrong with it.
    pub(crate) fn decode(bytes: &'a [u8]) -> std::result::Result<Self, &'static str> {
        let body = unseal(bytes).ok_or("its checksum is wrong")?;
        Self::decode_body(body).ok_or("it is not in the format of a newest manifest")
    }

    fn decode_body(body: &'a [u8]) -> Option<Self> {
        let mut reader = Reader(body);
        if reader.take(4)? != MAGIC {
            return None;
        }
        let number = reader.u64()?;
        let manifest = Manifest::decode(reader.long_bytes()?, number).ok()?;
        let segments = match reader.u8()? {
            0 => None,
            1 => {
                let parts = manifest.segments.iter().map(|_| Some((reader.long_bytes()?, reader.long_bytes()?)));
                Some(parts.collect::<Option<Vec<_>>>()?)
            }
            _ => return None,
        };
        reader.is_empty().then_some(Self { manifest, segments })
    }

    /// Its segments, open; `None` if they are left out or are not what the manifest names.
    pub(crate) fn open(&self, store: &Arc<dyn Store>, folder: &Name) -> Option<Vec<Arc<Segment>>> {
        let rotation = Rotation::new(self.manifest.shape.dimension as usize);
        let open = |(entry, parts): (&SegmentEntry, &(&[u8], &[u8]))| {
            let segment = Segment::of_bytes(store, folder, entry, &self.manifest.shape, &rotation, *parts);
            segment.map(Arc::new)
        };
        self.manifest.segments.iter().zip(self.segments.as_ref()?).map(open).collect()
    }
}

/// The object of an index, if there is one that can be read.
pub(crate) async fn read(store: &dyn Store, folder: &Name) -> Option<Bytes> {
    store.get(&name(folder).ok()?, OBJECT_BYTES_MAX).await.ok()
}

/// What is wrong with the object of an index, if anything is.
pub(crate) async fn damage(store: &Arc<dyn Store>, folder: &Name) -> Result<Option<&'static str>> {
    let bytes = match store.get(&name(folder)?, OBJECT_BYTES_MAX).await {
        Ok(bytes) => bytes,
        Err(error) if error.is_not_found() => return Ok(None),
        Err(source) => return Err(Error::Store { action: "read the newest manifest", source }),
    };
    Ok(match Newest::decode(&bytes) {
        Err(what) => Some(what),
        Ok(newest) if newest.segments.is_some() && newest.open(store, folder).is_none() => {
            Some("a segment in it is not the one that its manifest names")
        }
        Ok(_) => None,
    })
}

/// Feeds foreign bytes to the reader.
pub(crate) fn fuzz(bytes: &[u8]) {
    if let Ok(newest) = Newest::decode(bytes) {
        let store: Arc<dyn Store> = Arc::new(store::Memory::new());
        let folder = Name::parse("i").expect("a letter is a name");
        // Whatever it holds: segments that are not the manifest's are not opened.
        drop(newest.open(&store, &folder));
    }
}
