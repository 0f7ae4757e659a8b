//! Sessions of the console: somebody who has signed in with a key, or elsewhere, holds a secret of less reach: it ends
//! by itself, and with the key or the member behind it.

use futures::FutureExt as _;
use sqlx::Row as _;
use subtle::ConstantTimeEq as _;

use super::types::{Actor, Principal, ShownKey};
use super::{Directory, log, rows};
use crate::{Error, Result, Scopes, secret};

/// How long a session lasts.
pub const SESSION_MS: u64 = 12 * 3600 * 1000;
/// Sessions of one key or member; the oldest end first.
const SESSIONS_MAX: i64 = 32;

/// A session that was begun.
#[derive(Debug, Clone)]
pub struct Session {
    /// Its secret, for the one who holds it.
    pub shown: ShownKey,
    /// When it ends.
    pub expires_ms: u64,
}

/// Who signed in.
enum Who {
    Key(String),
    Member { id: String, project: String },
}

impl Directory {
    /// Begins a session of whoever bears this key.
    ///
    /// # Errors
    /// As [`Self::authenticate`].
    pub async fn sign_in(&self, key: &str) -> Result<(Principal, Session)> {
        let principal = self.authenticate(key).await?;
        let session = self.begin(Who::Key(principal.key.to_string()), principal.expires_ms).await?;
        Ok((principal, session))
    }

    /// Begins a session of the member with this address, which somebody trustworthy has verified. It acts for the
    /// oldest open project of the organisation.
    ///
    /// # Errors
    /// [`Error::Missing`] if no member has it, or the organisation has no open project.
    pub async fn sign_in_as(&self, email: &str) -> Result<(Principal, Session)> {
        let email = email.to_ascii_lowercase();
        let missing = || Error::Missing { what: "member", name: email.clone() };
        let mut connection = self.database.read().await?;
        let row = sqlx::query(
            "SELECT m.id, p.id FROM members m JOIN organisations o ON o.id = m.organisation_id
             JOIN projects p ON p.organisation_id = o.id
             WHERE m.email = $1 AND m.removed_ms IS NULL AND o.closed_ms IS NULL AND p.closed_ms IS NULL
             ORDER BY p.created_ms, p.id LIMIT 1",
        );
        let row = row.bind(email.as_str()).fetch_optional(&mut *connection).await?.ok_or_else(missing)?;
        drop(connection);
        let who = Who::Member { id: row.try_get(0)?, project: row.try_get(1)? };
        let session = self.begin(who, None).await?;
        Ok((self.authenticate_session(&session.shown.text).await?, session))
    }

    async fn begin(&self, who: Who, end_ms: Option<u64>) -> Result<Session> {
        let (text, hash) = secret::new_session(&*self.entropy);
        let id = secret::new_name(&*self.entropy, "ses");
        let now_ms = self.now_ms();
        let expires_ms = (now_ms as u64 + SESSION_MS).min(end_ms.unwrap_or(u64::MAX));
        let shown = ShownKey { id: id.clone(), text };
        let (key, member, project) = match who {
            Who::Key(key) => (Some(key), None, None),
            Who::Member { id, project } => (None, Some(id), Some(project)),
        };
        let written = self.database.write(move |connection| {
            async move {
                let ended = sqlx::query("DELETE FROM sessions WHERE expires_ms <= $1").bind(now_ms);
                ended.execute(&mut *connection).await?;
                // Whoever signs in again and again keeps the last few.
                let crowded = "DELETE FROM sessions WHERE id IN (
                    SELECT id FROM sessions WHERE key_id = $1 OR member_id = $2
                    ORDER BY created_ms DESC, id LIMIT 1000000 OFFSET $3)";
                let crowded = sqlx::query(crowded).bind(key.clone()).bind(member.clone()).bind(SESSIONS_MAX - 1);
                crowded.execute(&mut *connection).await?;
                sqlx::query(
                    "INSERT INTO sessions (id, hash, key_id, member_id, project_id, created_ms, expires_ms)
                     VALUES ($1, $2, $3, $4, $5, $6, $7)",
                )
                .bind(id.as_str())
                .bind(hash.as_slice())
                .bind(key.as_deref())
                .bind(member.as_deref())
                .bind(project)
                .bind(now_ms)
                .bind(expires_ms as i64)
                .execute(&mut *connection)
                .await?;
                let actor = Actor::machine(key.or(member).as_deref().unwrap_or_default());
                log(connection, now_ms, &actor, "signed in", &id).await
            }
            .boxed()
        });
        written.await?;
        Ok(Session { shown, expires_ms })
    }

    /// Who holds this session. What was said of [`Self::authenticate`] holds for it, and a member's session ends with
    /// the member.
    ///
    /// # Errors
    /// [`Error::UnknownSession`] if it ended or never was; as [`Self::authenticate`] for the key behind it.
    pub async fn authenticate_session(&self, text: &str) -> Result<Principal> {
        if !secret::looks_like_a_session(text) {
            return Err(Error::UnknownSession);
        }
        let hash = secret::hash(text);
        let mut connection = self.database.read().await?;
        let row = sqlx::query("SELECT hash, key_id, expires_ms FROM sessions WHERE hash = $1").bind(hash.as_slice());
        let row = row.fetch_optional(&mut *connection).await?.ok_or(Error::UnknownSession)?;
        let is_same = bool::from(row.try_get::<Vec<u8>, _>(0)?.ct_eq(&hash));
        if !is_same || row.try_get::<i64, _>(2)? <= self.now_ms() {
            return Err(Error::UnknownSession);
        }
        if row.try_get::<Option<String>, _>(1)?.is_some() {
            let row = sqlx::query(
                "SELECT k.id, k.role, k.scopes, k.expires_ms, k.revoked_ms, p.id, p.closed_ms, o.id, o.closed_ms,
                        o.runs_place
                 FROM sessions s JOIN keys k ON k.id = s.key_id JOIN projects p ON p.id = k.project_id
                 JOIN organisations o ON o.id = p.organisation_id WHERE s.hash = $1",
            );
            let row = row.bind(hash.as_slice()).fetch_optional(&mut *connection).await?;
            return self.bearer(&row.ok_or(Error::UnknownSession)?);
        }
        let row = sqlx::query(
            "SELECT m.id, m.role, p.id, o.id, o.runs_place
             FROM sessions s JOIN members m ON m.id = s.member_id JOIN projects p ON p.id = s.project_id
             JOIN organisations o ON o.id = m.organisation_id
             WHERE s.hash = $1 AND m.removed_ms IS NULL AND p.closed_ms IS NULL AND o.closed_ms IS NULL",
        );
        let row = row.bind(hash.as_slice()).fetch_optional(&mut *connection).await?.ok_or(Error::UnknownSession)?;
        Ok(Principal {
            key: row.try_get::<String, _>(0)?.into(),
            role: rows::role(&row, 1)?,
            project: row.try_get::<String, _>(2)?.into(),
            organisation: row.try_get::<String, _>(3)?.into(),
            runs_place: row.try_get::<i64, _>(4)? != 0,
            scopes: Scopes::default(),
            expires_ms: None,
        })
    }

    /// Ends a session; one that is not there has ended already.
    ///
    /// # Errors
    /// If the database cannot be written.
    pub async fn sign_out(&self, text: &str) -> Result<()> {
        let hash = secret::hash(text);
        let written = self.database.write(move |connection| {
            async move {
                let query = sqlx::query("DELETE FROM sessions WHERE hash = $1").bind(hash.as_slice());
                query.execute(connection).await?;
                Ok::<(), Error>(())
            }
            .boxed()
        });
        written.await
    }
}
