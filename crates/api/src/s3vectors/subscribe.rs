//! `POST /SubscribeVectors`, ours: the changes of an index as server-sent events, all of them or those that a standing
//! query asks for. `docs/vectors.md` has the form.
//!
//! The queue between writers and a reader is the log: a stream holds one entry of it, whatever the reader does. A
//! reader that was at the end of the log and falls [`BEHIND_MAX`] entries behind is let go with a cursor, by which it
//! takes up where it stopped, at its own pace, as long as the log reaches back so far.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::response::Response;
use futures::stream;
use ledger::usage::Activity;
use serde_json::{Map, Value, json};
use vectors::{Bucket, Changes, Counted, Filter, IndexEntry, Op, Opened, Row, Standing, Stats};

use super::call::Call;
use super::error::{Check, Failure};
use super::resource;
use super::types::SubscribeVectors;
use crate::buckets::wire::{DataFormat, Numbers, returned, token, untoken};
use crate::buckets::{Subscription, embed};
use crate::sse;

/// So many entries of the log a reader may be behind once it has been at its end.
const BEHIND_MAX: u64 = 512;
/// So often it is looked for what other processes wrote; what this one writes is told at once.
const LOOK: Duration = Duration::from_millis(500);
/// Changes that are looked at before others have their turn.
const CHANGES_AT_ONCE: usize = 32;
/// A reader for whom nothing fits is told now and then how far it has come: after so many entries.
const ENTRIES_PER_CURSOR: u64 = 64;

/// The change of an index that is told next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cursor {
    /// The number of its entry in the log.
    entry: u64,
    /// Its place in the entry.
    op: usize,
}

impl Cursor {
    /// As a text that is good for one life of an index.
    fn text(self, index: &IndexEntry) -> String {
        token(&format!("{}.{}.{}", index.created_ms, self.entry, self.op))
    }

    fn parse(text: &str, index: &IndexEntry) -> Option<Self> {
        let text = untoken(text)?;
        let mut numbers = text.split('.').map(|number| number.parse::<u64>().ok());
        let (life, entry, op) = (numbers.next()??, numbers.next()??, numbers.next()??);
        let is_sound = life == index.created_ms && entry > 0 && numbers.next().is_none();
        is_sound.then_some(Self { entry, op: usize::try_from(op).ok()? })
    }
}

/// What of a row is told.
#[derive(Debug, Clone, Copy)]
struct Told {
    metadata: bool,
    data: Option<DataFormat>,
}

/// A reader and how far it has come.
struct Reader {
    call: Call,
    wire: SubscribeVectors,
    operations: Vec<&'static str>,
    bucket: Arc<Bucket>,
    entry: Arc<IndexEntry>,
    standing: Standing,
    told: Told,
    next: Cursor,
    /// The entry at `next`, if it is at hand.
    changes: Option<Changes>,
    /// Whether it has been at the end of the log.
    is_live: bool,
    /// The entry of the last cursor that was told.
    told_entry: u64,
    /// The counters as they were told last.
    told_counters: Option<(Stats, Counted)>,
    lines: VecDeque<Bytes>,
    is_over: bool,
    _counted: Subscription,
}

/// Why a stream ends, in words for its reader.
struct End {
    code: &'static str,
    message: String,
    cursor: Option<String>,
}

pub(super) async fn subscribe(call: Call) -> Result<Response, Failure> {
    let wire: SubscribeVectors = call.json()?;
    let mut check = Check::default();
    if wire.max_distance.is_some() != wire.query_vector.is_some() {
        check.add("/maxDistance", "queryVector and maxDistance must be given together");
    }
    check.finish()?;
    let operations = operations(&wire);
    let (bucket, name) = names(&call, &wire)?;
    let (bucket, entry) = call.index(&bucket, &name, &operations).await?;
    let counted = Subscription::begin(&call.buckets).ok_or_else(Failure::busy)?;
    let index = call.buckets.catalogue.open(&entry).await.map_err(call.failed())?;
    let standing = standing(&call, &wire, &entry).await?;
    let next = begin(&call, &wire, &entry, &index).await?;
    let is_live = next.entry == index.log_next();
    drop(index);
    let told = Told {
        metadata: wire.return_metadata == Some(true),
        data: (wire.return_data == Some(true)).then_some(wire.data_format),
    };
    let lines = VecDeque::from([cursor_line(&next.text(&entry))]);
    let mut reader = Reader {
        call,
        wire,
        operations,
        bucket,
        entry,
        standing,
        told,
        next,
        changes: None,
        is_live,
        told_entry: next.entry,
        told_counters: None,
        lines,
        is_over: false,
        _counted: counted,
    };
    reader.wire.query_vector = None;
    let events = stream::unfold(reader, |mut reader| async move { Some((reader.line().await?, reader)) });
    Ok(sse::response(events, sse::COMMENT))
}

type Names = (vectors::BucketName, vectors::IndexName);

fn names(call: &Call, wire: &SubscribeVectors) -> Result<Names, Failure> {
    let names = (wire.vector_bucket_name.as_deref(), wire.index_name.as_deref(), wire.index_arn.as_deref());
    resource::index(&call.buckets.identity, names.0, names.1, names.2)
}

/// What the reader must be allowed to do: keys are listed, and whoever filters or compares learns of what is inside.
fn operations(wire: &SubscribeVectors) -> Vec<&'static str> {
    let mut operations = vec!["SubscribeVectors", "ListVectors"];
    if wire.query_vector.is_some() {
        operations.push("QueryVectors");
    }
    if wire.filter.is_some() || wire.return_metadata == Some(true) || wire.return_data == Some(true) {
        operations.push("GetVectors");
    }
    operations
}

async fn standing(call: &Call, wire: &SubscribeVectors, entry: &IndexEntry) -> Result<Standing, Failure> {
    let filter = wire.filter.as_ref().filter(|filter| !filter.is_null());
    let filter = filter.map(|json| Filter::parse(json, &entry.shape.not_filterable)).transpose();
    let filter = filter.map_err(|why| Failure::field("/filter", format!("Invalid query filter: {why}")))?;
    let wrong = |why: String| Failure::field("/queryVector", why);
    let vector = match &wire.query_vector {
        None => None,
        Some(data) => Some(match data.clone().numbers().map_err(wrong)? {
            Numbers::Known(numbers) => numbers,
            Numbers::OfText(text) => {
                embed(&call.app, call.id, vec![text]).await.map_err(wrong)?.pop().unwrap_or_default()
            }
        }),
    };
    let near = vector.as_deref().zip(wire.max_distance);
    Standing::new(&entry.shape, near, filter).map_err(|why| wrong(why.to_string()))
}

/// Where the stream begins: `latest`, `earliest` or a cursor, which a client that connects again sends as
/// `Last-Event-ID`.
async fn begin(call: &Call, wire: &SubscribeVectors, entry: &IndexEntry, index: &Opened) -> Result<Cursor, Failure> {
    let header = call.headers.get("last-event-id").and_then(|value| value.to_str().ok());
    let place = match header.or(wire.cursor.as_deref()).unwrap_or("latest") {
        "latest" => {
            index.refresh().await.map_err(call.failed())?;
            return Ok(Cursor { entry: index.log_next(), op: 0 });
        }
        "earliest" => return Ok(Cursor { entry: index.log_first().await.map_err(call.failed())?, op: 0 }),
        text => Cursor::parse(text, entry).ok_or_else(|| Failure::field("/cursor", "Invalid cursor"))?,
    };
    index.refresh().await.map_err(call.failed())?;
    match index.changes(place.entry).await {
        _ if place.entry > index.log_next() => Err(Failure::field("/cursor", "Invalid cursor")),
        Err(vectors::Error::Gone { .. }) => {
            let why = "The log does not reach back to this cursor; list the vectors and begin at latest";
            Err(Failure::field("/cursor", why))
        }
        Err(error) => Err(Failure::of(&error, call.id)),
        Ok(_) => Ok(place),
    }
}

impl Reader {
    /// The next line of the stream; `None` at its end.
    async fn line(&mut self) -> Option<Bytes> {
        // Ends: each round looks at some changes, waits for new ones, or is the last.
        loop {
            if let Some(line) = self.lines.pop_front() {
                return Some(line);
            }
            if self.is_over {
                return None;
            }
            if let Err(end) = self.advance().await {
                self.is_over = true;
                let event = json!({"code": end.code, "message": end.message, "cursor": end.cursor});
                self.lines.push_back(sse::named("end", &event.to_string()));
            }
        }
    }

    fn cursor(&self) -> Option<String> {
        Some(self.next.text(&self.entry))
    }

    /// Looks at some changes, or waits for new ones.
    async fn advance(&mut self) -> Result<(), End> {
        if self.changes.is_none() {
            self.changes = self.fetch().await?;
        }
        let Some(changes) = self.changes.take() else { return Ok(()) };
        let ops = changes.ops();
        let end = (self.next.op + CHANGES_AT_ONCE).min(ops.len());
        let mut vectors = 0;
        for place in self.next.op.min(end)..end {
            let is_last = place + 1 == ops.len();
            let after = match is_last {
                true => Cursor { entry: self.next.entry + 1, op: 0 },
                false => Cursor { entry: self.next.entry, op: place + 1 },
            };
            vectors += usize::from(self.tell(&ops[place], after));
        }
        self.call.count(&self.bucket, Activity::VectorRead, vectors);
        if end == ops.len() {
            self.next = Cursor { entry: self.next.entry + 1, op: 0 };
            if self.next.entry - self.told_entry >= ENTRIES_PER_CURSOR {
                self.told_entry = self.next.entry;
                self.lines.push_back(cursor_line(&self.next.text(&self.entry)));
            }
        } else {
            self.next.op = end;
            self.changes = Some(changes);
        }
        Ok(())
    }

    /// The entry at `next`; `None` after a wait for it, or if there is something else to tell first.
    async fn fetch(&mut self) -> Result<Option<Changes>, End> {
        if !self.call.app.is_ready() {
            let message = "the server is stopping; connect again".to_owned();
            return Err(End { code: "ServiceUnavailableException", message, cursor: self.cursor() });
        }
        // Rights may be withdrawn and the index deleted while the stream goes on.
        let index = self.open().await.map_err(|failure| {
            let (code, message) = failure.told();
            End { code, message, cursor: self.cursor() }
        })?;
        if self.wire.counters == Some(true) && self.tell_counters(&index) {
            return Ok(None);
        }
        match index.changes(self.next.entry).await {
            Ok(Some(changes)) if self.is_live && changes.behind >= BEHIND_MAX => {
                let message = format!("{} commits wait for this reader, {BEHIND_MAX} may", changes.behind + 1);
                Err(End { code: "Behind", message, cursor: self.cursor() })
            }
            Ok(Some(changes)) => Ok(Some(changes)),
            Ok(None) => {
                self.is_live = true;
                let mut news = index.news();
                let now_us = self.call.app.clock.monotonic_us();
                // What cannot be learned now is asked for again.
                let _ = index.look(now_us, LOOK.as_micros() as u64 / 2).await;
                drop(index);
                if *news.borrow_and_update() <= self.next.entry {
                    // An error says that the index was closed to make room; it is opened again then.
                    let _ = tokio::time::timeout(LOOK, news.changed()).await;
                }
                Ok(None)
            }
            Err(vectors::Error::Gone { .. }) => {
                let message = "the log does not reach back to this reader any more; list the vectors".to_owned();
                Err(End { code: "Behind", message, cursor: None })
            }
            Err(error) => {
                let (code, message) = Failure::of(&error, self.call.id).told();
                Err(End { code, message, cursor: self.cursor() })
            }
        }
    }

    /// Tells the counters of the index if they are others than before; says whether they are.
    fn tell_counters(&mut self, index: &Opened) -> bool {
        let counters = (index.stats(), index.counted());
        if self.told_counters.replace(counters) == Some(counters) {
            return false;
        }
        let (stats, counted) = counters;
        let event = json!({
            "rows": stats.rows, "rowsInMemory": stats.tail_rows, "segments": stats.segments,
            "commits": stats.log_next - 1, "puts": counted.puts, "deletes": counted.deletes,
            "queries": counted.queries,
        });
        self.lines.push_back(sse::named("counters", &event.to_string()));
        true
    }

    async fn open(&self) -> Result<Opened, Failure> {
        let (bucket, name) = names(&self.call, &self.wire)?;
        let (_, entry) = self.call.index(&bucket, &name, &self.operations).await?;
        if entry.created_ms != self.entry.created_ms {
            return Err(Failure::not_found("index"));
        }
        self.call.buckets.catalogue.open(&entry).await.map_err(self.call.failed())
    }

    /// Tells one change, if the reader wants it. Says whether a vector was told.
    fn tell(&mut self, op: &Op, after: Cursor) -> bool {
        let (name, event) = match op {
            Op::Put(row) => match self.standing.fits(row) {
                Some(distance) => ("put", self.put(row, distance)),
                None => return false,
            },
            Op::Delete(key) if self.standing.takes_all() => {
                ("delete", Map::from_iter([("key".to_owned(), key.as_str().into())]))
            }
            Op::Delete(_) => return false,
        };
        self.told_entry = after.entry;
        let json = Value::Object(event).to_string();
        self.lines.push_back(sse::numbered(&after.text(&self.entry), name, &json));
        matches!(op, Op::Put(_))
    }

    fn put(&self, row: &Row, distance: Option<f32>) -> Map<String, Value> {
        let row = serde_json::to_value(returned(row, self.told.data, self.told.metadata));
        let mut event = match row {
            Ok(Value::Object(event)) => event,
            Ok(_) | Err(_) => Map::new(),
        };
        if let Some(distance) = distance {
            event.insert("distance".to_owned(), distance.into());
        }
        event
    }
}

fn cursor_line(text: &str) -> Bytes {
    sse::numbered(text, "cursor", &json!({"cursor": text}).to_string())
}

#[cfg(test)]
mod tests;
