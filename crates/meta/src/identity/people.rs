//! Organisations, projects and members: who there is.

use futures::FutureExt as _;
use sqlx::{AssertSqlSafe, Row as _};

use super::types::{Actor, Listed, Member, NewMember, Organisation, Page, Project};
use super::{Directory, check_name, log, rows};
use crate::{Connection, Error, Result, Role, secret};

/// Bytes of an address.
const EMAIL_BYTES_MAX: usize = 254;

impl Directory {
    /// Makes an organisation; its people see nothing of the others.
    ///
    /// # Errors
    /// [`Error::Exists`] if the name is taken; [`Error::NotAllowed`] if the actor does not run this installation.
    pub async fn new_organisation(&self, actor: &Actor, name: &str) -> Result<String> {
        check_name("organisation", name)?;
        actor.must_run_place("make an organisation")?;
        let id = secret::new_name(&*self.entropy, "org");
        let (made, name, actor, now_ms) = (id.clone(), name.to_owned(), actor.clone(), self.now_ms());
        let written = self.database.write(move |connection| {
            async move {
                let query = sqlx::query("INSERT INTO organisations (id, name, created_ms) VALUES ($1, $2, $3)");
                let query = query.bind(made.as_str()).bind(name.as_str()).bind(now_ms);
                rows::insert(connection, query, "organisation", &name).await?;
                log(connection, now_ms, &actor, "organisation made", &made).await
            }
            .boxed()
        });
        written.await?;
        Ok(id)
    }

    /// The organisations that the actor sees.
    ///
    /// # Errors
    /// If the page cannot be, or the database not be read.
    pub async fn organisations(&self, actor: &Actor, page: &Page) -> Result<Listed<Organisation>> {
        rows::check_page(page)?;
        let query = format!(
            "SELECT {} FROM organisations o
             WHERE (CAST($2 AS TEXT) IS NULL
                    OR (o.created_ms, o.id) > (SELECT created_ms, id FROM organisations WHERE id = $2))
               AND (CAST($3 AS TEXT) IS NULL OR o.id = $3)
             ORDER BY o.created_ms, o.id LIMIT $1",
            rows::ORGANISATION
        );
        let query = sqlx::query(AssertSqlSafe(query)).bind(i64::from(page.limit) + 1).bind(page.after.clone());
        let mut connection = self.database.read().await?;
        rows::page(&mut connection, page, query.bind(actor.view().0), rows::organisation).await
    }

    /// Closes an organisation: from now on the keys of its projects open nothing. The one that runs this installation
    /// cannot be closed.
    ///
    /// # Errors
    /// [`Error::Missing`] if there is no open organisation of this id.
    pub async fn close_organisation(&self, actor: &Actor, id: &str) -> Result<()> {
        actor.must_run_place("close an organisation")?;
        let (id, actor, now_ms) = (id.to_owned(), actor.clone(), self.now_ms());
        let written = self.database.write(move |connection| {
            async move {
                let query = sqlx::query("SELECT runs_place FROM organisations WHERE id = $1 AND closed_ms IS NULL");
                let Some(row) = query.bind(id.as_str()).fetch_optional(&mut *connection).await? else {
                    return Err(Error::Missing { what: "organisation", name: id });
                };
                if row.try_get::<i64, _>(0)? != 0 {
                    let allowed = "any but the one that runs this installation".to_owned();
                    return Err(Error::Wrong { field: "the organisation to close", value: id, allowed });
                }
                let query = sqlx::query("UPDATE organisations SET closed_ms = $1 WHERE id = $2");
                query.bind(now_ms).bind(id.as_str()).execute(&mut *connection).await?;
                log(connection, now_ms, &actor, "organisation closed", &id).await
            }
            .boxed()
        });
        written.await
    }

    /// Makes a project of an organisation.
    ///
    /// # Errors
    /// [`Error::Exists`] if the organisation has one of this name; [`Error::Missing`] if there is no open organisation
    /// of this id that the actor sees.
    pub async fn new_project(&self, actor: &Actor, organisation: &str, name: &str) -> Result<String> {
        check_name("project", name)?;
        actor.must_manage(organisation, "make a project")?;
        let id = secret::new_name(&*self.entropy, "proj");
        let (organisation, name) = (organisation.to_owned(), name.to_owned());
        let (made, actor, now_ms) = (id.clone(), actor.clone(), self.now_ms());
        let written = self.database.write(move |connection| {
            async move {
                rows::open_organisation(connection, &organisation).await?;
                rows::insert_project(connection, &organisation, &made, &name, now_ms).await?;
                log(connection, now_ms, &actor, "project made", &made).await
            }
            .boxed()
        });
        written.await?;
        Ok(id)
    }

    /// The projects that the actor sees, all or one organisation's.
    ///
    /// # Errors
    /// If the page cannot be, or the database not be read.
    pub async fn projects(&self, actor: &Actor, organisation: Option<&str>, page: &Page) -> Result<Listed<Project>> {
        rows::check_page(page)?;
        let (only_organisation, only_project) = actor.view();
        let query = format!(
            "SELECT {} FROM projects p
             WHERE (CAST($2 AS TEXT) IS NULL
                    OR (p.created_ms, p.id) > (SELECT created_ms, id FROM projects WHERE id = $2))
               AND (CAST($3 AS TEXT) IS NULL OR p.organisation_id = $3)
               AND (CAST($4 AS TEXT) IS NULL OR p.id = $4)
               AND (CAST($5 AS TEXT) IS NULL OR p.organisation_id = $5)
             ORDER BY p.created_ms, p.id LIMIT $1",
            rows::PROJECT
        );
        let query = sqlx::query(AssertSqlSafe(query)).bind(i64::from(page.limit) + 1).bind(page.after.clone());
        let query = query.bind(only_organisation).bind(only_project).bind(organisation);
        let mut connection = self.database.read().await?;
        rows::page(&mut connection, page, query, rows::project).await
    }

    /// The one open project of this id or name.
    ///
    /// # Errors
    /// [`Error::Missing`] if there is none, [`Error::Wrong`] if several organisations have one of this name.
    pub async fn find_project(&self, name: &str) -> Result<Project> {
        let query = "SELECT id, organisation_id, name, created_ms, closed_ms FROM projects
                     WHERE (id = $1 OR name = $1) AND closed_ms IS NULL ORDER BY id = $1 DESC, created_ms, id LIMIT 3";
        let mut connection = self.database.read().await?;
        let rows = sqlx::query(query).bind(name).fetch_all(&mut *connection).await?;
        let found: Vec<Project> = rows.iter().map(rows::project).collect::<Result<_>>()?;
        match found.as_slice() {
            [] => Err(Error::Missing { what: "project", name: name.to_owned() }),
            [first, ..] if first.id == name => Ok(first.clone()),
            [only] => Ok(only.clone()),
            several => {
                let ids: Vec<&str> = several.iter().map(|project| project.id.as_str()).collect();
                let allowed = format!("an id, for several organisations have one: {}", ids.join(", "));
                Err(Error::Wrong { field: "project", value: name.to_owned(), allowed })
            }
        }
    }

    /// The one organisation of this id or name.
    ///
    /// # Errors
    /// [`Error::Missing`] if there is none.
    pub async fn find_organisation(&self, name: &str) -> Result<Organisation> {
        let text = format!("SELECT {} FROM organisations o WHERE o.id = $1 OR o.name = $1", rows::ORGANISATION);
        let mut connection = self.database.read().await?;
        let row = sqlx::query(AssertSqlSafe(text)).bind(name).fetch_optional(&mut *connection).await?;
        let missing = || Error::Missing { what: "organisation", name: name.to_owned() };
        rows::organisation(&row.ok_or_else(missing)?)
    }

    /// Closes a project: from now on its keys open nothing.
    ///
    /// # Errors
    /// [`Error::Missing`] if there is no open project of this id that the actor sees.
    pub async fn close_project(&self, actor: &Actor, id: &str) -> Result<()> {
        let (id, actor, now_ms) = (id.to_owned(), actor.clone(), self.now_ms());
        let written = self.database.write(move |connection| {
            async move {
                let project = rows::open_project(connection, &id).await?;
                match actor.must_manage(&project.organisation, "close a project") {
                    Err(Error::Missing { .. }) => return Err(Error::Missing { what: "project", name: id }),
                    allowed => allowed?,
                }
                let query = sqlx::query("UPDATE projects SET closed_ms = $1 WHERE id = $2");
                query.bind(now_ms).bind(id.as_str()).execute(&mut *connection).await?;
                log(connection, now_ms, &actor, "project closed", &id).await
            }
            .boxed()
        });
        written.await
    }

    /// Lets somebody join an organisation.
    ///
    /// # Errors
    /// [`Error::Exists`] if a member has this address already; [`Error::NotAllowed`] if the actor may not give this
    /// role.
    pub async fn new_member(&self, actor: &Actor, new: NewMember) -> Result<String> {
        check_name("member", &new.name)?;
        let email = new.email.as_deref().map(checked_email).transpose()?;
        actor.must_manage(&new.organisation, "let somebody join")?;
        actor.must_grant(new.role)?;
        let id = secret::new_name(&*self.entropy, "mem");
        let (made, actor, now_ms) = (id.clone(), actor.clone(), self.now_ms());
        let written = self.database.write(move |connection| {
            async move {
                rows::open_organisation(connection, &new.organisation).await?;
                insert_member(connection, &made, &new, email.as_deref(), now_ms).await?;
                log(connection, now_ms, &actor, "member joined", &made).await
            }
            .boxed()
        });
        written.await?;
        Ok(id)
    }

    /// The members that the actor sees, all or one organisation's; those who were removed are not among them.
    ///
    /// # Errors
    /// [`Error::NotAllowed`] if the actor sees a single project only.
    pub async fn members(&self, actor: &Actor, organisation: Option<&str>, page: &Page) -> Result<Listed<Member>> {
        rows::check_page(page)?;
        let (only_organisation, only_project) = actor.view();
        if only_project.is_some() {
            return Err(actor.may_not("list members"));
        }
        let query = format!(
            "SELECT {} FROM members m
             WHERE (CAST($2 AS TEXT) IS NULL
                    OR (m.created_ms, m.id) > (SELECT created_ms, id FROM members WHERE id = $2))
               AND m.removed_ms IS NULL
               AND (CAST($3 AS TEXT) IS NULL OR m.organisation_id = $3)
               AND (CAST($4 AS TEXT) IS NULL OR m.organisation_id = $4)
             ORDER BY m.created_ms, m.id LIMIT $1",
            rows::MEMBER
        );
        let query = sqlx::query(AssertSqlSafe(query)).bind(i64::from(page.limit) + 1).bind(page.after.clone());
        let query = query.bind(only_organisation).bind(organisation);
        let mut connection = self.database.read().await?;
        rows::page(&mut connection, page, query, rows::member).await
    }

    /// Gives a member another role.
    ///
    /// # Errors
    /// [`Error::Missing`] if there is no such member; [`Error::NotAllowed`] if the actor may not take the old role or
    /// give the new one; [`Error::Wrong`] if the organisation would have no owner left.
    pub async fn change_member(&self, actor: &Actor, id: &str, role: Role) -> Result<()> {
        self.end_role(actor, id, Some(role)).await
    }

    /// Removes a member.
    ///
    /// # Errors
    /// As [`Self::change_member`].
    pub async fn remove_member(&self, actor: &Actor, id: &str) -> Result<()> {
        self.end_role(actor, id, None).await
    }

    async fn end_role(&self, actor: &Actor, id: &str, next: Option<Role>) -> Result<()> {
        let (id, actor, now_ms) = (id.to_owned(), actor.clone(), self.now_ms());
        let written = self.database.write(move |connection| {
            async move {
                let text = format!("SELECT {} FROM members m WHERE m.id = $1 AND m.removed_ms IS NULL", rows::MEMBER);
                let query = sqlx::query(AssertSqlSafe(text)).bind(id.as_str());
                let missing = || Error::Missing { what: "member", name: id.clone() };
                let member = rows::member(&query.fetch_optional(&mut *connection).await?.ok_or_else(missing)?)?;
                match actor.must_manage(&member.organisation, "change members") {
                    Err(Error::Missing { .. }) => return Err(missing()),
                    allowed => allowed?,
                }
                actor.must_grant(member.role)?;
                next.map_or(Ok(()), |role| actor.must_grant(role))?;
                if member.role == Role::Owner && next != Some(Role::Owner) {
                    must_have_other_owner(connection, &member).await?;
                }
                let (action, query) = match next {
                    Some(role) => (
                        "member's role changed",
                        sqlx::query("UPDATE members SET role = $1 WHERE id = $2").bind(role.name()),
                    ),
                    None => (
                        "member removed",
                        sqlx::query("UPDATE members SET removed_ms = $1, email = NULL WHERE id = $2").bind(now_ms),
                    ),
                };
                query.bind(id.as_str()).execute(&mut *connection).await?;
                log(connection, now_ms, &actor, action, &id).await
            }
            .boxed()
        });
        written.await
    }
}

async fn must_have_other_owner(connection: &mut Connection, member: &Member) -> Result<()> {
    let query = "SELECT COUNT(*) FROM members WHERE organisation_id = $1 AND role = 'owner' AND removed_ms IS NULL
                 AND id <> $2";
    let query = sqlx::query(query).bind(member.organisation.as_str()).bind(member.id.as_str());
    if query.fetch_one(connection).await?.try_get::<i64, _>(0)? > 0 {
        return Ok(());
    }
    let allowed = "another role for one owner at least stays owner".to_owned();
    Err(Error::Wrong { field: "the last owner of the organisation", value: member.id.clone(), allowed })
}

pub(super) async fn insert_member(
    connection: &mut Connection,
    id: &str,
    new: &NewMember,
    email: Option<&str>,
    created_ms: i64,
) -> Result<()> {
    let query = sqlx::query(
        "INSERT INTO members (id, organisation_id, name, email, role, created_ms) VALUES ($1, $2, $3, $4, $5, $6)",
    );
    let query = query.bind(id).bind(new.organisation.as_str()).bind(new.name.as_str());
    let query = query.bind(email).bind(new.role.name()).bind(created_ms);
    rows::insert(connection, query, "member", email.unwrap_or(&new.name)).await
}

/// An address in small letters.
fn checked_email(email: &str) -> Result<String> {
    let is_host = |host: &str| host.contains('.') && !host.contains('@');
    let has_parts = email.split_once('@').is_some_and(|(name, host)| !name.is_empty() && is_host(host));
    let is_plain = email.chars().all(|letter| letter.is_ascii_graphic());
    if has_parts && is_plain && email.len() <= EMAIL_BYTES_MAX {
        return Ok(email.to_ascii_lowercase());
    }
    let allowed = format!("NAME@HOST of at most {EMAIL_BYTES_MAX} bytes");
    Err(Error::Wrong { field: "email", value: email.to_owned(), allowed })
}
