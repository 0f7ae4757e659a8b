//! Batches over a store that fails, in runs that die.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use base::{ManualClock, RequestId, Rng};
use futures::FutureExt as _;
use futures::StreamExt as _;
use futures::future::BoxFuture;
use serde_json::{Value, json};
use store::sim::{FaultStore, Faults, Tasks, pause};
use store::{Memory, Name, Store};

use super::desk::{Bench, Handle};
use super::run::{Outcome, run};
use super::{Dialect, Ending, Fault, Lines, Record, Reply, Status, Wanted};
use crate::files::{FILE_BYTES_MAX, Files, new_id};
use crate::kept;

const NOW_MS: u64 = 1_700_000_000_000;
const STEPS_MAX: u64 = 200_000;

/// Answers a line with a number of its own, so that no two answers are alike.
#[derive(Default)]
struct Numbered {
    asked: AtomicU64,
    /// How many of a hundred tries are put off, by what was drawn.
    later: u64,
    hangs: bool,
}

impl Lines for Numbered {
    fn check(&self, _: &Record, line: &[u8]) -> Result<String, Fault> {
        let value: Value = serde_json::from_slice(line).map_err(|why| fault(&why.to_string()))?;
        value["custom_id"].as_str().map(str::to_owned).ok_or_else(|| fault("no custom_id"))
    }

    fn answer<'a>(&'a self, record: &'a Record, line: &'a [u8]) -> BoxFuture<'a, Reply> {
        async move {
            let number = self.asked.fetch_add(1, Ordering::SeqCst);
            pause(number % 3).await;
            if self.hangs && number >= 2 {
                std::future::pending::<()>().await;
            }
            if number * 37 % 100 < self.later {
                return Reply::Later;
            }
            let custom_id = self.check(record, line).unwrap();
            let is_success = !custom_id.ends_with('7');
            Reply::Done { is_success, line: json!({"custom_id": custom_id, "number": number}).to_string() }
        }
        .boxed()
    }

    fn unanswered(&self, _: &Record, custom_id: &str, ending: Ending, _: RequestId) -> String {
        json!({"custom_id": custom_id, "ending": ending}).to_string()
    }

    fn splits_errors(&self) -> bool {
        true
    }

    fn owns_input(&self) -> bool {
        false
    }

    fn output_purpose(&self) -> &'static str {
        "batch_output"
    }
}

fn fault(why: &str) -> Fault {
    Fault { code: "bad".to_owned(), message: why.to_owned(), param: None, line: None }
}

fn ready<T>(work: impl Future<Output = T>) -> T {
    work.now_or_never().expect("a store in memory never waits")
}

/// A batch as it was accepted, over a store in memory.
fn accepted(input: &str) -> (Arc<dyn Store>, Record) {
    let objects: Arc<dyn Store> = Arc::new(Memory::new());
    let random = |seed| RequestId::random(&mut Rng::seeded(seed));
    let record = ready(async {
        let mut writer = Files::of(&objects, None).writer(new_id("file-", NOW_MS, random(1)), FILE_BYTES_MAX);
        writer.push(input.as_bytes()).await.unwrap();
        let head = writer.finish("in.jsonl".to_owned(), "batch", NOW_MS, None).await.unwrap();
        let wanted = Wanted {
            id: new_id("batch_", NOW_MS, random(2)),
            dialect: Dialect::OpenAi,
            endpoint: "/v1/chat/completions".to_owned(),
            input: head.id,
            window: "24h".to_owned(),
            window_ms: 1000,
            metadata: None,
        };
        let record = Record::new(wanted, None, NOW_MS);
        kept::write(&*objects, &record.name().unwrap(), &record, 1 << 20).await.unwrap();
        record
    });
    (objects, record)
}

fn lines(count: u64) -> String {
    (0..count).map(|index| format!("{}\n", json!({"custom_id": format!("r{index}")}))).collect()
}

fn stored(objects: &Arc<dyn Store>, record: &Record) -> Record {
    ready(kept::read(&**objects, &record.name().unwrap(), 1 << 20)).unwrap().unwrap()
}

/// Starts a process that works on the batch as it is stored; it may be killed.
fn process(
    tasks: &mut Tasks,
    objects: &Arc<dyn Store>,
    seen_by: Arc<dyn Store>,
    record: &Record,
    answers: &Arc<Numbered>,
    seed: u64,
) -> (store::sim::TaskId, Arc<Mutex<Option<Outcome>>>) {
    let (record, answers) = (stored(objects, record), Arc::clone(answers));
    let clock = Arc::new(ManualClock::starting_at(NOW_MS));
    let bench = Bench::new(seen_by, clock, |ms| pause(1 + ms % 7).boxed(), seed);
    let outcome = Arc::new(Mutex::new(None));
    let told = Arc::clone(&outcome);
    let id = tasks.spawn(async move {
        let handle = Handle::new(record);
        let ended = run(&bench, &handle, &*answers).await;
        *told.lock().unwrap() = Some(ended);
    });
    (id, outcome)
}

/// The lines of a file by their custom id; each may be there once.
fn output(objects: &Arc<dyn Store>, file: Option<&String>) -> HashMap<String, Value> {
    let Some(file) = file else { return HashMap::new() };
    let files = Files::of(objects, None);
    let head = ready(files.get(file, NOW_MS)).unwrap().expect("the file is there");
    let parts: Vec<_> = ready(files.content(head).collect::<Vec<_>>());
    let bytes = parts.into_iter().map(Result::unwrap).collect::<Vec<_>>().concat();
    let mut found = HashMap::new();
    for line in String::from_utf8(bytes).unwrap().lines() {
        let value: Value = serde_json::from_str(line).unwrap();
        let id = value["custom_id"].as_str().unwrap().to_owned();
        assert!(found.insert(id, value).is_none(), "twice: {line}");
    }
    found
}

/// Every line is in one of the two files, once, and nothing else is left behind.
fn check_whole(objects: &Arc<dyn Store>, record: &Record, count: u64) {
    assert_eq!(record.status, Status::Completed);
    let (good, bad) = (output(objects, record.output.as_ref()), output(objects, record.errors.as_ref()));
    for index in 0..count {
        let id = format!("r{index}");
        let (expected, other) = if id.ends_with('7') { (&bad, &good) } else { (&good, &bad) };
        assert!(expected.contains_key(&id) && !other.contains_key(&id), "{id}");
    }
    assert_eq!((good.len() + bad.len()) as u64, count);
    assert_eq!((record.counts.succeeded, record.counts.errored), (good.len() as u64, bad.len() as u64));
    let log = ready(objects.list_after(&Name::parse("batch-log").unwrap(), None, 10)).unwrap();
    assert!(log.is_empty(), "{log:?}");
}

fn until_over(tasks: &mut Tasks, outcome: &Mutex<Option<Outcome>>) {
    for _ in 0..STEPS_MAX {
        tasks.step();
        if let Some(outcome) = &*outcome.lock().unwrap() {
            return assert_eq!(*outcome, Outcome::Over);
        }
    }
    panic!("the batch is not over after {STEPS_MAX} steps");
}

#[test]
fn every_line_is_answered_exactly_once_whichever_write_the_process_dies_at() {
    const LINES: u64 = 60;
    let mut crashes = 0;
    // Ends: with a process that lives long enough to come to its end.
    for calls in 0.. {
        let (objects, record) = accepted(&lines(LINES));
        let answers = Arc::new(Numbered { later: 10, ..Numbered::default() });
        let mut tasks = Tasks::seeded(calls);
        let slow = Faults { delay_polls_max: 2, ..Faults::default() };
        let faulty = FaultStore::new(Arc::clone(&objects), slow, calls);
        let seen_by = Arc::new(faulty.clone());
        let (id, outcome) = process(&mut tasks, &objects, seen_by.clone(), &record, &answers, calls);
        while faulty.calls() <= calls && outcome.lock().unwrap().is_none() {
            tasks.step();
        }
        let is_over = outcome.lock().unwrap().is_some();
        if !is_over {
            crashes += 1;
            assert!(tasks.kill(id));
            let (_, outcome) = process(&mut tasks, &objects, seen_by, &record, &answers, calls + 1_000_000);
            until_over(&mut tasks, &outcome);
        }
        check_whole(&objects, &stored(&objects, &record), LINES);
        if is_over {
            break;
        }
    }
    assert!(crashes > 20, "only {crashes} places to die at");
}

#[test]
fn refusals_lost_replies_and_torn_writes_lose_no_line() {
    for seed in 0..40 {
        let (objects, record) = accepted(&lines(30));
        let answers = Arc::new(Numbered { later: 20, ..Numbered::default() });
        let mut tasks = Tasks::seeded(seed);
        // A record that is torn can be read by nobody, so the faults that tear are for the log alone: see below.
        let faults = Faults { delay_polls_max: 3, refused: 60, lost_reply: 60, torn: 0 };
        let seen_by = Arc::new(FaultStore::new(Arc::clone(&objects), faults, seed));
        let mut rng = Rng::seeded(seed);
        for life in 0..3 {
            let (id, outcome) = process(&mut tasks, &objects, seen_by.clone(), &record, &answers, seed * 10 + life);
            if life == 2 {
                until_over(&mut tasks, &outcome);
            } else {
                for _ in 0..rng.below(800) {
                    tasks.step();
                }
                tasks.kill(id);
            }
        }
        check_whole(&objects, &stored(&objects, &record), 30);
    }
}

#[test]
fn what_is_torn_in_the_log_is_asked_again() {
    let (objects, record) = accepted(&lines(5));
    let folder = record.log_folder().unwrap();
    let whole = r#"{"number":1,"is_success":true,"line":{"custom_id":"r0","number":900}}"#;
    let torn = format!("{whole}\n{}", &whole.replace("\"number\":1", "\"number\":2")[..40]);
    ready(objects.put(&folder.join("old.000000").unwrap(), torn.into_bytes().into())).unwrap();
    let (mut tasks, answers) = (Tasks::seeded(1), Arc::new(Numbered::default()));
    let (_, outcome) = process(&mut tasks, &objects, Arc::clone(&objects), &record, &answers, 1);
    until_over(&mut tasks, &outcome);
    let record = stored(&objects, &record);
    check_whole(&objects, &record, 5);
    assert_eq!(output(&objects, record.output.as_ref())["r0"]["number"], 900);
    assert_eq!(answers.asked.load(Ordering::SeqCst), 4);
}

#[test]
fn a_batch_that_is_cancelled_or_expires_says_so_of_every_line_that_is_left() {
    for (ending, status) in [("cancelled", Status::Cancelled), ("expired", Status::Expired)] {
        let (objects, record) = accepted(&lines(20));
        let answers = Numbered { hangs: true, ..Numbered::default() };
        let clock = Arc::new(ManualClock::starting_at(NOW_MS));
        let bench =
            Bench::new(Arc::clone(&objects), Arc::clone(&clock) as Arc<dyn base::Clock>, |_| pause(1).boxed(), 1);
        let handle = Handle::new(record.clone());
        let mut running = Box::pin(run(&bench, &handle, &answers));
        let mut context = std::task::Context::from_waker(futures::task::noop_waker_ref());
        for _ in 0..100 {
            assert!(running.poll_unpin(&mut context).is_pending());
        }
        assert_eq!((handle.record().status, handle.record().counts.succeeded), (Status::InProgress, 2));
        match ending {
            "cancelled" => ready(handle.update(&bench, |record| record.status = Status::Cancelling)).unwrap(),
            _ => clock.advance_ms(1000),
        }
        let mut over = false;
        for _ in 0..1000 {
            over = over || running.poll_unpin(&mut context).is_ready();
            if over {
                break;
            }
        }
        assert!(over, "{ending}");
        let record = stored(&objects, &record);
        assert_eq!((record.status, record.counts.succeeded, record.counts.unanswered), (status, 2, 18));
        let left = output(&objects, record.errors.as_ref());
        assert_eq!(left.len(), 18);
        assert!(left.values().all(|line| line["ending"] == ending), "{left:?}");
    }
}

#[test]
fn an_input_that_is_wrong_fails_with_its_lines() {
    let check = |input: &str, expected: &[(&str, Option<u64>)]| {
        let (objects, record) = accepted(input);
        let (mut tasks, answers) = (Tasks::seeded(1), Arc::new(Numbered::default()));
        let (_, outcome) = process(&mut tasks, &objects, Arc::clone(&objects), &record, &answers, 1);
        until_over(&mut tasks, &outcome);
        let record = stored(&objects, &record);
        let found: Vec<_> = record.faults.iter().map(|fault| (fault.code.as_str(), fault.line)).collect();
        assert_eq!((record.status, found.as_slice()), (Status::Failed, expected));
        assert_eq!(answers.asked.load(Ordering::SeqCst), 0);
    };
    check("", &[("empty_file", None)]);
    check("{\"custom_id\": \"a\"}\n\nnonsense\n{}\n", &[("bad", Some(3)), ("bad", Some(4))]);
    check("{\"custom_id\": \"a\"}\n{\"custom_id\": \"a\"}", &[("duplicate_custom_id", Some(2))]);
    check(&format!("{{\"custom_id\": \"{}\"}}", "a".repeat(super::LINE_BYTES_MAX)), &[("line_too_long", None)]);
}
