//! Secrets that must come back: key pairs of projects, which sign requests to vector buckets, and what upstream servers
//! ask for. All are sealed (`sealed`); a database, or a backup of it, is worth nothing without the key file.

use std::sync::Arc;

use base::{Clock, Entropy};
use futures::FutureExt as _;
use sqlx::Row as _;
use sqlx::any::AnyRow;

use crate::error::is_taken;
use crate::sealed::{SEAL_KEY_BYTES, Sealer};
use crate::{Connection, Database, Error, Result, Schema, Scopes, secret};

/// How every access key begins.
const ACCESS_KEY_PREFIX: &str = "SAMPAN";
/// Random bytes of an access key's name.
const ACCESS_KEY_BYTES: usize = 10;
/// Random bytes of the other half.
const SECRET_BYTES: usize = 32;
/// Bytes of a secret that somebody keeps here.
const KEPT_BYTES_MAX: usize = 4096;
/// Bytes of a name.
const NAME_BYTES_MAX: usize = 128;
/// Rows of one list.
const LISTED_MAX: i64 = 10_000;

/// The tables of this module; they refer to those of [`crate::SCHEMA`].
pub const VAULT_SCHEMA: Schema = Schema {
    component: "vault",
    steps: &["
    CREATE TABLE key_pairs (
        access_key TEXT PRIMARY KEY, project_id TEXT NOT NULL REFERENCES projects (id), name TEXT NOT NULL,
        sealed {bytes} NOT NULL, scopes TEXT NOT NULL, created_ms BIGINT NOT NULL, expires_ms BIGINT,
        revoked_ms BIGINT
    );
    CREATE INDEX key_pairs_of_project ON key_pairs (project_id);
    CREATE TABLE secrets (name TEXT PRIMARY KEY, sealed {bytes} NOT NULL, created_ms BIGINT NOT NULL);
    "],
};

/// What is asked for when a pair is made.
#[derive(Debug, Clone)]
pub struct NewPair {
    /// The project, by id or name.
    pub project: String,
    /// Its name among people.
    pub name: String,
    /// What it is good for: its models count for nothing.
    pub scopes: Scopes,
    /// When it ends by itself.
    pub expires_ms: Option<u64>,
}

/// A pair at the only moment when its other half is shown.
#[derive(Clone)]
pub struct ShownPair {
    /// Names it in requests, logs and tables.
    pub access_key: String,
    /// The other half.
    pub secret: String,
}

impl std::fmt::Debug for ShownPair {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("ShownPair").field("access_key", &self.access_key).finish_non_exhaustive()
    }
}

/// A pair as it is listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    /// Names it.
    pub access_key: String,
    /// The project's name.
    pub project: String,
    /// Its name among people.
    pub name: String,
    /// What it is good for.
    pub scopes: Scopes,
    /// When it was made.
    pub created_ms: u64,
    /// When it ends by itself.
    pub expires_ms: Option<u64>,
    /// When it was revoked.
    pub revoked_ms: Option<u64>,
}

/// A pair that is good now, and whose it is.
#[derive(Clone)]
pub struct OpenPair {
    /// The other half.
    pub secret: String,
    /// The project that it acts for: its id.
    pub project: String,
    /// The project's and the pair's names among people.
    pub names: [String; 2],
    /// What it is good for.
    pub scopes: Scopes,
}

impl std::fmt::Debug for OpenPair {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("OpenPair").field("project", &self.project).field("names", &self.names).finish_non_exhaustive()
    }
}

/// Keeps secrets, and gives them back to whoever has the key.
#[derive(Clone)]
pub struct Vault {
    database: Database,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    sealer: Sealer,
}

impl Vault {
    /// The vault of a database that was opened with [`VAULT_SCHEMA`], behind [`crate::SCHEMA`].
    #[must_use]
    pub fn new(
        database: Database,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        key: &[u8; SEAL_KEY_BYTES],
    ) -> Self {
        Self { database, clock, entropy, sealer: Sealer::new(key) }
    }

    /// Makes a pair. Its other half is shown in the answer, and to nobody else.
    ///
    /// # Errors
    /// [`Error::Missing`] if there is no such open project; [`Error::Wrong`] if something is too long, or several have
    /// this name.
    pub async fn new_pair(&self, actor: &str, new: NewPair) -> Result<ShownPair> {
        check_name("key pair", &new.name)?;
        new.scopes.check()?;
        let access_key =
            format!("{ACCESS_KEY_PREFIX}{}", secret::random(&*self.entropy, ACCESS_KEY_BYTES).to_uppercase());
        let shown = ShownPair { access_key, secret: secret::random(&*self.entropy, SECRET_BYTES) };
        let sealed = self.sealer.seal(&*self.entropy, &pair_owner(&shown.access_key), shown.secret.as_bytes());
        let scopes = new.scopes.written();
        let (actor, access_key, now_ms) = (actor.to_owned(), shown.access_key.clone(), self.now_ms());
        let written = self.database.write(move |connection| {
            async move {
                let project = open_project(connection, &new.project).await?;
                sqlx::query(
                    "INSERT INTO key_pairs (access_key, project_id, name, sealed, scopes, created_ms, expires_ms)
                     VALUES ($1, $2, $3, $4, $5, $6, $7)",
                )
                .bind(access_key.as_str())
                .bind(project)
                .bind(new.name)
                .bind(sealed)
                .bind(scopes)
                .bind(now_ms)
                .bind(new.expires_ms.map(|ms| ms as i64))
                .execute(&mut *connection)
                .await?;
                log(connection, now_ms, &actor, "key pair made", &access_key).await
            }
            .boxed()
        });
        written.await?;
        Ok(shown)
    }

    /// The pair of this access key, if it is good now. It is looked up every time, so a pair that was revoked signs
    /// nothing from that moment on.
    ///
    /// # Errors
    /// [`Error::Sealed`] if it was sealed with another key file; if the database cannot be read.
    pub async fn pair(&self, access_key: &str) -> Result<Option<OpenPair>> {
        if !access_key.starts_with(ACCESS_KEY_PREFIX) {
            return Ok(None);
        }
        let mut connection = self.database.read().await?;
        let row = sqlx::query(
            "SELECT k.sealed, k.scopes, k.name, p.id, p.name FROM key_pairs k
             JOIN projects p ON p.id = k.project_id JOIN organisations o ON o.id = p.organisation_id
             WHERE k.access_key = $1 AND k.revoked_ms IS NULL AND (k.expires_ms IS NULL OR k.expires_ms > $2)
             AND p.closed_ms IS NULL AND o.closed_ms IS NULL",
        )
        .bind(access_key)
        .bind(self.now_ms())
        .fetch_optional(&mut *connection)
        .await?;
        let Some(row) = row else { return Ok(None) };
        let opened = self.sealer.open(&pair_owner(access_key), &row.try_get::<Vec<u8>, _>(0)?)?;
        Ok(Some(OpenPair {
            secret: text(opened)?,
            scopes: scopes(&row, 1)?,
            project: row.try_get(3)?,
            names: [row.try_get(4)?, row.try_get(2)?],
        }))
    }

    /// Every pair, the oldest first.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn pairs(&self) -> Result<Vec<Pair>> {
        let mut connection = self.database.read().await?;
        let rows = sqlx::query(
            "SELECT k.access_key, p.name, k.name, k.scopes, k.created_ms, k.expires_ms, k.revoked_ms
             FROM key_pairs k JOIN projects p ON p.id = k.project_id ORDER BY k.created_ms, k.access_key LIMIT $1",
        )
        .bind(LISTED_MAX)
        .fetch_all(&mut *connection)
        .await?;
        rows.iter().map(pair).collect()
    }

    /// Revokes a pair: from now on nothing that it signs counts.
    ///
    /// # Errors
    /// [`Error::Missing`] if there is no such pair, or it is revoked already.
    pub async fn revoke_pair(&self, actor: &str, access_key: &str) -> Result<()> {
        let query = "UPDATE key_pairs SET revoked_ms = $1 WHERE access_key = $2 AND revoked_ms IS NULL";
        let (actor, name, now_ms) = (actor.to_owned(), access_key.to_owned(), self.now_ms());
        let written = self.database.write(move |connection| {
            async move {
                let ended = sqlx::query(query).bind(now_ms).bind(name.as_str()).execute(&mut *connection).await?;
                existed("key pair", &name, ended.rows_affected())?;
                log(connection, now_ms, &actor, "key pair revoked", &name).await
            }
            .boxed()
        });
        written.await
    }

    /// Keeps a secret under a name.
    ///
    /// # Errors
    /// [`Error::Exists`] if the name is taken; [`Error::Wrong`] if either is too long.
    pub async fn keep(&self, actor: &str, name: &str, secret: &str) -> Result<()> {
        check_name("secret", name)?;
        if secret.is_empty() || secret.len() > KEPT_BYTES_MAX {
            let (value, allowed) = (format!("{} bytes", secret.len()), format!("1 to {KEPT_BYTES_MAX} bytes"));
            return Err(Error::Wrong { field: "the secret", value, allowed });
        }
        let sealed = self.sealer.seal(&*self.entropy, &secret_owner(name), secret.as_bytes());
        let (actor, name, now_ms) = (actor.to_owned(), name.to_owned(), self.now_ms());
        let written = self.database.write(move |connection| {
            async move {
                insert_secret(connection, &name, sealed, now_ms).await?;
                log(connection, now_ms, &actor, "secret kept", &name).await
            }
            .boxed()
        });
        written.await
    }

    /// Every secret with its name, opened.
    ///
    /// # Errors
    /// [`Error::Sealed`] if one was sealed with another key file.
    pub async fn secrets(&self) -> Result<Vec<(String, String)>> {
        let mut connection = self.database.read().await?;
        let query = sqlx::query("SELECT name, sealed FROM secrets ORDER BY name LIMIT $1").bind(LISTED_MAX);
        let rows = query.fetch_all(&mut *connection).await?;
        let opened = |row: &AnyRow| {
            let name: String = row.try_get(0)?;
            let opened = self.sealer.open(&secret_owner(&name), &row.try_get::<Vec<u8>, _>(1)?)?;
            Ok((name, text(opened)?))
        };
        rows.iter().map(opened).collect()
    }

    /// The names of all secrets, with the times when they came.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn secret_names(&self) -> Result<Vec<(String, u64)>> {
        let mut connection = self.database.read().await?;
        let query = sqlx::query("SELECT name, created_ms FROM secrets ORDER BY name LIMIT $1").bind(LISTED_MAX);
        let rows = query.fetch_all(&mut *connection).await?;
        rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get::<i64, _>(1)? as u64))).collect()
    }

    /// Forgets a secret.
    ///
    /// # Errors
    /// [`Error::Missing`] if there is none of this name.
    pub async fn forget(&self, actor: &str, name: &str) -> Result<()> {
        let (actor, name, now_ms) = (actor.to_owned(), name.to_owned(), self.now_ms());
        let written = self.database.write(move |connection| {
            async move {
                let query = sqlx::query("DELETE FROM secrets WHERE name = $1").bind(name.as_str());
                existed("secret", &name, query.execute(&mut *connection).await?.rows_affected())?;
                log(connection, now_ms, &actor, "secret forgotten", &name).await
            }
            .boxed()
        });
        written.await
    }

    fn now_ms(&self) -> i64 {
        self.clock.now_ms() as i64
    }
}

/// The id of the one open project of this id or name.
async fn open_project(connection: &mut Connection, name: &str) -> Result<String> {
    let query = "SELECT id FROM projects WHERE (id = $1 OR name = $1) AND closed_ms IS NULL LIMIT 2";
    let rows = sqlx::query(query).bind(name).fetch_all(connection).await?;
    match rows.as_slice() {
        [] => Err(Error::Missing { what: "project", name: name.to_owned() }),
        [one] => Ok(one.try_get(0)?),
        _ => {
            let allowed = "the id of one, several have this name".to_owned();
            Err(Error::Wrong { field: "project", value: name.to_owned(), allowed })
        }
    }
}

/// Notes who changed what.
async fn log(connection: &mut Connection, at_ms: i64, actor: &str, action: &str, subject: &str) -> Result<()> {
    let query = "INSERT INTO changes (at_ms, actor, action, subject) VALUES ($1, $2, $3, $4)";
    sqlx::query(query).bind(at_ms).bind(actor).bind(action).bind(subject).execute(connection).await?;
    Ok(())
}

fn check_name(field: &'static str, name: &str) -> Result<()> {
    let fits = (1..=NAME_BYTES_MAX).contains(&name.len()) && !name.chars().any(char::is_control);
    let allowed = || format!("1 to {NAME_BYTES_MAX} bytes without control characters");
    if fits { Ok(()) } else { Err(Error::Wrong { field, value: name.to_owned(), allowed: allowed() }) }
}

/// What a pair's secret is sealed for.
fn pair_owner(access_key: &str) -> String {
    format!("key pair {access_key}")
}

/// What a secret is sealed for.
fn secret_owner(name: &str) -> String {
    format!("secret {name}")
}

async fn insert_secret(connection: &mut Connection, name: &str, sealed: Vec<u8>, now_ms: i64) -> Result<()> {
    let query = "INSERT INTO secrets (name, sealed, created_ms) VALUES ($1, $2, $3)";
    match sqlx::query(query).bind(name).bind(sealed).bind(now_ms).execute(connection).await {
        Ok(_) => Ok(()),
        Err(error) if is_taken(&error) => Err(Error::Exists { what: "secret", name: name.to_owned() }),
        Err(error) => Err(error.into()),
    }
}

fn existed(what: &'static str, name: &str, rows: u64) -> Result<()> {
    if rows == 0 { Err(Error::Missing { what, name: name.to_owned() }) } else { Ok(()) }
}

fn text(opened: Vec<u8>) -> Result<String> {
    String::from_utf8(opened).map_err(|why| Error::Row { what: "a secret", why: why.utf8_error().to_string() })
}

fn scopes(row: &AnyRow, column: usize) -> Result<Scopes> {
    serde_json::from_str(&row.try_get::<String, _>(column)?)
        .map_err(|error| Error::Row { what: "a key pair", why: error.to_string() })
}

fn pair(row: &AnyRow) -> Result<Pair> {
    let time = |column: usize| row.try_get::<Option<i64>, _>(column).map(|ms| ms.map(|ms| ms as u64));
    Ok(Pair {
        access_key: row.try_get(0)?,
        project: row.try_get(1)?,
        name: row.try_get(2)?,
        scopes: scopes(row, 3)?,
        created_ms: row.try_get::<i64, _>(4)? as u64,
        expires_ms: time(5)?,
        revoked_ms: time(6)?,
    })
}
