//! What every implementation of `Generate` has to do, and what the engine refuses.

use chat::{Error, Event, Prompt};
use engine::Options;
use futures::StreamExt as _;

use crate::harness::{answer, continuation, small, start};

#[tokio::test]
async fn the_engine_passes_the_suite_of_generate() {
    chat::testing::conformance(&start("nano", Options::default())).await;
}

#[tokio::test]
async fn a_prompt_that_does_not_fit_is_refused_with_both_numbers() {
    let engine = start("tiny/qwen3_dense", small("tiny/qwen3_dense", 3));
    let context = engine.card().context_tokens as usize;
    assert_eq!(context, 3 * kernels::KV_BLOCK_TOKENS);
    let refused = engine.start_generation(continuation(vec![1; context], 1)).await.err();
    match refused {
        Some(Error::PromptTooLong { prompt_tokens, context_tokens }) => {
            assert_eq!((prompt_tokens, context_tokens), (context, context));
        }
        other => panic!("{other:?}"),
    }
    let fits = answer(&engine, continuation(vec![1; context - 1], 8)).await;
    assert_eq!(fits.finish.usage.output_tokens, 1, "the context is full after one token");
}

#[tokio::test]
async fn tokens_that_do_not_exist_and_empty_prompts_are_refused() {
    let engine = start("tiny/qwen3_dense", Options::default());
    let refused = engine.start_generation(continuation(vec![1, u32::MAX], 1)).await.err();
    assert!(matches!(refused, Some(Error::UnknownToken { token: u32::MAX, .. })), "{refused:?}");
    let refused = engine.start_generation(continuation(Vec::new(), 1)).await.err();
    assert!(matches!(refused, Some(Error::EmptyPrompt)), "{refused:?}");
}

#[tokio::test]
async fn an_echoed_prompt_is_scored_wherever_it_is_cut() {
    // Steps of three rows cut the prompt of seventeen tokens into pieces.
    let whole = start("nano", Options::default());
    let cut = start("nano", Options { rows_per_step: 3, ..Options::default() });
    let mut request = continuation((300..317).collect(), 2);
    (request.echo, request.logprobs) = (true, Some(2));
    let expected = answer(&whole, request.clone()).await;
    assert_eq!(expected.logprobs.len(), 19);
    assert_eq!(expected.logprobs[0].chosen.logprob, None);
    let tokens = expected.logprobs.iter().map(|token| token.chosen.token).collect::<Vec<_>>();
    assert_eq!(tokens[..17], (300..317).collect::<Vec<_>>());
    assert!(expected.logprobs[1..].iter().all(|token| token.chosen.logprob < Some(0.0) && token.top.len() == 2));
    assert_eq!(answer(&cut, request.clone()).await, expected);

    request.max_tokens = Some(0);
    let scored = answer(&whole, request.clone()).await;
    assert_eq!(scored.logprobs, expected.logprobs[..17]);
    assert_eq!(scored.finish.usage.output_tokens, 0);

    // The score of a token does not depend on what follows it.
    request.prompt = Prompt::Tokens((300..305).collect());
    assert_eq!(answer(&whole, request).await.logprobs, expected.logprobs[..5]);
}

#[tokio::test]
async fn an_engine_that_stops_cuts_its_streams_visibly() {
    let engine = start("tiny/qwen3_dense", Options::default());
    // Nobody reads its thousand events, so it cannot have come to its end.
    let mut request = continuation(vec![1], 1000);
    request.logprobs = Some(0);
    let mut events = engine.start_generation(request).await.unwrap();
    assert!(matches!(events.next().await, Some(Ok(Event::Started { prompt_tokens: 1 }))));
    engine.stop();
    let rest: Vec<_> = events.collect().await;
    assert!(!rest.iter().any(|event| matches!(event, Ok(Event::Finished(_)))));
    assert!(matches!(rest.last(), Some(Err(Error::ShuttingDown))), "{:?}", rest.last());
    let cut = chat::collect(futures::stream::iter(rest).boxed()).await;
    assert!(cut.is_err(), "{cut:?}");
    let late = match engine.start_generation(continuation(vec![1], 1)).await {
        Ok(events) => chat::collect(events).await.map(|_| ()),
        Err(error) => Err(error),
    };
    assert!(matches!(late, Err(Error::ShuttingDown)), "{late:?}");
}

#[tokio::test]
async fn a_gap_is_filled_and_control_tokens_around_it_are_text() {
    let engine = start("nano", Options::default());
    let ask = |before: &str, after: &str| {
        let mut request = continuation(Vec::new(), 12);
        (request.prompt, request.suffix) = (Prompt::Text(before.to_owned()), Some(after.to_owned()));
        request
    };
    let count = |request| engine.count_prompt(request);
    let empty = count(ask("", "")).await.unwrap();
    assert_eq!(empty, 3, "a tag before, a tag after, a tag for the gap");
    assert!(count(ask("<|im_end|>", "")).await.unwrap() > empty + 1, "a user's letters are no control token");
    let mut beside = ask("", "");
    beside.files = vec![chat::ContextFile { name: "a.py".to_owned(), text: "<|im_end|>".to_owned() }];
    let with_file = count(beside).await.unwrap();
    assert!(with_file > count(ask("<|im_end|>", "")).await.unwrap() + 3, "the repository, the file, the own file");
    assert_eq!(answer(&engine, ask("def f(", "):")).await.finish.usage.output_tokens, 12);
    let mut tokens = ask("", "x");
    tokens.prompt = Prompt::Tokens(vec![1]);
    let refused = engine.start_generation(tokens).await.err();
    assert!(matches!(refused, Some(Error::Unsupported { .. })), "{refused:?}");
}

#[tokio::test]
async fn reasoning_that_spent_its_budget_is_brought_to_its_end() {
    // Its prompts begin inside the reasoning. Random weights leave it when the last bits of sums want it: of themselves
    // they may not.
    const THINK_END: u32 = 505;
    let engine = start("tiny/qwen3_5", Options::default());
    let mut request = continuation(Vec::new(), 160);
    request.prompt = Prompt::Messages(vec![chat::Message::text(chat::Role::User, "Think.")]);
    request.thinking = chat::Thinking::On;
    request.sampling.logit_bias = vec![(THINK_END, -100.0)];
    let endless = answer(&engine, request.clone()).await;
    assert_eq!(endless.finish.usage.reasoning_tokens, 160);
    request.thinking_tokens_max = Some(5);
    let ended = answer(&engine, request).await;
    let reasoning = ended.message.reasoning.clone().unwrap();
    assert!(reasoning.ends_with("directly now."), "{reasoning:?}");
    assert!(ended.finish.usage.reasoning_tokens > 5 && !ended.message.plain_text().is_empty(), "{ended:?}");
    assert!(endless.message.reasoning.unwrap().starts_with(reasoning.split_once("Considering").unwrap().0.trim_end()));
}
