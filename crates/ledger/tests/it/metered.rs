//! Requests with a bill, in front of a scripted model.

use std::sync::Arc;

use base::{RequestId, Rng};
use chat::testing::{Script, Scripted, Words, conformance, request};
use chat::{
    Caller, Embed as _, EmbedInput, EmbedRequest, Error, Event, EventStream, Generate, GenerateRequest, ModelCard,
    Priority, RerankRequest,
};
use futures::StreamExt as _;
use futures::future::BoxFuture;
use ledger::usage::{Filter, Record, records};
use ledger::{Ledger, Meter, MeterOptions, Metered, NOTED_AHEAD, PriceList};

use crate::support::{Fresh, deposit, fresh, transaction};

/// A dollar for a token that is read, two for one that is written.
const PRICES: &str = "price = [{ model = \"*\", input = \"1000000\", output = \"2000000\", embedding = \"3000000\" }]";
const DOLLAR: i64 = 1_000_000;

fn caller(priority: Priority) -> Option<Caller> {
    Some(Caller { project: "p".into(), key: "k".into(), priority })
}

struct Bench {
    _fresh: Fresh,
    ledger: Ledger,
    meter: Arc<Meter>,
}

async fn bench(dollars: i64) -> Bench {
    bench_of(dollars, PRICES, true).await
}

async fn bench_of(dollars: i64, prices: &str, is_price_required: bool) -> Bench {
    let fresh = fresh().await;
    let ledger = fresh.open("me", Some(0)).await;
    ledger.book(transaction("first", deposit("p", dollars * DOLLAR))).await.unwrap();
    let options = MeterOptions { region: "home".to_owned(), is_price_required, nobody: None };
    let meter = Meter::new(ledger.clone(), PriceList::parse(prices).unwrap(), options, 1);
    Bench { _fresh: fresh, ledger, meter }
}

impl Bench {
    fn around(&self, scripts: Vec<Script>) -> Metered<Scripted> {
        Metered::new(Arc::clone(&self.meter), Arc::new(Scripted::new("m", scripts)))
    }

    /// Everything is booked, and nothing is wrong: the records, the latest first, and the dollars that are left.
    async fn end(&self) -> (Vec<Record>, i64) {
        self.meter.settled().await;
        assert_eq!(self.ledger.audit().await.unwrap().findings, Vec::<String>::new());
        let accounts = self.ledger.accounts(Some("p")).await.unwrap();
        let held: i64 =
            accounts.iter().filter(|account| account.id.as_str().starts_with("held:")).map(|held| held.balance).sum();
        assert_eq!(held, 0, "nothing is open any more");
        let left = accounts.iter().find(|account| account.id.pays()).unwrap().balance / DOLLAR;
        (records(self.ledger.database(), &Filter::default(), None, 100).await.unwrap(), left)
    }
}

fn asked(text: &str, max_tokens: u32) -> GenerateRequest {
    let mut asked = request("m", text);
    (asked.caller, asked.max_tokens) = (caller(Priority::Normal), Some(max_tokens));
    asked
}

/// Puts a caller on requests of a suite that has none.
struct Called(Metered<Scripted>);

impl Generate for Called {
    fn models(&self) -> Vec<ModelCard> {
        self.0.models()
    }

    fn generate(&self, request: GenerateRequest) -> BoxFuture<'_, chat::Result<EventStream>> {
        self.0.generate(GenerateRequest { caller: caller(Priority::Normal), ..request })
    }

    fn count_tokens(&self, request: GenerateRequest) -> BoxFuture<'_, chat::Result<u32>> {
        self.0.count_tokens(request)
    }
}

#[tokio::test]
async fn a_metered_model_is_still_a_model() {
    let bench = bench(1_000_000).await;
    let scripts = (0..4).map(|_| Script::text(&["Hel", "lo"])).collect();
    conformance(&Called(bench.around(scripts))).await;
    let (records, left) = bench.end().await;
    let outcomes: Vec<&str> = records.iter().map(|record| record.outcome.as_str()).collect();
    assert_eq!((outcomes.len(), outcomes.iter().filter(|outcome| **outcome == "left").count()), (4, 1));
    // Three whole answers of a token and two, one of which only the prompt was read.
    assert_eq!(left, 1_000_000 - 3 * 5 - 1);
}

#[tokio::test]
async fn an_answer_that_nobody_reads_on_is_charged_once_as_far_as_it_went() {
    let bench = bench(1_000_000).await;
    let metered = bench.around(vec![Script::Hang(vec![
        Event::Started { prompt_tokens: 7 },
        Event::Text("a word".to_owned()),
        Event::Text("another word of it".to_owned()),
    ])]);
    let mut events = metered.generate(asked("Hi", 8)).await.unwrap();
    for _ in 0..3 {
        events.next().await.unwrap().unwrap();
    }
    drop(events);
    let (records, left) = bench.end().await;
    // 24 bytes are six tokens.
    assert_eq!((records[0].outcome.as_str(), records[0].tokens_in, records[0].tokens_out), ("left", 7, 6));
    assert_eq!(left, 1_000_000 - 7 - 12);
}

#[tokio::test]
async fn an_answer_that_breaks_is_charged_if_something_left() {
    let bench = bench(1_000_000).await;
    let broken = || Err(Error::Interrupted { reason: "test".to_owned() });
    let started = || Ok(Event::Started { prompt_tokens: 3 });
    let metered = bench.around(vec![
        Script::Play(vec![started(), Ok(Event::Text("a".to_owned())), broken()]),
        Script::Play(vec![started(), broken()]),
        Script::Play(vec![started(), Ok(Event::Text("a".to_owned()))]),
        Script::Refuse(Error::Overloaded { waiting: 1, limit: 1 }),
    ]);
    for _ in 0..3 {
        let events = metered.generate(asked("Hi", 8)).await.unwrap();
        let last = events.collect::<Vec<_>>().await.pop().unwrap();
        assert!(last.is_err(), "a cut answer never looks whole");
    }
    assert!(matches!(metered.generate(asked("Hi", 8)).await.err(), Some(Error::Overloaded { .. })));
    let (records, left) = bench.end().await;
    assert_eq!(records.len(), 2);
    assert!(records.iter().all(|record| record.outcome == "failed" && record.price_micro == 5 * DOLLAR));
    assert_eq!(left, 1_000_000 - 10);
}

#[tokio::test]
async fn who_can_pay_for_the_exact_prompt_is_answered_and_who_cannot_is_refused() {
    let bench = bench(20).await;
    let metered = bench.around(vec![Script::text(&["Hello"])]);
    // A word and nine tokens would be nineteen dollars; by its bytes it is hundreds.
    let events = metered.generate(asked("Hi", 9)).await.unwrap();
    assert!(events.collect::<Vec<_>>().await.iter().all(Result::is_ok));
    let refused = metered.generate(asked("Hi", 9)).await.err().unwrap();
    let Error::OutOfCredit { reason } = &refused else { panic!("{refused}") };
    assert!(reason.contains("project p") && reason.contains("dollars"), "{reason}");
    let (records, left) = bench.end().await;
    assert_eq!((records.len(), left), (1, 17));
}

#[tokio::test]
async fn a_long_answer_is_noted_before_it_leaves() {
    let bench = bench(1_000_000).await;
    let pieces = vec!["word"; 3 * NOTED_AHEAD as usize];
    let metered = bench.around(vec![Script::text(&pieces)]);
    let mut events = metered.generate(asked("Hi", 2000)).await.unwrap();
    let mut seen = 0_i64;
    while let Some(event) = events.next().await {
        seen += i64::from(matches!(event.unwrap(), Event::Text(_)));
        if seen % 64 == 0 && seen > 0 {
            assert!(noted_output(&bench.ledger).await.is_none_or(|noted| noted >= seen), "{seen} have left");
        }
    }
    let (records, _) = bench.end().await;
    assert_eq!(records[0].tokens_out, seen);
}

/// Output tokens that are noted with the one open reservation.
async fn noted_output(ledger: &Ledger) -> Option<i64> {
    let mut connection = ledger.database().read().await.unwrap();
    let query = meta::query("SELECT noted FROM ledger_reservations WHERE state = 'open'");
    let row = query.fetch_optional(&mut *connection).await.unwrap()?;
    let noted: String = meta::Row::get(&row, 0);
    let after = noted.split("[2,").nth(1).unwrap();
    after.split(']').next().unwrap().parse().ok()
}

#[tokio::test]
async fn a_batch_costs_half_and_who_has_no_account_nothing() {
    let bench = bench(1_000_000).await;
    let metered = bench.around(vec![Script::text(&["Hello"]), Script::text(&["Hello"])]);
    let batch = GenerateRequest { caller: caller(Priority::Background), ..asked("Hi", 8) };
    let nobody = GenerateRequest { caller: None, ..asked("Hi", 8) };
    for asked in [batch, nobody] {
        metered.generate(asked).await.unwrap().collect::<Vec<_>>().await;
    }
    let (records, _) = bench.end().await;
    assert_eq!((records.len(), records[0].price_micro, records[0].tariff.as_str()), (1, 3 * DOLLAR / 2, "batch"));
}

fn embed() -> EmbedRequest {
    EmbedRequest {
        id: RequestId::random(&mut Rng::seeded(1)),
        caller: caller(Priority::Normal),
        model: "e".to_owned(),
        inputs: vec![EmbedInput::Text("three small words".to_owned())],
        instruction: None,
        dimensions: None,
        truncate: false,
    }
}

#[tokio::test]
async fn what_has_no_price_is_refused_only_where_it_must_be_paid_for() {
    // The model has prices, but none for what is asked of it.
    let no_embedding = "price = [{ model = \"*\", input = \"1000000\" }]";
    for is_price_required in [true, false] {
        let bench = bench_of(1_000_000, no_embedding, is_price_required).await;
        let embedding = Metered::new(Arc::clone(&bench.meter), Arc::new(Words::new("e", "r")));
        let embedded = embedding.embed(embed()).await;
        let answered = bench.around(vec![Script::text(&["Hello"])]).generate(asked("Hi", 8)).await;
        if is_price_required {
            for refused in [embedded.map(drop), answered.map(drop)] {
                assert!(matches!(refused, Err(Error::Unsupported { .. })), "{refused:?}");
            }
            continue;
        }
        assert!(embedded.is_ok());
        answered.unwrap().collect::<Vec<_>>().await;
        let (records, left) = bench.end().await;
        assert_eq!((records.len(), left), (2, 1_000_000 - 1), "the prompt is paid for, the rest is counted");
    }
}

#[tokio::test]
async fn embeddings_and_rankings_are_charged_as_they_were_read() {
    let bench = bench(1_000_000).await;
    let words = Words::new("e", "r").refusing(vec![Error::ShuttingDown]);
    let metered = Metered::new(Arc::clone(&bench.meter), Arc::new(words));
    assert!(metered.embed(embed()).await.is_err());
    let embedded = metered.embed(embed()).await.unwrap();
    let rerank = RerankRequest {
        id: RequestId::random(&mut Rng::seeded(1)),
        caller: caller(Priority::Normal),
        model: "r".to_owned(),
        query: "words".to_owned(),
        documents: vec!["some words".to_owned(), "none".to_owned()],
        instruction: None,
    };
    let ranked = metered.rerank(rerank).await.unwrap();
    let (records, left) = bench.end().await;
    let tokens = i64::from(embedded.prompt_tokens + ranked.prompt_tokens);
    assert_eq!((records.len(), left), (2, 1_000_000 - 3 * tokens));
}
