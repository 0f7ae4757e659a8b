//! Vector buckets: indexes of vectors on object storage that answer by meaning, the moment a vector is written.
//!
//! * [`Index`]: put, delete, get, list, query, compact. Reads are strongly consistent, writes are durable when they
//!   answer, and any number of processes may open one index.
//! * [`Changes`], [`Standing`]: the log as a feed, and queries that wait for vectors to come.
//! * [`Filter`]: the filter language of Amazon S3 Vectors.
//! * [`Catalogue`]: which buckets and indexes there are, and those that are open.
//! * [`Shape`], [`Row`], [`Key`], [`Metadata`]: what an index holds.
//!
//! From the inside: a log of commits (`log`), numbered manifests (`manifest`) and segments that never change
//! (`segment`), all on a [`store::Store`] whose one means of agreement is to create an object that does not exist yet.
//! `index` says why that is enough. What lies where, byte by byte, is in `format.md` beside this file. Distances are
//! estimated from one bit a dimension (`rabitq`) and then computed; the inner loops lie in `kernels::codes`. Rows of a
//! segment lie in lists of near ones (`cluster`). Fields may be searched by words (`text`), alone or with a vector.
//! [`verify`] reads every byte of an index and names what is damaged.
//!
//! No clock is read here and no lock is held by time: who wins is decided by who created an object first.

#![warn(missing_docs)]

mod bits;
mod catalogue;
mod cluster;
mod codec;
mod distance;
mod error;
mod filter;
pub mod fuzz;
mod index;
mod kept;
mod log;
mod manifest;
mod metadata;
mod newest;
mod rabitq;
mod rotate;
mod segment;
mod state;
mod tail;
mod text;
mod types;

pub use catalogue::{
    BUCKETS_MAX, Bucket, BucketName, BucketSettings, Catalogue, Encryption, FRESH_US, INDEXES_MAX, IndexEntry,
    IndexName, IndexSettings, Listing, Opened, Remembered, Select,
};
pub use error::{Error, Result};
pub use filter::{FILTER_DEPTH_MAX, FILTER_TESTS_MAX, Filter, Order, Test};
pub use index::{Changes, Counted, Effort, LOG_KEPT_BYTES, LOG_KEPT_ENTRIES, Standing};
pub use index::{Compaction, Config, Index, Match, PAGE_KEYS_MAX, Page, Position, Query, Since, Span, Stats, Want};
pub use index::{Damaged, Scored, TextQuery, Verified, verify};
pub use metadata::{Metadata, MetadataLimits, Scalar, Value};
pub use segment::is_fixed;
pub use text::{Language, TEXT_FIELDS_MAX, TextField};
pub use types::{
    BATCH_ROWS_MAX, CHANGES_MAX, DIMENSION_MAX, KEY_BYTES_MAX, Key, Metric, NEIGHBOURS_MAX, Op, Row, Shape,
};
