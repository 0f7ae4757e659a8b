//! Requests that are computed together get what they would get alone.

use base::Rng;
use chat::{Answer, Caller, GenerateRequest, Message, Priority, Prompt, Role};
use engine::{Engine, Options};
use futures::future::join_all;

use crate::harness::{answer, continuation, fixture, prompt, small, start, start_drafted};

/// How often two requests are sent at once until they meet in the cache.
const ROUNDS_MAX: usize = 50;

/// Prompts of all lengths; half of them greedy, half drawn by seed.
fn requests(seed: u64, count: usize, longest: u64) -> Vec<GenerateRequest> {
    let mut rng = Rng::seeded(seed);
    let request = |index: usize| {
        let length = 1 + rng.below(longest) as usize;
        let mut request = continuation(prompt(&mut rng, length), 1 + rng.below(40) as u32);
        if index % 2 == 1 {
            request.sampling.temperature = Some(1.0);
            request.sampling.seed = Some(rng.next_u64());
            request.sampling.repetition_penalty = Some(1.1);
        }
        request.logprobs = Some(1);
        request
    };
    (0..count).map(request).collect()
}

async fn alone(engine: &Engine, requests: &[GenerateRequest]) -> Vec<Answer> {
    let mut answers = Vec::new();
    for request in requests {
        answers.push(answer(engine, request.clone()).await);
    }
    answers
}

async fn together(engine: &Engine, requests: &[GenerateRequest]) -> Vec<Answer> {
    join_all(requests.iter().map(|request| answer(engine, request.clone()))).await
}

#[tokio::test]
async fn the_company_of_others_changes_nothing() {
    for fixture in ["tiny/qwen3_dense", "tiny/qwen3_moe", "tiny/qwen3_next", "tiny/qwen3_5"] {
        let requests = requests(1, 24, 150);
        let serial = alone(&start(fixture, Options { sequences_max: 1, ..Options::default() }), &requests).await;
        let shared = start(fixture, Options { sequences_max: 7, rows_per_step: 19, ..Options::default() });
        assert_eq!(together(&shared, &requests).await, serial, "{fixture}");
        assert_eq!(shared.in_flight(), 0);
    }
}

#[tokio::test]
async fn being_put_back_for_want_of_memory_changes_nothing() {
    for fixture in ["tiny/qwen3_dense", "tiny/qwen3_next"] {
        put_back(fixture).await;
    }
}

async fn put_back(fixture: &str) {
    let requests = requests(2, 16, 100);
    let serial = alone(&start(fixture, Options::default()), &requests).await;
    // A cache in which the longest of them fits, and little beside it.
    let used = |answer: &Answer| answer.finish.usage.prompt_tokens + answer.finish.usage.output_tokens;
    let tokens = serial.iter().map(used).max().unwrap() as usize;
    // They press each other only if the second arrives before the first is done, which nothing here enforces.
    for _ in 0..ROUNDS_MAX {
        let tight = start(fixture, small(fixture, tokens.div_ceil(kernels::KV_BLOCK_TOKENS) as u64 + 1));
        assert_eq!(together(&tight, &requests).await, serial);
        if tight.preemptions() > 0 {
            return;
        }
    }
    panic!("the cache was not tight in any of {ROUNDS_MAX} rounds");
}

#[tokio::test]
async fn a_second_turn_begins_where_the_first_ended() {
    for fixture in ["tiny/qwen3_dense", "tiny/qwen3_next", "tiny/qwen3_5"] {
        second_turn(fixture).await;
    }
}

async fn second_turn(fixture: &str) {
    let engine = start(fixture, Options::default());
    let mut first = continuation(prompt(&mut Rng::seeded(4), 200), 60);
    first.logprobs = Some(0);
    let turn = answer(&engine, first.clone()).await;
    assert_eq!(turn.finish.usage.cached_tokens, 0);

    let said = turn.logprobs.iter().map(|token| token.chosen.token);
    let Prompt::Tokens(tokens) = &first.prompt else { panic!("{first:?}") };
    let history: Vec<u32> = tokens.iter().copied().chain(said).chain(prompt(&mut Rng::seeded(5), 30)).collect();
    let mut second = continuation(history, 20);
    second.logprobs = Some(1);
    let cached = answer(&engine, second.clone()).await;
    // Four whole blocks of the 260 tokens; the last drawn one was never computed.
    assert_eq!(cached.finish.usage.cached_tokens as usize, 4 * kernels::KV_BLOCK_TOKENS);

    let mut fresh = answer(&start(fixture, Options::default()), second).await;
    assert_eq!(fresh.finish.usage.cached_tokens, 0);
    fresh.finish.usage.cached_tokens = cached.finish.usage.cached_tokens;
    assert_eq!(fresh, cached, "what was kept says the same as what is computed");
}

/// What people and models said in the recorded conversations of the chat templates, again and again.
fn recorded() -> impl Iterator<Item = (String, String)> {
    let recorded: serde_json::Value =
        serde_json::from_slice(&std::fs::read(fixture("chat/golden_prompts.json")).unwrap()).unwrap();
    let messages = |case: &serde_json::Value| case["messages"].as_array().unwrap().clone();
    let messages: Vec<_> = recorded["cases"].as_array().unwrap().iter().flat_map(messages).collect();
    let said = |role: &str| {
        let of_role = messages.iter().filter(|message| message["role"] == *role);
        let texts = of_role.filter_map(|message| message["content"].as_str().map(str::to_owned));
        texts.filter(|text| !text.trim().is_empty()).collect::<Vec<_>>()
    };
    let (asked, answered) = (said("user"), said("assistant"));
    asked.into_iter().cycle().zip(answered.into_iter().cycle())
}

#[tokio::test]
async fn the_second_turn_of_a_long_conversation_computes_less_than_a_tenth_of_the_first() {
    const HISTORY_TOKENS: u32 = 2000;
    let engine = start("tiny/qwen3_dense", Options::default());
    let request = |messages: &[Message]| {
        let mut request = continuation(Vec::new(), 24);
        request.prompt = Prompt::Messages(messages.to_vec());
        request
    };
    let mut turns = recorded();
    let mut messages = vec![Message::text(Role::System, "You are a terse assistant.")];
    // Ends: every turn adds tokens.
    loop {
        let (asked, answered) = turns.next().unwrap();
        messages.push(Message::text(Role::User, asked));
        if engine.count_prompt(request(&messages)).await.unwrap() >= HISTORY_TOKENS {
            break;
        }
        messages.push(Message::text(Role::Assistant, answered));
    }
    let first = answer(&engine, request(&messages)).await;
    assert_eq!(first.finish.usage.cached_tokens, 0);
    // The answer goes back as text, which the tokenizer may cut otherwise than the model said it.
    messages.push(Message::text(Role::Assistant, first.message.plain_text()));
    messages.push(Message::text(Role::User, "And then?"));
    let second = answer(&engine, request(&messages)).await.finish.usage;
    let computed = second.prompt_tokens - second.cached_tokens;
    assert!(second.prompt_tokens > HISTORY_TOKENS && second.cached_tokens > 0, "{second:?}");
    assert!(
        computed * 10 < first.finish.usage.prompt_tokens,
        "{computed} of {second:?} after {:?}",
        first.finish.usage
    );
}

#[tokio::test]
async fn a_second_model_that_guesses_changes_nothing() {
    for (fixture, draft) in [("tiny/qwen3_dense", "tiny/qwen3_dense"), ("tiny/qwen3_dense", "tiny/qwen3_yarn")] {
        // Prompts of several lengths, some longer than what a draft catches up with in a step.
        let requests = requests(11, 8, 600);
        let plain = alone(&start(fixture, Options { guesses: false, ..Options::default() }), &requests).await;
        let drafted = start_drafted(fixture, draft, Options::default()).unwrap();
        assert_eq!(alone(&drafted, &requests).await, plain, "{draft}");
        let (guessed, right) = drafted.guesses();
        assert!(guessed > 0 && right <= guessed, "{right} of {guessed}");
        if draft == fixture {
            assert!(right > 0, "it guesses for itself");
        }
        let together = together(&start_drafted(fixture, draft, Options::default()).unwrap(), &requests).await;
        assert_eq!(together, plain, "{draft}, together");
    }
    for (draft, word) in [("nano", "tokenizer"), ("tiny/qwen3_next", "recurrent")] {
        let refused = start_drafted("tiny/qwen3_dense", draft, Options::default()).err().expect("it is refused");
        assert!(refused.to_string().contains(word), "{draft}: {refused}");
    }
}

#[tokio::test]
async fn a_request_that_wants_no_guesses_gets_none() {
    let engine = start("nano", Options::default());
    let mut requests: Vec<GenerateRequest> = (0..4).map(|seed| continuation(repetitive(seed), 60)).collect();
    requests.iter_mut().for_each(|request| request.speculates = false);
    let plain = alone(&engine, &requests).await;
    assert_eq!(engine.guesses(), (0, 0));
    requests.iter_mut().for_each(|request| request.speculates = true);
    for (guessed, plain) in alone(&engine, &requests).await.iter().zip(&plain) {
        assert_eq!(guessed.message, plain.message);
    }
    assert!(engine.guesses().1 > 0, "{:?}", engine.guesses());
}

#[tokio::test]
async fn a_system_prompt_outlives_what_others_say() {
    let engine = start("nano", small("nano", 24));
    let ask = |question: &str| {
        let mut request = continuation(Vec::new(), 2);
        let system =
            Message::text(Role::System, "Answer in one short sentence, and say so if you do not know. ".repeat(12));
        request.prompt = Prompt::Messages(vec![system, Message::text(Role::User, question)]);
        request
    };
    answer(&engine, ask("Who are you?")).await;
    // Prompts that fill the cache several times over.
    for seed in 0..8 {
        let other = continuation(prompt(&mut Rng::seeded(seed), 8 * kernels::KV_BLOCK_TOKENS), 1);
        assert_eq!(answer(&engine, other).await.finish.usage.cached_tokens, 0);
    }
    let usage = answer(&engine, ask("What is a boat?")).await.finish.usage;
    assert!(usage.cached_tokens as usize >= 2 * kernels::KV_BLOCK_TOKENS, "{usage:?}");
}

#[tokio::test]
async fn a_recurrent_state_is_never_taken_for_anothers() {
    for fixture in ["tiny/qwen3_next", "tiny/qwen3_5", "tiny/qwen3_5_moe"] {
        let fresh = || start(fixture, Options::default());
        let engine = fresh();
        let common = prompt(&mut Rng::seeded(6), 300);
        // What is asked again and again, from other places on: behind all of it, and behind 200 tokens twice.
        let mut cached = Vec::new();
        for (shared, seed) in [(300, 1), (300, 1), (300, 2), (200, 3), (200, 4), (100, 5), (300, 6)] {
            let tokens = [&common[..shared], &prompt(&mut Rng::seeded(seed), 20)].concat();
            let mut request = continuation(tokens, 20);
            request.logprobs = Some(1);
            let mut found = answer(&engine, request.clone()).await;
            cached.push(std::mem::take(&mut found.finish.usage.cached_tokens) as usize / kernels::KV_BLOCK_TOKENS);
            assert_eq!(found, answer(&fresh(), request).await, "{fixture}: {shared} in common");
        }
        // The prompts are five blocks; the fifth is not common. The fourth request finds out where they part.
        assert_eq!(cached, [0, 4, 4, 0, 3, 0, 4], "{fixture}");
    }
}

#[tokio::test]
async fn no_project_sees_what_another_has_asked() {
    let engine = start("tiny/qwen3_dense", Options::default());
    let of = |project: &str| {
        let mut request = continuation(prompt(&mut Rng::seeded(7), 200), 3);
        request.caller = Some(Caller { project: project.into(), key: "k".into(), priority: Priority::Normal });
        request
    };
    let first = answer(&engine, of("a")).await;
    let foreign = answer(&engine, of("b")).await;
    assert_eq!(foreign, first, "the same tokens are computed, and computed anew");
    assert_eq!(foreign.finish.usage.cached_tokens, 0);
    assert!(answer(&engine, of("a")).await.finish.usage.cached_tokens > 0);
}

/// A prompt that repeats itself, so that there is something to guess.
fn repetitive(seed: u64) -> Vec<u32> {
    let phrase = prompt(&mut Rng::seeded(seed), 9);
    (0..6).flat_map(|_| phrase.clone()).collect()
}

#[tokio::test]
async fn guessing_ahead_changes_nothing() {
    for fixture in ["nano", "tiny/qwen3_dense", "tiny/qwen3_moe", "tiny/qwen3_next", "tiny/qwen3_5"] {
        let request = |index: u64| {
            let mut request = continuation(repetitive(index), 60);
            if index % 2 == 1 {
                request.sampling.temperature = Some(0.7);
                request.sampling.seed = Some(index);
                request.sampling.repetition_penalty = Some(1.05);
            }
            request.logprobs = Some(1);
            request
        };
        // What a hybrid with random weights says repeats nothing: its guesses are wrong, and all of them taken back.
        let repeats = !fixture.contains("next") && !fixture.contains("3_5");
        let requests: Vec<GenerateRequest> = (0..if repeats { 8 } else { 3 }).map(request).collect();
        let plain = alone(&start(fixture, Options { guesses: false, ..Options::default() }), &requests).await;
        let guessing = start(fixture, Options::default());
        assert_eq!(alone(&guessing, &requests).await, plain, "{fixture}");
        let (guessed, right) = guessing.guesses();
        assert!(right <= guessed);
        assert!(guessed > 0 && (right > 0 || !repeats), "{fixture}: {right} of {guessed}");
        assert_eq!(together(&start(fixture, Options::default()), &requests).await, plain, "{fixture}, together");
    }
}
