//! Every fault in every form: nothing hangs, nothing looks finished that is not, and a whole answer is charged once.

use std::time::Duration;

use base::Kind;
use chat::testing::{check_stream, request};
use chat::{Error, Event, Generate as _};
use futures::future::join_all;
use route::testing::{Behaviour, Stub};
use route::{Form, Server};
use tokio::time::timeout;

use crate::support::{MODEL, upstream};

/// What a request comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// A whole answer with the upstream's usage.
    Whole,
    /// A whole answer whose usage is said to be an estimate.
    Estimated,
    /// Refused before anything was answered.
    Refused(Kind),
    /// An error in the middle.
    Cut,
}

fn expected(behaviour: Behaviour, form: Form) -> Outcome {
    use Behaviour as B;
    let unavailable = Outcome::Refused(Kind::Unavailable);
    match behaviour {
        // In DashScope's form, which has no last event, what goes on is more answer; the last usage counts.
        B::Answer | B::Delay(_) | B::Babble => Outcome::Whole,
        // Its last event has no figures, those of the first event hold.
        B::NoUsage if form == Form::Anthropic => Outcome::Whole,
        B::NoUsage => Outcome::Estimated,
        B::Status(400 | 413 | 422, _) => Outcome::Refused(Kind::Invalid),
        B::Status(429 | 503 | 529, _) => Outcome::Refused(Kind::Exhausted),
        B::Status(..) | B::Slam | B::Hang | B::Garbage | B::Binary | B::Page | B::SlowHead => unavailable,
        B::SlowLoris | B::Pings | B::EndlessLine => unavailable,
        B::HangMidway | B::Cut | B::CleanCut | B::LengthTooLong | B::LengthTooShort => Outcome::Cut,
        B::ErrorMidway | B::NoReason => Outcome::Cut,
    }
}

async fn outcome(behaviour: Behaviour, form: Form) -> Outcome {
    let stub = Stub::start(&[behaviour]).await;
    let pool = upstream(&stub, form, Server::Other);
    let whole = async {
        let events = match pool.generate(request(MODEL, "Say hello please")).await {
            Ok(events) => events,
            Err(error) => return Outcome::Refused(error.kind()),
        };
        let (seen, error) = check_stream(events).await;
        let finished = seen.iter().filter(|event| matches!(event, Event::Finished(_))).count();
        match error {
            Some(error) => {
                assert!(matches!(&error, Error::Upstream { pool, .. } if pool == "pool"), "{error:?}");
                assert_eq!((error.kind(), finished), (Kind::Unavailable, 0), "{behaviour:?} {form:?}: {seen:?}");
                Outcome::Cut
            }
            None => {
                assert_eq!(finished, 1, "{behaviour:?} {form:?}: one usage");
                let Some(Event::Finished(finish)) = seen.last() else { panic!("{seen:?}") };
                let estimated = seen.iter().any(|event| matches!(event, Event::Warning(_)));
                if !estimated {
                    let output = if behaviour == Behaviour::NoUsage { 0 } else { 3 };
                    let usage = (finish.usage.prompt_tokens, finish.usage.output_tokens);
                    assert_eq!(usage, (3, output), "{behaviour:?} {form:?}");
                }
                if estimated { Outcome::Estimated } else { Outcome::Whole }
            }
        }
    };
    let outcome = timeout(Duration::from_secs(5), whole).await;
    let outcome = outcome.unwrap_or_else(|_| panic!("{behaviour:?} in the form {form:?} hangs"));
    assert_eq!(stub.seen().len(), 1, "{behaviour:?} {form:?}: the upstream was asked once");
    outcome
}

#[tokio::test]
async fn every_fault_in_every_form() {
    let statuses = [400, 401, 403, 404, 413, 422, 429, 502, 503, 529, 302].map(|code| Behaviour::Status(code, None));
    let behaviours = Behaviour::ALL.into_iter().chain(statuses);
    let cases: Vec<(Behaviour, Form)> = behaviours
        .flat_map(|behaviour| [Form::OpenAi, Form::Anthropic, Form::DashScope].map(|form| (behaviour, form)))
        .collect();
    let outcomes = join_all(cases.iter().map(|&(behaviour, form)| outcome(behaviour, form))).await;
    let wrong: Vec<_> = cases
        .into_iter()
        .zip(outcomes)
        .filter(|&((behaviour, form), outcome)| outcome != expected(behaviour, form))
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[tokio::test]
async fn a_port_where_nobody_listens_is_unavailable() {
    let stub = Stub::start(&[]).await;
    let pool = upstream(&stub, Form::OpenAi, Server::Other);
    drop(stub);
    // The listener closes when its task is dropped.
    tokio::task::yield_now().await;
    let error = pool.generate(request(MODEL, "Hi")).await.err().unwrap();
    assert_eq!(error.kind(), Kind::Unavailable, "{error}");
    assert!(error.to_string().contains("pool pool"), "{error}");
}

#[tokio::test]
async fn the_key_of_a_pool_is_sent_and_never_shown() {
    for (form, header) in [
        (Form::OpenAi, "authorization: bearer sk-of-the-pool"),
        (Form::Anthropic, "x-api-key: sk-of-the-pool"),
        (Form::DashScope, "authorization: bearer sk-of-the-pool"),
    ] {
        let stub = Stub::start(&[Behaviour::Status(401, None)]).await;
        let pool = upstream(&stub, form, Server::Other);
        let error = pool.generate(request(MODEL, "Hi")).await.err().unwrap();
        assert!(stub.seen()[0].headers.contains(header), "{:?}", stub.seen());
        assert!(!format!("{error} {error:?}").contains("sk-of-the-pool"), "{error}");
    }
}
