//! Reads every byte of a segment and holds it against its checksum.

use std::sync::Arc;

use store::{Name, OBJECT_BYTES_MAX};

use crate::codec::unseal;
use crate::error::tried;
use crate::segment::{Of, Segment};
use crate::text::damaged_texts;
use crate::types::Key;
use crate::{Error, Result};

impl Segment {
    /// Checks the rows of each part. Answers the bytes read, and what is wrong with which object.
    pub(crate) async fn verify(self: &Arc<Self>) -> Result<(u64, Vec<(Name, &'static str)>)> {
        let (mut bytes_read, mut damaged) = (0, Vec::new());
        for (part, name) in self.parts.iter().enumerate() {
            match self.store.get(name, OBJECT_BYTES_MAX).await {
                Ok(bytes) => {
                    bytes_read += bytes.len() as u64;
                    damaged.extend(self.damage_of(part, &bytes).map(|what| (name.clone(), what)));
                }
                Err(error) if error.is_not_found() => damaged.push((name.clone(), "it is missing")),
                Err(source) => return Err(tried("read rows")(source)),
            }
        }
        damaged.append(&mut damaged_texts(self.store.as_ref(), &self.folder).await?);
        Ok((bytes_read, damaged))
    }

    fn damage_of(&self, part: usize, bytes: &[u8]) -> Option<&'static str> {
        let rows = self.head.rows_of(part);
        let last = self.range(Of::Document, part, rows.end - 1);
        if bytes.len() as u64 != last.end {
            return Some("it has another length than its head says");
        }
        for row in rows {
            for of in [Of::Small, Of::Whole, Of::Document] {
                let range = self.range(of, part, row);
                let Some(body) = unseal(&bytes[range.start as usize..range.end as usize]) else {
                    return Some("the checksum of a row is wrong");
                };
                if matches!(of, Of::Document) && !self.has_key(row, self.document(row, body)) {
                    return Some("a row is not the one that its head names");
                }
            }
        }
        None
    }

    /// Whether the key table leads from this document's key to its row.
    fn has_key<T>(&self, row: u32, document: std::result::Result<(Key, T), Error>) -> bool {
        document.is_ok_and(|(key, _)| self.rows_with_hash(&key).any(|other| other == row))
    }
}
