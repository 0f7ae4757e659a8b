//! The router over upstreams that misbehave.

use std::sync::Arc;
use std::time::Duration;

use base::{Kind, ManualClock};
use chat::testing::{Script, Scripted, check_stream, conformance, request};
use chat::{Caller, Error, Event, Generate, Priority};
use futures::StreamExt as _;
use route::testing::{Behaviour, Stub};
use route::{Form, Policy, Question, Router};
use serde_json::Value;

use crate::support::{MODEL, install_cryptography};

/// A router over stubs named `a`, `b`, …, each of which serves `m`; the local model is `here`.
struct World {
    stubs: Vec<Stub>,
    clock: Arc<ManualClock>,
    router: Router,
}

impl World {
    async fn start(scripts: &[&[Behaviour]], routes: &str) -> Self {
        let mut stubs = Vec::new();
        for script in scripts {
            stubs.push(Stub::start(script).await);
        }
        let pools = stubs.iter().zip("abcdef".chars()).map(|(stub, name)| {
            format!(
                "[[pool]]\nname = \"{name}\"\nserver = \"vllm\"\nurl = \"{}\"\nsecret = \"of-{name}\"\n\
                 region = \"frankfurt\"\nkeeps_data_in = \"nowhere\"\nhealth.every_ms = 0\n\
                 limits = {{ first_byte_ms = 800, between_ms = 500, whole_ms = 900 }}\n\
                 [[pool.model]]\nname = \"m\"\n",
                stub.url(Form::OpenAi)
            )
        });
        let text = format!("{}\n{routes}", pools.collect::<String>());
        install_cryptography();
        let local: Arc<dyn Generate> = Arc::new(Scripted::new("here", (0..9).map(|_| Script::text(&["Hi"])).collect()));
        let clock = Arc::new(ManualClock::starting_at(1_000_000));
        let secrets = |name: &str| Ok(format!("sk-{name}"));
        let policy = Policy::parse(&text).unwrap();
        let router = Router::start(policy, &local, &secrets, Arc::clone(&clock) as Arc<_>, 1).unwrap();
        Self { stubs, clock, router }
    }

    async fn answer(&self) -> Result<(), Error> {
        let (_, error) = check_stream(self.router.generate(request(MODEL, "Hi")).await?).await;
        error.map_or(Ok(()), Err)
    }

    /// How often each stub was asked.
    fn asked(&self) -> Vec<usize> {
        self.stubs.iter().map(|stub| stub.seen().len()).collect()
    }

    fn pool(&self, name: &str) -> Value {
        let status = self.router.status();
        status["pools"].as_array().unwrap().iter().find(|pool| pool["name"] == name).unwrap().clone()
    }
}

/// `a` first, `b` where nobody else can.
const CHAIN: &str = r#"
    [[route]]
    model = "m"
    fallback = ["spare"]
    [[route.group]]
    name = "all"
    targets = [{ pool = "a" }]
    [[route]]
    model = "spare"
    [[route.group]]
    name = "all"
    targets = [{ pool = "b", model = "m" }]
"#;

#[tokio::test]
async fn the_router_passes_the_suite_of_every_generate() {
    let world = World::start(&[&[]], "").await;
    conformance(&world.router).await;
    assert_eq!(world.router.models().iter().map(|card| card.id.as_str()).collect::<Vec<_>>(), ["here", "m"]);
    world.answer().await.unwrap();
    assert!(world.stubs[0].seen()[0].headers.contains("authorization: bearer sk-of-a"));
}

#[tokio::test]
async fn whoever_fails_before_the_first_byte_is_followed_by_the_next() {
    for behaviour in
        [Behaviour::Status(500, None), Behaviour::Slam, Behaviour::Garbage, Behaviour::Status(429, Some(7))]
    {
        let world = World::start(&[&[behaviour], &[]], CHAIN).await;
        world.answer().await.unwrap();
        assert_eq!(world.asked(), [1, 1], "{behaviour:?}");
    }
}

#[tokio::test]
async fn nothing_is_tried_again_after_the_first_byte() {
    for behaviour in [Behaviour::Cut, Behaviour::CleanCut, Behaviour::ErrorMidway, Behaviour::NoReason] {
        let world = World::start(&[&[behaviour], &[]], CHAIN).await;
        let error = world.answer().await.unwrap_err();
        assert_eq!(error.kind(), Kind::Unavailable, "{behaviour:?}");
        assert_eq!(world.asked(), [1, 0], "{behaviour:?}");
        assert_eq!((&world.pool("a")["counts"]["failed"], &world.pool("a")["running"]), (&1.into(), &0.into()));
    }
}

#[tokio::test]
async fn what_the_caller_did_wrong_is_not_tried_elsewhere() {
    let world = World::start(&[&[Behaviour::Status(400, None)], &[]], CHAIN).await;
    let error = world.answer().await.unwrap_err();
    assert_eq!((error.kind(), world.asked()), (Kind::Invalid, vec![1, 0]));
    assert!(error.to_string().contains("status 400 on purpose"), "{error}");
}

#[tokio::test]
async fn tries_and_their_budget_have_an_end() {
    let world = World::start(&[&[], &[], &[], &[]], "").await;
    world.stubs.iter().for_each(|stub| stub.always(Behaviour::Status(500, None)));
    assert_eq!(world.answer().await.unwrap_err().kind(), Kind::Unavailable);
    assert_eq!(world.asked().iter().sum::<usize>(), 3, "three tries of one request");
    let scarce = World::start(&[&[], &[]], "[retry]\nbudget_percent = 0").await;
    scarce.stubs.iter().for_each(|stub| stub.always(Behaviour::Status(500, None)));
    scarce.answer().await.unwrap_err();
    assert_eq!(scarce.asked().iter().sum::<usize>(), 1, "no budget, no second try");
}

#[tokio::test]
async fn a_pool_that_fails_is_left_alone_and_tried_again_later() {
    let world = World::start(&[&[], &[]], CHAIN).await;
    world.stubs[0].always(Behaviour::Status(500, None));
    for _ in 0..8 {
        world.answer().await.unwrap();
    }
    assert_eq!(world.asked(), [5, 8], "the breaker opened after five failures");
    let explained = world.router.explain(&Question { model: MODEL, ..Question::default() }).unwrap();
    assert_eq!(explained["choice"]["pool"], "b");
    assert_eq!(explained["targets"][0]["against"]["what"], "breaker_open", "{explained}");
    world.stubs[0].always(Behaviour::Answer);
    world.clock.advance_ms(1_001);
    world.answer().await.unwrap();
    world.answer().await.unwrap();
    assert_eq!(world.asked(), [7, 8], "the trial went well");
}

#[tokio::test]
async fn a_busy_pool_is_left_alone_for_as_long_as_it_says() {
    let world = World::start(&[&[Behaviour::Status(429, Some(7))], &[]], CHAIN).await;
    world.answer().await.unwrap();
    world.clock.advance_ms(6_900);
    world.answer().await.unwrap();
    assert_eq!(world.asked(), [1, 2]);
    world.clock.advance_ms(200);
    world.answer().await.unwrap();
    assert_eq!(world.asked(), [2, 2]);
}

#[tokio::test]
async fn a_second_pool_is_asked_where_the_first_takes_long() {
    let hedged = CHAIN.replacen("fallback", "hedge_ms = 40\n    fallback", 1);
    let world = World::start(&[&[Behaviour::Hang], &[]], &hedged).await;
    let events = world.router.generate(request(MODEL, "Hi")).await.unwrap();
    let (seen, error) = check_stream(events).await;
    let finished = seen.iter().filter(|event| matches!(event, Event::Finished(_))).count();
    assert!(error.is_none() && finished == 1, "one answer, one usage");
    assert_eq!((world.asked(), &world.pool("b")["counts"]["hedged"]), (vec![1, 1], &1.into()));
    let loser = world.pool("a");
    assert_eq!((&loser["counts"]["abandoned"], &loser["running"]), (&1.into(), &0.into()));
}

#[tokio::test]
async fn a_caller_who_goes_away_leaves_no_place_taken() {
    let world = World::start(&[&[Behaviour::HangMidway, Behaviour::Hang]], "").await;
    let mut events = world.router.generate(request(MODEL, "Hi")).await.unwrap();
    assert!(matches!(events.next().await, Some(Ok(Event::Started { .. }))));
    assert_eq!(world.pool("a")["running"], 1);
    drop(events);
    let waiting = world.router.generate(request(MODEL, "Hi"));
    assert!(tokio::time::timeout(Duration::from_millis(60), waiting).await.is_err());
    let pool = world.pool("a");
    assert_eq!((&pool["running"], &pool["counts"]["abandoned"]), (&0.into(), &2.into()));
    assert_eq!(pool["health"]["breaker"], "closed");
}

#[tokio::test]
async fn a_request_that_may_go_nowhere_is_refused_with_the_reason() {
    let scoped = "[[residency]]\nproject = \"acme\"\ncompute_scope = [\"US\"]";
    let world = World::start(&[&[]], scoped).await;
    let mut foreign = request(MODEL, "Hi");
    foreign.caller = Some(Caller { project: "acme".into(), key: "k".into(), priority: Priority::Normal });
    let error = world.router.generate(foreign.clone()).await.err().unwrap();
    assert_eq!(error.kind(), Kind::Forbidden);
    let words = error.to_string();
    assert!(words.contains("project acme: compute_scope is US; frankfurt (DE, EU) is outside"), "{words}");
    // This machine has no region here, so it is outside as well.
    foreign.model = "here".to_owned();
    assert_eq!(world.router.generate(foreign.clone()).await.err().unwrap().kind(), Kind::Forbidden);
    assert_eq!(world.router.count_tokens(foreign).await.unwrap_err().kind(), Kind::Forbidden);
    assert_eq!(world.asked(), [0], "nothing left");
    world.answer().await.unwrap();
}

#[tokio::test]
async fn checks_keep_requests_from_pools_that_are_down() {
    install_cryptography();
    let stub = Stub::start(&[]).await;
    let url = stub.url(Form::OpenAi);
    drop(stub);
    let text =
        format!("[[pool]]\nname = \"down\"\nurl = \"{url}\"\nhealth.every_ms = 5\n[[pool.model]]\nname = \"m\"\n");
    let local: Arc<dyn Generate> = Arc::new(Scripted::new("here", Vec::new()));
    let clock = Arc::new(ManualClock::starting_at(0));
    let router = Router::start(Policy::parse(&text).unwrap(), &local, &|_| Err("none".to_owned()), clock, 1).unwrap();
    for _ in 0..200 {
        tokio::time::sleep(Duration::from_millis(5)).await;
        if router.status()["pools"][1]["health"]["healthy"] == false {
            let error = router.generate(request(MODEL, "Hi")).await.err().unwrap();
            assert!(error.to_string().contains("its checks fail"), "{error}");
            return;
        }
    }
    panic!("the pool is still thought to be well");
}

#[tokio::test]
async fn secrets_are_neither_shown_nor_missing() {
    let world = World::start(&[&[]], "").await;
    world.answer().await.unwrap();
    let shown = world.router.status().to_string();
    assert!(!shown.contains("sk-of-a") && shown.contains("\"has_secret\":true"), "{shown}");
    let text = "[[pool]]\nname = \"p\"\nurl = \"http://h\"\nsecret = \"env:NOPE\"\n[[pool.model]]\nname = \"m\"\n";
    let local: Arc<dyn Generate> = Arc::new(Scripted::new("here", Vec::new()));
    let clock = Arc::new(ManualClock::starting_at(0));
    let secrets = |_: &str| Err("the variable is not set".to_owned());
    let error = Router::start(Policy::parse(text).unwrap(), &local, &secrets, clock, 1).err().unwrap();
    assert_eq!(error.to_string(), "pool p: there is no secret \"env:NOPE\": the variable is not set");
}
