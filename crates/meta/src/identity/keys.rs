//! Keys: made within what their maker may do, listed, revoked.

use futures::FutureExt as _;
use sqlx::AssertSqlSafe;

use super::types::{Actor, Key, KeyFilter, Listed, NewKey, Page, Project, ShownKey};
use super::{Directory, check_name, log, rows};
use crate::{Connection, Error, Result, Role, secret};

/// Bytes of a region's name.
const REGION_BYTES_MAX: usize = 64;

/// A key that is about to be written.
pub(super) struct Minted {
    pub(super) id: String,
    pub(super) hash: [u8; 32],
    pub(super) hint: String,
}

impl Directory {
    /// Draws a key; nothing is written yet.
    pub(super) fn mint(&self) -> (Minted, ShownKey) {
        let (text, hash) = secret::new_key(&*self.entropy);
        let id = secret::new_name(&*self.entropy, "key");
        let hint = text[text.len() - 4..].to_owned();
        (Minted { id: id.clone(), hash, hint }, ShownKey { id, text })
    }

    /// Makes a key. Its text is in the answer and nowhere else. No key does more than the one it was made with: neither
    /// its role nor its scopes nor its end reach further.
    ///
    /// # Errors
    /// [`Error::Missing`] if there is no open project of this id that the actor sees; [`Error::NotAllowed`] if it would
    /// do more than its maker; [`Error::Wrong`] if something is too long.
    pub async fn new_key(&self, actor: &Actor, new: NewKey) -> Result<ShownKey> {
        check_name("key", &new.name)?;
        new.scopes.check()?;
        check_region("data_region", new.data_region.as_deref())?;
        check_region("compute_scope", new.compute_scope.as_deref())?;
        let now_ms = self.now_ms();
        if let Some(expires_ms) = new.expires_ms.filter(|&ms| ms <= now_ms as u64 || i64::try_from(ms).is_err()) {
            let allowed = format!("a time after {now_ms}, in milliseconds since 1970");
            return Err(Error::Wrong { field: "expires_ms", value: expires_ms.to_string(), allowed });
        }
        let (minted, shown) = self.mint();
        let actor = actor.clone();
        let written = self.database.write(move |connection| {
            async move {
                let project = rows::open_project(connection, &new.project).await?;
                within(&actor, &project, &new)?;
                insert_key(connection, &minted, &new, now_ms).await?;
                log(connection, now_ms, &actor, "key made", &minted.id).await
            }
            .boxed()
        });
        written.await?;
        Ok(shown)
    }

    /// The keys that the actor sees.
    ///
    /// # Errors
    /// If the page cannot be, or the database not be read.
    pub async fn keys(&self, actor: &Actor, filter: &KeyFilter, page: &Page) -> Result<Listed<Key>> {
        rows::check_page(page)?;
        let (only_organisation, only_project) = actor.view();
        let query = format!(
            "SELECT {} FROM keys k JOIN projects p ON p.id = k.project_id
             WHERE (CAST($2 AS TEXT) IS NULL
                    OR (k.created_ms, k.id) > (SELECT created_ms, id FROM keys WHERE id = $2))
               AND (CAST($3 AS TEXT) IS NULL OR p.organisation_id = $3)
               AND (CAST($4 AS TEXT) IS NULL OR p.id = $4)
               AND (CAST($5 AS TEXT) IS NULL OR p.organisation_id = $5)
               AND (CAST($6 AS TEXT) IS NULL OR p.id = $6)
             ORDER BY k.created_ms, k.id LIMIT $1",
            rows::KEY
        );
        let query = sqlx::query(AssertSqlSafe(query)).bind(i64::from(page.limit) + 1).bind(page.after.clone());
        let query = query.bind(only_organisation).bind(only_project);
        let query = query.bind(filter.organisation.clone()).bind(filter.project.clone());
        let mut connection = self.database.read().await?;
        rows::page(&mut connection, page, query, rows::key).await
    }

    /// Revokes a key: from now on it opens nothing, nor do sessions that were begun with it. Every key may revoke
    /// itself.
    ///
    /// # Errors
    /// [`Error::Missing`] if there is no such key that the actor sees, or it was revoked already; [`Error::NotAllowed`]
    /// if it may do more than the actor.
    pub async fn revoke_key(&self, actor: &Actor, id: &str) -> Result<()> {
        let (id, actor, now_ms) = (id.to_owned(), actor.clone(), self.now_ms());
        let written = self.database.write(move |connection| {
            async move {
                let text = format!(
                    "SELECT {} FROM keys k JOIN projects p ON p.id = k.project_id
                     WHERE k.id = $1 AND k.revoked_ms IS NULL",
                    rows::KEY
                );
                let query = sqlx::query(AssertSqlSafe(text)).bind(id.as_str());
                let found = query.fetch_optional(&mut *connection).await?.map(|row| rows::key(&row)).transpose()?;
                let Some(key) = found.filter(|key| sees(&actor, &key.organisation, &key.project)) else {
                    return Err(Error::Missing { what: "key", name: id });
                };
                if *id != *actor.name() {
                    actor.must_grant(key.role)?;
                }
                let query = sqlx::query("UPDATE keys SET revoked_ms = $1 WHERE id = $2");
                query.bind(now_ms).bind(id.as_str()).execute(&mut *connection).await?;
                log(connection, now_ms, &actor, "key revoked", &id).await
            }
            .boxed()
        });
        written.await
    }
}

fn sees(actor: &Actor, organisation: &str, project: &str) -> bool {
    let (only_organisation, only_project) = actor.view();
    only_organisation.is_none_or(|only| only == organisation) && only_project.is_none_or(|only| only == project)
}

/// Refuses a key that would do more than its maker.
fn within(actor: &Actor, project: &Project, new: &NewKey) -> Result<()> {
    let Some(maker) = actor.principal() else { return Ok(()) };
    if !sees(actor, &project.organisation, &project.id) {
        return Err(Error::Missing { what: "project", name: project.id.clone() });
    }
    actor.must_grant(new.role)?;
    if maker.role == Role::Developer && *maker.project != *project.id {
        return Err(actor.may_not("make keys of another project"));
    }
    if let Some(field) = new.scopes.beyond(&maker.scopes) {
        return Err(actor.may_not(&format!("make a key whose {field} reach further than its own")));
    }
    if let Some(end_ms) = maker.expires_ms
        && new.expires_ms.is_none_or(|expires_ms| expires_ms > end_ms)
    {
        return Err(actor.may_not(&format!("make a key that ends after its own end at {end_ms}")));
    }
    Ok(())
}

pub(super) async fn insert_key(
    connection: &mut Connection,
    minted: &Minted,
    new: &NewKey,
    created_ms: i64,
) -> Result<()> {
    sqlx::query(
        "INSERT INTO keys (id, project_id, name, hash, hint, role, scopes, data_region, compute_scope, created_ms,
                           expires_ms)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
    )
    .bind(minted.id.as_str())
    .bind(new.project.as_str())
    .bind(new.name.as_str())
    .bind(minted.hash.as_slice())
    .bind(minted.hint.as_str())
    .bind(new.role.name())
    .bind(rows::written(&new.scopes))
    .bind(new.data_region.as_deref())
    .bind(new.compute_scope.as_deref())
    .bind(created_ms)
    .bind(new.expires_ms.map(|ms| ms as i64))
    .execute(connection)
    .await?;
    Ok(())
}

fn check_region(field: &'static str, region: Option<&str>) -> Result<()> {
    let fits = |name: &str| {
        let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_,*:.".contains(&byte));
        !name.is_empty() && name.len() <= REGION_BYTES_MAX && plain
    };
    match region {
        Some(name) if !fits(name) => {
            let allowed = format!("1 to {REGION_BYTES_MAX} letters, digits and -_,*:.");
            Err(Error::Wrong { field, value: name.to_owned(), allowed })
        }
        _ => Ok(()),
    }
}
