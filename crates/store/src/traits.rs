use std::fmt::Debug;
use std::ops::Range;

use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::{BoxFuture, try_join_all};

use crate::{Error, Name, Result};

/// The largest object. Larger things are several objects: no caller then needs more memory than this, and an upload to
/// S3 needs no parts.
pub const OBJECT_BYTES_MAX: u64 = 64 << 20;

/// One object of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub name: Name,
    /// Its length.
    pub size_bytes: u64,
}

/// Objects under names. The crate's first page has the promise about durability; what each call adds stands here.
///
/// Dropping a future is harmless for a read. A write whose future is dropped may happen or not, whole or not at all, as
/// if it had answered [`Unavailable`](base::Kind::Unavailable).
pub trait Store: Send + Sync + Debug {
    /// The whole object.
    ///
    /// Errors: `NotFound`; `TooLarge` if it has more than `limit_bytes`, before anything of it is read into memory.
    fn get<'a>(&'a self, name: &'a Name, limit_bytes: u64) -> BoxFuture<'a, Result<Bytes>>;

    /// Several ranges of one object, in the order asked for. Ranges may overlap and need no order; an empty range is
    /// answered with no bytes.
    ///
    /// One call is one trip to a thread or, where the store can, a few parallel requests: a search fetches a hundred
    /// rows this way.
    ///
    /// Errors: `NotFound`; `Short` if any range reaches beyond the end; a reversed range is a bug and panics.
    fn get_ranges<'a>(&'a self, name: &'a Name, ranges: &'a [Range<u64>]) -> BoxFuture<'a, Result<Vec<Bytes>>>;

    /// [`Self::get_ranges`] of several objects side by side; the answers come in the order of the requests.
    ///
    /// One call is one trip to a thread, or one round trip where each object is a request of its own.
    fn get_many<'a>(&'a self, wanted: &'a [(Name, Vec<Range<u64>>)]) -> BoxFuture<'a, Result<Vec<Vec<Bytes>>>> {
        try_join_all(wanted.iter().map(|(name, ranges)| self.get_ranges(name, ranges))).boxed()
    }

    /// [`Self::get_ranges`], but of a range that reaches beyond the end of the object there comes what there is. What
    /// keeps blocks of objects asks so, since it does not know how long they are.
    fn get_clipped<'a>(&'a self, name: &'a Name, ranges: &'a [Range<u64>]) -> BoxFuture<'a, Result<Vec<Bytes>>> {
        async move {
            let size_bytes = match self.get_ranges(name, ranges).await {
                Err(Error::Short { size_bytes, .. }) => size_bytes,
                answer => return answer,
            };
            let clip = |range: &Range<u64>| range.start.min(size_bytes)..range.end.min(size_bytes);
            self.get_ranges(name, &ranges.iter().map(clip).collect::<Vec<_>>()).await
        }
        .boxed()
    }

    /// Creates the object if its name is free, and is durable when it answers `Ok`.
    ///
    /// Errors: `Exists` if the name is taken, even if the bytes are the same; after an `Unavailable`, trying again
    /// may answer `Exists` because of the first try, so a caller that must know compares the bytes.
    fn put_create<'a>(&'a self, name: &'a Name, bytes: Bytes) -> BoxFuture<'a, Result<()>>;

    /// Creates or replaces the object, and is durable when it answers `Ok`. Readers see the old bytes or the new.
    fn put<'a>(&'a self, name: &'a Name, bytes: Bytes) -> BoxFuture<'a, Result<()>>;

    /// Objects below the folder whose names are greater than `after`, in the order of their names' bytes, at most
    /// `limit`. Fewer than `limit` means that there are no more.
    ///
    /// A folder that does not exist is empty.
    fn list_after<'a>(
        &'a self,
        folder: &'a Name,
        after: Option<&'a Name>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Entry>>>;

    /// Removes the object. Removing what is not there is `Ok`.
    fn delete<'a>(&'a self, name: &'a Name) -> BoxFuture<'a, Result<()>>;
}
