//! Who there is: organisations, their projects and members, the keys of a project, sessions of the console; and the log
//! of who changed what.

mod bearers;
mod keys;
mod people;
mod rows;
mod sessions;
mod types;

use std::sync::Arc;

use base::{Clock, Entropy};
use futures::FutureExt as _;
use sqlx::Row as _;
use sqlx::any::AnyRow;
use subtle::ConstantTimeEq as _;

use crate::{Connection, Database, Error, Result, Role, Schema, secret};

use bearers::Bearers;

pub use sessions::{SESSION_MS, Session};
pub use types::{
    Actor, Key, KeyFilter, Listed, Member, NewKey, NewMember, Organisation, PAGE_MAX, Page, Principal, Project,
    ShownKey,
};

/// The name of the organisation and the project that the first start makes.
pub const FIRST: &str = "default";
/// Bytes of a name.
const NAME_BYTES_MAX: usize = 128;
/// How exactly it is known when a key was last used.
const USED_MS: i64 = 60_000;

/// The tables of this module. Where data may lie and be computed on are columns from the start.
pub const SCHEMA: Schema = Schema {
    component: "identity",
    steps: &[
        "
    CREATE TABLE organisations (
        id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, data_region TEXT, compute_scope TEXT,
        created_ms BIGINT NOT NULL, closed_ms BIGINT
    );
    CREATE TABLE projects (
        id TEXT PRIMARY KEY, organisation_id TEXT NOT NULL REFERENCES organisations (id), name TEXT NOT NULL,
        data_region TEXT, compute_scope TEXT, created_ms BIGINT NOT NULL, closed_ms BIGINT,
        UNIQUE (organisation_id, name)
    );
    CREATE TABLE keys (
        id TEXT PRIMARY KEY, project_id TEXT NOT NULL REFERENCES projects (id), name TEXT NOT NULL,
        hash {bytes} NOT NULL UNIQUE, hint TEXT NOT NULL, role TEXT NOT NULL, scopes TEXT NOT NULL,
        data_region TEXT, compute_scope TEXT, created_ms BIGINT NOT NULL, expires_ms BIGINT, revoked_ms BIGINT
    );
    CREATE INDEX keys_of_project ON keys (project_id);
    CREATE TABLE changes (
        id {id}, at_ms BIGINT NOT NULL, actor TEXT NOT NULL, action TEXT NOT NULL, subject TEXT NOT NULL
    );
    ",
        "
    ALTER TABLE organisations ADD COLUMN runs_place BIGINT NOT NULL DEFAULT 0;
    UPDATE organisations SET runs_place = 1 WHERE name = 'default';
    ALTER TABLE keys ADD COLUMN used_ms BIGINT;
    CREATE TABLE members (
        id TEXT PRIMARY KEY, organisation_id TEXT NOT NULL REFERENCES organisations (id), name TEXT NOT NULL,
        email TEXT UNIQUE, role TEXT NOT NULL, created_ms BIGINT NOT NULL, removed_ms BIGINT
    );
    CREATE INDEX members_of_organisation ON members (organisation_id);
    CREATE TABLE sessions (
        id TEXT PRIMARY KEY, hash {bytes} NOT NULL UNIQUE, key_id TEXT REFERENCES keys (id),
        member_id TEXT REFERENCES members (id), project_id TEXT REFERENCES projects (id),
        created_ms BIGINT NOT NULL, expires_ms BIGINT NOT NULL
    );
    ",
    ],
};

/// Answers who somebody is, and changes it.
#[derive(Clone)]
pub struct Directory {
    database: Database,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    bearers: Arc<Bearers>,
}

impl Directory {
    /// The directory of a database that was opened with [`SCHEMA`].
    #[must_use]
    pub fn new(database: Database, clock: Arc<dyn Clock>, entropy: Arc<dyn Entropy>) -> Self {
        Self { database, clock, entropy, bearers: Arc::default() }
    }

    /// Who bears this key. It is looked up every time, so a key that was revoked opens nothing from that moment on.
    ///
    /// # Errors
    /// [`Error::UnknownKey`], [`Error::Revoked`], [`Error::Expired`] or [`Error::Closed`].
    pub async fn authenticate(&self, text: &str) -> Result<Principal> {
        if !secret::looks_like_a_key(text) {
            return Err(Error::UnknownKey);
        }
        let hash = secret::hash(text);
        let row = self.bearers.find(&self.database, hash).await?.ok_or(Error::UnknownKey)?;
        // The index found it by the hash of 256 random bits, whose time to compare tells nothing; this costs nothing.
        if !bool::from(row.try_get::<Vec<u8>, _>(11)?.ct_eq(&hash)) {
            return Err(Error::UnknownKey);
        }
        let principal = self.bearer(&row)?;
        self.note_use(&principal.key, row.try_get(10)?);
        Ok(principal)
    }

    /// Whoever the first ten columns of [`Self::authenticate`] say, unless the key is good no more.
    fn bearer(&self, row: &AnyRow) -> Result<Principal> {
        let key: String = row.try_get(0)?;
        let at = |column: usize| row.try_get::<Option<i64>, _>(column);
        if at(4)?.is_some() {
            return Err(Error::Revoked { key });
        }
        if at(3)?.is_some_and(|expires_ms| expires_ms <= self.now_ms()) {
            return Err(Error::Expired { key });
        }
        for (column, what) in [(6, "project"), (8, "organisation")] {
            if at(column)?.is_some() {
                return Err(Error::Closed { what, key });
            }
        }
        Ok(Principal {
            key: key.into(),
            project: row.try_get::<String, _>(5)?.into(),
            organisation: row.try_get::<String, _>(7)?.into(),
            role: rows::role(row, 1)?,
            scopes: rows::scopes(row, 2)?,
            runs_place: row.try_get::<i64, _>(9)? != 0,
            expires_ms: rows::time(row, 3)?,
        })
    }

    /// Remembers that a key was used, once a minute. Nobody waits for it; if the writer is busy, the next use is noted.
    fn note_use(&self, key: &str, used_ms: Option<i64>) {
        let now_ms = self.now_ms();
        if used_ms.is_some_and(|used_ms| now_ms - used_ms < USED_MS) {
            return;
        }
        let key = key.to_owned();
        let noted = self.database.write_soon(move |connection| {
            async move {
                let query = sqlx::query("UPDATE keys SET used_ms = $1 WHERE id = $2 AND COALESCE(used_ms, 0) < $1");
                query.bind(now_ms).bind(key).execute(connection).await?;
                Ok::<(), Error>(())
            }
            .boxed()
        });
        // It is handed over at once or not at all; dropping the answer does not stop it.
        let _ = noted.now_or_never();
    }

    /// Makes the first organisation, its project, its owner and the owner's key, if there is no organisation yet: all
    /// of it or nothing.
    ///
    /// # Errors
    /// If the database cannot be written.
    pub async fn first_start(&self) -> Result<Option<ShownKey>> {
        let now_ms = self.now_ms();
        let organisation = secret::new_name(&*self.entropy, "org");
        let project = secret::new_name(&*self.entropy, "proj");
        let member = secret::new_name(&*self.entropy, "mem");
        let (minted, shown) = self.mint();
        let made = self
            .database
            .write(move |connection| {
                async move {
                    let known = sqlx::query("SELECT id FROM organisations LIMIT 1").fetch_optional(&mut *connection);
                    if known.await?.is_some() {
                        return Ok::<bool, Error>(false);
                    }
                    sqlx::query("INSERT INTO organisations (id, name, runs_place, created_ms) VALUES ($1, $2, 1, $3)")
                        .bind(organisation.as_str())
                        .bind(FIRST)
                        .bind(now_ms)
                        .execute(&mut *connection)
                        .await?;
                    rows::insert_project(connection, &organisation, &project, FIRST, now_ms).await?;
                    let owner = NewMember { organisation, name: "owner".to_owned(), email: None, role: Role::Owner };
                    people::insert_member(connection, &member, &owner, None, now_ms).await?;
                    let key = NewKey::plain(&project, "admin", Role::Owner);
                    keys::insert_key(connection, &minted, &key, now_ms).await?;
                    log(connection, now_ms, &Actor::machine("first start"), "key made", &minted.id).await?;
                    Ok(true)
                }
                .boxed()
            })
            .await?;
        Ok(made.then_some(shown))
    }

    /// A further owner's key of the first project, for whoever lost the first one and owns the database.
    ///
    /// # Errors
    /// If the database cannot be written, or every project of the first organisation was closed.
    pub async fn new_owner_key(&self) -> Result<ShownKey> {
        let project = self.first_project().await?;
        self.new_key(&Actor::machine("first start"), NewKey::plain(&project, "admin", Role::Owner)).await
    }

    /// The oldest open project of the organisation that runs this installation.
    ///
    /// # Errors
    /// [`Error::Missing`] if there is none.
    pub async fn first_project(&self) -> Result<String> {
        let mut connection = self.database.read().await?;
        let row = sqlx::query(
            "SELECT p.id FROM projects p JOIN organisations o ON o.id = p.organisation_id
             WHERE o.runs_place = 1 AND p.closed_ms IS NULL ORDER BY p.created_ms, p.id LIMIT 1",
        );
        let row = row.fetch_optional(&mut *connection).await?;
        let missing = || Error::Missing { what: "project", name: FIRST.to_owned() };
        Ok(row.ok_or_else(missing)?.try_get(0)?)
    }

    fn now_ms(&self) -> i64 {
        self.clock.now_ms() as i64
    }
}

async fn log(connection: &mut Connection, at_ms: i64, actor: &Actor, action: &str, subject: &str) -> Result<()> {
    sqlx::query("INSERT INTO changes (at_ms, actor, action, subject) VALUES ($1, $2, $3, $4)")
        .bind(at_ms)
        .bind(actor.name())
        .bind(action)
        .bind(subject)
        .execute(connection)
        .await?;
    Ok(())
}

fn check_name(field: &'static str, name: &str) -> Result<()> {
    let fits = !name.is_empty() && name.len() <= NAME_BYTES_MAX && !name.chars().any(char::is_control);
    let allowed = || format!("1 to {NAME_BYTES_MAX} bytes without control characters");
    if fits { Ok(()) } else { Err(Error::Wrong { field, value: name.to_owned(), allowed: allowed() }) }
}
