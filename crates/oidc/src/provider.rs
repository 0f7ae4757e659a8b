//! The flow: away with [`Provider::begin`], back with [`Provider::finish`].

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use base::{Clock, Entropy};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use reqwest::{Client, RequestBuilder, Url};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use tokio::sync::Mutex;

use crate::keys::{Key, KeySet};
use crate::token::{Address, Expected, Named, TOKEN_BYTES_MAX, Token};
use crate::{Error, Identity, Result};

/// What the provider publishes of itself is asked for again after so long.
const KNOWN_MS: u64 = 3600 * 1000;
/// Keys are asked for again for a name that is not among them, but not more often than this.
const KEYS_AGAIN_MS: u64 = 30 * 1000;
/// Bytes of one of the provider's answers.
const ANSWER_BYTES_MAX: usize = 1 << 20;
/// Bytes of a code, and of what else comes back with the browser.
const RETURNED_BYTES_MAX: usize = 4096;
const CONNECT: Duration = Duration::from_secs(5);
const ANSWER: Duration = Duration::from_secs(15);

/// Where to sign in, and as which client.
#[derive(Clone)]
pub struct Options {
    /// The provider's name, which is its address: `https://accounts.example.com`.
    pub issuer: String,
    /// The name that it knows us by.
    pub client: String,
    /// What it knows us by, if we are a client that can keep a secret.
    pub secret: Option<String>,
    /// Where it sends browsers back to, as it is registered there.
    pub redirect: String,
}

/// What is remembered of a sign-in until the browser comes back. It is kept in that browser alone.
#[derive(Clone, PartialEq, Eq)]
pub struct Waiting {
    state: String,
    nonce: String,
    verifier: String,
}

impl Waiting {
    fn new(entropy: &dyn Entropy) -> Self {
        let secret = || {
            let mut bytes = [0; 32];
            entropy.fill(&mut bytes);
            URL_SAFE_NO_PAD.encode(bytes)
        };
        Self { state: secret(), nonce: secret(), verifier: secret() }
    }

    /// As text that fits into a cookie.
    #[must_use]
    pub fn text(&self) -> String {
        format!("{}.{}.{}", self.state, self.nonce, self.verifier)
    }

    /// Reads [`Self::text`].
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('.');
        let mut part = || {
            let is_whole = |part: &&str| URL_SAFE_NO_PAD.decode(part).is_ok_and(|bytes| bytes.len() == 32);
            parts.next().filter(is_whole).map(str::to_owned)
        };
        let waiting = Self { state: part()?, nonce: part()?, verifier: part()? };
        parts.next().is_none().then_some(waiting)
    }
}

/// A sign-in that was begun.
pub struct Begun {
    /// Where the browser goes.
    pub address: String,
    /// What it brings back.
    pub waiting: Waiting,
}

/// What a browser brings back from the provider.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct Returned {
    /// What an identity is asked for with.
    pub code: Option<String>,
    /// Which sign-in it is.
    pub state: Option<String>,
    /// Who sent it (RFC 9207).
    pub iss: Option<String>,
    /// Why there is no code.
    pub error: Option<String>,
    /// The same in words.
    pub error_description: Option<String>,
}

/// A provider.
pub struct Provider {
    options: Options,
    client: Client,
    clock: Arc<dyn Clock>,
    known: Mutex<Option<Arc<Known>>>,
}

/// What the provider says of itself.
struct Known {
    asked_ms: u64,
    published: Published,
    keys: Vec<Key>,
}

#[derive(Deserialize, Clone)]
struct Published {
    issuer: String,
    authorization_endpoint: String,
    token_endpoint: String,
    jwks_uri: String,
    userinfo_endpoint: Option<String>,
    code_challenge_methods_supported: Option<Vec<String>>,
    token_endpoint_auth_methods_supported: Option<Vec<String>>,
    #[serde(default)]
    authorization_response_iss_parameter_supported: bool,
}

#[derive(Deserialize)]
struct Tokens {
    id_token: Option<String>,
    access_token: Option<String>,
}

/// What the provider says of a person (Core 1.0, section 5.3.2).
#[derive(Deserialize)]
struct Told {
    sub: String,
    #[serde(flatten)]
    address: Address,
}

#[derive(Deserialize)]
struct Denied {
    error: String,
    error_description: Option<String>,
}

impl Provider {
    /// A provider; nothing is asked of it yet.
    ///
    /// # Errors
    /// If an address is none, or neither encrypted nor on this machine.
    pub fn new(options: Options, clock: Arc<dyn Clock>) -> Result<Self> {
        for (field, value) in [("the issuer", &options.issuer), ("the address to come back to", &options.redirect)] {
            if !is_private(value) {
                let allowed = "https://…, or http:// on a loopback address";
                return Err(Error::Wrong { field, value: value.clone(), allowed });
            }
        }
        if options.client.is_empty() {
            let (field, value, allowed) = ("the client", String::new(), "the name that the provider knows us by");
            return Err(Error::Wrong { field, value, allowed });
        }
        // A redirected answer would come from somebody else than was asked.
        let client = Client::builder().redirect(reqwest::redirect::Policy::none()).connect_timeout(CONNECT);
        let url = options.issuer.clone();
        let client = client.timeout(ANSWER).build().map_err(|source| Error::Reach { url, source })?;
        Ok(Self { options, client, clock, known: Mutex::new(None) })
    }

    /// Begins a sign-in.
    ///
    /// # Errors
    /// If what the provider says of itself cannot be had.
    pub async fn begin(&self, entropy: &dyn Entropy) -> Result<Begun> {
        let known = self.known().await?;
        let waiting = Waiting::new(entropy);
        let at = &known.published.authorization_endpoint;
        let mut address = Url::parse(at).map_err(|why| answer(at, format!("it is no address: {why}")))?;
        let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(waiting.verifier.as_bytes()));
        address
            .query_pairs_mut()
            .append_pair("response_type", "code")
            .append_pair("client_id", &self.options.client)
            .append_pair("redirect_uri", &self.options.redirect)
            .append_pair("scope", "openid email")
            .append_pair("state", &waiting.state)
            .append_pair("nonce", &waiting.nonce)
            .append_pair("code_challenge", &challenge)
            .append_pair("code_challenge_method", "S256");
        Ok(Begun { address: address.into(), waiting })
    }

    /// Ends the sign-in that is waiting with what the browser brought back.
    ///
    /// # Errors
    /// Whatever of it is not as it must be; nobody has signed in then.
    pub async fn finish(&self, waiting: &Waiting, returned: &Returned) -> Result<Identity> {
        let state = returned.state.as_deref().unwrap_or_default();
        if !bool::from(state.as_bytes().ct_eq(waiting.state.as_bytes())) {
            return Err(Error::Foreign);
        }
        let known = self.known().await?;
        let is_named = known.published.authorization_response_iss_parameter_supported;
        match &returned.iss {
            Some(issuer) if *issuer != self.options.issuer => return Err(Error::Foreign),
            None if is_named => return Err(Error::Foreign),
            _ => {}
        }
        if let Some(error) = &returned.error {
            return Err(refused(error, returned.error_description.as_deref()));
        }
        let code = returned.code.as_deref().unwrap_or_default();
        if code.is_empty() || code.len() > RETURNED_BYTES_MAX {
            let why = format!("it sent a code of {} bytes, 1 to {RETURNED_BYTES_MAX} allowed", code.len());
            return Err(Error::Refused { why });
        }
        let (text, access) = self.exchange(&known.published, code, &waiting.verifier).await?;
        let token = Token::parse(&text)?;
        let known = match token.is_known(&known.keys) {
            true => known,
            false => self.known_anew().await?,
        };
        let expected = Expected {
            issuer: &self.options.issuer,
            client: &self.options.client,
            nonce: &waiting.nonce,
            now_s: (self.clock.now_ms() / 1000) as i64,
        };
        let Named { subject, address } = token.verify(&known.keys, &expected)?;
        match (&known.published.userinfo_endpoint, access) {
            (Some(endpoint), Some(access)) if !address.is_told() => self.told(endpoint, &access, subject).await,
            _ => address.identity(subject),
        }
    }

    /// Whoever signed in, where the token does not tell their address.
    async fn told(&self, endpoint: &str, access: &str, subject: String) -> Result<Identity> {
        let request = self.client.get(endpoint).header(AUTHORIZATION, format!("Bearer {access}"));
        let told: Told = self.ask(endpoint, request).await?;
        // Or somebody's token could be used to ask for somebody else's address.
        if told.sub != subject {
            return Err(answer(endpoint, format!("it is about {:?}, not about {subject:?}", told.sub)));
        }
        told.address.identity(subject)
    }

    /// The identity token for a code, and what the provider tells more for.
    async fn exchange(&self, published: &Published, code: &str, verifier: &str) -> Result<(String, Option<String>)> {
        let Options { client, secret, redirect, .. } = &self.options;
        let mut fields = vec![
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", redirect),
            ("code_verifier", verifier),
        ];
        let methods = published.token_endpoint_auth_methods_supported.as_deref();
        // What is not said is `client_secret_basic` (Discovery 1.0, section 3).
        let is_basic = methods.is_none_or(|methods| methods.iter().any(|method| method == "client_secret_basic"));
        let mut request = self.client.post(&published.token_endpoint);
        match secret {
            Some(secret) if is_basic => {
                let pair = format!("{}:{}", encoded(client), encoded(secret));
                request = request.header(AUTHORIZATION, format!("Basic {}", STANDARD.encode(pair)));
            }
            Some(secret) => fields.extend([("client_id", client.as_str()), ("client_secret", secret)]),
            None => fields.push(("client_id", client)),
        }
        let request = request.header(CONTENT_TYPE, "application/x-www-form-urlencoded").body(form(&fields));
        let tokens: Tokens = self.ask(&published.token_endpoint, request).await?;
        let token = tokens.id_token.ok_or_else(|| answer(&published.token_endpoint, "it holds no id_token".into()))?;
        match token.len() {
            0..=TOKEN_BYTES_MAX => Ok((token, tokens.access_token.filter(|access| is_header(access)))),
            bytes => Err(Error::token(format!("it has {bytes} bytes, {TOKEN_BYTES_MAX} allowed"))),
        }
    }

    /// What the provider says of itself, not older than an hour.
    async fn known(&self) -> Result<Arc<Known>> {
        self.asked_within(KNOWN_MS).await
    }

    /// The same, not older than half a minute.
    async fn known_anew(&self) -> Result<Arc<Known>> {
        self.asked_within(KEYS_AGAIN_MS).await
    }

    async fn asked_within(&self, age_ms: u64) -> Result<Arc<Known>> {
        // Held while the provider is asked: whoever comes meanwhile waits for the same answer.
        let mut known = self.known.lock().await;
        let now_ms = self.clock.now_ms();
        if let Some(known) = known.as_ref().filter(|known| now_ms.saturating_sub(known.asked_ms) < age_ms) {
            return Ok(Arc::clone(known));
        }
        let url = format!("{}/.well-known/openid-configuration", self.options.issuer.trim_end_matches('/'));
        let published: Published = self.ask(&url, self.client.get(&url)).await?;
        self.check(&url, &published)?;
        let keys: KeySet = self.ask(&published.jwks_uri, self.client.get(&published.jwks_uri)).await?;
        let asked = Arc::new(Known { asked_ms: now_ms, published, keys: keys.usable() });
        *known = Some(Arc::clone(&asked));
        Ok(asked)
    }

    fn check(&self, url: &str, published: &Published) -> Result<()> {
        let issuer = &self.options.issuer;
        if published.issuer != *issuer {
            return Err(answer(url, format!("it is of {:?}, not of {issuer:?}", published.issuer)));
        }
        let always = [&published.authorization_endpoint, &published.token_endpoint, &published.jwks_uri];
        for address in always.into_iter().chain(&published.userinfo_endpoint) {
            if !is_private(address) {
                return Err(answer(url, format!("{address:?} is not encrypted")));
            }
        }
        let methods = published.code_challenge_methods_supported.as_deref();
        match methods.is_none_or(|methods| methods.iter().any(|method| method == "S256")) {
            true => Ok(()),
            false => Err(answer(url, "the provider does not know PKCE by S256".to_owned())),
        }
    }

    async fn ask<T: DeserializeOwned>(&self, url: &str, request: RequestBuilder) -> Result<T> {
        let reach = |source| Error::Reach { url: url.to_owned(), source };
        let mut response = request.header(ACCEPT, "application/json").send().await.map_err(reach)?;
        let status = response.status();
        let mut body = Vec::new();
        while let Some(piece) = response.chunk().await.map_err(reach)? {
            if body.len() + piece.len() > ANSWER_BYTES_MAX {
                return Err(answer(url, format!("it is longer than {ANSWER_BYTES_MAX} bytes")));
            }
            body.extend_from_slice(&piece);
        }
        if status.is_success() {
            return serde_json::from_slice(&body).map_err(|error| answer(url, error.to_string()));
        }
        match serde_json::from_slice(&body) {
            Ok(Denied { error, error_description }) if status.is_client_error() => {
                Err(refused(&error, error_description.as_deref()))
            }
            _ => Err(answer(url, format!("it has the status {}", status.as_u16()))),
        }
    }
}

/// Whether a token can stand in a header (RFC 6750, section 2.1).
fn is_header(access: &str) -> bool {
    let is_fit = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte);
    (1..=TOKEN_BYTES_MAX).contains(&access.len()) && access.bytes().all(is_fit)
}

fn answer(url: &str, why: String) -> Error {
    Error::Answer { url: url.to_owned(), why }
}

/// What a provider says of itself is shown to people: not too much of it, and no control characters.
fn refused(error: &str, description: Option<&str>) -> Error {
    let said = description.map_or_else(|| error.to_owned(), |description| format!("{error}: {description}"));
    Error::Refused { why: said.chars().filter(|character| !character.is_control()).take(300).collect() }
}

/// Whether nobody reads along: encrypted, or on this machine.
fn is_private(address: &str) -> bool {
    let Ok(url) = Url::parse(address) else { return false };
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    let is_loopback = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    match url.scheme() {
        "https" => !host.is_empty(),
        "http" => is_loopback,
        _ => false,
    }
}

fn form(fields: &[(&str, &str)]) -> String {
    let mut url = Url::parse("http://form/").expect("it is an address");
    url.query_pairs_mut().extend_pairs(fields);
    url.query().unwrap_or_default().to_owned()
}

fn encoded(text: &str) -> String {
    form(&[("", text)]).trim_start_matches('=').to_owned()
}

#[cfg(test)]
mod tests {
    use base::SeededEntropy;

    use super::{Waiting, encoded, form, is_private};

    #[test]
    fn what_waits_is_read_back_and_nothing_else_is() {
        let waiting = Waiting::new(&SeededEntropy::new(1));
        assert!(Waiting::parse(&waiting.text()) == Some(waiting.clone()));
        let [state, nonce, verifier] = [&waiting.state, &waiting.nonce, &waiting.verifier];
        assert!(state != nonce && nonce != verifier && verifier.len() == 43);
        let text = waiting.text();
        for wrong in ["", "..", "a.b.c", &text[1..], &format!("{text}."), &format!("{text}.{state}")] {
            assert!(Waiting::parse(wrong).is_none(), "{wrong:?}");
        }
    }

    #[test]
    fn nobody_reads_along() {
        for good in ["https://id.example", "http://127.0.0.1:8/x", "http://[::1]:8", "http://localhost/"] {
            assert!(is_private(good), "{good}");
        }
        for bad in ["http://id.example", "", "id.example", "ftp://localhost/", "http://127.0.0.1.example", "https://"] {
            assert!(!is_private(bad), "{bad}");
        }
    }

    #[test]
    fn forms_are_encoded() {
        assert_eq!(form(&[("a", "b c&d"), ("e", "\u{f6}=")]), "a=b+c%26d&e=%C3%B6%3D");
        assert_eq!(encoded("=a b:"), "%3Da+b%3A");
    }
}
