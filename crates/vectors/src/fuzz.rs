//! What reads bytes that may come from anywhere, as plain functions: whatever the bytes, they return.

/// Reads bytes as a log entry.
pub fn log(bytes: &[u8]) {
    crate::log::fuzz(bytes);
}

/// Reads bytes as a manifest.
pub fn manifest(bytes: &[u8]) {
    crate::manifest::fuzz(bytes);
}

/// Reads bytes as the newest manifest with its segments.
pub fn newest(bytes: &[u8]) {
    crate::newest::fuzz(bytes);
}

/// Reads bytes as the head of a segment.
pub fn segment_head(bytes: &[u8]) {
    crate::segment::fuzz(bytes);
}

/// Reads bytes as a filter index of 100 rows.
pub fn filter_index(bytes: &[u8]) {
    crate::segment::fuzz_filter_index(bytes);
}

/// Reads bytes as a row of a segment, without its checksum.
pub fn row(bytes: &[u8]) {
    crate::segment::fuzz_rows(bytes);
}

/// Reads bytes as the words of a field in a segment of three rows.
pub fn words(bytes: &[u8]) {
    crate::text::fuzz(bytes);
}

/// Reads bytes as a document of the catalogue.
pub fn catalogue(bytes: &[u8]) {
    crate::catalogue::fuzz_document(bytes);
}

#[cfg(test)]
mod tests;
