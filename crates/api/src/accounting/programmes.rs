//! Programmes, applications, grants.

use std::sync::Arc;

use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::routing::{get, post};
use axum::{Json, Router};
use base::Kind;
use ledger::money::parse_dollars;
use ledger::programme::{Application, Decision};
use serde_json::json;

use super::types::{ApplyBody, DefineBody, GrantBody, ReasonBody, ReleaseBody};
use super::{actor, books, confined};
use crate::App;
use crate::auth::principal;
use crate::error::status;
use crate::refusal::{Answer, Refusal};

pub(super) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/admin/v1/programmes", get(list))
        .route("/admin/v1/programmes/define", post(define))
        .route("/admin/v1/programmes/apply", post(apply))
        .route("/admin/v1/programmes/applications", get(applications))
        .route("/admin/v1/programmes/applications/{id}/grant", post(grant))
        .route("/admin/v1/programmes/applications/{id}/reject", post(reject))
        .route("/admin/v1/programmes/grants", get(grants))
        .route("/admin/v1/programmes/grants/{id}", get(standing))
        .route("/admin/v1/programmes/grants/{id}/release", post(release))
        .route("/admin/v1/programmes/grants/{id}/claw-back", post(claw_back))
}

async fn list(app: State<Arc<App>>) -> Answer {
    Ok(Json(json!({"data": books(&app)?.programmes.list().await?})))
}

async fn define(app: State<Arc<App>>, body: Result<Json<DefineBody>, JsonRejection>) -> Answer {
    let Json(body) = body?;
    Ok(Json(json!(books(&app)?.programmes.define(&actor(), &body.definition).await?)))
}

async fn apply(app: State<Arc<App>>, body: Result<Json<ApplyBody>, JsonRejection>) -> Answer {
    let Json(body) = body?;
    let own = principal().map(|principal| principal.project.to_string());
    let nobody = || Refusal(status(Kind::Invalid), "project is missing".to_owned());
    let application = Application {
        programme: body.programme,
        project: own.or(body.project).ok_or_else(nobody)?,
        company: body.company,
        tokens: body.tokens,
        micro: parse_dollars("dollars", &body.dollars)?,
        note: body.note,
    };
    let id = books(&app)?.programmes.file(&actor(), application).await?;
    Ok(Json(json!({"id": id})))
}

async fn applications(app: State<Arc<App>>) -> Answer {
    let own = confined();
    let mut found = books(&app)?.programmes.applications().await?;
    found.retain(|filed| own.as_ref().is_none_or(|own| filed.project == *own));
    Ok(Json(json!({"data": found})))
}

async fn grant(app: State<Arc<App>>, Path(id): Path<String>, body: Result<Json<GrantBody>, JsonRejection>) -> Answer {
    let Json(body) = body?;
    let micro = parse_dollars("dollars", &body.dollars)?;
    let decision = Decision { tokens: body.tokens, micro, reason: body.reason };
    let grant = books(&app)?.programmes.grant(&actor(), &id, decision).await?;
    Ok(Json(json!({"grant": grant})))
}

async fn reject(app: State<Arc<App>>, Path(id): Path<String>, body: Result<Json<ReasonBody>, JsonRejection>) -> Answer {
    let Json(body) = body?;
    books(&app)?.programmes.reject(&actor(), &id, &body.reason).await?;
    Ok(Json(json!({"id": id, "state": "rejected"})))
}

async fn grants(app: State<Arc<App>>) -> Answer {
    let own = confined();
    let mut found = books(&app)?.programmes.grants().await?;
    found.retain(|grant| own.as_ref().is_none_or(|own| grant.project == *own));
    Ok(Json(json!({"data": found})))
}

async fn standing(app: State<Arc<App>>, Path(id): Path<String>) -> Answer {
    let standing = books(&app)?.programmes.standing(&id).await?;
    if confined().is_some_and(|own| own != standing.project) {
        return Err(Refusal(status(Kind::NotFound), format!("grant {id:?} does not exist")));
    }
    Ok(Json(json!(standing)))
}

async fn release(
    app: State<Arc<App>>,
    Path(id): Path<String>,
    body: Result<Json<ReleaseBody>, JsonRejection>,
) -> Answer {
    let Json(body) = body?;
    let programmes = &books(&app)?.programmes;
    programmes.release(&actor(), &id, body.tranche, &body.evidence).await?;
    Ok(Json(json!(programmes.standing(&id).await?)))
}

async fn claw_back(
    app: State<Arc<App>>,
    Path(id): Path<String>,
    body: Result<Json<ReasonBody>, JsonRejection>,
) -> Answer {
    let Json(body) = body?;
    let programmes = &books(&app)?.programmes;
    programmes.claw_back(&actor(), &id, &body.reason).await?;
    Ok(Json(json!(programmes.standing(&id).await?)))
}
