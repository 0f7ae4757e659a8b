//! Who asks, and whether they may: one gate before every route.
//!
//! A key comes as `Authorization: Bearer KEY` (OpenAI, Ollama, DashScope), as a bare `Authorization: KEY` (DashScope's
//! older form) or as `x-api-key: KEY` (Anthropic). It is looked up on every request. Pages of the console, which hold
//! no key, come with a session's cookie instead (`session`). Each method of a route has a rule in `rules`; what has
//! none is refused. Refusals are worded in the dialect that was spoken.
//!
//! Whatever a handler asks of a model is asked on behalf of whoever came through the gate: [`OnBehalf`] stands around
//! the models and puts the caller on every request, so that no handler can forget it.

pub(crate) mod elsewhere;
mod on_behalf;
mod rules;
pub(crate) mod session;
#[cfg(test)]
mod table;

use std::sync::Arc;

use axum::Json;
use axum::extract::{MatchedPath, Request, State};
use axum::http::header::{ALLOW, AUTHORIZATION};
use axum::http::{HeaderMap, HeaderValue, Method};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use base::Kind;
use meta::{Directory, Permission, Principal};
use serde_json::json;

use crate::error::{chain, status};
use crate::{App, anthropic, cohere, dashscope, ollama, openai};

pub(crate) use on_behalf::OnBehalf;
use rules::{Found, Rule};

#[cfg(test)]
pub(crate) use rules::tests::routes;

tokio::task_local! {
    /// Whoever came through the gate with the request that this task answers.
    static PRINCIPAL: Arc<Principal>;
}

/// Whoever this task works for, where there are accounts.
pub(crate) fn principal() -> Option<Arc<Principal>> {
    PRINCIPAL.try_with(Arc::clone).ok()
}

/// The same work, for whoever this task works for, wherever it is run: a spawned task does not know its parent.
pub(crate) fn carried<T>(work: impl Future<Output = T>) -> impl Future<Output = T> {
    working_for(principal(), work)
}

/// The same work, for this one.
pub(crate) async fn working_for<T>(principal: Option<Arc<Principal>>, work: impl Future<Output = T>) -> T {
    match principal {
        Some(principal) => PRINCIPAL.scope(principal, work).await,
        None => work.await,
    }
}

/// The gate. Without accounts it stands open.
pub(crate) async fn gate(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response {
    let Some(directory) = &app.directory else { return next.run(request).await };
    let Some(path) = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned()) else {
        // Nothing is there, which everybody may know.
        return next.run(request).await;
    };
    let dialect = Dialect::of(request.uri().path(), request.headers());
    let dialect = if is_signed(&path, request.method()) { Dialect::S3Vectors } else { dialect };
    let rule = match rules::of(request.method(), &path) {
        Found::Rule(Rule::Public) => return next.run(request).await,
        // A page of the console does not sign; its session says who it is.
        Found::Rule(Rule::Signed) if session::is_page(request.headers()) => Rule::Use,
        Found::Rule(Rule::Signed) => return next.run(request).await,
        Found::Rule(rule) => rule,
        Found::OtherMethods(methods) => {
            let mut refusal = crate::app::wrong_method(&app, request.method(), request.uri(), request.headers());
            let methods = HeaderValue::from_str(&methods.join(",")).expect("methods are plain");
            refusal.headers_mut().insert(ALLOW, methods);
            return refusal;
        }
        Found::Nothing => {
            tracing::error!(path, "a route has no rule");
            return dialect.refusal(&app, Kind::Forbidden, "nobody may do this".to_owned());
        }
    };
    match let_in(directory, request.method(), request.headers(), dialect, rule).await {
        Ok(principal) => {
            let principal = Arc::new(principal);
            request.extensions_mut().insert(on_behalf::caller(&principal));
            request.extensions_mut().insert(Arc::clone(&principal));
            PRINCIPAL.scope(principal, next.run(request)).await
        }
        Err((kind, message)) => dialect.refusal(&app, kind, message),
    }
}

async fn let_in(
    directory: &Directory,
    method: &Method,
    headers: &HeaderMap,
    dialect: Dialect,
    rule: Rule,
) -> Result<Principal, (Kind, String)> {
    let found = match session::of(headers).filter(|_| session::is_page(headers)) {
        Some(session) => {
            session::check_page(session, method, headers).map_err(|why| (Kind::Forbidden, why))?;
            directory.authenticate_session(session).await
        }
        None => {
            let key = key_of(headers).map_err(|message| (Kind::Unauthenticated, message.to_owned()))?;
            directory.authenticate(key).await
        }
    };
    let principal = found.map_err(|error| match error.kind() {
        Kind::Unauthenticated => (Kind::Unauthenticated, error.to_string()),
        _ => {
            tracing::error!(error = chain(&error), "a key could not be looked up");
            (Kind::Unavailable, "keys cannot be looked up at the moment".to_owned())
        }
    })?;
    let (key, role) = (&principal.key, principal.role.name());
    if !may(&principal, rule) {
        let place = match rule {
            Rule::Operate | Rule::Money if !principal.runs_place => " of an organisation that does not run this server",
            _ => "",
        };
        return Err((Kind::Forbidden, format!("the key {key} has the role {role}{place}, which may not do this")));
    }
    if dialect == Dialect::S3Vectors && !principal.scopes.buckets.is_empty() {
        return Err((Kind::Forbidden, format!("the key {key} is good for some buckets only: sign with a key pair")));
    }
    if !principal.scopes.allows_dialect(dialect.name()) {
        let name = dialect.name();
        return Err((Kind::Forbidden, format!("the key {key} is not good for the API {name}")));
    }
    Ok(principal)
}

fn is_signed(path: &str, method: &Method) -> bool {
    rules::of(method, path) == Found::Rule(Rule::Signed)
}

fn may(principal: &Principal, rule: Rule) -> bool {
    let (role, runs_place) = (principal.role, principal.runs_place);
    match rule {
        Rule::Public | Rule::Signed => true,
        Rule::Use => role.may(Permission::Use),
        Rule::Look => role.may(Permission::Look),
        Rule::Manage => role.may(Permission::Manage),
        Rule::Operate => runs_place && role.may(Permission::Manage),
        Rule::Money => runs_place && role.may(Permission::Money),
    }
}

/// The one key of a request.
fn key_of(headers: &HeaderMap) -> Result<&str, &'static str> {
    const NONE: &str = "no API key came with the request: send it as `Authorization: Bearer KEY` or `x-api-key: KEY`";
    let mut found: Option<&str> = None;
    for (name, value) in headers
        .get_all(AUTHORIZATION)
        .iter()
        .map(|value| ("authorization", value))
        .chain(headers.get_all("x-api-key").iter().map(|value| ("x-api-key", value)))
    {
        let text = value.to_str().map_err(|_| "the API key is not text")?;
        let key = match text.split_once(' ') {
            Some((scheme, key)) if name == "authorization" => {
                if !scheme.eq_ignore_ascii_case("bearer") {
                    return Err("the header Authorization has another form than `Bearer KEY`");
                }
                key
            }
            _ => text,
        };
        if found.is_some_and(|found| found != key.trim()) {
            return Err("two different API keys came with the request");
        }
        found = Some(key.trim());
    }
    found.filter(|key| !key.is_empty()).ok_or(NONE)
}

/// Whose form a refusal takes, and what a key's scope calls it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    OpenAi,
    Anthropic,
    Ollama,
    Cohere,
    DashScope,
    /// Amazon's buckets, from a page of the console.
    S3Vectors,
    /// Our own routes.
    Admin,
}

impl Dialect {
    pub(crate) fn of(path: &str, headers: &HeaderMap) -> Self {
        let is_shared = ["/v1/models", "/v1/files"].iter().any(|shared| path.starts_with(shared));
        let speaks_anthropic = headers.contains_key(anthropic::VERSION_HEADER) && is_shared;
        if speaks_anthropic || path.starts_with("/v1/messages") || path.starts_with("/apps/anthropic/") {
            Self::Anthropic
        } else if path.starts_with("/api/v1/services/") {
            Self::DashScope
        } else if path.starts_with("/api/") {
            Self::Ollama
        } else if path.contains("/rerank") {
            Self::Cohere
        } else if path.starts_with("/admin/") || path.starts_with("/console/") {
            Self::Admin
        } else {
            Self::OpenAi
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::OpenAi => "openai",
            Self::Anthropic => "anthropic",
            Self::Ollama => "ollama",
            Self::Cohere => "cohere",
            Self::DashScope => "dashscope",
            Self::S3Vectors => "s3vectors",
            Self::Admin => "admin",
        }
    }

    pub(crate) fn refusal(self, app: &App, kind: Kind, message: String) -> Response {
        match self {
            Self::OpenAi => openai::Failure::not_let_in(kind, message).into_response_without_id(),
            Self::Anthropic => anthropic::Failure::not_let_in(kind, message).response(app.request_id()),
            Self::Ollama => ollama::Failure::not_let_in(kind, message).into_response(),
            Self::Cohere => cohere::Failure::not_let_in(kind, message).response(app.request_id()),
            Self::DashScope => dashscope::Failure::not_let_in(kind, message).response(app.request_id()),
            Self::S3Vectors | Self::Admin => {
                (status(kind), Json(json!({"error": {"message": message}}))).into_response()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderMap, HeaderName, HeaderValue};

    use super::{Dialect, key_of};

    fn headers(pairs: &[(&'static str, &'static [u8])]) -> HeaderMap {
        let one = |&(name, value)| (HeaderName::from_static(name), HeaderValue::from_bytes(value).unwrap());
        pairs.iter().map(one).collect()
    }

    #[test]
    fn a_key_comes_in_every_vendors_form() {
        for pairs in [
            [("authorization", b"Bearer k".as_slice())].as_slice(),
            &[("authorization", b"bearer  k ")],
            &[("authorization", b"k")],
            &[("x-api-key", b"k")],
            &[("x-api-key", b"k"), ("authorization", b"Bearer k")],
        ] {
            assert_eq!(key_of(&headers(pairs)), Ok("k"), "{pairs:?}");
        }
    }

    #[test]
    fn what_is_no_single_key_is_refused() {
        for pairs in [
            [].as_slice(),
            &[("authorization", b"Bearer ".as_slice())],
            &[("authorization", b"Basic k")],
            &[("x-api-key", b"one"), ("authorization", b"Bearer two")],
            &[("x-api-key", b"one"), ("x-api-key", b"two")],
            &[("x-api-key", b"\xff")],
        ] {
            assert!(key_of(&headers(pairs)).is_err(), "{pairs:?}");
        }
    }

    #[test]
    fn the_dialect_follows_the_path_and_the_version_header() {
        let none = HeaderMap::new();
        assert_eq!(Dialect::of("/v1/chat/completions", &none), Dialect::OpenAi);
        assert_eq!(Dialect::of("/v1/messages/count_tokens", &none), Dialect::Anthropic);
        assert_eq!(Dialect::of("/v1/models", &headers(&[("anthropic-version", b"x")])), Dialect::Anthropic);
        assert_eq!(Dialect::of("/v1/files/x", &headers(&[("anthropic-version", b"x")])), Dialect::Anthropic);
        assert_eq!(Dialect::of("/v1/files/x", &none), Dialect::OpenAi);
        // A header does not turn one dialect into another: scopes would be worth nothing.
        let versioned = headers(&[("anthropic-version", b"x")]);
        assert_eq!(Dialect::of("/v1/chat/completions", &versioned), Dialect::OpenAi);
        assert_eq!(Dialect::of("/api/chat", &none), Dialect::Ollama);
        assert_eq!(Dialect::of("/api/v1/services/aigc/x", &none), Dialect::DashScope);
        assert_eq!(Dialect::of("/v2/rerank", &none), Dialect::Cohere);
        assert_eq!(Dialect::of("/admin/v1/models", &versioned), Dialect::Admin);
    }
}
