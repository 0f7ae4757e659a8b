//! `/admin/v1/plan`: the network planner, as `sampan net plan` has it.
//!
//! | route | |
//! |---|---|
//! | `GET /admin/v1/plan/choices` | the models and GPUs that have names |
//! | `GET /admin/v1/plan?model=&on=&…` | a plan as a page with pictures, for a frame of the console |

use std::sync::Arc;

use axum::extract::Query;
use axum::extract::rejection::QueryRejection;
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Json, Router};
use base::Kind;
use netplan::model::{PRESETS, preset};
use netplan::picture::plan_page;
use netplan::plan::{Cluster, GPUS, ServeRequest, failures, serve};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::App;
use crate::error::status;

/// Plans that are computed at once; others wait.
const PLANNING_MAX: usize = 1;
/// GPUs of a cluster that is planned while somebody waits; `sampan net plan` takes more.
const GPUS_MAX: u32 = 4096;
/// The page has its style inside, and nothing else.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'self'; sandbox";

static PLACES: Semaphore = Semaphore::const_new(PLANNING_MAX);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PlanQuery {
    model: String,
    on: String,
    prompt: Option<f64>,
    answer: Option<f64>,
    token_ms: Option<f64>,
    fp8: Option<bool>,
}

pub(crate) fn routes() -> Router<Arc<App>> {
    Router::new().route("/admin/v1/plan/choices", get(choices)).route("/admin/v1/plan", get(plan))
}

async fn choices() -> Json<Value> {
    let models: Vec<Value> = PRESETS.iter().map(|(name, what)| json!({"name": name, "what": what})).collect();
    let gpus: Vec<Value> = GPUS
        .iter()
        .map(|gpu| json!({"name": gpu.name, "memory_bytes": gpu.memory_bytes, "usd_per_hour": gpu.usd_per_hour}))
        .collect();
    Json(json!({"models": models, "gpus": gpus, "gpus_max": GPUS_MAX}))
}

async fn plan(query: Result<Query<PlanQuery>, QueryRejection>) -> Response {
    let query = match query {
        Ok(Query(query)) => query,
        Err(rejection) => return refusal(Kind::Invalid, &rejection.body_text()),
    };
    let place = PLACES.acquire().await.expect("nobody closes it");
    let planned = tokio::task::spawn_blocking(move || {
        let _place = place;
        page(&query)
    });
    match planned.await {
        Ok(Ok(page)) => {
            let headers = [
                (CONTENT_TYPE, "text/html; charset=utf-8"),
                (CONTENT_SECURITY_POLICY, POLICY),
                (X_CONTENT_TYPE_OPTIONS, "nosniff"),
                (CACHE_CONTROL, "no-store"),
            ];
            (headers, page).into_response()
        }
        Ok(Err((kind, message))) => refusal(kind, &message),
        Err(error) => {
            tracing::error!(%error, "planning failed");
            refusal(Kind::Internal, "the plan could not be made")
        }
    }
}

fn page(query: &PlanQuery) -> Result<String, (Kind, String)> {
    let wrong = |error: netplan::Error| (error.kind(), crate::error::chain(&error));
    let model = preset(&query.model).map_err(wrong)?;
    let cluster = Cluster::named(&query.on).map_err(wrong)?;
    if cluster.gpus() > GPUS_MAX {
        let message =
            format!("{} GPUs, at most {GPUS_MAX} are planned here; `sampan net plan` takes more", cluster.gpus());
        return Err((Kind::Invalid, message));
    }
    let mut request = ServeRequest::default();
    let numbers = [
        ("prompt", query.prompt, &mut request.prompt_tokens, 1.0, 10e6),
        ("answer", query.answer, &mut request.answer_tokens, 1.0, 10e6),
    ];
    for (name, asked, number, least, most) in numbers {
        *number = within(name, asked, *number, least, most)?;
    }
    request.token_s_max = within("token_ms", query.token_ms, request.token_s_max * 1e3, 0.1, 60e3)? / 1e3;
    request.weight_bytes = if query.fp8 == Some(true) { 1.0 } else { 2.0 };
    let plan = serve(&model, &cluster, &request).map_err(wrong)?;
    let fabric = cluster.topology().map_err(wrong)?;
    let table = failures(&model, &cluster, &request, &plan, &fabric).map_err(wrong)?;
    plan_page(&model, &cluster, &request, &plan, &table, &fabric).map_err(wrong)
}

fn within(name: &str, asked: Option<f64>, usual: f64, least: f64, most: f64) -> Result<f64, (Kind, String)> {
    let number = asked.unwrap_or(usual);
    match (least..=most).contains(&number) {
        true => Ok(number),
        false => Err((Kind::Invalid, format!("{name} is {number}, {least} to {most} is expected"))),
    }
}

fn refusal(kind: Kind, message: &str) -> Response {
    (status(kind), Json(json!({"error": {"message": message}}))).into_response()
}
