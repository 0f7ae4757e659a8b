//! Rows to types and back.

use sqlx::Row as _;
use sqlx::any::AnyRow;

use super::{Key, Project, is_taken};
use crate::{Connection, Error, Result, Role, Scopes};

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

pub(super) fn project(row: &AnyRow) -> Result<Project> {
    Ok(Project {
        id: row.try_get(0)?,
        name: row.try_get(1)?,
        created_ms: row.try_get::<i64, _>(2)? as u64,
        closed_ms: time(row, 3)?,
    })
}

pub(super) fn key(row: &AnyRow) -> Result<Key> {
    Ok(Key {
        id: row.try_get(0)?,
        project: row.try_get(1)?,
        name: row.try_get(2)?,
        hint: row.try_get(3)?,
        role: role(row, 4)?,
        scopes: scopes(row, 5)?,
        created_ms: row.try_get::<i64, _>(6)? as u64,
        expires_ms: time(row, 7)?,
        revoked_ms: time(row, 8)?,
    })
}

fn time(row: &AnyRow, column: usize) -> Result<Option<u64>> {
    Ok(row.try_get::<Option<i64>, _>(column)?.map(|ms| ms as u64))
}

pub(super) async fn insert_project(
    connection: &mut Connection,
    organisation: &str,
    id: &str,
    name: &str,
    created_ms: i64,
) -> Result<()> {
    let query = "INSERT INTO projects (id, organisation_id, name, created_ms) VALUES ($1, $2, $3, $4)";
    let inserted = sqlx::query(query).bind(id).bind(organisation).bind(name).bind(created_ms).execute(connection).await;
    match inserted {
        Ok(_) => Ok(()),
        Err(error) if is_taken(&error) => Err(Error::Exists { what: "project", name: name.to_owned() }),
        Err(error) => Err(error.into()),
    }
}

/// The id of the open project of this name.
pub(super) async fn open_project(connection: &mut Connection, name: &str) -> Result<String> {
    let query = sqlx::query("SELECT id FROM projects WHERE name = $1 AND closed_ms IS NULL").bind(name);
    match query.fetch_optional(connection).await? {
        Some(row) => Ok(row.try_get(0)?),
        None => Err(Error::Missing { what: "project", name: name.to_owned() }),
    }
}
