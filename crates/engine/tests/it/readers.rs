//! Readers that leave or are slow.

use base::Rng;
use chat::{Caller, Error, Format, GenerateRequest, Priority, Prompt};
use engine::{Engine, Occupancy, Options};
use futures::future::join_all;
use futures::{FutureExt as _, StreamExt as _};
use serde_json::json;
use tokio::runtime::Handle;

use crate::harness::{answer, continuation, eventually, prompt, start};

/// Clients that go away, and how many of them are there at once.
const LEAVING: usize = 1000;
/// The same where each costs more.
const LEAVING_FEWER: usize = 100;
const AT_ONCE: usize = 50;

#[tokio::test]
async fn a_thousand_readers_that_leave_at_random_points_leave_nothing_behind() {
    for (fixture, leaving) in [("tiny/qwen3_dense", LEAVING), ("tiny/qwen3_next", LEAVING_FEWER)] {
        everybody_leaves(fixture, leaving, |rng| {
            let length = 1 + rng.below(60) as usize;
            continuation(prompt(rng, length), 200)
        })
        .await;
    }
}

#[tokio::test]
async fn readers_of_answers_in_a_form_leave_nothing_behind_either() {
    let held = json!({"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]});
    // No grammar knows this keyword, so that answers are checked, and tried again.
    let tried = json!({"type": "array", "items": {"type": "integer"}, "uniqueItems": true, "minItems": 3});
    everybody_leaves("nano", LEAVING_FEWER, |rng| {
        let mut request = continuation(Vec::new(), 60);
        request.prompt = Prompt::Text("A list:".to_owned());
        request.stop.ignore_eos = false;
        request.format = Format::JsonSchema(if rng.below(2) == 0 { held.clone() } else { tried.clone() });
        request
    })
    .await;
}

async fn everybody_leaves(fixture: &str, leaving: usize, mut ask: impl FnMut(&mut Rng) -> GenerateRequest) {
    let options = Options { sequences_max: 5, rows_per_step: 32, ..Options::default() };
    let engine = start(fixture, options);
    let tasks = || Handle::current().metrics().num_alive_tasks();
    let (before, mut rng) = (tasks(), Rng::seeded(3));
    for _ in 0..leaving / AT_ONCE {
        let mut asked = Vec::new();
        for _ in 0..AT_ONCE {
            asked.push((ask(&mut rng), rng.below(25)));
        }
        join_all(asked.into_iter().map(|(request, stays)| leave(&engine, request, stays))).await;
    }
    let nothing = || engine.in_flight() == 0 && engine.occupancy() == Occupancy::default();
    eventually("every place, slot and block came free", nothing).await;
    assert_eq!(tasks(), before);
    // As many as may run at once get what they would get from an engine that nobody ever left.
    let requests: Vec<_> = (0..5).map(|index| continuation(vec![200 + index, 201, 202], 20)).collect();
    let fresh = start(fixture, options);
    let expected = join_all(requests.iter().map(|request| answer(&fresh, request.clone()))).await;
    assert_eq!(join_all(requests.into_iter().map(|request| answer(&engine, request))).await, expected);
}

/// Asks, and goes away after so many events; or while the request is still being prepared.
async fn leave(engine: &Engine, request: GenerateRequest, stays: u64) {
    let Some(stays) = stays.checked_sub(3) else {
        // Preparing takes a thread, which is rarely done by now.
        drop(engine.start_generation(request).now_or_never());
        return;
    };
    let mut events = engine.start_generation(request).await.unwrap();
    for _ in 0..stays {
        match events.next().await {
            Some(Ok(_)) => {}
            Some(Err(Error::FormMissed { .. })) | None => return,
            Some(Err(error)) => panic!("{error}"),
        }
    }
}

#[tokio::test]
async fn one_project_does_not_take_every_place() {
    let options = Options { requests_max: 4, project_requests_max: 2, ..Options::default() };
    let engine = start("tiny/qwen3_dense", options);
    let of = |project: &str, count| {
        // Nobody reads a thousand events, so they cannot come to their ends.
        let mut request = continuation(vec![1], count);
        request.logprobs = Some(0);
        request.caller = Some(Caller { project: project.into(), key: "k".into(), priority: Priority::Normal });
        request
    };
    let flood = [0, 1].map(|_| engine.start_generation(of("a", 1000)));
    let flood = join_all(flood).await;
    match engine.start_generation(of("a", 1)).await.map(|_| ()) {
        Err(Error::ProjectBusy { open, limit }) => assert_eq!((open, limit), (2, 2)),
        other => panic!("{other:?}"),
    }
    assert_eq!(answer(&engine, of("b", 3)).await.finish.usage.output_tokens, 3);
    drop(flood);
    eventually("the places came free", || engine.in_flight() == 0).await;
    assert_eq!(answer(&engine, of("a", 3)).await.finish.usage.output_tokens, 3);
}

#[tokio::test]
async fn a_slow_reader_does_not_hold_up_the_others_and_loses_nothing() {
    let engine = start("nano", Options::default());
    let mut request = continuation(vec![300], 400);
    request.sampling.temperature = Some(1.5);
    request.sampling.seed = Some(1);
    request.logprobs = Some(0);
    let slow = engine.start_generation(request.clone()).await.unwrap();
    // Nobody reads it, and more events are due than the channel holds.
    let quick = answer(&engine, continuation(vec![300, 301], 60)).await;
    assert_eq!(quick.finish.usage.output_tokens, 60);
    let late = chat::collect(slow).await.unwrap();
    assert_eq!(late.finish.usage.output_tokens, 400);
    assert_eq!(answer(&engine, request).await, late);
}

#[tokio::test]
async fn too_many_requests_are_refused_with_both_numbers() {
    let engine = start("tiny/qwen3_dense", Options { requests_max: 2, ..Options::default() });
    // Nobody reads their thousand events, so they cannot come to their ends.
    let mut endless = continuation(vec![1], 1000);
    endless.logprobs = Some(0);
    let first = engine.start_generation(endless.clone()).await.unwrap();
    let second = engine.start_generation(endless).await.unwrap();
    match engine.start_generation(continuation(vec![1], 1)).await.map(|_| ()) {
        Err(Error::Overloaded { waiting, limit }) => assert_eq!((waiting, limit), (2, 2)),
        other => panic!("{other:?}"),
    }
    drop((first, second));
    eventually("the places came free", || engine.in_flight() == 0).await;
    assert_eq!(answer(&engine, continuation(vec![1], 1)).await.finish.usage.output_tokens, 1);
}
