//! Whatever an upstream does wrong, a request has one end in the books: a whole answer is charged once and as its
//! upstream counted, a cut one for what left at most, and one that nothing came of costs nothing.

use std::sync::Arc;
use std::time::Duration;

use base::{Clock, ManualClock};
use chat::testing::{Script, Scripted, check_stream, request};
use chat::{Caller, Event, Finish, Generate, GenerateRequest, Priority};
use futures::future::join_all;
use ledger::usage::{Filter, Record, records};
use ledger::{Ledger, Meter, MeterOptions, Metered, Options, PriceList};
use meta::testing::empty_schema;
use meta::{Database, Place};
use route::testing::{Behaviour, Stub};
use route::{Form, Policy, Router};
use tempfile::TempDir;
use tokio::time::timeout;

const MODEL: &str = "m";
/// A dollar for a token that is read, two for one that is written.
const PRICES: &str = "price = [{ model = \"*\", input = \"1000000\", output = \"2000000\" }]";
const DOLLAR: i64 = 1_000_000;
/// Longer than any of the pools' limits.
const HANGS: Duration = Duration::from_secs(30);
/// Tokens of an answer at most.
const OUTPUT_MAX: u32 = 64;

struct World {
    _folder: TempDir,
    ledger: Ledger,
    meter: Arc<Meter>,
    clock: Arc<dyn Clock>,
}

/// How a request ended for whoever asked.
#[derive(Debug)]
enum Seen {
    Refused,
    Cut,
    Whole(Finish),
}

#[expect(clippy::disallowed_methods, reason = "the script that starts a server says where it is")]
async fn world() -> World {
    let folder = tempfile::tempdir().unwrap();
    let place = match std::env::var("SAMPAN_TEST_POSTGRES") {
        Ok(url) => empty_schema(&url, "charged").await.unwrap(),
        Err(_) => Place::File(folder.path().join("sampan.db")),
    };
    let database = Database::open(place, &[meta::SCHEMA, ledger::SCHEMA]).await.unwrap();
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::starting_at(1_700_000_000_000));
    let ledger = Ledger::new(database, Arc::clone(&clock), "me", Options::default());
    let meter = Meter::new(ledger.clone(), PriceList::parse(PRICES).unwrap(), MeterOptions::default(), 1);
    World { _folder: folder, ledger, meter, clock }
}

/// Pools of these stubs in turn; `hedged`: the second is asked while the first is silent.
fn router(stubs: &[Stub], form: Form, hedged: bool, clock: &Arc<dyn Clock>) -> Router {
    let form_name = match form {
        Form::OpenAi => "openai",
        Form::Anthropic => "anthropic",
        Form::DashScope => "dashscope",
    };
    let pools = stubs.iter().enumerate().map(|(index, stub)| {
        format!(
            "[[pool]]\nname = \"p{index}\"\nform = \"{form_name}\"\nurl = \"{}\"\nhealth.every_ms = 0\n\
             limits = {{ first_byte_ms = 800, between_ms = 500, whole_ms = 900 }}\n[[pool.model]]\nname = \"m\"\n",
            stub.url(form)
        )
    });
    let hedge = if hedged { "hedge_ms = 20\n" } else { "" };
    let first = format!("[[route]]\nmodel = \"m\"\n{hedge}fallback = [\"spare\"]\n");
    let group =
        |pool: usize| format!("[[route.group]]\nname = \"g\"\ntargets = [{{ pool = \"p{pool}\", model = \"m\" }}]\n");
    let spare = format!("[[route]]\nmodel = \"spare\"\n{}", group(1));
    let text = pools.collect::<String>() + &first + &group(0) + &spare;
    let local: Arc<dyn Generate> = Arc::new(Scripted::new("here", vec![Script::text(&["Hi"])]));
    Router::start(Policy::parse(&text).unwrap(), &local, &|_| Ok(String::new()), Arc::clone(clock), 1).unwrap()
}

impl World {
    /// Asks once, with these behaviours waiting, and says how it ended and what the books say of it.
    async fn ask(
        &self,
        case: &str,
        first: Behaviour,
        second: Behaviour,
        form: Form,
        hedged: bool,
    ) -> (Seen, Vec<Record>) {
        let stubs = [Stub::start(&[first]).await, Stub::start(&[second]).await];
        let metered = Metered::new(Arc::clone(&self.meter), Arc::new(router(&stubs, form, hedged, &self.clock)));
        let caller = Caller { project: case.into(), key: "k".into(), priority: Priority::Normal };
        let asked =
            GenerateRequest { caller: Some(caller), max_tokens: Some(OUTPUT_MAX), ..request(MODEL, "Say hello") };
        let answered = async {
            let Ok(events) = metered.generate(asked).await else { return Seen::Refused };
            let (seen, error) = check_stream(events).await;
            match (seen.into_iter().next_back(), error) {
                (Some(Event::Finished(finish)), None) => Seen::Whole(finish),
                _ => Seen::Cut,
            }
        };
        let seen = timeout(HANGS, answered).await.unwrap_or_else(|_| panic!("{case} hangs"));
        self.meter.settled().await;
        let filter = Filter { project: Some(case.to_owned()), ..Filter::default() };
        (seen, records(self.ledger.database(), &filter, None, 10).await.unwrap())
    }

    async fn check(&self, first: Behaviour, second: Behaviour, form: Form, hedged: bool) {
        let case = format!("{first:?} {second:?} {form:?} {hedged}");
        let (seen, records) = self.ask(&case, first, second, form, hedged).await;
        let cost = match (&seen, records.as_slice()) {
            (Seen::Refused, []) => 0,
            (Seen::Whole(finish), [record]) => {
                let usage = (i64::from(finish.usage.prompt_tokens), i64::from(finish.usage.output_tokens));
                assert_eq!((record.outcome.as_str(), record.tokens_out), ("finished", usage.1), "{case}");
                assert_eq!(record.price_micro, (usage.0 + 2 * usage.1) * DOLLAR, "{case}");
                record.price_micro
            }
            // What was cut before its prompt was counted costs nothing.
            (Seen::Cut, []) => 0,
            (Seen::Cut, [record]) => {
                assert_eq!(record.outcome, "failed", "{case}");
                assert!(record.tokens_out <= i64::from(OUTPUT_MAX), "{case}: {record:?}");
                record.price_micro
            }
            _ => panic!("{case}: {seen:?}, and in the books {records:?}"),
        };
        let accounts = self.ledger.accounts(Some(&case)).await.unwrap();
        let held: i64 = accounts.iter().filter(|one| one.id.as_str().starts_with("held:")).map(|one| one.balance).sum();
        let paid: i64 = accounts.iter().filter(|one| one.id.pays()).map(|one| one.balance).sum();
        assert_eq!((held, paid), (0, -cost), "{case}: {records:?}");
    }
}

#[tokio::test]
async fn no_fault_is_charged_twice_or_left_open() {
    // Another test of this process may have been first.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let world = world().await;
    let mut checks = Vec::new();
    for form in [Form::OpenAi, Form::Anthropic, Form::DashScope] {
        for behaviour in Behaviour::ALL {
            checks.push(world.check(behaviour, behaviour, form, false));
            checks.push(world.check(behaviour, Behaviour::Answer, form, true));
        }
    }
    join_all(checks).await;
    assert_eq!(world.ledger.audit().await.unwrap().findings, Vec::<String>::new());
}
