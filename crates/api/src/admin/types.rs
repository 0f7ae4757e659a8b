//! Bodies, queries and rows.

use meta::{KEY_PREFIX, Key, Member, NewKey, Organisation, Project, Scopes, ShownKey};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    pub(super) organisation: Option<String>,
    pub(super) project: Option<String>,
    pub(super) after: Option<String>,
    pub(super) limit: Option<u32>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct MakeOrganisation {
    pub(super) name: String,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct MakeProject {
    /// Absent: the caller's own.
    pub(super) organisation: Option<String>,
    pub(super) name: String,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct MakeMember {
    /// Absent: the caller's own.
    pub(super) organisation: Option<String>,
    pub(super) name: String,
    pub(super) email: Option<String>,
    pub(super) role: String,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ChangeMember {
    pub(super) role: String,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct MakeKey {
    /// Absent: the caller's own.
    pub(super) project: Option<String>,
    pub(super) name: String,
    #[serde(default = "developer")]
    pub(super) role: String,
    #[serde(default)]
    #[schema(value_type = ScopesRow, inline)]
    pub(super) scopes: Scopes,
    pub(super) data_region: Option<String>,
    pub(super) compute_scope: Option<String>,
    pub(super) expires_ms: Option<u64>,
}

fn developer() -> String {
    meta::Role::Developer.name().to_owned()
}

/// What a key is good for; an empty list stands for everything, a trailing `*` for any ending.
#[derive(Serialize, Deserialize, ToSchema)]
pub(super) struct ScopesRow {
    dialects: Vec<String>,
    models: Vec<String>,
    buckets: Vec<String>,
}

/// A page of a list.
#[derive(Serialize, ToSchema)]
pub(super) struct ListOf<T: ToSchema> {
    #[schema(inline)]
    pub(super) data: Vec<T>,
    pub(super) has_more: bool,
    /// `after` of the next page.
    pub(super) last_id: Option<String>,
}

#[derive(Serialize, ToSchema)]
pub(super) struct Problem {
    #[schema(inline)]
    error: Message,
}

#[derive(Serialize, ToSchema)]
struct Message {
    message: String,
}

#[derive(Serialize, ToSchema)]
pub(super) struct OrganisationRow {
    pub(super) id: String,
    name: String,
    /// Whether its owners and admins run this installation.
    runs_place: bool,
    created_ms: u64,
    closed_ms: Option<u64>,
}

#[derive(Serialize, ToSchema)]
pub(super) struct ProjectRow {
    pub(super) id: String,
    organisation: String,
    name: String,
    created_ms: u64,
    closed_ms: Option<u64>,
}

#[derive(Serialize, ToSchema)]
pub(super) struct MemberRow {
    pub(super) id: String,
    organisation: String,
    name: String,
    email: Option<String>,
    role: &'static str,
    created_ms: u64,
}

#[derive(Serialize, ToSchema)]
pub(super) struct KeyRow {
    pub(super) id: String,
    organisation: String,
    project: String,
    project_name: String,
    name: String,
    /// The beginning and the end of its text.
    hint: String,
    role: &'static str,
    #[schema(inline)]
    scopes: ScopesRow,
    data_region: Option<String>,
    compute_scope: Option<String>,
    created_ms: u64,
    expires_ms: Option<u64>,
    revoked_ms: Option<u64>,
    /// To the minute.
    used_ms: Option<u64>,
}

/// A key at the only moment when its text is known.
#[derive(Serialize, ToSchema)]
pub(super) struct MadeKey {
    id: String,
    /// The secret.
    key: String,
    project: String,
    name: String,
    role: &'static str,
    #[schema(inline)]
    scopes: ScopesRow,
    data_region: Option<String>,
    compute_scope: Option<String>,
    expires_ms: Option<u64>,
}

impl From<&Scopes> for ScopesRow {
    fn from(scopes: &Scopes) -> Self {
        let Scopes { dialects, models, buckets } = scopes.clone();
        Self { dialects, models, buckets }
    }
}

pub(super) fn organisation(organisation: &Organisation) -> OrganisationRow {
    let Organisation { id, name, runs_place, created_ms, closed_ms } = organisation.clone();
    OrganisationRow { id, name, runs_place, created_ms, closed_ms }
}

pub(super) fn project(project: &Project) -> ProjectRow {
    let Project { id, organisation, name, created_ms, closed_ms } = project.clone();
    ProjectRow { id, organisation, name, created_ms, closed_ms }
}

pub(super) fn member(member: &Member) -> MemberRow {
    let Member { id, organisation, name, email, role, created_ms, removed_ms: _ } = member.clone();
    MemberRow { id, organisation, name, email, role: role.name(), created_ms }
}

pub(super) fn key(key: &Key) -> KeyRow {
    let hint = format!("{KEY_PREFIX}…{}", key.hint);
    let scopes = (&key.scopes).into();
    let Key { id, organisation, project, project_name, name, role, data_region, compute_scope, .. } = key.clone();
    let Key { created_ms, expires_ms, revoked_ms, used_ms, .. } = *key;
    KeyRow {
        id,
        organisation,
        project,
        project_name,
        name,
        hint,
        role: role.name(),
        scopes,
        data_region,
        compute_scope,
        created_ms,
        expires_ms,
        revoked_ms,
        used_ms,
    }
}

/// The answer to whoever made a key.
pub(super) fn made_key(new: NewKey, made: ShownKey) -> MadeKey {
    let NewKey { project, name, role, scopes, data_region, compute_scope, expires_ms } = new;
    let (id, key, role, scopes) = (made.id, made.text, role.name(), (&scopes).into());
    MadeKey { id, key, project, name, role, scopes, data_region, compute_scope, expires_ms }
}
