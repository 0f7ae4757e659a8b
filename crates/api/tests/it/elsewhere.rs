//! A browser that signs in to the console at a provider.

use std::sync::Arc;

use api::App;
use base::{ManualClock, SeededEntropy};
use meta::{Actor, Database, Directory, NewMember, Page, Place, Role, SCHEMA};
use oidc::testing::{Behaviour, CLIENT, EMAIL, SECRET, TestProvider};
use oidc::{Options, Provider};
use serde_json::json;

use crate::support::{Reply, Server};

const NOW_S: u64 = 1_700_000_123;

struct Bench {
    _folder: tempfile::TempDir,
    there: TestProvider,
    server: Server,
    directory: Directory,
    organisation: String,
}

async fn bench(public_url: &'static str) -> Bench {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let folder = tempfile::tempdir().unwrap();
    let there = TestProvider::start(NOW_S).await;
    let clock = Arc::new(ManualClock::starting_at(NOW_S * 1000));
    let database = Database::open(Place::File(folder.path().join("meta.db")), &[SCHEMA]).await.unwrap();
    let directory = Directory::new(database, Arc::clone(&clock) as _, Arc::new(SeededEntropy::new(3)));
    directory.first_start().await.unwrap();
    let machine = Actor::machine("test");
    let organisation = directory.organisations(&machine, &Page::default()).await.unwrap().items.remove(0).id;
    let (issuer, redirect) = (there.issuer.clone(), format!("{public_url}/console/sign-in/back"));
    let (client, secret) = (CLIENT.to_owned(), Some(SECRET.to_owned()));
    let provider = Provider::new(Options { issuer, client, secret, redirect }, clock).unwrap();
    let accounts = directory.clone();
    let server = Server::built(vec![], |app: App| {
        app.with_accounts(accounts).with_sign_in(provider).with_public_url(public_url.to_owned())
    });
    Bench { _folder: folder, there, server, directory, organisation }
}

fn cookies(reply: &Reply) -> Vec<&str> {
    reply.headers.get_all("set-cookie").iter().map(|value| value.to_str().unwrap()).collect()
}

/// Without what follows the value.
fn pair(cookie: &str) -> &str {
    cookie.split(';').next().unwrap()
}

impl Bench {
    async fn join(&self, email: &str) {
        let new = NewMember {
            organisation: self.organisation.clone(),
            name: "Ada".to_owned(),
            email: Some(email.to_owned()),
            role: Role::Developer,
        };
        self.directory.new_member(&Actor::machine("test"), new).await.unwrap();
    }

    /// The cookie of a sign-in that was begun, and the path that the provider sends the browser back to.
    async fn away(&self) -> (String, String) {
        let begun = self.server.get("/console/sign-in").await;
        assert_eq!((begun.status.as_u16(), begun.headers["cache-control"].as_bytes()), (303, b"no-store".as_slice()));
        let waiting = cookies(&begun);
        assert!(waiting[0].contains("; Path=/console/sign-in; HttpOnly; SameSite=Lax; Max-Age=600"), "{waiting:?}");
        let browser = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
        let there = browser.get(begun.headers["location"].to_str().unwrap()).send().await.unwrap();
        let back = reqwest::Url::parse(there.headers()["location"].to_str().unwrap()).unwrap();
        (pair(waiting[0]).to_owned(), format!("{}?{}", back.path(), back.query().unwrap()))
    }

    async fn back(&self, path: &str, cookie: &str) -> Reply {
        // As a browser that comes from a page of the provider.
        let headers = [("cookie", cookie), ("host", "here"), ("sec-fetch-site", "cross-site")];
        self.server.send("GET", path, &headers, Vec::new()).await
    }
}

#[tokio::test]
async fn a_member_signs_in_elsewhere_and_acts_as_a_member() {
    let bench = bench("https://sampan.example").await;
    bench.join("Ada@Example.com").await;
    let nobody = bench.server.get("/console/session").await;
    assert_eq!((nobody.status.as_u16(), &nobody.json()["elsewhere"]), (401, &json!("/console/sign-in")));
    let (waiting, path) = bench.away().await;
    let reply = bench.back(&path, &waiting).await;
    assert_eq!((reply.status.as_u16(), reply.headers["location"].as_bytes()), (303, b"/".as_slice()), "{reply:?}");
    let set = cookies(&reply);
    assert!(set[0].starts_with("sampan_session=") && set[0].contains("HttpOnly; SameSite=Strict"), "{set:?}");
    assert!(set[1].starts_with("sampan_sign_in=;") && set[1].contains("Max-Age=0"), "{set:?}");
    assert!(set.iter().all(|cookie| cookie.ends_with("; Secure")), "{set:?}");
    let headers = [("cookie", pair(set[0]))];
    let shown = bench.server.send("GET", "/console/session", &headers, Vec::new()).await.json();
    assert_eq!(shown["role"], "developer");
    assert!(shown["key"].as_str().unwrap().starts_with("mem_"), "{shown}");
    // The same way back a second time: its code was used.
    assert_eq!(bench.back(&path, &waiting).await.status, 401);
}

#[tokio::test]
async fn a_cookie_is_marked_as_far_as_the_way_is_known_to_be_encrypted() {
    let bench = bench("http://127.0.0.1:8420").await;
    let secure = async |headers: &[(&str, &str)]| {
        let reply = bench.server.send("GET", "/console/sign-in", headers, Vec::new()).await;
        cookies(&reply)[0].ends_with("; Secure")
    };
    assert!(!secure(&[]).await);
    assert!(!secure(&[("x-forwarded-proto", "http")]).await);
    assert!(secure(&[("x-forwarded-proto", "https")]).await);
    let key = bench.directory.new_owner_key().await.unwrap().text;
    for (origin, is_secure) in [("https://here", true), ("http://here", false)] {
        let headers = [("origin", origin), ("host", "here"), ("content-type", "application/json")];
        let body = json!({"key": key}).to_string().into_bytes();
        let reply = bench.server.send("POST", "/console/session", &headers, body).await;
        assert_eq!(cookies(&reply)[0].ends_with("; Secure"), is_secure, "{reply:?}");
    }
}

#[tokio::test]
async fn whoever_is_no_member_or_did_not_begin_here_is_told_so() {
    let bench = bench("https://sampan.example").await;
    let refused = |reply: &Reply, status: u16, why: &str| {
        assert!(reply.status == status && reply.text.contains(why), "{status} {why}: {reply:?}");
        assert!(!cookies(reply).iter().any(|cookie| cookie.starts_with("sampan_session")), "{reply:?}");
    };
    let (waiting, path) = bench.away().await;
    refused(&bench.back(&path, &waiting).await, 403, EMAIL);
    bench.join(EMAIL).await;
    let (waiting, path) = bench.away().await;
    refused(&bench.back(&path, "").await, 401, "not begun in this browser");
    refused(&bench.back(&path, "sampan_sign_in=a.b.c").await, 401, "not begun in this browser");
    let (other, _) = bench.away().await;
    refused(&bench.back(&path, &other).await, 401, "not begun in this browser");
    let state = waiting.split(['=', '.']).nth(1).unwrap();
    let denied = format!("/console/sign-in/back?error=access_denied&error_description=%3Cb%3Eno&state={state}");
    refused(&bench.back(&denied, &waiting).await, 401, "access_denied: &lt;b>no");
    refused(&bench.back("/console/sign-in/back?state=a&state=b", &waiting).await, 400, "state");
    // What one may do elsewhere is the provider's to say: an address that nobody verified is nobody's.
    let claims = Box::new(|claims: &mut serde_json::Value| claims["email_verified"] = json!(false));
    bench.there.behave(Behaviour { claims, ..Behaviour::default() });
    let (waiting, path) = bench.away().await;
    refused(&bench.back(&path, &waiting).await, 401, "is not verified");
    // A page of ours cannot be asked where nobody offers it.
    let plain = Server::new(vec![]);
    assert_eq!(plain.get("/console/sign-in").await.status, 404);
    assert_eq!(plain.get("/console/session").await.json(), json!({"keys": false}));
}
