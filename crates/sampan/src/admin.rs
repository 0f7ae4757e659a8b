//! `sampan admin`: projects and keys, in the database itself. Whoever may open it owns the place, so no key is asked
//! for; a server that runs beside it looks keys up on every request and follows at once.

use std::path::Path;

use anyhow::ensure;
use base::Clock;
use clap::{Args, Subcommand};
use comfy_table::{Table, presets};
use meta::{Directory, Key, NewKey, Project, Role, Scopes};
use serde_json::{Value, json};

use crate::accounts;
use crate::machine::{print, say};

/// Who did it, in the log of changes.
const ACTOR: &str = "command line";
/// Milliseconds of a day.
const DAY_MS: u64 = 24 * 3600 * 1000;
/// Days that a key may last; who wants longer sets no end.
const DAYS_MAX: u64 = 36_500;

#[derive(Subcommand)]
pub(crate) enum IdentityCommand {
    /// Projects: what uses models, kept apart from others.
    Project {
        #[command(subcommand)]
        command: ProjectCommand,
    },
    /// Keys of projects.
    Key {
        #[command(subcommand)]
        command: KeyCommand,
    },
    /// Make a further owner's key and keep it in DIR/admin.key.
    Recover,
}

#[derive(Subcommand)]
pub(crate) enum ProjectCommand {
    /// Make a project.
    New {
        /// Its name.
        name: String,
    },
    /// List projects.
    Ls,
    /// Close a project: its keys open nothing any more.
    Close {
        /// Its name.
        name: String,
    },
}

#[derive(Subcommand)]
pub(crate) enum KeyCommand {
    /// Make a key. It is printed once, and nowhere kept.
    New(NewArguments),
    /// List keys.
    Ls,
    /// Revoke a key: from now on it opens nothing.
    Revoke {
        /// Its id from `key ls`.
        id: String,
    },
}

#[derive(Args)]
pub(crate) struct NewArguments {
    /// Its name among people.
    name: String,
    /// The project that it acts for.
    #[arg(long, default_value = meta::FIRST)]
    project: String,
    /// owner, admin, developer, viewer or billing.
    #[arg(long, default_value = "developer")]
    role: String,
    /// Good for these models only, separated by commas; a trailing * stands for any ending.
    #[arg(long, value_delimiter = ',')]
    models: Vec<String>,
    /// Good for these APIs only: openai, anthropic, ollama, cohere, dashscope, admin.
    #[arg(long, value_delimiter = ',')]
    dialects: Vec<String>,
    /// Ends after so many days.
    #[arg(long)]
    days: Option<u64>,
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
        IdentityCommand::Project { command } => project(is_json, directory, command).await,
        IdentityCommand::Key { command: KeyCommand::New(new) } => new_key(is_json, directory, clock, new).await,
        IdentityCommand::Key { command: KeyCommand::Ls } => {
            let keys = directory.keys().await?;
            show(is_json, &["id", "project", "name", "role", "last digits", "state"], keys.iter().map(key_row))
        }
        IdentityCommand::Key { command: KeyCommand::Revoke { id } } => {
            directory.revoke_key(ACTOR, id).await?;
            say(&format!("revoked {id}"));
            Ok(())
        }
        IdentityCommand::Recover if first.is_some() => Ok(()),
        IdentityCommand::Recover => accounts::keep(&accounts::key_file(data), &directory.new_owner_key().await?),
    }
}

async fn project(is_json: bool, directory: &Directory, command: &ProjectCommand) -> anyhow::Result<()> {
    match command {
        ProjectCommand::New { name } => {
            let id = directory.new_project(ACTOR, name).await?;
            say(&format!("made the project {name} ({id})"));
        }
        ProjectCommand::Ls => {
            let projects = directory.projects().await?;
            return show(is_json, &["id", "name", "state"], projects.iter().map(project_row));
        }
        ProjectCommand::Close { name } => {
            directory.close_project(ACTOR, name).await?;
            say(&format!("closed the project {name}"));
        }
    }
    Ok(())
}

async fn new_key(is_json: bool, directory: &Directory, clock: &dyn Clock, new: &NewArguments) -> anyhow::Result<()> {
    if let Some(days) = new.days {
        ensure!((1..=DAYS_MAX).contains(&days), "--days {days}: 1 to {DAYS_MAX} are possible");
    }
    let wanted = NewKey {
        project: new.project.clone(),
        name: new.name.clone(),
        role: Role::parse(&new.role)?,
        scopes: Scopes { models: new.models.clone(), dialects: new.dialects.clone(), ..Scopes::default() },
        expires_ms: new.days.map(|days| clock.now_ms() + days * DAY_MS),
    };
    let shown = directory.new_key(ACTOR, wanted).await?;
    say(&format!("made the key {}; it is shown this once", shown.id));
    match is_json {
        true => print(&format!("{}\n", json!({"id": shown.id, "key": shown.text}))),
        false => print(&format!("{}\n", shown.text)),
    }
}

fn project_row(project: &Project) -> (Vec<String>, Value) {
    let state = if project.closed_ms.is_some() { "closed" } else { "open" };
    let row = json!({
        "id": project.id, "name": project.name, "created_ms": project.created_ms, "closed_ms": project.closed_ms,
    });
    (vec![project.id.clone(), project.name.clone(), state.to_owned()], row)
}

fn key_row(key: &Key) -> (Vec<String>, Value) {
    let state = if key.revoked_ms.is_some() { "revoked" } else { "good" };
    let row = json!({
        "id": key.id, "project": key.project, "name": key.name, "role": key.role.name(), "hint": key.hint,
        "models": key.scopes.models, "dialects": key.scopes.dialects, "created_ms": key.created_ms,
        "expires_ms": key.expires_ms, "revoked_ms": key.revoked_ms,
    });
    let cells = [&*key.id, &*key.project, &*key.name, key.role.name(), &*key.hint, state];
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
