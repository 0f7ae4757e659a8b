//! One batch from its first line to its files. Everything begins from what is durable, so it may be begun again.

use std::collections::HashSet;

use chat::Caller;
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use serde_json::value::RawValue;

use super::desk::{Bench, Handle};
use super::log::{Entry, Log};
use super::{Ending, Fault, KEPT_MS, LINE_BYTES_MAX, LINES_MAX, Lines, OUTPUT_BYTES_MAX, Record, Reply, Status};
use crate::auth::working_for;
use crate::error::chain;
use crate::files::{self, Files, Head, Writer};
use crate::kept;

/// Lines of one batch that are asked for at once: enough for an engine to compute them together.
const LINES_AT_ONCE: usize = 16;
/// Faults of an input that are told.
const FAULTS_MAX: usize = 20;
/// Milliseconds before something is tried again: the first time, and at most.
const REST_MS: u64 = 100;
const REST_MS_MAX: u64 = 10_000;

/// Whether a run came to the end of its batch.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Over,
    /// The server stops; the next one goes on.
    Stopped,
}

/// Works on a batch until it is over or the server stops.
pub(super) async fn run(bench: &Bench, handle: &Handle, lines: &dyn Lines) -> Outcome {
    let mut failures = 0;
    // Ends: with the batch or the server. A store that fails for ever leaves nothing else to do than to try.
    loop {
        match attempt(bench, handle, lines).await {
            Ok(outcome) => return outcome,
            Err(error) => {
                tracing::warn!(batch.id = handle.id(), error = chain(&error), "a batch is begun again");
                (bench.rest)(rest_ms(failures)).await;
                failures += 1;
            }
        }
    }
}

fn rest_ms(tries: u32) -> u64 {
    REST_MS.checked_shl(tries.min(16)).map_or(REST_MS_MAX, |ms| ms.min(REST_MS_MAX))
}

async fn attempt(bench: &Bench, handle: &Handle, lines: &dyn Lines) -> store::Result<Outcome> {
    // Ends: each round either ends the run or finds lines that a damaged log has lost, which are then answered again.
    while !handle.record().status.is_over() {
        let record = handle.record();
        let files = Files::of(&bench.objects, record.owner_caller().as_ref());
        // A file whose time is over meanwhile is good enough for the batch that it was given to.
        let Some(head) = files.get(&record.input, 0).await? else {
            let message = format!("the input file {} does not exist any more", record.input);
            let fault = Fault { code: "file_not_found".to_owned(), message, param: None, line: None };
            fail(bench, handle, vec![fault]).await?;
            break;
        };
        if record.in_progress_at_ms.is_none() && !validate(bench, handle, lines, &files, &head).await? {
            break;
        }
        let folder = record.log_folder()?;
        let mut log = Log::open(&bench.objects, folder, bench.random().to_string()).await?;
        let ending = match handle.record().ending {
            Some(ending @ (Ending::Expired | Ending::Cancelled)) => ending,
            Some(Ending::Completed) | None => {
                let input = files::Lines::of(files.clone(), head.clone(), LINE_BYTES_MAX);
                match answer(bench, handle, lines, input, &mut log).await? {
                    Some(ending) => ending,
                    None => return Ok(Outcome::Stopped),
                }
            }
        };
        let input = files::Lines::of(files.clone(), head, LINE_BYTES_MAX);
        finish(bench, handle, lines, ending, Output { files, log: &log, input }).await?;
    }
    tidy(bench, &handle.record(), lines).await?;
    Ok(Outcome::Over)
}

/// Reads every line once. False: something is wrong, and the batch has failed.
async fn validate(
    bench: &Bench,
    handle: &Handle,
    lines: &dyn Lines,
    files: &Files,
    head: &Head,
) -> store::Result<bool> {
    let record = handle.record();
    let mut input = files::Lines::of(files.clone(), head.clone(), LINE_BYTES_MAX);
    let (mut ids, mut faults, mut total) = (HashSet::new(), Vec::new(), 0_u64);
    let of_file = |code: &str, message: String| Fault { code: code.to_owned(), message, param: None, line: None };
    while faults.len() < FAULTS_MAX {
        let line = match input.next().await {
            Ok(Some(line)) => line,
            Ok(None) => break,
            Err(store::Error::TooLarge { limit_bytes, .. }) => {
                let message = format!("a line after line {total} has more than {limit_bytes} bytes");
                faults.push(of_file("line_too_long", message));
                break;
            }
            Err(error) => return Err(error),
        };
        total += 1;
        if total > LINES_MAX {
            faults.push(of_file("too_many_tasks", format!("there are more than {LINES_MAX} lines")));
            break;
        }
        match lines.check(&record, &line.bytes) {
            Ok(id) => {
                if let Some(id) = ids.replace(id) {
                    let message = format!("the custom_id {id:?} was used before");
                    let param = Some("custom_id".to_owned());
                    let code = "duplicate_custom_id".to_owned();
                    faults.push(Fault { code, message, param, line: Some(line.number) });
                }
            }
            Err(fault) => faults.push(Fault { line: Some(line.number), ..fault }),
        }
        // Lines are parsed one after another out of a part that is in memory.
        tokio::task::yield_now().await;
    }
    if total == 0 && faults.is_empty() {
        faults.push(of_file("empty_file", "the input file has no lines".to_owned()));
    }
    if !faults.is_empty() {
        fail(bench, handle, faults).await?;
        return Ok(false);
    }
    let now_ms = bench.clock.now_ms();
    handle
        .update(bench, |record| {
            record.counts.total = total;
            record.in_progress_at_ms = Some(now_ms);
            if record.status == Status::Validating {
                record.status = Status::InProgress;
            }
        })
        .await?;
    Ok(true)
}

async fn fail(bench: &Bench, handle: &Handle, faults: Vec<Fault>) -> store::Result<()> {
    let now_ms = bench.clock.now_ms();
    let failed = |record: &mut Record| {
        (record.status, record.faults, record.over_at_ms) = (Status::Failed, faults, Some(now_ms));
    };
    handle.update(bench, failed).await
}

/// Asks for all lines that the log does not have. `None`: the server stops.
async fn answer(
    bench: &Bench,
    handle: &Handle,
    lines: &dyn Lines,
    mut input: files::Lines,
    log: &mut Log,
) -> store::Result<Option<Ending>> {
    let record = handle.record();
    let mut flying = FuturesUnordered::new();
    let mut has_more = true;
    let over = over(bench, handle);
    tokio::pin!(over);
    handle.count(log.counts());
    // Ends: every round answers a line, or finds that none is left.
    loop {
        while has_more && flying.len() < LINES_AT_ONCE {
            match input.next().await? {
                Some(line) if log.has(line.number) => {}
                Some(line) => flying.push(answer_line(bench, &record, lines, line)),
                None => has_more = false,
            }
        }
        let first = tokio::select! {
            biased;
            ending = &mut over => return Ok(ending),
            entry = flying.next() => entry,
        };
        let Some(first) = first else { return Ok(Some(Ending::Completed)) };
        log.add(&first);
        // Whatever else is ready shares the write.
        while let Some(Some(entry)) = futures::FutureExt::now_or_never(flying.next()) {
            log.add(&entry);
        }
        log.flush().await?;
        handle.count(log.counts());
    }
}

async fn answer_line(bench: &Bench, record: &Record, lines: &dyn Lines, line: files::Line) -> Entry {
    let mut tries = 0;
    // Ends: at the latest the batch expires, and this is dropped.
    loop {
        match working_for(record.principal(), lines.answer(record, &line.bytes)).await {
            Reply::Done { is_success, line: text } => {
                let text = RawValue::from_string(text).expect("a dialect writes JSON");
                return Entry { number: line.number, is_success, line: text };
            }
            Reply::Later => (bench.rest)(rest_ms(tries)).await,
        }
        tries += 1;
    }
}

/// Waits until the batch is cancelled, its time is over, or (`None`) the server stops.
async fn over(bench: &Bench, handle: &Handle) -> Option<Ending> {
    let expired = async {
        // Ends: when the time has come. The clock may be set meanwhile.
        while let Some(left_ms) = handle.record().expires_at_ms.checked_sub(bench.clock.now_ms() + 1) {
            (bench.rest)(left_ms + 1).await;
        }
    };
    tokio::select! {
        biased;
        () = bench.stopped() => None,
        () = handle.cancelled() => Some(Ending::Cancelled),
        () = expired => Some(Ending::Expired),
    }
}

struct Output<'a> {
    files: Files,
    log: &'a Log,
    input: files::Lines,
}

/// Writes the files, then says that the batch is over; unless the log lacks lines that should be there.
async fn finish(
    bench: &Bench,
    handle: &Handle,
    lines: &dyn Lines,
    ending: Ending,
    output: Output<'_>,
) -> store::Result<()> {
    let now_ms = bench.clock.now_ms();
    let new_id = || files::new_id("file-", now_ms, bench.random());
    let finalizing = |record: &mut Record| {
        if record.ending.is_none() {
            (record.ending, record.status, record.finalizing_at_ms) = (Some(ending), Status::Finalizing, Some(now_ms));
            (record.output, record.errors) = (Some(new_id()), Some(new_id()));
        }
    };
    handle.update(bench, finalizing).await?;
    let record = handle.record();
    let [mut answers, mut errors] = [&record.output, &record.errors]
        .map(|id| output.files.writer(id.clone().expect("set with the ending"), OUTPUT_BYTES_MAX));
    let (mut seen, mut counts) = (HashSet::new(), super::Counts { total: record.counts.total, ..Default::default() });
    let mut segments = output.log.segments();
    while let Some(entries) = segments.next().await? {
        for entry in entries.iter().filter(|entry| seen.insert(entry.number)) {
            let count = if entry.is_success { &mut counts.succeeded } else { &mut counts.errored };
            *count += 1;
            let to_errors = !entry.is_success && lines.splits_errors();
            put_line(if to_errors { &mut errors } else { &mut answers }, entry.line.get()).await?;
        }
    }
    counts.unanswered = counts.total - seen.len() as u64;
    if counts.unanswered > 0 {
        if ending == Ending::Completed {
            return Ok(());
        }
        let writer = if lines.splits_errors() { &mut errors } else { &mut answers };
        give_up(bench, &record, lines, output.input, &seen, writer).await?;
    }
    let (output, errors) = (
        close(answers, &record, lines, "output", now_ms).await?,
        close(errors, &record, lines, "error", now_ms).await?,
    );
    let status = match ending {
        Ending::Completed => Status::Completed,
        Ending::Expired => Status::Expired,
        Ending::Cancelled => Status::Cancelled,
    };
    let over = |record: &mut Record| {
        (record.status, record.counts, record.over_at_ms) = (status, counts, Some(now_ms));
        (record.output, record.errors) = (output, errors);
    };
    handle.update(bench, over).await
}

async fn put_line(writer: &mut Writer, line: &str) -> store::Result<()> {
    writer.push(line.as_bytes()).await?;
    writer.push(b"\n").await
}

/// Says of every line that was not answered why.
async fn give_up(
    bench: &Bench,
    record: &Record,
    lines: &dyn Lines,
    mut input: files::Lines,
    seen: &HashSet<u64>,
    writer: &mut Writer,
) -> store::Result<()> {
    let ending = record.ending.expect("a batch that gives up lines is ending");
    while let Some(line) = input.next().await? {
        if seen.contains(&line.number) {
            continue;
        }
        // It was checked, so it has one.
        let custom_id = lines.check(record, &line.bytes).unwrap_or_default();
        put_line(writer, &lines.unanswered(record, &custom_id, ending, bench.random())).await?;
    }
    Ok(())
}

async fn close(
    writer: Writer,
    record: &Record,
    lines: &dyn Lines,
    what: &str,
    now_ms: u64,
) -> store::Result<Option<String>> {
    if writer.is_empty() {
        writer.abandon().await?;
        return Ok(None);
    }
    let name = format!("{}_{what}.jsonl", record.id);
    let head = writer.finish(name, lines.output_purpose(), now_ms, Some(now_ms + KEPT_MS)).await?;
    Ok(Some(head.id))
}

/// Removes what only a batch that goes on needs.
async fn tidy(bench: &Bench, record: &Record, lines: &dyn Lines) -> store::Result<()> {
    kept::delete_below(&*bench.objects, &record.log_folder()?).await?;
    let owner: Option<Caller> = record.owner_caller();
    if lines.owns_input() {
        Files::of(&bench.objects, owner.as_ref()).delete(&record.input).await?;
    }
    bench.objects.delete(&record.marker()?).await
}
