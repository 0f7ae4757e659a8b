//! Writes a segment, one part of rows after the other, so that a merge needs the memory of one part and of the head.

use std::sync::Arc;

use bytes::Bytes;
use store::{Name, Store};

use crate::Result;
use crate::codec::Writer;
use crate::distance::prepare;
use crate::error::tried;
use crate::manifest::SegmentEntry;
use crate::rabitq::Codes;
use crate::rotate::Rotation;
use crate::segment::filter_index::FilterIndexBuilder;
use crate::segment::head::{Head, List, Part};
use crate::segment::rows::{small_bytes, whole_bytes, write_document, write_small, write_whole};
use crate::segment::{ROWS_MAX, folder_of, object};
use crate::types::{Row, Shape};

/// A part is written when it has reached this.
const PART_BYTES: u64 = 24 << 20;
/// What a head may take, less than the largest object.
const HEAD_BYTES: u64 = 48 << 20;
/// A filter index is cut into objects of this length.
const FILTER_OBJECT_BYTES: usize = 32 << 20;

/// The most rows of a segment of this dimension: its head must fit into one object.
pub(crate) fn rows_max(dimension: u32) -> u32 {
    let row_bytes = u64::from(dimension.div_ceil(64)) * 8 + 8 + 8 + 4;
    u32::try_from(HEAD_BYTES / row_bytes).map_or(ROWS_MAX, |rows| rows.min(ROWS_MAX))
}

/// A segment being written. Until a manifest names it, it is nothing.
#[derive(Debug)]
pub(crate) struct Builder {
    store: Arc<dyn Store>,
    id: String,
    folder: Name,
    shape: Shape,
    rotation: Arc<Rotation>,
    head: Head,
    /// Of the list that is open: the sum of its rows' squared distances to the centre.
    spread: f64,
    filter_index: FilterIndexBuilder,
    small: Writer,
    whole: Writer,
    documents: Writer,
}

impl Builder {
    /// Begins a segment.
    pub(crate) fn new(
        store: &Arc<dyn Store>,
        index_folder: &Name,
        id: &str,
        shape: &Shape,
        rotation: &Arc<Rotation>,
    ) -> Result<Self> {
        let codes = Codes::new(rotation.padded());
        let head = Head { dimension: shape.dimension, codes, ..Head::default() };
        Ok(Self {
            store: Arc::clone(store),
            id: id.to_owned(),
            folder: folder_of(index_folder, id)?,
            shape: shape.clone(),
            rotation: Arc::clone(rotation),
            head,
            spread: 0.0,
            filter_index: FilterIndexBuilder::default(),
            small: Writer::default(),
            whole: Writer::default(),
            documents: Writer::default(),
        })
    }

    /// Begins a list: `centre` is the mean of the prepared rows that will come, or near it; the codes are taken less
    /// this. `[dimension]` Each list must be given a row.
    pub(crate) fn begin_list(&mut self, centre: &[f32]) {
        assert_eq!(centre.len(), self.shape.dimension as usize, "a centre of another dimension");
        self.end_list();
        self.head.lists.push(List { first_row: self.head.rows, spread: 0.0 });
        self.head.centres.extend_from_slice(centre);
    }

    fn end_list(&mut self) {
        if let Some(list) = self.head.lists.last_mut() {
            assert!(list.first_row < self.head.rows, "a list without rows");
            list.spread = (self.spread / f64::from(self.head.rows - list.first_row)) as f32;
        }
        self.spread = 0.0;
    }

    /// Adds a row to the list that was begun last. Keys must differ.
    ///
    /// # Panics
    /// If the segment is full; see [`rows_max`].
    pub(crate) async fn push(&mut self, row: &Row) -> Result<()> {
        assert!(self.head.rows < rows_max(self.shape.dimension), "a segment is full");
        let prepared = prepare(&row.vector, self.shape.metric);
        let centre = self.head.centre(self.head.lists.len() - 1);
        let residual: Vec<f32> = prepared.iter().zip(centre).map(|(value, centre)| value - centre).collect();
        self.spread += residual.iter().map(|&value| f64::from(value) * f64::from(value)).sum::<f64>();
        let mut rotated = vec![0.0; self.rotation.padded()];
        self.rotation.apply(&residual, &mut rotated);
        self.head.codes.push(&rotated);
        self.head.keys.push(u64::from(row.key.hash32()) << 32 | u64::from(self.head.rows));
        self.filter_index.push(&row.metadata, &self.shape.not_filterable);
        if self.documents.len() == 0 {
            self.head.parts.push(Part { first_row: self.head.rows, documents_bytes: 0 });
        }
        let start = u32::try_from(self.documents.len()).expect("a part is far smaller than 4 GiB");
        self.head.document_starts.push(start);
        write_small(&prepared, &mut self.small);
        write_whole(&row.vector, &mut self.whole);
        write_document(&row.key, &row.metadata, &mut self.documents);
        self.head.rows += 1;
        let row_bytes = small_bytes(self.shape.dimension) + whole_bytes(self.shape.dimension);
        if (self.small.len() + self.whole.len() + self.documents.len()) as u64 + row_bytes > PART_BYTES {
            self.write_part().await?;
        }
        Ok(())
    }

    async fn write_part(&mut self) -> Result<()> {
        let part = self.head.parts.last_mut().expect("a part begins with its first row");
        part.documents_bytes = u32::try_from(self.documents.len()).expect("a part is far smaller than 4 GiB");
        let name = object(&self.folder, &format!("rows-{:05}", self.head.parts.len() - 1));
        let mut bytes = std::mem::take(&mut self.small.0);
        bytes.append(&mut self.whole.0);
        bytes.append(&mut self.documents.0);
        self.write(&name, bytes).await
    }

    async fn write(&self, name: &Name, bytes: Vec<u8>) -> Result<()> {
        self.store.put(name, Bytes::from(bytes)).await.map_err(tried("write an object of a segment"))
    }

    /// Writes what is left and answers the entry for a manifest.
    ///
    /// # Panics
    /// If there is no row.
    pub(crate) async fn finish(mut self) -> Result<SegmentEntry> {
        assert!(self.head.rows > 0, "a segment without rows");
        self.end_list();
        if self.documents.len() > 0 {
            self.write_part().await?;
        }
        let filter_index = std::mem::take(&mut self.filter_index).finish().encode();
        for (number, piece) in filter_index.chunks(FILTER_OBJECT_BYTES).enumerate() {
            let mut sealed = Writer(piece.to_vec());
            sealed.seal(0);
            self.write(&object(&self.folder, &format!("filter-{number:05}")), sealed.0).await?;
            self.head.filter_objects += 1;
        }
        self.head.keys.sort_unstable();
        let head = self.head.encode();
        let head_checksum = u32::from_le_bytes(*head.last_chunk().expect("a head ends with its checksum"));
        self.write(&object(&self.folder, "head"), head).await?;
        Ok(SegmentEntry { id: self.id, rows: self.head.rows, head_checksum, dead: roaring::RoaringBitmap::new() })
    }
}
