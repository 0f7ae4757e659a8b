//! `sampan admin`: organisations, projects, members and keys, in the database itself. Whoever may open it owns the
//! place, so no key is asked for; a server that runs beside it looks keys up on every request and follows at once.

mod args;

use std::path::Path;

use anyhow::ensure;
use base::Clock;
use comfy_table::{Table, presets};
use meta::{
    Actor, Directory, Key, KeyFilter, Listed, Member, NewKey, NewMember, Organisation, Page, Project, Role, Scopes,
};
use serde_json::{Value, json};

use crate::accounts;
use crate::machine::{print, say};

pub(crate) use args::IdentityCommand;
use args::{KeyCommand, MakeMember, MemberCommand, NewArguments, OrganisationCommand, ProjectCommand};

/// Milliseconds of a day.
const DAY_MS: u64 = 24 * 3600 * 1000;
/// Days that a key may last; who wants longer sets no end.
const DAYS_MAX: u64 = 36_500;

/// Who did it, in the log of changes.
fn actor() -> Actor {
    Actor::machine("command line")
}

pub(crate) async fn run(
    data: &Path,
    is_json: bool,
    directory: &Directory,
    clock: &dyn Clock,
    command: &IdentityCommand,
) -> anyhow::Result<()> {
    // Whoever comes before the first server finds everything ready.
    let first = directory.first_start().await?;
    if let Some(shown) = &first {
        accounts::keep(&accounts::key_file(data), shown)?;
    }
    match command {
        IdentityCommand::Organisation { command } => organisation(is_json, directory, command).await,
        IdentityCommand::Project { command } => project(is_json, directory, command).await,
        IdentityCommand::Member { command } => member(is_json, directory, command).await,
        IdentityCommand::Key { command } => key(is_json, directory, clock, command).await,
        IdentityCommand::Recover if first.is_some() => Ok(()),
        IdentityCommand::Recover => accounts::keep(&accounts::key_file(data), &directory.new_owner_key().await?),
    }
}

async fn organisation(is_json: bool, directory: &Directory, command: &OrganisationCommand) -> anyhow::Result<()> {
    match command {
        OrganisationCommand::New { name } => {
            let id = directory.new_organisation(&actor(), name).await?;
            made(is_json, "organisation", name, &id)
        }
        OrganisationCommand::Ls => {
            let mut rows = Pages::new();
            while let Some(page) = rows.next.take() {
                rows.add(directory.organisations(&actor(), &page).await?, |row| &row.id);
            }
            show(is_json, &["id", "name", "state"], rows.items.iter().map(organisation_row))
        }
        OrganisationCommand::Close { name } => {
            let id = directory.find_organisation(name).await?.id;
            directory.close_organisation(&actor(), &id).await?;
            say(&format!("closed the organisation {name}"));
            Ok(())
        }
    }
}

async fn project(is_json: bool, directory: &Directory, command: &ProjectCommand) -> anyhow::Result<()> {
    match command {
        ProjectCommand::New { name, organisation } => {
            let organisation = directory.find_organisation(organisation).await?.id;
            let id = directory.new_project(&actor(), &organisation, name).await?;
            made(is_json, "project", name, &id)
        }
        ProjectCommand::Ls { organisation } => {
            let only = organisation_id(directory, organisation.as_deref()).await?;
            let mut rows = Pages::new();
            while let Some(page) = rows.next.take() {
                rows.add(directory.projects(&actor(), only.as_deref(), &page).await?, |row| &row.id);
            }
            show(is_json, &["id", "name", "organisation", "state"], rows.items.iter().map(project_row))
        }
        ProjectCommand::Close { name } => {
            let id = directory.find_project(name).await?.id;
            directory.close_project(&actor(), &id).await?;
            say(&format!("closed the project {name}"));
            Ok(())
        }
    }
}

async fn member(is_json: bool, directory: &Directory, command: &MemberCommand) -> anyhow::Result<()> {
    match command {
        MemberCommand::New(MakeMember { name, email, role, organisation }) => {
            let organisation = directory.find_organisation(organisation).await?.id;
            let (name, email, role) = (name.clone(), email.clone(), Role::parse(role)?);
            let shown = name.clone();
            let id = directory.new_member(&actor(), NewMember { organisation, name, email, role }).await?;
            made(is_json, "member", &shown, &id)
        }
        MemberCommand::Ls { organisation } => {
            let only = organisation_id(directory, organisation.as_deref()).await?;
            let mut rows = Pages::new();
            while let Some(page) = rows.next.take() {
                rows.add(directory.members(&actor(), only.as_deref(), &page).await?, |row| &row.id);
            }
            show(is_json, &["id", "name", "email", "role", "organisation"], rows.items.iter().map(member_row))
        }
        MemberCommand::Role { id, role } => {
            directory.change_member(&actor(), id, Role::parse(role)?).await?;
            say(&format!("{id} is {role}"));
            Ok(())
        }
        MemberCommand::Remove { id } => {
            directory.remove_member(&actor(), id).await?;
            say(&format!("removed {id}"));
            Ok(())
        }
    }
}

async fn key(is_json: bool, directory: &Directory, clock: &dyn Clock, command: &KeyCommand) -> anyhow::Result<()> {
    match command {
        KeyCommand::New(new) => new_key(is_json, directory, clock, new).await,
        KeyCommand::Ls { project } => {
            let project = match project {
                Some(name) => Some(directory.find_project(name).await?.id),
                None => None,
            };
            let filter = KeyFilter { organisation: None, project };
            let mut rows = Pages::new();
            while let Some(page) = rows.next.take() {
                rows.add(directory.keys(&actor(), &filter, &page).await?, |row| &row.id);
            }
            let now_ms = clock.now_ms();
            let head = ["id", "project", "name", "role", "key", "state", "last use"];
            show(is_json, &head, rows.items.iter().map(|key| key_row(key, now_ms)))
        }
        KeyCommand::Revoke { id } => {
            directory.revoke_key(&actor(), id).await?;
            say(&format!("revoked {id}"));
            Ok(())
        }
    }
}

async fn organisation_id(directory: &Directory, name: Option<&str>) -> anyhow::Result<Option<String>> {
    match name {
        Some(name) => Ok(Some(directory.find_organisation(name).await?.id)),
        None => Ok(None),
    }
}

/// The rows of a list, page by page.
struct Pages<T> {
    items: Vec<T>,
    /// What is to be asked for next.
    next: Option<Page>,
}

impl<T> Pages<T> {
    fn new() -> Self {
        Self { items: Vec::new(), next: Some(Page::default()) }
    }

    fn add(&mut self, found: Listed<T>, id: impl Fn(&T) -> &String) {
        let after = found.items.last().map(|last| id(last).clone());
        self.next = found.has_more.then(|| Page { after, ..Page::default() });
        self.items.extend(found.items);
    }
}

fn made(is_json: bool, what: &str, name: &str, id: &str) -> anyhow::Result<()> {
    say(&format!("made the {what} {name} ({id})"));
    match is_json {
        true => print(&format!("{}\n", json!({"id": id, "name": name}))),
        false => Ok(()),
    }
}

async fn new_key(is_json: bool, directory: &Directory, clock: &dyn Clock, new: &NewArguments) -> anyhow::Result<()> {
    if let Some(days) = new.days {
        ensure!((1..=DAYS_MAX).contains(&days), "--days {days}: 1 to {DAYS_MAX} are possible");
    }
    let wanted = NewKey {
        project: directory.find_project(&new.project).await?.id,
        name: new.name.clone(),
        role: Role::parse(&new.role)?,
        scopes: Scopes { models: new.models.clone(), dialects: new.dialects.clone(), buckets: new.buckets.clone() },
        data_region: new.data_region.clone(),
        compute_scope: new.compute_scope.clone(),
        expires_ms: new.days.map(|days| clock.now_ms() + days * DAY_MS),
    };
    let shown = directory.new_key(&actor(), wanted).await?;
    say(&format!("made the key {}; it is shown this once", shown.id));
    match is_json {
        true => print(&format!("{}\n", json!({"id": shown.id, "key": shown.text}))),
        false => print(&format!("{}\n", shown.text)),
    }
}

type Row = (Vec<String>, Value);

fn organisation_row(organisation: &Organisation) -> Row {
    let Organisation { id, name, runs_place, created_ms, closed_ms } = organisation;
    let row = json!({
        "id": id, "name": name, "runs_place": runs_place, "created_ms": created_ms, "closed_ms": closed_ms,
    });
    let state = match (closed_ms, runs_place) {
        (Some(_), _) => "closed",
        (None, true) => "runs this installation",
        (None, false) => "open",
    };
    (vec![id.clone(), name.clone(), state.to_owned()], row)
}

fn project_row(project: &Project) -> Row {
    let Project { id, organisation, name, created_ms, closed_ms } = project;
    let row = json!({
        "id": id, "organisation": organisation, "name": name, "created_ms": created_ms, "closed_ms": closed_ms,
    });
    let state = if closed_ms.is_some() { "closed" } else { "open" };
    (vec![id.clone(), name.clone(), organisation.clone(), state.to_owned()], row)
}

fn member_row(member: &Member) -> Row {
    let Member { id, organisation, name, email, role, created_ms, removed_ms: _ } = member;
    let row = json!({
        "id": id, "organisation": organisation, "name": name, "email": email, "role": role.name(),
        "created_ms": created_ms,
    });
    let email = email.clone().unwrap_or_default();
    (vec![id.clone(), name.clone(), email, role.name().to_owned(), organisation.clone()], row)
}

fn key_row(key: &Key, now_ms: u64) -> Row {
    let state = match key {
        Key { revoked_ms: Some(_), .. } => "revoked",
        Key { expires_ms: Some(end_ms), .. } if *end_ms <= now_ms => "expired",
        Key { .. } => "good",
    };
    let row = json!({
        "id": key.id, "project": key.project_name, "project_id": key.project, "organisation": key.organisation,
        "name": key.name, "role": key.role.name(), "hint": key.hint, "models": key.scopes.models,
        "dialects": key.scopes.dialects, "buckets": key.scopes.buckets, "data_region": key.data_region,
        "compute_scope": key.compute_scope, "created_ms": key.created_ms, "expires_ms": key.expires_ms,
        "revoked_ms": key.revoked_ms, "used_ms": key.used_ms,
    });
    let hint = format!("{}…{}", meta::KEY_PREFIX, key.hint);
    let used = key.used_ms.map_or_else(|| "never".to_owned(), ledger::calendar::show_time);
    let cells = [&*key.id, &*key.project_name, &*key.name, key.role.name(), &*hint, state, &*used];
    (cells.map(str::to_owned).to_vec(), row)
}

/// A table for people, or a JSON object a line for scripts.
fn show(is_json: bool, head: &[&str], rows: impl Iterator<Item = (Vec<String>, Value)>) -> anyhow::Result<()> {
    if is_json {
        return print(&rows.map(|(_, row)| format!("{row}\n")).collect::<String>());
    }
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(head);
    for (cells, _) in rows {
        table.add_row(cells);
    }
    print(&format!("{table}\n"))
}
