//! Signing in to the console at a provider of OpenID Connect.
//!
//! | route | |
//! |---|---|
//! | `GET /console/sign-in` | sends the browser to the provider |
//! | `GET /console/sign-in/back` | where the provider sends it back; begins a session of the member with that address |
//!
//! What the sign-in waits for lies in a cookie of ten minutes. It is `SameSite=Lax`: the way back begins at a page of
//! the provider. The session's own cookie stays `Strict`, which holds nobody up: the console's page needs no session,
//! and what it asks for then is asked by a page of ours.

use std::sync::Arc;

use axum::Router;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::header::{CONTENT_TYPE, SET_COOKIE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Redirect, Response};
use axum::routing::get;
use meta::Directory;
use oidc::{Begun, Provider, Returned, Waiting};

use super::session::{baked, begun, cookie, is_encrypted, uncached};
use crate::App;
use crate::error::{chain, status};

/// Where it begins.
pub(super) const PATH: &str = "/console/sign-in";
/// The cookie of a sign-in that waits.
const NAME: &str = "sampan_sign_in";
/// How long it waits.
const WAITING_S: u64 = 600;

pub(crate) fn routes() -> Router<Arc<App>> {
    Router::new().route(PATH, get(begin)).route("/console/sign-in/back", get(end))
}

/// Whoever knows the members, and whoever knows who they are.
fn parties(app: &App) -> Option<(&Directory, &Provider)> {
    app.directory.as_ref().zip(app.sign_in.as_deref())
}

fn not_offered() -> Response {
    page(StatusCode::NOT_FOUND, "this server knows no place to sign in but its own page")
}

async fn begin(State(app): State<Arc<App>>, headers: HeaderMap) -> Response {
    let Some((_, provider)) = parties(&app) else { return not_offered() };
    match provider.begin(app.entropy()).await {
        Ok(Begun { address, waiting }) => {
            let cookie = baked(NAME, &waiting.text(), PATH, "Lax", WAITING_S, is_encrypted(&app, &headers));
            uncached(([(SET_COOKIE, cookie)], Redirect::to(&address)).into_response())
        }
        Err(error) => failed(&error),
    }
}

async fn end(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    query: Result<Query<Returned>, QueryRejection>,
) -> Response {
    let Some((directory, provider)) = parties(&app) else { return not_offered() };
    let returned = match query {
        Ok(Query(returned)) => returned,
        Err(rejection) => return page(rejection.status(), &rejection.body_text()),
    };
    let found = match cookie(&headers, NAME).and_then(Waiting::parse) {
        Some(waiting) => provider.finish(&waiting, &returned).await,
        None => Err(oidc::Error::Foreign),
    };
    // Whatever came of it, it waits no more.
    let over = baked(NAME, "", PATH, "Lax", 0, is_encrypted(&app, &headers));
    let mut answer = match found {
        Ok(identity) => signed_in(&app, directory, &headers, &identity.email).await,
        Err(error) => failed(&error),
    };
    answer.headers_mut().append(SET_COOKIE, over);
    answer
}

async fn signed_in(app: &App, directory: &Directory, headers: &HeaderMap, email: &str) -> Response {
    match directory.sign_in_as(email).await {
        Ok((principal, session)) => {
            tracing::info!(member = &*principal.key, "signed in elsewhere");
            uncached(([(SET_COOKIE, begun(app, headers, &session))], Redirect::to("/")).into_response())
        }
        Err(meta::Error::Missing { .. }) => {
            let message = format!("nobody here has the address {email}: ask whoever runs this server to let you join");
            page(StatusCode::FORBIDDEN, &message)
        }
        Err(error) => {
            tracing::error!(error = chain(&error), "a session cannot be written");
            page(status(error.kind()), "sessions cannot be written at the moment")
        }
    }
}

fn failed(error: &oidc::Error) -> Response {
    tracing::warn!(error = chain(error), "nobody has signed in");
    page(status(error.kind()), &error.to_string())
}

/// A page with a sentence and the way back: a person has come here by the browser's own means.
fn page(status: StatusCode, message: &str) -> Response {
    // Between tags nothing else means something.
    let text = message.replace('&', "&amp;").replace('<', "&lt;");
    let page = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Sampan</title>\
         <style>body{{font:16px/1.5 system-ui,sans-serif;max-width:40em;margin:4em auto;padding:0 1em}}</style>\
         <h1>Nobody has signed in</h1><p>{text}</p><p><a href=\"/\">Sampan</a></p></html>\n"
    );
    let kind = (CONTENT_TYPE, "text/html; charset=utf-8");
    uncached((status, [kind], page).into_response())
}
