//! Applications and decisions.

use std::fmt::Write as _;
use std::sync::Arc;

use base::Entropy;
use futures::FutureExt as _;
use meta::{AnyRow, Connection, Row as _};
use serde::Serialize;

use super::{CATALYST, Company, Programme, check_name};
use crate::account::{AccountId, Unit};
use crate::books::Operation;
use crate::calendar::DAY_MS;
use crate::ledger::book;
use crate::money::dollars;
use crate::{Error, Ledger, Result, Transaction};

/// Rows of one list.
pub(super) const LISTED_MAX: i64 = 10_000;
/// Bytes of a note or reason.
const NOTE_BYTES_MAX: usize = 4000;

/// Programmes with their applications and grants. Clones share the books.
#[derive(Clone)]
pub struct Programmes {
    pub(super) ledger: Ledger,
    entropy: Arc<dyn Entropy>,
}

/// What a company asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Application {
    /// The programme.
    pub programme: String,
    /// The project that will use it.
    pub project: String,
    /// Who asks.
    pub company: Company,
    /// Tokens.
    pub tokens: i64,
    /// Micro-dollars.
    pub micro: i64,
    /// What for.
    pub note: String,
}

/// What became of an application.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ApplicationState {
    /// It waits for a reviewer.
    Submitted,
    /// It became a grant.
    Granted,
    /// It was rejected.
    Rejected,
}

/// An application as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Filed {
    pub id: String,
    pub programme: String,
    pub project: String,
    pub company: Company,
    pub tokens: i64,
    pub micro: i64,
    pub note: String,
    pub state: ApplicationState,
    pub reviewer: String,
    pub reason: String,
    pub created_ms: i64,
}

/// What a reviewer grants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// Tokens.
    pub tokens: i64,
    /// Micro-dollars.
    pub micro: i64,
    /// Why.
    pub reason: String,
}

impl Programmes {
    /// The programmes of these books.
    #[must_use]
    pub fn new(ledger: Ledger, entropy: Arc<dyn Entropy>) -> Self {
        Self { ledger, entropy }
    }

    /// Defines the example where no programme is defined.
    ///
    /// # Errors
    /// If the database cannot be written.
    pub async fn first_start(&self) -> Result<()> {
        if self.list().await?.is_empty() { self.define("first start", CATALYST).await.map(|_| ()) } else { Ok(()) }
    }

    /// Defines a programme, or defines it anew; grants that were made stay as they are.
    ///
    /// # Errors
    /// If the text is no programme.
    pub async fn define(&self, actor: &str, text: &str) -> Result<Programme> {
        let programme = Programme::parse(text)?;
        let (name, text, trail) = (programme.name.clone(), text.to_owned(), self.trail(actor));
        let written = self.ledger.database.write(move |connection| {
            async move {
                let query = "INSERT INTO programmes (name, definition) VALUES ($1, $2)
                             ON CONFLICT (name) DO UPDATE SET definition = excluded.definition";
                meta::query(query).bind(name.as_str()).bind(text.as_str()).execute(&mut *connection).await?;
                trail.add(connection, "programme defined", &name, &text).await
            }
            .boxed()
        });
        written.await?;
        Ok(programme)
    }

    /// All programmes.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn list(&self) -> Result<Vec<Programme>> {
        let mut connection = self.ledger.database.read().await?;
        let query = meta::query("SELECT definition FROM programmes ORDER BY name LIMIT $1").bind(LISTED_MAX);
        let rows = query.fetch_all(&mut *connection).await?;
        rows.iter().map(|row| Programme::parse(&row.try_get::<String, _>(0)?)).collect()
    }

    /// Files an application.
    ///
    /// # Errors
    /// [`Error::NotEligible`] with every reason; [`Error::Wrong`] if it asks for more than there is.
    pub async fn file(&self, actor: &str, application: Application) -> Result<String> {
        check_note(&application.note)?;
        check_note(&application.company.name)?;
        let (id, trail) = (self.new_id("app"), self.trail(actor));
        let filed = id.clone();
        let written = self
            .ledger
            .database
            .write(move |connection| async move { file(connection, &filed, &application, &trail).await }.boxed());
        written.await?;
        Ok(id)
    }

    /// Applications, the latest first.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn applications(&self) -> Result<Vec<Filed>> {
        let mut connection = self.ledger.database.read().await?;
        let query = "SELECT id, programme, project, company, tokens, micro, note, state, reviewer, reason, created_ms
                     FROM programme_applications ORDER BY created_ms DESC, id LIMIT $1";
        meta::query(query).bind(LISTED_MAX).fetch_all(&mut *connection).await?.iter().map(filed).collect()
    }

    /// Grants an application, and releases the tranches that wait for nothing. Returns the grant's name.
    ///
    /// # Errors
    /// [`Error::State`] if it was decided already; [`Error::Wrong`] if it is more than the programme gives.
    pub async fn grant(&self, actor: &str, application: &str, decision: Decision) -> Result<String> {
        check_note(&decision.reason)?;
        let (grant, trail, application) = (self.new_id("grant"), self.trail(actor), application.to_owned());
        let made = grant.clone();
        let written = self.ledger.database.write(move |connection| {
            async move { grant_application(connection, &made, &application, &decision, &trail).await }.boxed()
        });
        written.await?;
        Ok(grant)
    }

    /// Rejects an application.
    ///
    /// # Errors
    /// [`Error::State`] if it was decided already.
    pub async fn reject(&self, actor: &str, application: &str, reason: &str) -> Result<()> {
        check_note(reason)?;
        let (application, reason, trail) = (application.to_owned(), reason.to_owned(), self.trail(actor));
        let written = self.ledger.database.write(move |connection| {
            async move {
                decide(connection, &application, "rejected", &reason, &trail).await?;
                trail.add(connection, "application rejected", &application, &reason).await
            }
            .boxed()
        });
        written.await
    }

    /// Releases a tranche, because its milestone was reached.
    ///
    /// # Errors
    /// [`Error::State`] if it came already or the grant was taken back.
    pub async fn release(&self, actor: &str, grant: &str, number: i64, evidence: &str) -> Result<()> {
        check_note(evidence)?;
        let (grant, evidence, trail) = (grant.to_owned(), evidence.to_owned(), self.trail(actor));
        let written = self.ledger.database.write(move |connection| {
            async move {
                let (_, state) = owner(connection, &grant).await?;
                if state != "active" {
                    return Err(Error::State { what: "grant", name: grant, state });
                }
                release(connection, &grant, number, &evidence, &trail).await
            }
            .boxed()
        });
        written.await
    }

    /// Takes a grant back: what is left of it, and what running requests do not use. What has not come does not come.
    ///
    /// # Errors
    /// [`Error::State`] if it was taken back already.
    pub async fn claw_back(&self, actor: &str, grant: &str, reason: &str) -> Result<()> {
        check_note(reason)?;
        if reason.is_empty() {
            return Err(Error::Wrong { field: "reason", value: String::new(), allowed: "a reason".to_owned() });
        }
        let (grant, reason, trail) = (grant.to_owned(), reason.to_owned(), self.trail(actor));
        let written = self
            .ledger
            .database
            .write(move |connection| async move { claw_back(connection, &grant, &reason, &trail).await }.boxed());
        written.await
    }

    fn trail(&self, actor: &str) -> Trail {
        Trail { actor: actor.to_owned(), now_ms: self.ledger.clock.now_ms() }
    }

    fn new_id(&self, prefix: &str) -> String {
        let mut bytes = [0; 8];
        self.entropy.fill(&mut bytes);
        let mut id = format!("{prefix}_");
        for byte in bytes {
            write!(id, "{byte:02x}").expect("a string takes every digit");
        }
        id
    }
}

/// Who does something, and when.
struct Trail {
    actor: String,
    now_ms: u64,
}

impl Trail {
    async fn add(&self, connection: &mut Connection, action: &str, subject: &str, detail: &str) -> Result<()> {
        let query = "INSERT INTO programme_trail (at_ms, actor, action, subject, detail) VALUES ($1, $2, $3, $4, $5)";
        let query = meta::query(query).bind(self.now_ms as i64).bind(self.actor.as_str());
        query.bind(action).bind(subject).bind(detail).execute(connection).await?;
        Ok(())
    }

    fn transaction(&self, name: String, operation: Operation, memo: &str) -> Transaction {
        Transaction { name, operation, actor: self.actor.clone(), memo: memo.to_owned() }
    }
}

async fn programme(connection: &mut Connection, name: &str) -> Result<Programme> {
    check_name("programme", name)?;
    let query = meta::query("SELECT definition FROM programmes WHERE name = $1").bind(name);
    let row = query.fetch_optional(connection).await?;
    let row = row.ok_or_else(|| Error::Missing { what: "programme", name: name.to_owned() })?;
    Programme::parse(&row.try_get::<String, _>(0)?)
}

async fn file(connection: &mut Connection, id: &str, application: &Application, trail: &Trail) -> Result<()> {
    let programme = programme(connection, &application.programme).await?;
    programme.check_amounts(application.tokens, application.micro)?;
    let company = &application.company;
    let query = "SELECT g.id FROM programme_grants g JOIN programme_applications a ON a.id = g.application_id
                 WHERE g.programme = $1 AND (g.project = $2 OR LOWER(a.company_name) = LOWER($3)) LIMIT 1";
    let query = meta::query(query).bind(programme.name.as_str()).bind(application.project.as_str());
    let had_grant = query.bind(company.name.trim()).fetch_optional(&mut *connection).await?.is_some();
    let reasons = programme.against(company, had_grant, trail.now_ms);
    if !reasons.is_empty() {
        return Err(Error::NotEligible { programme: programme.name, reasons });
    }
    meta::query(
        "INSERT INTO programme_applications (id, programme, project, company, company_name, tokens, micro, note, state,
         reviewer, reason, created_ms) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 'submitted', '', '', $9)",
    )
    .bind(id)
    .bind(programme.name.as_str())
    .bind(application.project.as_str())
    .bind(serde_json::to_string(company).expect("strings become JSON"))
    .bind(company.name.trim())
    .bind(application.tokens)
    .bind(application.micro)
    .bind(application.note.as_str())
    .bind(trail.now_ms as i64)
    .execute(&mut *connection)
    .await?;
    trail.add(connection, "application filed", id, &application.project).await
}

/// Decides an application that waits.
async fn decide(connection: &mut Connection, id: &str, state: &str, reason: &str, trail: &Trail) -> Result<()> {
    let query = "UPDATE programme_applications SET state = $1, reviewer = $2, reason = $3
                 WHERE id = $4 AND state = 'submitted'";
    let query = meta::query(query).bind(state).bind(trail.actor.as_str()).bind(reason).bind(id);
    if query.execute(&mut *connection).await?.rows_affected() == 1 {
        return Ok(());
    }
    let row = meta::query("SELECT state FROM programme_applications WHERE id = $1").bind(id);
    match row.fetch_optional(connection).await? {
        Some(row) => Err(Error::State { what: "application", name: id.to_owned(), state: row.try_get(0)? }),
        None => Err(Error::Missing { what: "application", name: id.to_owned() }),
    }
}

async fn grant_application(
    connection: &mut Connection,
    grant: &str,
    application: &str,
    decision: &Decision,
    trail: &Trail,
) -> Result<()> {
    decide(connection, application, "granted", &decision.reason, trail).await?;
    let row = meta::query("SELECT programme, project FROM programme_applications WHERE id = $1").bind(application);
    let row = row.fetch_one(&mut *connection).await?;
    let (name, project): (String, String) = (row.try_get(0)?, row.try_get(1)?);
    let programme = programme(connection, &name).await?;
    programme.check_amounts(decision.tokens, decision.micro)?;
    let query = "SELECT id FROM programme_grants WHERE programme = $1 AND project = $2 LIMIT 1";
    let query = meta::query(query).bind(name.as_str()).bind(project.as_str());
    if !programme.rules.again && query.fetch_optional(&mut *connection).await?.is_some() {
        let reasons = vec![format!("the project {project} had a grant of {name} already")];
        return Err(Error::NotEligible { programme: name, reasons });
    }
    meta::query(
        "INSERT INTO programme_grants (id, application_id, programme, project, tokens, micro, state, created_ms)
         VALUES ($1, $2, $3, $4, $5, $6, 'active', $7)",
    )
    .bind(grant)
    .bind(application)
    .bind(name)
    .bind(project)
    .bind(decision.tokens)
    .bind(decision.micro)
    .bind(trail.now_ms as i64)
    .execute(&mut *connection)
    .await?;
    let parts = programme.split(decision.tokens, decision.micro);
    for (number, (tranche, (tokens, micro))) in programme.tranches.iter().zip(parts).enumerate() {
        meta::query(
            "INSERT INTO programme_tranches (grant_id, number, tokens, micro, milestone, valid_days, state, released_ms,
             expires_ms) VALUES ($1, $2, $3, $4, $5, $6, 'waiting', 0, 0)",
        )
        .bind(grant)
        .bind(number as i64 + 1)
        .bind(tokens)
        .bind(micro)
        .bind(tranche.milestone.as_str())
        .bind(tranche.valid_days as i64)
        .execute(&mut *connection)
        .await?;
    }
    let detail = format!("{application}: {} tokens, {} dollars", decision.tokens, dollars(decision.micro));
    trail.add(connection, "application granted", grant, &detail).await?;
    for number in (1..).zip(&programme.tranches).filter(|(_, tranche)| tranche.milestone.is_empty()).map(|(n, _)| n) {
        release(connection, grant, number, "no milestone", trail).await?;
    }
    Ok(())
}

/// Whose a grant is, and its state.
async fn owner(connection: &mut Connection, grant: &str) -> Result<(String, String)> {
    let query = meta::query("SELECT project, state FROM programme_grants WHERE id = $1").bind(grant);
    let row = query.fetch_optional(connection).await?;
    let row = row.ok_or_else(|| Error::Missing { what: "grant", name: grant.to_owned() })?;
    Ok((row.try_get(0)?, row.try_get(1)?))
}

/// The account of a tranche.
pub(super) fn account(grant: &str, number: i64, unit: Unit) -> AccountId {
    AccountId::grant(&format!("{grant}-{number}"), unit)
}

async fn release(connection: &mut Connection, grant: &str, number: i64, evidence: &str, trail: &Trail) -> Result<()> {
    let (project, _) = owner(connection, grant).await?;
    let query = "SELECT tokens, micro, valid_days, state FROM programme_tranches WHERE grant_id = $1 AND number = $2";
    let row = meta::query(query).bind(grant).bind(number).fetch_optional(&mut *connection).await?;
    let row = row.ok_or_else(|| Error::Missing { what: "tranche", name: format!("{grant} {number}") })?;
    let state: String = row.try_get(3)?;
    if state != "waiting" {
        return Err(Error::State { what: "tranche", name: format!("{grant} {number}"), state });
    }
    let expires_ms = trail.now_ms + row.try_get::<i64, _>(2)? as u64 * DAY_MS;
    for (unit, amount) in [(Unit::Token, row.try_get::<i64, _>(0)?), (Unit::Micro, row.try_get::<i64, _>(1)?)] {
        if amount > 0 {
            let account = account(grant, number, unit);
            let name = format!("release:{account}");
            let (project, starts_ms, expires_ms) = (project.clone(), trail.now_ms, Some(expires_ms));
            let operation = Operation::Grant { account, project, amount, starts_ms, expires_ms };
            book(connection, &trail.transaction(name, operation, evidence), trail.now_ms).await?;
        }
    }
    let query = "UPDATE programme_tranches SET state = 'released', released_ms = $1, expires_ms = $2
                 WHERE grant_id = $3 AND number = $4";
    let query = meta::query(query).bind(trail.now_ms as i64).bind(expires_ms as i64).bind(grant).bind(number);
    query.execute(&mut *connection).await?;
    trail.add(connection, "tranche released", grant, &format!("{number}: {evidence}")).await
}

async fn claw_back(connection: &mut Connection, grant: &str, reason: &str, trail: &Trail) -> Result<()> {
    let (_, state) = owner(connection, grant).await?;
    if state != "active" {
        return Err(Error::State { what: "grant", name: grant.to_owned(), state });
    }
    let query = "SELECT number, tokens, micro FROM programme_tranches WHERE grant_id = $1 AND state = 'released'";
    for row in meta::query(query).bind(grant).fetch_all(&mut *connection).await? {
        let number: i64 = row.try_get(0)?;
        for (unit, amount) in [(Unit::Token, row.try_get::<i64, _>(1)?), (Unit::Micro, row.try_get::<i64, _>(2)?)] {
            if amount > 0 {
                let account = account(grant, number, unit);
                let name = format!("claw back:{account}");
                let operation = Operation::ClawBack { account };
                book(connection, &trail.transaction(name, operation, reason), trail.now_ms).await?;
            }
        }
    }
    let query = "UPDATE programme_tranches SET state = 'cancelled' WHERE grant_id = $1 AND state = 'waiting'";
    meta::query(query).bind(grant).execute(&mut *connection).await?;
    let query = meta::query("UPDATE programme_grants SET state = 'clawed back' WHERE id = $1").bind(grant);
    query.execute(&mut *connection).await?;
    trail.add(connection, "grant clawed back", grant, reason).await
}

fn filed(row: &AnyRow) -> Result<Filed> {
    let company: String = row.try_get(3)?;
    let state: String = row.try_get(7)?;
    Ok(Filed {
        id: row.try_get(0)?,
        programme: row.try_get(1)?,
        project: row.try_get(2)?,
        company: serde_json::from_str(&company).map_err(|error| Error::row("an application", error))?,
        tokens: row.try_get(4)?,
        micro: row.try_get(5)?,
        note: row.try_get(6)?,
        state: match state.as_str() {
            "submitted" => ApplicationState::Submitted,
            "granted" => ApplicationState::Granted,
            "rejected" => ApplicationState::Rejected,
            _ => return Err(Error::row("an application", format!("the state {state:?}"))),
        },
        reviewer: row.try_get(8)?,
        reason: row.try_get(9)?,
        created_ms: row.try_get(10)?,
    })
}

fn check_note(text: &str) -> Result<()> {
    if text.len() <= NOTE_BYTES_MAX {
        return Ok(());
    }
    let value = format!("{} bytes", text.len());
    Err(Error::Wrong { field: "a note, name or reason", value, allowed: format!("up to {NOTE_BYTES_MAX} bytes") })
}
