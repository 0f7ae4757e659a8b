//! Rows to types and back.

use sqlx::any::{AnyArguments, AnyRow};
use sqlx::query::Query;
use sqlx::{Any, Row as _};

use super::types::{Key, Listed, Member, Organisation, PAGE_MAX, Page, Project};
use crate::error::is_taken;
use crate::{Connection, Error, Result, Role, Scopes};

pub(super) const ORGANISATION: &str = "o.id, o.name, o.runs_place, o.created_ms, o.closed_ms";
pub(super) const PROJECT: &str = "p.id, p.organisation_id, p.name, p.created_ms, p.closed_ms";
pub(super) const MEMBER: &str = "m.id, m.organisation_id, m.name, m.email, m.role, m.created_ms, m.removed_ms";
pub(super) const KEY: &str = "k.id, k.project_id, p.name, p.organisation_id, k.name, k.hint, k.role, k.scopes, \
                              k.data_region, k.compute_scope, k.created_ms, k.expires_ms, k.revoked_ms, k.used_ms";

pub(super) fn role(row: &AnyRow, column: usize) -> Result<Role> {
    Role::parse(&row.try_get::<String, _>(column)?)
        .map_err(|error| Error::Row { what: "a key", why: error.to_string() })
}

pub(super) fn scopes(row: &AnyRow, column: usize) -> Result<Scopes> {
    serde_json::from_str(&row.try_get::<String, _>(column)?)
        .map_err(|error| Error::Row { what: "a key", why: error.to_string() })
}

pub(super) fn written(scopes: &Scopes) -> String {
    serde_json::to_string(scopes).expect("lists of strings become JSON")
}

pub(super) fn organisation(row: &AnyRow) -> Result<Organisation> {
    Ok(Organisation {
        id: row.try_get(0)?,
        name: row.try_get(1)?,
        runs_place: row.try_get::<i64, _>(2)? != 0,
        created_ms: row.try_get::<i64, _>(3)? as u64,
        closed_ms: time(row, 4)?,
    })
}

pub(super) fn project(row: &AnyRow) -> Result<Project> {
    Ok(Project {
        id: row.try_get(0)?,
        organisation: row.try_get(1)?,
        name: row.try_get(2)?,
        created_ms: row.try_get::<i64, _>(3)? as u64,
        closed_ms: time(row, 4)?,
    })
}

pub(super) fn member(row: &AnyRow) -> Result<Member> {
    Ok(Member {
        id: row.try_get(0)?,
        organisation: row.try_get(1)?,
        name: row.try_get(2)?,
        email: row.try_get(3)?,
        role: role(row, 4)?,
        created_ms: row.try_get::<i64, _>(5)? as u64,
        removed_ms: time(row, 6)?,
    })
}

pub(super) fn key(row: &AnyRow) -> Result<Key> {
    Ok(Key {
        id: row.try_get(0)?,
        project: row.try_get(1)?,
        project_name: row.try_get(2)?,
        organisation: row.try_get(3)?,
        name: row.try_get(4)?,
        hint: row.try_get(5)?,
        role: role(row, 6)?,
        scopes: scopes(row, 7)?,
        data_region: row.try_get(8)?,
        compute_scope: row.try_get(9)?,
        created_ms: row.try_get::<i64, _>(10)? as u64,
        expires_ms: time(row, 11)?,
        revoked_ms: time(row, 12)?,
        used_ms: time(row, 13)?,
    })
}

pub(super) fn time(row: &AnyRow, column: usize) -> Result<Option<u64>> {
    Ok(row.try_get::<Option<i64>, _>(column)?.map(|ms| ms as u64))
}

/// A page of a list, whose query has its row's id first.
///
/// `query` binds its own places from `$3` on: `$1` is the limit, `$2` the id behind which the page begins.
pub(super) async fn page<T>(
    connection: &mut Connection,
    page: &Page,
    query: Query<'_, Any, AnyArguments>,
    read: impl Fn(&AnyRow) -> Result<T>,
) -> Result<Listed<T>> {
    let mut rows = query.fetch_all(connection).await?;
    let has_more = rows.len() > page.limit as usize;
    rows.truncate(page.limit as usize);
    let items = rows.iter().map(read).collect::<Result<_>>()?;
    Ok(Listed { items, has_more })
}

/// Refuses a page that cannot be.
pub(super) fn check_page(page: &Page) -> Result<()> {
    if (1..=PAGE_MAX).contains(&page.limit) {
        return Ok(());
    }
    Err(Error::Wrong { field: "limit", value: page.limit.to_string(), allowed: format!("1 to {PAGE_MAX}") })
}

/// Runs an insertion; a row with the same key is an error of its own.
pub(super) async fn insert(
    connection: &mut Connection,
    query: Query<'_, Any, AnyArguments>,
    what: &'static str,
    name: &str,
) -> Result<()> {
    match query.execute(connection).await {
        Ok(_) => Ok(()),
        Err(error) if is_taken(&error) => Err(Error::Exists { what, name: name.to_owned() }),
        Err(error) => Err(error.into()),
    }
}

pub(super) async fn insert_project(
    connection: &mut Connection,
    organisation: &str,
    id: &str,
    name: &str,
    created_ms: i64,
) -> Result<()> {
    let query = sqlx::query("INSERT INTO projects (id, organisation_id, name, created_ms) VALUES ($1, $2, $3, $4)");
    let query = query.bind(id).bind(organisation).bind(name).bind(created_ms);
    insert(connection, query, "project", name).await
}

/// The project of this id, which is open, in an organisation that is.
pub(super) async fn open_project(connection: &mut Connection, id: &str) -> Result<Project> {
    let query = "SELECT p.id, p.organisation_id, p.name, p.created_ms, p.closed_ms
                 FROM projects p JOIN organisations o ON o.id = p.organisation_id
                 WHERE p.id = $1 AND p.closed_ms IS NULL AND o.closed_ms IS NULL";
    match sqlx::query(query).bind(id).fetch_optional(connection).await? {
        Some(row) => project(&row),
        None => Err(Error::Missing { what: "project", name: id.to_owned() }),
    }
}

/// Refuses an organisation that is not there or closed.
pub(super) async fn open_organisation(connection: &mut Connection, id: &str) -> Result<()> {
    let query = "SELECT id FROM organisations WHERE id = $1 AND closed_ms IS NULL";
    match sqlx::query(query).bind(id).fetch_optional(connection).await? {
        Some(_) => Ok(()),
        None => Err(Error::Missing { what: "organisation", name: id.to_owned() }),
    }
}
