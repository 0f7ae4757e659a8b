//! Reading parts of files, several at a time, around the page cache: what is read once into a cache of our own would
//! only push out of the system's what others need.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use kernels::Format;
use rustix::fs::OFlags;

use crate::loader::transpose;
use crate::mmap::MappedFile;
use crate::quantised::Quantised;
use crate::weights::Tensor;
use crate::{Error, Result, finite};

/// Reads in flight. A disk of many gigabytes a second wants several; one of a few has enough of two.
const READERS: usize = 8;
/// Buffers: so many reads may be done before anybody takes them. They bridge what is computed between two layers.
const BUFFERS: usize = 64;
/// Bytes of all buffers, unless there would be less than one for each reader.
const BUFFERS_BYTES: usize = 64 << 20;
/// What addresses, offsets and lengths of direct reads are multiples of: a page, and no disk asks for more.
const ALIGN: usize = 4096;

/// How bytes come from a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadWay {
    /// From the disk to where they are wanted, where the file system can.
    Direct,
    /// By way of the system's page cache.
    Cached,
}

/// A file that is read.
pub(super) struct Place {
    path: PathBuf,
    file: File,
    /// The same for reads around the page cache; `None` if the file system has none.
    direct: Option<File>,
}

impl Place {
    /// Opens a file that was mapped before.
    ///
    /// # Errors
    /// [`Error::Read`] if it cannot be opened, or is another one than was mapped.
    pub(super) fn open(mapped: &MappedFile) -> Result<Self> {
        let (path, known) = mapped.place();
        let failed = |source| Error::Read { path: path.to_owned(), source };
        let file = File::open(path).map_err(failed)?;
        let found = file.metadata().map_err(failed)?;
        let identity = |file: &std::fs::Metadata| (file.dev(), file.ino(), file.len());
        if identity(&found) != identity(known) {
            return Err(failed(io::Error::other("it was replaced while it was opened")));
        }
        let direct = OpenOptions::new().read(true).custom_flags(OFlags::DIRECT.bits().cast_signed()).open(path).ok();
        Ok(Self { path: path.to_owned(), file, direct })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Lets the system forget what it keeps of the file, as far as it does.
    pub(super) fn forget_cached(&self) -> io::Result<()> {
        Ok(rustix::fs::fadvise(&self.file, 0, None, rustix::fs::Advice::DontNeed)?)
    }

    /// Reads bytes into a buffer; says where in it they begin.
    fn read(&self, offset: u64, length: usize, way: ReadWay, buffer: &mut Buffer) -> io::Result<usize> {
        let first = offset / ALIGN as u64 * ALIGN as u64;
        let head = (offset - first) as usize;
        let wanted = head + length;
        let whole = buffer.part(wanted.next_multiple_of(ALIGN));
        let mut done = 0;
        // Ends: every round reads something, or fails.
        while done < wanted {
            // What a short read left is asked for from its last whole page on.
            done = done / ALIGN * ALIGN;
            let at = first + done as u64;
            let direct = self.direct.as_ref().filter(|_| way == ReadWay::Direct);
            let direct = direct.map(|direct| direct.read_at(&mut whole[done..], at));
            let read = match direct {
                // A file system may take the flag and refuse the read.
                None => self.file.read_at(&mut whole[done..], at),
                Some(Err(error)) if error.kind() == io::ErrorKind::InvalidInput => {
                    self.file.read_at(&mut whole[done..], at)
                }
                Some(read) => read,
            };
            match read {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) if done + count < wanted && count < ALIGN => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => done += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(buffer.start + head)
    }
}

/// Memory that a disk may write to: it begins on a page.
struct Buffer {
    bytes: Vec<u8>,
    start: usize,
}

impl Buffer {
    fn new(size: usize) -> Self {
        // Behind the bytes that are wanted lie those of whole pages around them.
        let bytes = vec![0; size + 3 * ALIGN];
        let address = bytes.as_ptr().addr();
        Self { start: address.next_multiple_of(ALIGN) - address, bytes }
    }

    fn part(&mut self, length: usize) -> &mut [u8] {
        &mut self.bytes[self.start..self.start + length]
    }
}

/// Rows of one part of an expert that are to be read.
pub(super) struct Order {
    pub(super) place: Arc<Place>,
    pub(super) offset: u64,
    pub(super) length: usize,
    pub(super) numbers: Numbers,
    pub(super) way: ReadWay,
    /// For whom they are: where the expert will lie, which of its parts it is, and which row is the first.
    pub(super) slot: usize,
    pub(super) part: usize,
    pub(super) first_row: usize,
}

/// What is read.
#[derive(Clone)]
pub(super) enum Numbers {
    /// Nobody looks at them.
    Ignored,
    /// In this format, all to be finite.
    Stored(Format),
    /// A matrix whose scales lie elsewhere, or rows of it.
    Quantised(Arc<Quantised>),
    /// So many columns in this format, one after the other, all to be finite.
    Transposed(Format, usize),
}

/// An order that was carried out.
pub(super) struct Delivery {
    pub(super) order: Order,
    buffer: Buffer,
    outcome: io::Result<usize>,
    /// A number that is not finite.
    fault: Option<usize>,
    /// What was quantised, as it is computed with.
    converted: Option<Result<Tensor>>,
}

impl Delivery {
    /// The rows, or why there are none: what the disk says, or what is wrong with the numbers.
    pub(super) fn rows(&mut self) -> std::result::Result<Rows<'_>, Refusal> {
        let start = match std::mem::replace(&mut self.outcome, Ok(0)) {
            Err(error) => return Err(Refusal::Unread(error)),
            Ok(start) => start,
        };
        match (self.fault, self.converted.take(), &self.order.numbers) {
            (Some(element), _, _) => Err(Refusal::NotFinite(element)),
            (None, Some(Err(error)), _) => Err(Refusal::Wrong(error)),
            (None, Some(Ok(tensor)), _) => Ok(Rows::Converted(tensor)),
            (None, None, &(Numbers::Stored(format) | Numbers::Transposed(format, _))) => {
                Ok(Rows::Stored(format, &self.buffer.bytes[start..start + self.order.length]))
            }
            (None, None, Numbers::Ignored | Numbers::Quantised(_)) => Ok(Rows::Ignored),
        }
    }
}

/// Rows as they are packed.
pub(super) enum Rows<'a> {
    Stored(Format, &'a [u8]),
    Converted(Tensor),
    Ignored,
}

/// Why rows cannot be used.
pub(super) enum Refusal {
    Unread(io::Error),
    NotFinite(usize),
    Wrong(Error),
}

/// Threads that read.
pub(super) struct Disk {
    shared: Arc<Shared>,
    readers: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    /// There is something to read and a buffer for it.
    work: Condvar,
    /// Something was read.
    done: Condvar,
}

#[derive(Default)]
struct Queue {
    wanted: VecDeque<Order>,
    /// Read when nothing else is.
    guessed: VecDeque<Order>,
    buffers: Vec<Buffer>,
    done: VecDeque<Delivery>,
    /// Orders that are not yet taken.
    open: usize,
    is_over: bool,
}

impl Queue {
    fn next(&mut self) -> Option<(Order, Buffer)> {
        if self.buffers.is_empty() {
            return None;
        }
        let order = self.wanted.pop_front().or_else(|| self.guessed.pop_front())?;
        self.buffers.pop().map(|buffer| (order, buffer))
    }
}

impl Disk {
    /// Starts the readers. `order_bytes_max` is the most that an order asks for.
    ///
    /// # Errors
    /// [`Error::Reader`] if the system gives no thread.
    pub(super) fn new(order_bytes_max: usize) -> Result<Self> {
        let shared = Arc::new(Shared::default());
        let count = (BUFFERS_BYTES / order_bytes_max.max(1)).clamp(READERS, BUFFERS);
        lock(&shared).buffers = (0..count).map(|_| Buffer::new(order_bytes_max)).collect();
        let mut disk = Self { shared, readers: Vec::new() };
        for index in 0..READERS {
            let shared = Arc::clone(&disk.shared);
            let builder = std::thread::Builder::new().name(format!("experts-{index}"));
            disk.readers.push(builder.spawn(move || serve(&shared)).map_err(Error::Reader)?);
        }
        Ok(disk)
    }

    /// Orders that somebody waits for.
    pub(super) fn order(&self, orders: impl IntoIterator<Item = Order>) {
        self.put(orders, |queue| &mut queue.wanted);
    }

    /// Orders that somebody may want soon.
    pub(super) fn guess(&self, orders: impl IntoIterator<Item = Order>) {
        self.put(orders, |queue| &mut queue.guessed);
    }

    fn put(&self, orders: impl IntoIterator<Item = Order>, which: impl Fn(&mut Queue) -> &mut VecDeque<Order>) {
        let mut queue = lock(&self.shared);
        for order in orders {
            which(&mut queue).push_back(order);
            queue.open += 1;
        }
        drop(queue);
        self.shared.work.notify_all();
    }

    /// What was guessed for this slot is wanted now.
    pub(super) fn hurry(&self, slot: usize) {
        let mut queue = lock(&self.shared);
        let (now, later): (VecDeque<_>, _) =
            std::mem::take(&mut queue.guessed).into_iter().partition(|o| o.slot == slot);
        queue.guessed = later;
        queue.wanted.extend(now);
    }

    /// Forgets orders that were guessed and of which none for the same slot was begun: `orders` says how many a slot
    /// had. Returns those slots.
    pub(super) fn forget(&self, orders: impl Fn(usize) -> usize) -> Vec<usize> {
        let mut queue = lock(&self.shared);
        let mut slots: Vec<usize> = queue.guessed.iter().map(|order| order.slot).collect();
        slots.dedup();
        slots.retain(|&slot| queue.guessed.iter().filter(|order| order.slot == slot).count() == orders(slot));
        let before = queue.guessed.len();
        queue.guessed.retain(|order| !slots.contains(&order.slot));
        queue.open -= before - queue.guessed.len();
        slots
    }

    /// Orders that are not yet taken.
    pub(super) fn open(&self) -> usize {
        lock(&self.shared).open
    }

    /// Waits for the next order to be carried out; `None` if there is none.
    pub(super) fn take(&self) -> Option<Delivery> {
        let mut queue = lock(&self.shared);
        // Ends: an open order is carried out, as long as there are buffers, which whoever takes gives back.
        while queue.open > 0 {
            if let Some(delivery) = queue.done.pop_front() {
                queue.open -= 1;
                return Some(delivery);
            }
            queue = self.shared.done.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        None
    }

    /// Gives a buffer back.
    pub(super) fn done_with(&self, delivery: Delivery) {
        lock(&self.shared).buffers.push(delivery.buffer);
        self.shared.work.notify_one();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        lock(&self.shared).is_over = true;
        self.shared.work.notify_all();
        for reader in self.readers.drain(..) {
            // It ends by itself; if it panicked, that was told.
            let _ = reader.join();
        }
    }
}

fn lock(shared: &Shared) -> MutexGuard<'_, Queue> {
    // The queue is whole between any two statements that hold the lock.
    shared.queue.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The life of a reader.
fn serve(shared: &Shared) {
    let mut queue = lock(shared);
    // Ends when it is told to.
    while !queue.is_over {
        let Some((order, mut buffer)) = queue.next() else {
            queue = shared.work.wait(queue).unwrap_or_else(PoisonError::into_inner);
            continue;
        };
        drop(queue);
        let outcome = order.place.read(order.offset, order.length, order.way, &mut buffer);
        let rows = outcome.as_ref().ok().map(|&start| &mut buffer.bytes[start..start + order.length]);
        let (mut fault, mut converted) = (None, None);
        match (rows, &order.numbers) {
            (Some(rows), &Numbers::Stored(format)) => fault = finite::first_fault(format, rows),
            (Some(rows), Numbers::Quantised(matrix)) => converted = Some(matrix.rows_of(rows, order.first_row)),
            (Some(rows), &Numbers::Transposed(format, count)) => {
                let made = transpose(format, rows, count);
                rows.copy_from_slice(&made);
                fault = finite::first_fault(format, rows);
            }
            (Some(_), Numbers::Ignored) | (None, _) => {}
        }
        queue = lock(shared);
        queue.done.push_back(Delivery { order, buffer, outcome, fault, converted });
        shared.done.notify_one();
    }
}
