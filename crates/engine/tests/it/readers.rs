//! Readers that leave or are slow.

use base::Rng;
use chat::Error;
use engine::Options;
use futures::StreamExt as _;

use crate::harness::{answer, continuation, eventually, prompt, start};

#[tokio::test]
async fn a_reader_that_leaves_frees_its_place() {
    let engine = start("tiny/qwen3_dense", Options { sequences_max: 3, rows_per_step: 16, ..Options::default() });
    let mut rng = Rng::seeded(3);
    for _ in 0..100 {
        let length = 1 + rng.below(60) as usize;
        let mut events = engine.start_generation(continuation(prompt(&mut rng, length), 200)).await.unwrap();
        for _ in 0..rng.below(20) {
            events.next().await.unwrap().unwrap();
        }
    }
    eventually("the last place came free", || engine.in_flight() == 0).await;
    let after = answer(&engine, continuation(vec![1, 2, 3], 5)).await;
    assert_eq!(after.finish.usage.output_tokens, 5);
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
