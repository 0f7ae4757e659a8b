//! The whole flow against a provider on this machine, and every reason to refuse.
#![expect(clippy::unwrap_used, reason = "a test that fails here says so by panicking")]

use std::sync::Arc;

use base::{Kind, ManualClock, SeededEntropy};
use oidc::testing::{Behaviour, CLIENT, EMAIL, SECRET, TestProvider};
use oidc::{Begun, Error, Identity, Options, Provider, Result, Returned};
use serde_json::{Value, json};

const NOW_S: u64 = 1_793_500_000;
const BACK: &str = "http://127.0.0.1:1/console/sign-in/back";

struct Bench {
    there: TestProvider,
    clock: Arc<ManualClock>,
    here: Provider,
}

fn options(issuer: &str) -> Options {
    let (client, secret, redirect) = (CLIENT.to_owned(), Some(SECRET.to_owned()), BACK.to_owned());
    Options { issuer: issuer.to_owned(), client, secret, redirect }
}

async fn bench() -> Bench {
    // Another test of this process may have been first.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let there = TestProvider::start(NOW_S).await;
    let clock = Arc::new(ManualClock::starting_at(NOW_S * 1000));
    let here = Provider::new(options(&there.issuer), Arc::clone(&clock) as _).unwrap();
    Bench { there, clock, here }
}

/// What a browser brings back from this address.
async fn browser(address: &str) -> Returned {
    let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    let answer = client.get(address).send().await.unwrap();
    let back = answer.headers().get("location").expect("it sends the browser back").to_str().unwrap().to_owned();
    let url = reqwest::Url::parse(&back).unwrap();
    assert!(back.starts_with(BACK), "{back}");
    let get = |name: &str| url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned());
    Returned { code: get("code"), state: get("state"), ..Returned::default() }
}

impl Bench {
    async fn signed_in(&self) -> Result<Identity> {
        let Begun { address, waiting } = self.here.begin(&SeededEntropy::new(7)).await?;
        self.here.finish(&waiting, &browser(&address).await).await
    }

    async fn refusal(&self, behaviour: Behaviour) -> Error {
        self.there.behave(behaviour);
        self.signed_in().await.expect_err("it must be refused")
    }
}

fn claims(change: impl Fn(&mut Value) + Send + 'static) -> Behaviour {
    Behaviour { claims: Box::new(change), ..Behaviour::default() }
}

#[tokio::test]
async fn somebody_signs_in() {
    let bench = bench().await;
    let found = bench.signed_in().await.unwrap();
    assert_eq!(found, Identity { subject: "user-1".to_owned(), email: EMAIL.to_owned() });
    // What the provider says of itself is remembered.
    bench.signed_in().await.unwrap();
    assert_eq!(bench.there.keys_asked(), 1);
}

#[tokio::test]
async fn a_provider_may_want_the_secret_in_the_body_and_write_true_in_quotes() {
    let bench = bench().await;
    let published = |published: &mut Value| {
        published["token_endpoint_auth_methods_supported"] = json!(["client_secret_post"]);
    };
    let claims = |claims: &mut Value| {
        claims["email_verified"] = json!("true");
        (claims["aud"], claims["azp"]) = (json!([CLIENT, "another"]), json!(CLIENT));
    };
    let (published, claims) = (Box::new(published), Box::new(claims));
    bench.there.behave(Behaviour { published, claims, ..Behaviour::default() });
    assert_eq!(bench.signed_in().await.unwrap().email, EMAIL);
}

#[tokio::test]
async fn an_address_that_is_not_in_the_token_is_asked_for() {
    let told = |told: Value| Behaviour {
        claims: Box::new(|claims| drop(claims.as_object_mut().unwrap().remove("email"))),
        told: Some(told),
        ..Behaviour::default()
    };
    let good = || json!({"sub": "user-1", "email": EMAIL, "email_verified": true});
    let changed = |field: &str, value: Value| {
        let mut changed = good();
        changed[field] = value;
        changed
    };
    let check = async |behaviour: Behaviour, refusal: Option<&str>| {
        // What is published is remembered for an hour, so each has a bench of its own.
        let bench = bench().await;
        bench.there.behave(behaviour);
        match (bench.signed_in().await, refusal) {
            (Ok(found), None) => assert_eq!(found, Identity { subject: "user-1".to_owned(), email: EMAIL.to_owned() }),
            (Err(error), Some(part)) => assert!(error.to_string().contains(part), "{error} lacks {part}"),
            (found, refusal) => panic!("{found:?}, expected {refusal:?}"),
        }
    };
    check(told(good()), None).await;
    check(told(changed("sub", json!("user-2"))), Some("about \"user-2\"")).await;
    check(told(changed("email_verified", json!(false))), Some("not verified")).await;
    check(told(changed("email", Value::Null)), Some("names no address")).await;
    check(Behaviour { told: None, ..told(good()) }, Some("names no address")).await;
    let elsewhere = |published: &mut Value| published["userinfo_endpoint"] = json!("http://id.example/userinfo");
    check(Behaviour { published: Box::new(elsewhere), ..told(good()) }, Some("not encrypted")).await;
}

#[tokio::test]
async fn keys_that_are_newer_than_what_is_known_are_asked_for_but_not_all_the_time() {
    let bench = bench().await;
    bench.signed_in().await.unwrap();
    let renamed = || Behaviour { key: "second".to_owned(), ..Behaviour::default() };
    let refused = bench.refusal(renamed()).await.to_string();
    assert!(refused.contains("0 keys \"second\""), "{refused}");
    assert_eq!(bench.there.keys_asked(), 1, "asked a moment ago");
    bench.clock.advance_ms(31_000);
    bench.signed_in().await.unwrap();
    assert_eq!(bench.there.keys_asked(), 2);
}

#[tokio::test]
async fn a_token_that_is_not_as_it_must_be_is_refused() {
    let bench = bench().await;
    let now = NOW_S as i64;
    let cases: Vec<(&str, &str, Value)> = vec![
        ("comes from", "iss", json!("https://other.example")),
        ("it is for", "aud", json!("another")),
        ("it is for", "aud", json!([])),
        ("does not say for whom", "aud", json!([CLIENT, "another"])),
        ("was made for", "azp", json!("another")),
        ("expired", "exp", json!(now - 61)),
        ("expired", "exp", json!(i64::MIN)),
        ("begins in", "iat", json!(now + 61)),
        ("begins in", "nbf", json!(now + 61)),
        ("was made", "iat", json!(now - 601)),
        ("nonce", "nonce", json!("of another sign-in")),
        ("nonce", "nonce", Value::Null),
        ("subject", "sub", json!("")),
        ("subject", "sub", json!("x".repeat(256))),
        ("names no address", "email", Value::Null),
        ("not verified", "email_verified", json!(false)),
        ("not verified", "email_verified", Value::Null),
        ("not verified", "email_verified", json!("yes")),
        ("cannot be read", "exp", json!("soon")),
        ("cannot be read", "iss", Value::Null),
    ];
    for (why, name, value) in cases {
        let error = bench.refusal(claims(move |claims| claims[name] = value.clone())).await;
        assert!(error.to_string().contains(why), "{name}: {error}");
        assert_eq!(error.kind(), Kind::Unauthenticated, "{error}");
    }
}

#[tokio::test]
async fn a_signature_that_is_not_the_providers_is_refused() {
    let bench = bench().await;
    let header = |name: &'static str, value: Value| Behaviour {
        header: Box::new(move |header| header[name] = value.clone()),
        ..Behaviour::default()
    };
    for (why, behaviour) in [
        ("\"none\"", header("alg", json!("none"))),
        ("\"HS256\"", header("alg", json!("HS256"))),
        ("0 keys", header("alg", json!("ES256"))),
        ("0 keys", header("kid", json!("unrelated"))),
        ("extensions", header("crit", json!(["exp"]))),
    ] {
        let error = bench.refusal(behaviour).await.to_string();
        assert!(error.contains(why), "{why}: {error}");
    }
    type Change = fn(String) -> String;
    let changes: [(&str, Change); 6] = [
        ("signature", |token| token.rsplit_once('.').map(|(signed, _)| format!("{signed}.")).unwrap()),
        ("signature", |token| {
            let (rest, last) = token.split_at(token.len() - 8);
            format!("{rest}{}", last.chars().map(|one| if one == 'A' { 'B' } else { 'A' }).collect::<String>())
        }),
        ("signature", |token| {
            // Another's claims under a good signature.
            let parts: Vec<&str> = token.split('.').collect();
            format!("{}.{}.{}", parts[0], "eyJzdWIiOiJyb290In0", parts[2])
        }),
        ("form", |_| "no token".to_owned()),
        ("header", |_| "!.!.!".to_owned()),
        ("bytes", |_| "x".repeat(100_000)),
    ];
    for (why, change) in changes {
        let error = bench.refusal(Behaviour { token: Box::new(change), ..Behaviour::default() }).await;
        assert!(matches!(error, Error::Token { .. }) && error.to_string().contains(why), "{why}: {error}");
    }
}

#[tokio::test]
async fn what_comes_back_must_be_of_the_sign_in_that_waits() {
    let Bench { there, here, .. } = bench().await;
    let one = here.begin(&SeededEntropy::new(1)).await.unwrap();
    let other = here.begin(&SeededEntropy::new(2)).await.unwrap();
    let returned = browser(&one.address).await;
    let foreign = |result: Result<Identity>| matches!(result, Err(Error::Foreign));
    assert!(foreign(here.finish(&other.waiting, &returned).await), "another browser's");
    assert!(foreign(here.finish(&one.waiting, &Returned { state: None, ..returned.clone() }).await));
    let elsewhere = Returned { iss: Some("https://other.example".to_owned()), ..returned.clone() };
    assert!(foreign(here.finish(&one.waiting, &elsewhere).await), "another provider's");
    // The code of one sign-in with the state of another: its verifier does not fit.
    let mixed = Returned { state: browser(&other.address).await.state, ..returned.clone() };
    assert!(matches!(here.finish(&other.waiting, &mixed).await, Err(Error::Refused { .. })));
    let again = browser(&one.address).await;
    assert_eq!(here.finish(&one.waiting, &again).await.unwrap().email, EMAIL);
    let used = here.finish(&one.waiting, &again).await.unwrap_err();
    assert!(matches!(&used, Error::Refused { why } if why == "invalid_grant"), "a code is good once: {used}");
    let said = Some("nobody\r\nhere".to_owned());
    let denied =
        Returned { code: None, error: Some("access_denied".to_owned()), error_description: said, ..again.clone() };
    let denied = here.finish(&one.waiting, &denied).await.unwrap_err().to_string();
    assert_eq!(denied, "the provider refuses: access_denied: nobodyhere");
    let none = here.finish(&one.waiting, &Returned { code: None, ..again }).await.unwrap_err();
    assert!(matches!(none, Error::Refused { .. }));
    drop(there);
}

#[tokio::test]
async fn a_provider_that_cannot_be_trusted_is_not_asked() {
    let Bench { there, here, clock } = bench().await;
    type Change = fn(&mut Value);
    let changes: [(&str, Change); 4] = [
        ("is of", |published| published["issuer"] = json!("https://other.example")),
        ("not encrypted", |published| published["token_endpoint"] = json!("http://id.example/token")),
        ("PKCE", |published| published["code_challenge_methods_supported"] = json!(["plain"])),
        ("missing field", |published| published["jwks_uri"] = Value::Null),
    ];
    for (why, change) in changes {
        there.behave(Behaviour { published: Box::new(change), ..Behaviour::default() });
        let error = here.begin(&SeededEntropy::new(1)).await.err().expect("it must be refused");
        let is_said = error.to_string().contains(why) || why == "missing field";
        assert!(is_said && error.kind() == Kind::Unavailable, "{why}: {error}");
    }
    for (issuer, client) in [("http://id.example", CLIENT), ("", CLIENT), (there.issuer.as_str(), "")] {
        let options = Options { client: client.to_owned(), ..options(issuer) };
        let error = Provider::new(options, Arc::clone(&clock) as _).err().expect("it must be refused");
        assert_eq!(error.kind(), Kind::Invalid, "{error}");
    }
    let wrong = Options { secret: Some("wrong".to_owned()), ..options(&there.issuer) };
    there.behave(Behaviour::default());
    let here = Provider::new(wrong, Arc::clone(&clock) as _).unwrap();
    let begun = here.begin(&SeededEntropy::new(1)).await.unwrap();
    let error = here.finish(&begun.waiting, &browser(&begun.address).await).await.unwrap_err();
    assert_eq!(error.to_string(), "the provider refuses: invalid_client");
    // Nobody listens on the discard port of a loopback address that is nobody's.
    let here = Provider::new(options("http://127.255.255.254:9"), clock as _).unwrap();
    let error = here.begin(&SeededEntropy::new(1)).await.err().expect("nobody is there");
    assert!(matches!(error, Error::Reach { .. }) && error.kind() == Kind::Unavailable);
}
