//! A small provider for tests, on a free port of this machine: it asks nobody for a password, and does what it is told.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Redirect, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::rand::SystemRandom;
use ring::rsa::PublicKeyComponents;
use ring::signature::{KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair};
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// The client that it knows, and what it knows it by.
pub const CLIENT: &str = "sampan";
/// See [`CLIENT`].
pub const SECRET: &str = "a secret: of two words";
/// Whoever signs in here.
pub const EMAIL: &str = "ada@example.com";

/// What it tells more for.
const ACCESS: &str = "an-access.token";
const KEY: &[u8] = include_bytes!("../../../fixtures/oidc/rsa.pk8");

/// What it does otherwise than it should.
pub struct Behaviour {
    /// Changes the claims of the token before they are signed.
    pub claims: Box<dyn Fn(&mut Value) + Send>,
    /// Changes the header of the token.
    pub header: Box<dyn Fn(&mut Value) + Send>,
    /// Changes the token.
    pub token: Box<dyn Fn(String) -> String + Send>,
    /// Changes what it publishes of itself.
    pub published: Box<dyn Fn(&mut Value) + Send>,
    /// The name of the key that it publishes.
    pub key: String,
    /// What it says of a person who is asked for beside the token; `None`: it does not.
    pub told: Option<Value>,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            claims: Box::new(|_| {}),
            header: Box::new(|_| {}),
            token: Box::new(|token| token),
            published: Box::new(|_| {}),
            key: "first".to_owned(),
            told: None,
        }
    }
}

/// A provider that runs until it is dropped.
pub struct TestProvider {
    /// Its name.
    pub issuer: String,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

struct Shared {
    issuer: String,
    key: RsaKeyPair,
    now_s: i64,
    state: Mutex<Told>,
}

#[derive(Default)]
struct Told {
    behaviour: Behaviour,
    /// The codes that were given out and not used, with what came with them.
    codes: Vec<(String, Asked)>,
    given: usize,
    keys_asked: usize,
}

#[derive(Deserialize, Clone)]
struct Asked {
    response_type: String,
    client_id: String,
    redirect_uri: String,
    scope: String,
    state: String,
    nonce: String,
    code_challenge: String,
    code_challenge_method: String,
}

#[derive(Deserialize)]
struct Exchange {
    grant_type: String,
    code: String,
    redirect_uri: String,
    code_verifier: String,
    client_id: Option<String>,
    client_secret: Option<String>,
}

impl TestProvider {
    /// Starts one whose clock stands at this second.
    ///
    /// # Panics
    /// If the machine has no free port.
    pub async fn start(now_s: u64) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("the machine has a free port");
        let address: SocketAddr = listener.local_addr().expect("it listens");
        let issuer = format!("http://{address}");
        let key = RsaKeyPair::from_pkcs8(KEY).expect("the fixture is a key");
        let state = Mutex::new(Told::default());
        let shared = Arc::new(Shared { issuer: issuer.clone(), key, now_s: now_s as i64, state });
        let routes = Router::new()
            .route("/.well-known/openid-configuration", get(published))
            .route("/keys", get(keys))
            .route("/authorize", get(authorize))
            .route("/token", post(token))
            .route("/userinfo", get(userinfo))
            .with_state(Arc::clone(&shared));
        let task = tokio::spawn(async move {
            // It ends with the test.
            let _ = axum::serve(listener, routes).await;
        });
        Self { issuer, shared, task }
    }

    /// From now on it behaves like this.
    pub fn behave(&self, behaviour: Behaviour) {
        self.shared.told().behaviour = behaviour;
    }

    /// How often it was asked for its keys.
    #[must_use]
    pub fn keys_asked(&self) -> usize {
        self.shared.told().keys_asked
    }
}

impl Drop for TestProvider {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Shared {
    fn told(&self) -> MutexGuard<'_, Told> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A token with these claims.
    fn signed(&self, told: &Told, mut claims: Value) -> String {
        let mut header = json!({"alg": "RS256", "typ": "JWT", "kid": told.behaviour.key});
        (told.behaviour.claims)(&mut claims);
        (told.behaviour.header)(&mut header);
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(&header), part(&claims));
        let mut signature = vec![0; self.key.public().modulus_len()];
        self.key
            .sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature)
            .expect("the machine has randomness");
        (told.behaviour.token)(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}

async fn published(State(shared): State<Arc<Shared>>) -> Json<Value> {
    let issuer = &shared.issuer;
    let mut published = json!({
        "issuer": issuer,
        "authorization_endpoint": format!("{issuer}/authorize"),
        "token_endpoint": format!("{issuer}/token"),
        "jwks_uri": format!("{issuer}/keys"),
        "response_types_supported": ["code"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["RS256"],
        "code_challenge_methods_supported": ["plain", "S256"],
        "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
    });
    let told = shared.told();
    if told.behaviour.told.is_some() {
        published["userinfo_endpoint"] = json!(format!("{issuer}/userinfo"));
    }
    (told.behaviour.published)(&mut published);
    Json(published)
}

async fn keys(State(shared): State<Arc<Shared>>) -> Json<Value> {
    let components = PublicKeyComponents::<Vec<u8>>::from(shared.key.public_key());
    let [n, e] = [components.n, components.e].map(|number| URL_SAFE_NO_PAD.encode(number));
    let mut told = shared.told();
    told.keys_asked += 1;
    let key = json!({"kty": "RSA", "use": "sig", "alg": "RS256", "kid": told.behaviour.key, "n": n, "e": e});
    let other = json!({"kty": "EC", "use": "enc", "crv": "P-521", "kid": "unrelated"});
    Json(json!({"keys": [other, key]}))
}

async fn authorize(State(shared): State<Arc<Shared>>, Query(asked): Query<Asked>) -> Response {
    let is_right = asked.response_type == "code"
        && asked.client_id == CLIENT
        && asked.code_challenge_method == "S256"
        && asked.scope.split(' ').any(|scope| scope == "openid");
    if !is_right {
        return StatusCode::BAD_REQUEST.into_response();
    }
    let mut told = shared.told();
    told.given += 1;
    let code = format!("code-{}", told.given);
    let back = format!("{}?code={code}&state={}", asked.redirect_uri, asked.state);
    told.codes.push((code, asked));
    Redirect::to(&back).into_response()
}

async fn token(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: String) -> Response {
    let denied = |error: &str| (StatusCode::BAD_REQUEST, Json(json!({"error": error}))).into_response();
    let address = format!("http://form/?{body}").parse();
    let Some(Query(asked)) = address.ok().and_then(|uri| Query::<Exchange>::try_from_uri(&uri).ok()) else {
        return denied("invalid_request");
    };
    // RFC 6749, section 2.3.1: both halves are encoded as in a form.
    let basic = format!("Basic {}", STANDARD.encode(format!("{CLIENT}:a+secret%3A+of+two+words")));
    let is_basic = headers.get("authorization").is_some_and(|value| value.as_bytes() == basic.as_bytes());
    let is_posted = asked.client_id.as_deref() == Some(CLIENT) && asked.client_secret.as_deref() == Some(SECRET);
    if !is_basic && !is_posted {
        return denied("invalid_client");
    }
    let mut told = shared.told();
    let Some(found) = told.codes.iter().position(|(code, _)| *code == asked.code) else {
        return denied("invalid_grant");
    };
    let (_, begun) = told.codes.remove(found);
    let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(asked.code_verifier.as_bytes()));
    let is_same = challenge == begun.code_challenge
        && asked.redirect_uri == begun.redirect_uri
        && asked.grant_type == "authorization_code";
    if !is_same {
        return denied("invalid_grant");
    }
    let now_s = shared.now_s;
    let claims = json!({
        "iss": shared.issuer, "sub": "user-1", "aud": CLIENT, "exp": now_s + 300, "iat": now_s, "nonce": begun.nonce,
        "email": EMAIL, "email_verified": true,
    });
    let token = shared.signed(&told, claims);
    Json(json!({"access_token": ACCESS, "token_type": "Bearer", "expires_in": 300, "id_token": token})).into_response()
}

async fn userinfo(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Response {
    let is_right = headers.get("authorization").is_some_and(|value| *value == format!("Bearer {ACCESS}"));
    match &shared.told().behaviour.told {
        Some(told) if is_right => Json(told).into_response(),
        _ => (StatusCode::UNAUTHORIZED, Json(json!({"error": "invalid_token"}))).into_response(),
    }
}
