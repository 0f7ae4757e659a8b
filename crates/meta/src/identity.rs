//! Who there is: organisations, their projects, the keys of a project; and the log of who changed what.

mod rows;

use std::sync::Arc;

use base::{Clock, Entropy};
use futures::FutureExt as _;
use sqlx::Row as _;
use subtle::ConstantTimeEq as _;

use crate::error::is_taken;
use crate::{Connection, Database, Error, Result, Role, Schema, Scopes, secret};

/// The organisation and the project that the first start makes.
pub const FIRST: &str = "default";
/// Bytes of a name.
const NAME_BYTES_MAX: usize = 128;
/// Rows of one list.
const LISTED_MAX: i64 = 10_000;

/// The tables of this module. Where data may lie and be computed on are columns from the start.
pub const SCHEMA: Schema = Schema {
    component: "identity",
    steps: &["
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
    "],
};

/// A project: what uses models, and will pay for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Project {
    /// Its name in requests and tables, `proj_…`.
    pub id: String,
    /// Its name among people.
    pub name: String,
    /// When it was made.
    pub created_ms: u64,
    /// When it was closed, if it was: its keys open nothing any more.
    pub closed_ms: Option<u64>,
}

/// A key as it is kept: nobody can make its text again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// Its name in logs and tables, `key_…`.
    pub id: String,
    /// The project's name.
    pub project: String,
    /// Its name among people.
    pub name: String,
    /// The last digits of its text, to tell keys apart.
    pub hint: String,
    /// What its bearer may do.
    pub role: Role,
    /// What it is good for.
    pub scopes: Scopes,
    /// When it was made.
    pub created_ms: u64,
    /// When it ends by itself.
    pub expires_ms: Option<u64>,
    /// When it was revoked.
    pub revoked_ms: Option<u64>,
}

/// What is asked for when a key is made.
#[derive(Debug, Clone)]
pub struct NewKey {
    /// The project's name.
    pub project: String,
    /// Its name among people.
    pub name: String,
    /// What its bearer may do.
    pub role: Role,
    /// What it is good for.
    pub scopes: Scopes,
    /// When it ends by itself.
    pub expires_ms: Option<u64>,
}

/// A key at the only moment when its text is known.
#[derive(Clone)]
pub struct ShownKey {
    /// Its name in logs and tables.
    pub id: String,
    /// The secret. It is shown to whoever asked for it and then forgotten.
    pub text: String,
}

impl std::fmt::Debug for ShownKey {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("ShownKey").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Whoever bears a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// The key's name in logs.
    pub key: Arc<str>,
    /// The project that it acts for.
    pub project: Arc<str>,
    /// The organisation of the project.
    pub organisation: Arc<str>,
    /// What it may do.
    pub role: Role,
    /// What its key is good for.
    pub scopes: Scopes,
}

/// Answers who somebody is, and changes it.
#[derive(Clone)]
pub struct Directory {
    database: Database,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
}

impl Directory {
    /// The directory of a database that was opened with [`SCHEMA`].
    #[must_use]
    pub fn new(database: Database, clock: Arc<dyn Clock>, entropy: Arc<dyn Entropy>) -> Self {
        Self { database, clock, entropy }
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
        let mut connection = self.database.read().await?;
        let row = sqlx::query(
            "SELECT k.id, k.hash, k.role, k.scopes, k.expires_ms, k.revoked_ms, p.id, p.closed_ms, o.id, o.closed_ms
             FROM keys k JOIN projects p ON p.id = k.project_id JOIN organisations o ON o.id = p.organisation_id
             WHERE k.hash = $1",
        )
        .bind(hash.as_slice())
        .fetch_optional(&mut *connection)
        .await?
        .ok_or(Error::UnknownKey)?;
        let (key, kept): (String, Vec<u8>) = (row.try_get(0)?, row.try_get(1)?);
        // The index found it by the hash of 256 random bits, whose time to compare tells nothing; this costs nothing.
        if !bool::from(kept.ct_eq(&hash)) {
            return Err(Error::UnknownKey);
        }
        let at = |column: usize| row.try_get::<Option<i64>, _>(column);
        if at(5)?.is_some() {
            return Err(Error::Revoked { key });
        }
        if at(4)?.is_some_and(|expires_ms| expires_ms <= self.now_ms()) {
            return Err(Error::Expired { key });
        }
        for (column, what) in [(7, "project"), (9, "organisation")] {
            if at(column)?.is_some() {
                return Err(Error::Closed { what, key });
            }
        }
        Ok(Principal {
            key: key.into(),
            project: row.try_get::<String, _>(6)?.into(),
            organisation: row.try_get::<String, _>(8)?.into(),
            role: rows::role(&row, 2)?,
            scopes: rows::scopes(&row, 3)?,
        })
    }

    /// Makes the first organisation, its project and an owner's key, if there is no organisation yet.
    ///
    /// # Errors
    /// If the database cannot be written.
    pub async fn first_start(&self) -> Result<Option<ShownKey>> {
        let now_ms = self.now_ms();
        let organisation = secret::new_name(&*self.entropy, "org");
        let project = secret::new_name(&*self.entropy, "proj");
        let made = self
            .database
            .write(move |connection| {
                async move {
                    let known = sqlx::query("SELECT id FROM organisations LIMIT 1").fetch_optional(&mut *connection);
                    if known.await?.is_some() {
                        return Ok::<bool, Error>(false);
                    }
                    sqlx::query("INSERT INTO organisations (id, name, created_ms) VALUES ($1, $2, $3)")
                        .bind(organisation.as_str())
                        .bind(FIRST)
                        .bind(now_ms)
                        .execute(&mut *connection)
                        .await?;
                    rows::insert_project(connection, &organisation, &project, FIRST, now_ms).await?;
                    Ok(true)
                }
                .boxed()
            })
            .await?;
        if !made {
            return Ok(None);
        }
        self.new_owner_key().await.map(Some)
    }

    /// A further owner's key of the first project, for whoever lost the first one and owns the database.
    ///
    /// # Errors
    /// If the database cannot be written.
    pub async fn new_owner_key(&self) -> Result<ShownKey> {
        let project = FIRST.to_owned();
        let new = NewKey {
            project,
            name: "admin".to_owned(),
            role: Role::Owner,
            scopes: Scopes::default(),
            expires_ms: None,
        };
        self.new_key("first start", new).await
    }

    /// Makes a project of the first organisation.
    ///
    /// # Errors
    /// [`Error::Exists`] if the name is taken.
    pub async fn new_project(&self, actor: &str, name: &str) -> Result<String> {
        check_name("project", name)?;
        let id = secret::new_name(&*self.entropy, "proj");
        let (made, name, actor, now_ms) = (id.clone(), name.to_owned(), actor.to_owned(), self.now_ms());
        let written = self.database.write(move |connection| {
            async move {
                let row = sqlx::query("SELECT id FROM organisations WHERE name = $1").bind(FIRST);
                let organisation: String = row.fetch_one(&mut *connection).await?.try_get(0)?;
                rows::insert_project(connection, &organisation, &made, &name, now_ms).await?;
                log(connection, now_ms, &actor, "project made", &made).await
            }
            .boxed()
        });
        written.await?;
        Ok(id)
    }

    /// All projects, the oldest first.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn projects(&self) -> Result<Vec<Project>> {
        let mut connection = self.database.read().await?;
        let query = "SELECT id, name, created_ms, closed_ms FROM projects ORDER BY created_ms, id LIMIT $1";
        let rows = sqlx::query(query).bind(LISTED_MAX).fetch_all(&mut *connection).await?;
        rows.iter().map(rows::project).collect()
    }

    /// Closes a project: from now on its keys open nothing.
    ///
    /// # Errors
    /// [`Error::Missing`] if there is no open project of this name.
    pub async fn close_project(&self, actor: &str, name: &str) -> Result<()> {
        self.end("project", "UPDATE projects SET closed_ms = $1 WHERE name = $2 AND closed_ms IS NULL", actor, name)
            .await
    }

    /// Makes a key. Its text is in the answer and nowhere else.
    ///
    /// # Errors
    /// [`Error::Missing`] if there is no open project of this name; [`Error::Wrong`] if something is too long.
    pub async fn new_key(&self, actor: &str, new: NewKey) -> Result<ShownKey> {
        check_name("key", &new.name)?;
        new.scopes.check()?;
        let (text, hash) = secret::new_key(&*self.entropy);
        let id = secret::new_name(&*self.entropy, "key");
        let hint = text[text.len() - 4..].to_owned();
        let shown = ShownKey { id: id.clone(), text };
        let (actor, now_ms) = (actor.to_owned(), self.now_ms());
        let written = self.database.write(move |connection| {
            async move {
                let project = rows::open_project(connection, &new.project).await?;
                sqlx::query(
                    "INSERT INTO keys (id, project_id, name, hash, hint, role, scopes, created_ms, expires_ms)
                     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
                )
                .bind(id.as_str())
                .bind(project)
                .bind(new.name)
                .bind(hash.as_slice())
                .bind(hint)
                .bind(new.role.name())
                .bind(rows::written(&new.scopes))
                .bind(now_ms)
                .bind(new.expires_ms.map(|ms| ms as i64))
                .execute(&mut *connection)
                .await?;
                log(connection, now_ms, &actor, "key made", &id).await
            }
            .boxed()
        });
        written.await?;
        Ok(shown)
    }

    /// All keys, the oldest first.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn keys(&self) -> Result<Vec<Key>> {
        let mut connection = self.database.read().await?;
        let query = "SELECT k.id, p.name, k.name, k.hint, k.role, k.scopes, k.created_ms, k.expires_ms, k.revoked_ms
                     FROM keys k JOIN projects p ON p.id = k.project_id ORDER BY k.created_ms, k.id LIMIT $1";
        let rows = sqlx::query(query).bind(LISTED_MAX).fetch_all(&mut *connection).await?;
        rows.iter().map(rows::key).collect()
    }

    /// Revokes a key: from now on it opens nothing.
    ///
    /// # Errors
    /// [`Error::Missing`] if there is no such key, or it was revoked already.
    pub async fn revoke_key(&self, actor: &str, id: &str) -> Result<()> {
        self.end("key", "UPDATE keys SET revoked_ms = $1 WHERE id = $2 AND revoked_ms IS NULL", actor, id).await
    }

    /// Sets the time in `$1` on the row that `$2` names, which must be there.
    async fn end(&self, what: &'static str, query: &'static str, actor: &str, name: &str) -> Result<()> {
        let (actor, name, now_ms) = (actor.to_owned(), name.to_owned(), self.now_ms());
        let written = self.database.write(move |connection| {
            async move {
                let ended = sqlx::query(query).bind(now_ms).bind(name.as_str()).execute(&mut *connection).await?;
                if ended.rows_affected() == 0 {
                    return Err(Error::Missing { what, name });
                }
                let action = if what == "key" { "key revoked" } else { "project closed" };
                log(connection, now_ms, &actor, action, &name).await
            }
            .boxed()
        });
        written.await
    }

    fn now_ms(&self) -> i64 {
        self.clock.now_ms() as i64
    }
}

async fn log(connection: &mut Connection, at_ms: i64, actor: &str, action: &str, subject: &str) -> Result<()> {
    sqlx::query("INSERT INTO changes (at_ms, actor, action, subject) VALUES ($1, $2, $3, $4)")
        .bind(at_ms)
        .bind(actor)
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
