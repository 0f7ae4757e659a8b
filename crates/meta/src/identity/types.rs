//! Organisations, projects, members and keys, as whoever asks for them sees them.

use std::sync::Arc;

use crate::{Error, Result, Role, Scopes};

/// Rows of one page.
pub const PAGE_MAX: u32 = 1000;

/// A company or a team: it has members and projects, and sees nothing of another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Organisation {
    /// Its name in requests and tables, `org_…`.
    pub id: String,
    /// Its name among people.
    pub name: String,
    /// Whether its owners and admins run this installation, and see the others.
    pub runs_place: bool,
    /// When it was made.
    pub created_ms: u64,
    /// When it was closed, if it was: the keys of its projects open nothing any more.
    pub closed_ms: Option<u64>,
}

/// A project: what uses models, and pays for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Project {
    /// Its name in requests and tables, `proj_…`.
    pub id: String,
    /// The organisation's id.
    pub organisation: String,
    /// Its name among people, once in its organisation.
    pub name: String,
    /// When it was made.
    pub created_ms: u64,
    /// When it was closed, if it was: its keys open nothing any more.
    pub closed_ms: Option<u64>,
}

/// Somebody of an organisation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its name in requests and tables, `mem_…`.
    pub id: String,
    /// The organisation's id.
    pub organisation: String,
    /// The name among people.
    pub name: String,
    /// The address by which a sign-in is recognised, in small letters.
    pub email: Option<String>,
    /// What they may do.
    pub role: Role,
    /// When they came.
    pub created_ms: u64,
    /// When they were removed, if they were.
    pub removed_ms: Option<u64>,
}

/// What is asked for when somebody joins.
#[derive(Debug, Clone)]
pub struct NewMember {
    /// The organisation's id.
    pub organisation: String,
    /// The name among people.
    pub name: String,
    /// The address by which a sign-in is recognised.
    pub email: Option<String>,
    /// What they may do.
    pub role: Role,
}

/// A key as it is kept: nobody can make its text again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// Its name in logs and tables, `key_…`.
    pub id: String,
    /// The project's id.
    pub project: String,
    /// The project's name.
    pub project_name: String,
    /// The organisation's id.
    pub organisation: String,
    /// Its name among people.
    pub name: String,
    /// The last digits of its text, to tell keys apart.
    pub hint: String,
    /// What its bearer may do.
    pub role: Role,
    /// What it is good for.
    pub scopes: Scopes,
    /// Where its data may lie, if it says so.
    pub data_region: Option<String>,
    /// Where its requests may be computed, if it says so.
    pub compute_scope: Option<String>,
    /// When it was made.
    pub created_ms: u64,
    /// When it ends by itself.
    pub expires_ms: Option<u64>,
    /// When it was revoked.
    pub revoked_ms: Option<u64>,
    /// When it was last used, to the minute.
    pub used_ms: Option<u64>,
}

/// What is asked for when a key is made.
#[derive(Debug, Clone)]
pub struct NewKey {
    /// The project's id.
    pub project: String,
    /// Its name among people.
    pub name: String,
    /// What its bearer may do.
    pub role: Role,
    /// What it is good for.
    pub scopes: Scopes,
    /// Where its data may lie; nothing: where the project's may.
    pub data_region: Option<String>,
    /// Where its requests may be computed; nothing: where the project's may.
    pub compute_scope: Option<String>,
    /// When it ends by itself.
    pub expires_ms: Option<u64>,
}

impl NewKey {
    /// A key without limits of its own.
    #[must_use]
    pub fn plain(project: &str, name: &str, role: Role) -> Self {
        Self {
            project: project.to_owned(),
            name: name.to_owned(),
            role,
            scopes: Scopes::default(),
            data_region: None,
            compute_scope: None,
            expires_ms: None,
        }
    }
}

/// A secret at the only moment when its text is known.
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

/// Whoever bears a key, or has signed in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// The key's name in logs; a member's who signed in without one.
    pub key: Arc<str>,
    /// The project that it acts for.
    pub project: Arc<str>,
    /// The organisation of the project.
    pub organisation: Arc<str>,
    /// What it may do.
    pub role: Role,
    /// What its key is good for.
    pub scopes: Scopes,
    /// Whether its organisation runs this installation.
    pub runs_place: bool,
    /// When its key ends by itself.
    pub expires_ms: Option<u64>,
}

/// Who asks for a change or a list, and how far they may go.
#[derive(Debug, Clone)]
pub struct Actor {
    name: Arc<str>,
    bearer: Option<Arc<Principal>>,
}

impl Actor {
    /// Whoever may open the database itself; the name stands in the log of changes.
    #[must_use]
    pub fn machine(name: &str) -> Self {
        Self { name: name.into(), bearer: None }
    }

    /// The bearer of a key, within what the key may do.
    #[must_use]
    pub fn bearer(principal: Arc<Principal>) -> Self {
        Self { name: Arc::clone(&principal.key), bearer: Some(principal) }
    }

    /// The name in the log of changes.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn principal(&self) -> Option<&Principal> {
        self.bearer.as_deref()
    }

    /// Whether they look after whatever organisation there is.
    pub(crate) fn runs_place(&self) -> bool {
        self.bearer.as_ref().is_none_or(|bearer| bearer.runs_place && bearer.role.manages())
    }

    /// The only organisation and the only project that they see.
    pub(crate) fn view(&self) -> (Option<String>, Option<String>) {
        match &self.bearer {
            None => (None, None),
            Some(bearer) if bearer.runs_place && bearer.role.sees_all() => (None, None),
            Some(bearer) => {
                let project = (!bearer.role.sees_all()).then(|| bearer.project.to_string());
                (Some(bearer.organisation.to_string()), project)
            }
        }
    }

    /// Whether they see anything of this organisation.
    pub(crate) fn sees_organisation(&self, id: &str) -> bool {
        self.view().0.is_none_or(|only| only == id)
    }

    /// Refuses whoever does not look after this organisation. To whom it is foreign, it does not exist.
    pub(crate) fn must_manage(&self, organisation: &str, what: &str) -> Result<()> {
        match &self.bearer {
            None => Ok(()),
            Some(_) if !self.sees_organisation(organisation) => {
                Err(Error::Missing { what: "organisation", name: organisation.to_owned() })
            }
            Some(bearer) if bearer.role.manages() => Ok(()),
            Some(_) => Err(self.may_not(what)),
        }
    }

    /// Refuses whoever does not run this installation.
    pub(crate) fn must_run_place(&self, what: &str) -> Result<()> {
        if self.runs_place() { Ok(()) } else { Err(self.may_not(what)) }
    }

    /// Refuses whoever may not give or take this role.
    pub(crate) fn must_grant(&self, role: Role) -> Result<()> {
        match &self.bearer {
            Some(bearer) if !bearer.role.may_grant(role) => {
                Err(self.may_not(&format!("give or take the role {}", role.name())))
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn may_not(&self, what: &str) -> Error {
        let role = self.bearer.as_ref().map_or("machine", |bearer| bearer.role.name());
        Error::NotAllowed { who: format!("{} ({role})", self.name), what: what.to_owned() }
    }
}

/// Which rows of a list.
#[derive(Debug, Clone)]
pub struct Page {
    /// The id of the last row that was seen.
    pub after: Option<String>,
    /// Rows at most, 1 to [`PAGE_MAX`].
    pub limit: u32,
}

impl Default for Page {
    fn default() -> Self {
        Self { after: None, limit: PAGE_MAX }
    }
}

/// Some rows of a list, the oldest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed<T> {
    /// The rows.
    pub items: Vec<T>,
    /// Whether others follow.
    pub has_more: bool,
}

/// Which keys are listed.
#[derive(Debug, Clone, Default)]
pub struct KeyFilter {
    /// Of one organisation, by id.
    pub organisation: Option<String>,
    /// Of one project, by id.
    pub project: Option<String>,
}
