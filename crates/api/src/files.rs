//! Files that callers keep here: parts of bounded size, and a head that says they are all there.
//!
//! ```text
//! file-parts/<owner>/<id>/<n>   the bytes, PART_BYTES in each part but the last
//! files/<owner>/<id>            the head, written last and removed first: a file without one is not there
//! ```
//! Ids begin with the time, so a listing has the oldest first. Nothing holds more of a file in memory than a part.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::DefaultBodyLimit;
use axum::response::{IntoResponse as _, Response};
use base::RequestId;
use chat::Caller;
use futures::{Stream, StreamExt as _, TryStreamExt as _, stream};
use serde::{Deserialize, Serialize};
use store::{Error, Name, Store};

use crate::kept;

/// Bytes of a file.
pub(crate) const FILE_BYTES_MAX: u64 = 512 << 20;
/// Files of one owner.
pub(crate) const FILES_MAX: usize = 10_000;
/// Bytes of a part.
pub(crate) const PART_BYTES: usize = 4 << 20;
/// Bytes of a head: a name and some numbers.
const HEAD_BYTES_MAX: u64 = 64 << 10;
/// Heads that are read side by side.
const HEADS_AT_ONCE: usize = 16;
/// So many old files are looked at when a new one is made.
const SWEPT: usize = 8;
/// Hexadecimal digits of the time in an id.
const TIME_DIGITS: usize = 12;
/// Hexadecimal digits of an id.
const DIGITS: usize = TIME_DIGITS + 24;
/// What the ids of files begin with: OpenAI's and those of batches, and Anthropic's.
const PREFIXES: [&str; 2] = ["file-", "file_"];

/// What stands around the file in the body of an upload.
const AROUND_BYTES: usize = 1 << 20;

/// How large the body of an upload may be.
pub(crate) fn upload_limit() -> DefaultBodyLimit {
    DefaultBodyLimit::max(FILE_BYTES_MAX as usize + AROUND_BYTES)
}

/// What is known of a file.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) id: String,
    pub(crate) name: String,
    /// What it is for, in the words of the dialect that made it.
    pub(crate) purpose: String,
    /// What its bytes are, as its caller said.
    #[serde(default)]
    pub(crate) media_type: Option<String>,
    pub(crate) size_bytes: u64,
    pub(crate) created_at_ms: u64,
    pub(crate) expires_at_ms: Option<u64>,
    parts: u32,
}

/// The files of one owner.
#[derive(Clone)]
pub(crate) struct Files {
    objects: Arc<dyn Store>,
    heads: Name,
    parts: Name,
}

/// A new id with this prefix.
pub(crate) fn new_id(prefix: &str, now_ms: u64, random: RequestId) -> String {
    format!("{prefix}{now_ms:0TIME_DIGITS$x}{random}")
}

/// Whether this may be an id with this prefix.
pub(crate) fn is_id(prefix: &str, id: &str) -> bool {
    id.strip_prefix(prefix)
        .is_some_and(|digits| digits.len() == DIGITS && digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

fn is_file(id: &str) -> bool {
    PREFIXES.iter().any(|prefix| is_id(prefix, id))
}

impl Files {
    pub(crate) fn of(objects: &Arc<dyn Store>, owner: Option<&Caller>) -> Self {
        let (heads, parts) = (kept::folder("files", owner), kept::folder("file-parts", owner));
        Self { objects: Arc::clone(objects), heads, parts }
    }

    /// The head of a file, unless its time is over.
    pub(crate) async fn get(&self, id: &str, now_ms: u64) -> store::Result<Option<Head>> {
        if !is_file(id) {
            return Ok(None);
        }
        let head: Option<Head> = kept::read(&*self.objects, &self.heads.join(id)?, HEAD_BYTES_MAX).await?;
        Ok(head.filter(|head| head.expires_at_ms.is_none_or(|expires_at_ms| expires_at_ms > now_ms)))
    }

    /// All heads, of each prefix the oldest first.
    pub(crate) async fn list(&self, now_ms: u64) -> store::Result<Vec<Head>> {
        let entries = self.objects.list_after(&self.heads, None, FILES_MAX).await?;
        let heads = stream::iter(entries).map(|entry| async move { self.get(entry.name.last_part(), now_ms).await });
        heads.buffered(HEADS_AT_ONCE).try_filter_map(async |head| Ok(head)).try_collect().await
    }

    /// Whether the owner may have no more files.
    pub(crate) async fn is_full(&self) -> store::Result<bool> {
        Ok(self.objects.list_after(&self.heads, None, FILES_MAX).await?.len() >= FILES_MAX)
    }

    /// Removes a file. Removing what is not there does nothing.
    pub(crate) async fn delete(&self, id: &str) -> store::Result<()> {
        if !is_file(id) {
            return Ok(());
        }
        self.objects.delete(&self.heads.join(id)?).await?;
        kept::delete_below(&*self.objects, &self.parts.join(id)?).await
    }

    /// Throws away some of those whose time is over.
    pub(crate) async fn sweep(&self, now_ms: u64) -> store::Result<()> {
        for entry in self.objects.list_after(&self.heads, None, SWEPT).await? {
            let id = entry.name.last_part();
            if self.get(id, now_ms).await?.is_none() {
                self.delete(id).await?;
            }
        }
        Ok(())
    }

    /// A part of a file.
    pub(crate) async fn part(&self, head: &Head, part: u32) -> store::Result<Bytes> {
        self.objects.get(&self.part_name(&head.id, part)?, PART_BYTES as u64).await
    }

    /// The bytes of a file, part by part.
    pub(crate) fn content(self, head: Head) -> impl Stream<Item = store::Result<Bytes>> + Send + 'static {
        stream::iter(0..head.parts).then(move |part| {
            let (files, head) = (self.clone(), head.clone());
            async move { files.part(&head, part).await }
        })
    }

    /// An answer with the bytes of a file. A reader of one that breaks off sees that something is missing: the
    /// connection breaks too.
    pub(crate) fn response(self, head: Head, request: RequestId) -> Response {
        let headers =
            [("content-type", "application/octet-stream".to_owned()), ("content-length", head.size_bytes.to_string())];
        let parts = self.content(head).inspect(move |part| {
            if let Err(error) = part {
                tracing::error!(request.id = %request, error = crate::error::chain(error), "a file broke off");
            }
        });
        (headers, Body::from_stream(parts)).into_response()
    }

    /// Begins to write a file of at most so many bytes. Until [`Writer::finish`] has answered it is not there. Writing
    /// a file again replaces it.
    pub(crate) fn writer(&self, id: String, limit_bytes: u64) -> Writer {
        let (media_type, buffer) = (None, Vec::new());
        Writer { files: self.clone(), id, media_type, buffer, parts: 0, size_bytes: 0, limit_bytes }
    }

    fn part_name(&self, id: &str, part: u32) -> store::Result<Name> {
        self.parts.join(id)?.join(&format!("{part:06}"))
    }
}

/// Removes the parts of files that were never finished, of all owners: those whose writer died.
///
/// For the start of a server, before anybody writes.
pub(crate) async fn remove_unfinished(objects: &dyn Store) -> store::Result<()> {
    let all = Name::parse("file-parts")?;
    let mut after: Option<Name> = None;
    // Ends: every round goes past the file that it looked at.
    while let Some(entry) = objects.list_after(&all, after.as_ref(), 1).await?.into_iter().next() {
        let path = entry.name.as_str();
        let folder = path.rsplit_once('/').map_or(path, |(folder, _)| folder);
        let head = Name::parse(&folder.replacen("file-parts", "files", 1))?;
        if kept::read::<Head>(objects, &head, HEAD_BYTES_MAX).await?.is_none() {
            kept::delete_below(objects, &Name::parse(folder)?).await?;
        }
        // Behind every part of the file: a tilde would sort later still, and is no character of a name.
        after = Some(Name::parse(&format!("{folder}/zzzzzz"))?);
    }
    Ok(())
}

/// A file that is being written.
pub(crate) struct Writer {
    files: Files,
    id: String,
    /// What its bytes are, if somebody said it.
    pub(crate) media_type: Option<String>,
    buffer: Vec<u8>,
    parts: u32,
    size_bytes: u64,
    limit_bytes: u64,
}

impl Writer {
    /// Adds bytes.
    ///
    /// # Errors
    /// [`Error::TooLarge`] beyond the limit; what the store says.
    pub(crate) async fn push(&mut self, mut bytes: &[u8]) -> store::Result<()> {
        self.size_bytes += bytes.len() as u64;
        if self.size_bytes > self.limit_bytes {
            let name = self.files.heads.join(&self.id)?;
            return Err(Error::TooLarge { name, size_bytes: self.size_bytes, limit_bytes: self.limit_bytes });
        }
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(PART_BYTES - self.buffer.len()));
            self.buffer.extend_from_slice(now);
            if self.buffer.len() == PART_BYTES {
                self.flush().await?;
            }
            bytes = later;
        }
        Ok(())
    }

    async fn flush(&mut self) -> store::Result<()> {
        let name = self.files.part_name(&self.id, self.parts)?;
        self.files.objects.put(&name, Bytes::from(std::mem::take(&mut self.buffer))).await?;
        self.parts += 1;
        Ok(())
    }

    /// Makes the file one that is there; durable when it has answered.
    pub(crate) async fn finish(
        mut self,
        name: String,
        purpose: &str,
        created_at_ms: u64,
        expires_at_ms: Option<u64>,
    ) -> store::Result<Head> {
        if !self.buffer.is_empty() {
            self.flush().await?;
        }
        let head = Head {
            name,
            purpose: purpose.to_owned(),
            media_type: self.media_type,
            size_bytes: self.size_bytes,
            created_at_ms,
            expires_at_ms,
            parts: self.parts,
            id: self.id,
        };
        kept::write(&*self.files.objects, &self.files.heads.join(&head.id)?, &head, HEAD_BYTES_MAX).await?;
        Ok(head)
    }

    /// Whether nothing was written.
    pub(crate) fn is_empty(&self) -> bool {
        self.size_bytes == 0
    }

    /// Removes what was written.
    pub(crate) async fn abandon(self) -> store::Result<()> {
        self.files.delete(&self.id).await
    }
}

/// Reads a file line by line.
pub(crate) struct Lines {
    files: Files,
    head: Head,
    next_part: u32,
    /// What was read and not yet handed out begins at `begin`; no line ends before `searched`.
    buffer: Vec<u8>,
    begin: usize,
    searched: usize,
    number: u64,
    line_bytes_max: usize,
}

/// A line that is not blank, without its end.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Line {
    /// 1 for the first line of the file, blank ones counted.
    pub(crate) number: u64,
    pub(crate) bytes: Vec<u8>,
}

impl Lines {
    pub(crate) fn of(files: Files, head: Head, line_bytes_max: usize) -> Self {
        Self { files, head, next_part: 0, buffer: Vec::new(), begin: 0, searched: 0, number: 0, line_bytes_max }
    }

    /// The next line, `None` at the end.
    ///
    /// # Errors
    /// [`Error::TooLarge`] for a line of more bytes than allowed; what the store says.
    pub(crate) async fn next(&mut self) -> store::Result<Option<Line>> {
        // Ends: every round takes a line or reads a part.
        loop {
            let rest = &self.buffer[self.searched..];
            let end = rest.iter().position(|&byte| byte == b'\n').map(|at| self.searched + at);
            let is_last = self.next_part == self.head.parts;
            let Some(end) = end.or_else(|| is_last.then_some(self.buffer.len())) else {
                self.check_length(self.buffer.len() - self.begin)?;
                self.read_part().await?;
                continue;
            };
            self.check_length(end - self.begin)?;
            if end == self.buffer.len() && self.begin == end {
                return Ok(None);
            }
            let bytes = self.buffer[self.begin..end].trim_ascii().to_vec();
            self.number += 1;
            self.begin = (end + 1).min(self.buffer.len());
            self.searched = self.begin;
            if !bytes.is_empty() {
                return Ok(Some(Line { number: self.number, bytes }));
            }
        }
    }

    async fn read_part(&mut self) -> store::Result<()> {
        self.buffer.drain(..self.begin);
        self.begin = 0;
        self.searched = self.buffer.len();
        self.buffer.extend_from_slice(&self.files.part(&self.head, self.next_part).await?);
        self.next_part += 1;
        Ok(())
    }

    fn check_length(&self, bytes: usize) -> store::Result<()> {
        if bytes <= self.line_bytes_max {
            return Ok(());
        }
        let name = self.files.heads.join(&self.head.id)?;
        Err(Error::TooLarge { name, size_bytes: bytes as u64, limit_bytes: self.line_bytes_max as u64 })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use base::{RequestId, Rng};
    use futures::{FutureExt as _, TryStreamExt as _};
    use store::{Error, Memory, Name, Store};

    use super::{FILE_BYTES_MAX, Files, Head, Lines, PART_BYTES, new_id, remove_unfinished};

    fn memory() -> (Arc<dyn Store>, Files) {
        let objects: Arc<dyn Store> = Arc::new(Memory::new());
        let files = Files::of(&objects, None);
        (objects, files)
    }

    fn id(seed: u64) -> String {
        new_id("file-", 1_700_000_000_000, RequestId::random(&mut Rng::seeded(seed)))
    }

    async fn written(files: &Files, seed: u64, bytes: &[u8], expires_at_ms: Option<u64>) -> Head {
        let mut writer = files.writer(id(seed), FILE_BYTES_MAX);
        writer.push(bytes).await.unwrap();
        writer.finish("a.jsonl".to_owned(), "batch", 5, expires_at_ms).await.unwrap()
    }

    async fn lines(files: &Files, head: Head, line_bytes_max: usize) -> store::Result<Vec<(u64, String)>> {
        let mut lines = Lines::of(files.clone(), head, line_bytes_max);
        let mut found = Vec::new();
        while let Some(line) = lines.next().await? {
            found.push((line.number, String::from_utf8(line.bytes).unwrap()));
        }
        Ok(found)
    }

    #[test]
    fn a_file_is_kept_in_parts_and_read_back() {
        let (objects, files) = memory();
        let bytes: Vec<u8> = (0..PART_BYTES * 2 + 7).map(|at| at as u8).collect();
        let work = async {
            let head = written(&files, 1, &bytes, None).await;
            assert_eq!((head.size_bytes, head.parts), (bytes.len() as u64, 3));
            assert_eq!(files.list(0).await.unwrap(), std::slice::from_ref(&head));
            let read: Vec<_> = files.clone().content(head.clone()).try_collect().await.unwrap();
            assert_eq!(read.concat(), bytes);
            files.delete(&head.id).await.unwrap();
            assert_eq!(files.get(&head.id, 0).await.unwrap(), None);
            let left = objects.list_after(&Name::parse("file-parts").unwrap(), None, 10).await.unwrap();
            assert!(left.is_empty(), "{left:?}");
        };
        work.now_or_never().unwrap();
    }

    #[test]
    fn lines_are_numbered_across_parts_and_blank_ones_passed_over() {
        let (_, files) = memory();
        let long = "x".repeat(PART_BYTES - 3);
        let work = async {
            let check = async |seed: u64, text: &str, expected: &[(u64, &str)]| {
                let head = written(&files, seed, text.as_bytes(), None).await;
                let found = lines(&files, head, PART_BYTES).await.unwrap();
                let found: Vec<(u64, &str)> = found.iter().map(|(number, line)| (*number, line.as_str())).collect();
                assert!(found == expected, "{seed}");
            };
            check(1, "", &[]).await;
            check(2, "\n\n", &[]).await;
            check(3, "a\r\n\n b \nc", &[(1, "a"), (3, "b"), (4, "c")]).await;
            check(4, &format!("a\n{long}\nbc\nd\n"), &[(1, "a"), (2, &long), (3, "bc"), (4, "d")]).await;
            let head = written(&files, 5, b"abc\nabcdef\n", None).await;
            let refused = lines(&files, head, 5).await;
            assert!(matches!(refused, Err(Error::TooLarge { size_bytes: 6, limit_bytes: 5, .. })), "{refused:?}");
        };
        work.now_or_never().unwrap();
    }

    #[test]
    fn what_is_over_or_was_never_finished_is_swept() {
        let (objects, files) = memory();
        let work = async {
            let (over, stays) = (written(&files, 1, b"a", Some(9)).await, written(&files, 2, b"b", Some(11)).await);
            assert_eq!(files.get(&over.id, 9).await.unwrap(), None);
            files.sweep(10).await.unwrap();
            let mut writer = files.writer(id(3), FILE_BYTES_MAX);
            writer.push(&vec![0; PART_BYTES]).await.unwrap();
            drop(writer);
            remove_unfinished(&*objects).await.unwrap();
            let left = objects.list_after(&Name::parse("file-parts").unwrap(), None, 10).await.unwrap();
            assert_eq!(left.len(), 1, "{left:?}");
            assert!(left[0].name.as_str().contains(&stays.id));
        };
        work.now_or_never().unwrap();
    }
}
