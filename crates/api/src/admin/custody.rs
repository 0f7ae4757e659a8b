//! `/admin/v1/key-pairs`, `/secrets` and `/residency`: what whoever runs the place keeps beside its accounts.
//!
//! | route | |
//! |---|---|
//! | `GET`, `POST /admin/v1/key-pairs` | list; make one for vector buckets, whose secret is shown this once |
//! | `DELETE /admin/v1/key-pairs/{access_key}` | revoke it at once |
//! | `GET`, `POST /admin/v1/secrets` | the names of secrets of pools; keep one, which nothing shows again |
//! | `DELETE /admin/v1/secrets/{name}` | forget it |
//! | `GET /admin/v1/residency` | every setting of where data may be kept and computed on |
//! | `POST /admin/v1/residency/set` | set both of something; servers that run take it up within seconds |

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, HeaderValue};
use axum::response::Response;
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use base::Kind;
use meta::{Database, FIRST, NewPair, Pair, Residence, Residences, Resident, Scopes, Vault};
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::{Asked, made};
use crate::App;
use crate::auth::principal;
use crate::error::status;
use crate::refusal::{Answer, Refusal};

/// What is kept for the place: sealed secrets, and settings of residency.
pub struct Custody {
    /// Key pairs and secrets.
    pub vault: Vault,
    /// Where the settings stand.
    pub database: Database,
}

/// A pair that is wanted.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct MakePair {
    /// Its name among people.
    name: String,
    /// The project that it acts for, by id or name; the first one where none is named.
    project: Option<String>,
    /// Good for these buckets only; a trailing `*` stands for any ending.
    #[serde(default)]
    buckets: Vec<String>,
    /// Good for these APIs only: `s3vectors`, `ossvectors`.
    #[serde(default)]
    dialects: Vec<String>,
    /// When it ends by itself, in milliseconds since 1970.
    expires_ms: Option<u64>,
}

/// A secret that is to be kept.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct KeepSecret {
    /// A policy calls it `sealed:NAME`.
    name: String,
    /// What nothing shows again.
    secret: String,
}

/// Both settings of one thing; what is absent allows everything, an empty list is nowhere.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SetResidence {
    /// `organisation`, `project`, `key`, `bucket` or `model`.
    level: String,
    /// Its id or name.
    name: String,
    /// Where data may be kept: regions and jurisdictions.
    data_region: Option<Vec<String>>,
    /// Where it may be computed on.
    compute_scope: Option<Vec<String>>,
}

pub(super) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/admin/v1/key-pairs", get(pairs).post(make_pair))
        .route("/admin/v1/key-pairs/{access_key}", delete(revoke_pair))
        .route("/admin/v1/secrets", get(secrets).post(keep_secret))
        .route("/admin/v1/secrets/{name}", delete(forget_secret))
        .route("/admin/v1/residency", get(residency))
        .route("/admin/v1/residency/set", post(set_residency))
}

fn custody(app: &App) -> Result<&Custody, Refusal> {
    let none = || Refusal(status(Kind::NotFound), "this server keeps no secrets and settings".to_owned());
    app.custody.as_ref().ok_or_else(none)
}

/// Who does something, for the log of changes.
fn actor() -> String {
    principal().map_or_else(|| "local".to_owned(), |principal| principal.key.to_string())
}

async fn pairs(app: State<Arc<App>>) -> Answer {
    let now_ms = app.clock.now_ms();
    let found = custody(&app)?.vault.pairs().await?;
    Ok(Json(json!({"data": found.iter().map(|pair| shown_pair(pair, now_ms)).collect::<Vec<_>>()})))
}

fn shown_pair(pair: &Pair, now_ms: u64) -> Value {
    let state = match (pair.revoked_ms, pair.expires_ms) {
        (Some(_), _) => "revoked",
        (None, Some(expires_ms)) if expires_ms <= now_ms => "expired",
        _ => "good",
    };
    json!({
        "access_key": pair.access_key, "project": pair.project, "name": pair.name, "scopes": pair.scopes,
        "created_ms": pair.created_ms, "expires_ms": pair.expires_ms, "state": state,
    })
}

async fn make_pair(app: State<Arc<App>>, body: Asked<MakePair>) -> Answer<Response> {
    let Json(MakePair { name, project, buckets, dialects, expires_ms }) = body?;
    if let Some(other) = dialects.iter().find(|dialect| !["s3vectors", "ossvectors"].contains(&dialect.as_str())) {
        let why = format!("dialects holds {other:?}, allowed: s3vectors, ossvectors");
        return Err(Refusal(StatusCode::BAD_REQUEST, why));
    }
    let scopes = Scopes { buckets, dialects, ..Scopes::default() };
    let new = NewPair { project: project.unwrap_or_else(|| FIRST.to_owned()), name, scopes, expires_ms };
    let shown = custody(&app)?.vault.new_pair(&actor(), new).await?;
    let mut answer = made(json!({"access_key": shown.access_key, "secret": shown.secret}));
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(answer)
}

async fn revoke_pair(app: State<Arc<App>>, Path(access_key): Path<String>) -> Answer<StatusCode> {
    custody(&app)?.vault.revoke_pair(&actor(), &access_key).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn secrets(app: State<Arc<App>>) -> Answer {
    let names = custody(&app)?.vault.secret_names().await?;
    let shown = names.iter().map(|(name, created_ms)| json!({"name": name, "created_ms": created_ms}));
    Ok(Json(json!({"data": shown.collect::<Vec<_>>()})))
}

async fn keep_secret(app: State<Arc<App>>, body: Asked<KeepSecret>) -> Answer<Response> {
    let Json(KeepSecret { name, secret }) = body?;
    custody(&app)?.vault.keep(&actor(), &name, &secret).await?;
    Ok(made(json!({"name": name})))
}

async fn forget_secret(app: State<Arc<App>>, Path(name): Path<String>) -> Answer<StatusCode> {
    custody(&app)?.vault.forget(&actor(), &name).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn residency(app: State<Arc<App>>) -> Answer {
    let found = Residences::read(&custody(&app)?.database).await?;
    let shown = |one: &Residence| {
        json!({
            "level": one.level.name(), "id": one.id, "name": one.name, "data_region": one.data_region,
            "compute_scope": one.compute_scope,
        })
    };
    Ok(Json(json!({"data": found.all.iter().map(shown).collect::<Vec<_>>()})))
}

async fn set_residency(app: State<Arc<App>>, body: Asked<SetResidence>) -> Answer<StatusCode> {
    let Json(SetResidence { level, name, data_region, compute_scope }) = body?;
    let (level, database) = (Resident::parse(&level)?, &custody(&app)?.database);
    Residences::set(database, level, &name, data_region.as_deref(), compute_scope.as_deref()).await?;
    Ok(StatusCode::NO_CONTENT)
}
