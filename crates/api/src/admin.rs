//! `/admin/v1/organisations`, `/projects`, `/members` and `/keys`: who there is, and what each may do.
//!
//! | route | |
//! |---|---|
//! | `GET`, `POST /admin/v1/organisations` | list; make one |
//! | `DELETE /admin/v1/organisations/{id}` | close it |
//! | `GET`, `POST /admin/v1/projects` | list (`organisation`); make one |
//! | `DELETE /admin/v1/projects/{id}` | close it |
//! | `GET`, `POST /admin/v1/members` | list (`organisation`); let somebody join |
//! | `PATCH`, `DELETE /admin/v1/members/{id}` | give another role; remove |
//! | `GET`, `POST /admin/v1/keys` | list (`organisation`, `project`); make one, whose text is shown this once |
//! | `DELETE /admin/v1/keys/{id}` | revoke it at once |
//! | `GET /admin/v1/openapi.json` | all of `/admin/v1` for programs |
//!
//! Beside it [`custody`] has key pairs, secrets and settings of residency.
//!
//! Lists come in pages: `limit` (100, at most 1000) and `after`, the `last_id` of the page before. What the caller sees
//! and may change, the directory decides; what is foreign does not exist.

mod custody;
mod openapi;
mod types;

use std::sync::Arc;

use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::http::header::CACHE_CONTROL;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, patch};
use axum::{Json, Router};
use base::Kind;
use meta::{Actor, Directory, KeyFilter, Listed, NewKey, NewMember, Page, Role};
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use crate::App;
use crate::auth::principal;
use crate::error::status;
use crate::refusal::{Answer, Refusal};

pub use custody::Custody;
use types::{
    ChangeMember, KeyRow, ListOf, ListQuery, MakeKey, MakeMember, MakeOrganisation, MakeProject, MemberRow,
    OrganisationRow, ProjectRow,
};

/// Rows of a page, where nothing is said.
const PAGE_DEFAULT: u32 = 100;

pub(crate) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/admin/v1/openapi.json", get(openapi::show))
        .route("/admin/v1/organisations", get(organisations).post(make_organisation))
        .route("/admin/v1/organisations/{id}", delete(close_organisation))
        .route("/admin/v1/projects", get(projects).post(make_project))
        .route("/admin/v1/projects/{id}", delete(close_project))
        .route("/admin/v1/members", get(members).post(make_member))
        .route("/admin/v1/members/{id}", patch(change_member).delete(remove_member))
        .route("/admin/v1/keys", get(keys).post(make_key))
        .route("/admin/v1/keys/{id}", delete(revoke_key))
        .merge(custody::routes())
}

type Asked<T> = Result<Json<T>, JsonRejection>;
type Wanted = Result<Query<ListQuery>, QueryRejection>;

/// The directory, and who asks it.
fn desk(app: &App) -> Result<(&Directory, Actor), Refusal> {
    let none =
        || Refusal(status(Kind::NotFound), "this server asks nobody for a key: start it without --open".to_owned());
    let directory = app.directory.as_ref().ok_or_else(none)?;
    // Where there are accounts nobody comes here but through the gate.
    let caller = principal().ok_or_else(|| Refusal(StatusCode::UNAUTHORIZED, "nobody asks".to_owned()))?;
    Ok((directory, Actor::bearer(caller)))
}

fn page(query: &ListQuery) -> Page {
    Page { after: query.after.clone(), limit: query.limit.unwrap_or(PAGE_DEFAULT) }
}

fn listed<T, R: ToSchema>(found: &Listed<T>, shown: impl Fn(&T) -> R, id: impl Fn(&T) -> &String) -> Json<ListOf<R>> {
    let data = found.items.iter().map(shown).collect();
    Json(ListOf { data, has_more: found.has_more, last_id: found.items.last().map(|last| id(last).clone()) })
}

async fn organisations(app: State<Arc<App>>, query: Wanted) -> Answer<Json<ListOf<OrganisationRow>>> {
    let Query(query) = query?;
    let (directory, actor) = desk(&app)?;
    Ok(listed(&directory.organisations(&actor, &page(&query)).await?, types::organisation, |row| &row.id))
}

async fn make_organisation(app: State<Arc<App>>, body: Asked<MakeOrganisation>) -> Answer<Response> {
    let Json(MakeOrganisation { name }) = body?;
    let (directory, actor) = desk(&app)?;
    let id = directory.new_organisation(&actor, &name).await?;
    Ok(made(json!({"id": id, "name": name})))
}

async fn close_organisation(app: State<Arc<App>>, Path(id): Path<String>) -> Answer<StatusCode> {
    let (directory, actor) = desk(&app)?;
    directory.close_organisation(&actor, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn projects(app: State<Arc<App>>, query: Wanted) -> Answer<Json<ListOf<ProjectRow>>> {
    let Query(query) = query?;
    let (directory, actor) = desk(&app)?;
    let found = directory.projects(&actor, query.organisation.as_deref(), &page(&query)).await?;
    Ok(listed(&found, types::project, |row| &row.id))
}

async fn make_project(app: State<Arc<App>>, body: Asked<MakeProject>) -> Answer<Response> {
    let Json(MakeProject { organisation, name }) = body?;
    let (directory, actor) = desk(&app)?;
    let organisation = organisation.unwrap_or_else(own_organisation);
    let id = directory.new_project(&actor, &organisation, &name).await?;
    Ok(made(json!({"id": id, "organisation": organisation, "name": name})))
}

async fn close_project(app: State<Arc<App>>, Path(id): Path<String>) -> Answer<StatusCode> {
    let (directory, actor) = desk(&app)?;
    directory.close_project(&actor, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn members(app: State<Arc<App>>, query: Wanted) -> Answer<Json<ListOf<MemberRow>>> {
    let Query(query) = query?;
    let (directory, actor) = desk(&app)?;
    let found = directory.members(&actor, query.organisation.as_deref(), &page(&query)).await?;
    Ok(listed(&found, types::member, |row| &row.id))
}

async fn make_member(app: State<Arc<App>>, body: Asked<MakeMember>) -> Answer<Response> {
    let Json(MakeMember { organisation, name, email, role }) = body?;
    let (directory, actor) = desk(&app)?;
    let (role, organisation) = (Role::parse(&role)?, organisation.unwrap_or_else(own_organisation));
    let shown = json!({"organisation": organisation, "name": name, "email": email, "role": role.name()});
    let id = directory.new_member(&actor, NewMember { organisation, name, email, role }).await?;
    Ok(made(with_id(&id, shown)))
}

async fn change_member(app: State<Arc<App>>, Path(id): Path<String>, body: Asked<ChangeMember>) -> Answer {
    let Json(ChangeMember { role }) = body?;
    let (directory, actor) = desk(&app)?;
    directory.change_member(&actor, &id, Role::parse(&role)?).await?;
    Ok(Json(json!({"id": id, "role": role})))
}

async fn remove_member(app: State<Arc<App>>, Path(id): Path<String>) -> Answer<StatusCode> {
    let (directory, actor) = desk(&app)?;
    directory.remove_member(&actor, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn keys(app: State<Arc<App>>, query: Wanted) -> Answer<Json<ListOf<KeyRow>>> {
    let Query(query) = query?;
    let (directory, actor) = desk(&app)?;
    let filter = KeyFilter { organisation: query.organisation.clone(), project: query.project.clone() };
    Ok(listed(&directory.keys(&actor, &filter, &page(&query)).await?, types::key, |row| &row.id))
}

async fn make_key(app: State<Arc<App>>, body: Asked<MakeKey>) -> Answer<Response> {
    let Json(wanted) = body?;
    let (directory, actor) = desk(&app)?;
    let own_project = || principal().map(|caller| caller.project.to_string()).unwrap_or_default();
    let new = NewKey {
        project: wanted.project.unwrap_or_else(own_project),
        name: wanted.name,
        role: Role::parse(&wanted.role)?,
        scopes: wanted.scopes,
        data_region: wanted.data_region,
        compute_scope: wanted.compute_scope,
        expires_ms: wanted.expires_ms,
    };
    let key = directory.new_key(&actor, new.clone()).await?;
    let mut answer = made(types::made_key(new, key));
    answer.headers_mut().insert(CACHE_CONTROL, axum::http::HeaderValue::from_static("no-store"));
    Ok(answer)
}

async fn revoke_key(app: State<Arc<App>>, Path(id): Path<String>) -> Answer<StatusCode> {
    let (directory, actor) = desk(&app)?;
    directory.revoke_key(&actor, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn own_organisation() -> String {
    principal().map(|caller| caller.organisation.to_string()).unwrap_or_default()
}

fn with_id(id: &str, rest: Value) -> Value {
    let mut shown = json!({"id": id});
    if let (Value::Object(shown), Value::Object(rest)) = (&mut shown, rest) {
        shown.extend(rest);
    }
    shown
}

fn made(shown: impl Serialize) -> Response {
    (StatusCode::CREATED, Json(shown)).into_response()
}
