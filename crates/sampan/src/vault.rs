//! Secrets that are kept sealed: the key file, and `sampan admin key-pair | secret`.

use std::io::{IsTerminal as _, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, ensure};
use base::{Clock, Entropy as _};
use clap::{Args, Subcommand};
use meta::{Database, NewPair, Pair, SEAL_KEY_BYTES, Scopes, Vault};
use serde_json::json;

use crate::accounts;
use crate::machine::{SystemEntropy, print, say};
use crate::model::table;

/// Who did it, in the log of changes.
const ACTOR: &str = "command line";
/// Milliseconds of a day.
const DAY_MS: u64 = 24 * 3600 * 1000;
/// Days that a pair may last; who wants longer sets no end.
const DAYS_MAX: u64 = 36_500;
/// Bytes of a secret from stdin.
const SECRET_BYTES_MAX: u64 = 4096;

#[derive(Subcommand)]
pub(crate) enum VaultCommand {
    /// Key pairs of projects, which sign requests to vector buckets (Amazon's and Alibaba Cloud's signatures).
    KeyPair {
        #[command(subcommand)]
        command: PairCommand,
    },
    /// Secrets of upstream pools, which a policy calls sealed:NAME.
    Secret {
        #[command(subcommand)]
        command: SecretCommand,
    },
}

#[derive(Subcommand)]
pub(crate) enum PairCommand {
    /// Make a pair. Its secret is printed once.
    New(NewArguments),
    /// List pairs.
    Ls,
    /// Revoke a pair: from now on nothing that it signs counts.
    Revoke {
        /// From `key-pair ls`.
        access_key: String,
    },
}

#[derive(Args)]
pub(crate) struct NewArguments {
    /// Its name among people.
    name: String,
    /// The project that it acts for, by name or id.
    #[arg(long, default_value = meta::FIRST)]
    project: String,
    /// Good for these buckets only, separated by commas; a trailing * stands for any ending.
    #[arg(long, value_delimiter = ',')]
    buckets: Vec<String>,
    /// Good for these APIs only: s3vectors, ossvectors.
    #[arg(long, value_delimiter = ',', value_parser = ["s3vectors", "ossvectors"])]
    dialects: Vec<String>,
    /// Ends after so many days.
    #[arg(long)]
    days: Option<u64>,
}

#[derive(Subcommand)]
pub(crate) enum SecretCommand {
    /// Keep what stands on stdin under a name. White space around it is cut off.
    Put {
        /// Its name.
        name: String,
    },
    /// List the names. Nothing shows a secret again.
    Ls,
    /// Forget a secret.
    Rm {
        /// Its name.
        name: String,
    },
}

/// Where the key of all sealed secrets lies.
pub(crate) fn key_file(data: &Path) -> PathBuf {
    data.join("sealing.key")
}

/// The vault of a database. Its key is made when there is none.
pub(crate) fn open(data: &Path, database: Database, clock: &Arc<dyn Clock>) -> anyhow::Result<Vault> {
    let file = key_file(data);
    let read = |file: &Path| std::fs::read_to_string(file);
    let text = match read(&file) {
        Err(why) if why.kind() == std::io::ErrorKind::NotFound => {
            make_key(&file)?;
            read(&file)
        }
        read => read,
    };
    let key = digits(text.with_context(|| format!("read {}", file.display()))?.trim());
    let key =
        key.with_context(|| format!("{} does not hold {} hexadecimal digits", file.display(), 2 * SEAL_KEY_BYTES))?;
    Ok(Vault::new(database, Arc::clone(clock), Arc::new(SystemEntropy), &key))
}

/// Makes the key file, for this user's eyes only. Another process may make it at the same moment: the first one counts.
fn make_key(file: &Path) -> anyhow::Result<()> {
    if let Some(folder) = file.parent() {
        // With a database on a server nothing else has made it.
        std::fs::create_dir_all(folder).with_context(|| format!("make the folder {}", folder.display()))?;
    }
    let mut key = [0; SEAL_KEY_BYTES];
    SystemEntropy.fill(&mut key);
    let text: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
    // Whole or not at all: a key that lacks a part would be nobody's.
    let fresh = file.with_extension(format!("new-{}", std::process::id()));
    let _ = std::fs::remove_file(&fresh);
    let made = accounts::create_private(&fresh, format!("{text}\n").as_bytes());
    let made = made.and_then(|()| match std::fs::hard_link(&fresh, file) {
        Err(why) if why.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        linked => linked,
    });
    let _ = std::fs::remove_file(&fresh);
    made.with_context(|| format!("write {}", file.display()))
}

fn digits(text: &str) -> Option<[u8; SEAL_KEY_BYTES]> {
    let is_plain = text.len() == 2 * SEAL_KEY_BYTES && text.bytes().all(|digit| digit.is_ascii_hexdigit());
    let byte = |index: usize| u8::from_str_radix(text.get(2 * index..2 * index + 2)?, 16).ok();
    let bytes: Option<Vec<u8>> = (0..SEAL_KEY_BYTES).map(byte).collect();
    bytes.filter(|_| is_plain)?.try_into().ok()
}

/// What whoever makes a backup must know.
pub(crate) fn remind(data: &Path) {
    let file = key_file(data);
    if file.exists() {
        say(&format!(
            "hint: key pairs and secrets in it are sealed; the key, {}, is not in it: keep a copy elsewhere",
            file.display()
        ));
    }
}

pub(crate) async fn run(is_json: bool, vault: &Vault, clock: &dyn Clock, command: &VaultCommand) -> anyhow::Result<()> {
    match command {
        VaultCommand::KeyPair { command: PairCommand::New(new) } => new_pair(is_json, vault, clock, new).await,
        VaultCommand::KeyPair { command: PairCommand::Ls } => pairs(is_json, vault, clock).await,
        VaultCommand::KeyPair { command: PairCommand::Revoke { access_key } } => {
            vault.revoke_pair(ACTOR, access_key).await?;
            say(&format!("revoked {access_key}"));
            Ok(())
        }
        VaultCommand::Secret { command: SecretCommand::Put { name } } => {
            vault.keep(ACTOR, name, &from_stdin()?).await?;
            say(&format!("kept; a policy calls it sealed:{name}"));
            Ok(())
        }
        VaultCommand::Secret { command: SecretCommand::Ls } => {
            let names = vault.secret_names().await?;
            if is_json {
                let rows = names.iter().map(|(name, created_ms)| json!({"name": name, "created_ms": created_ms}));
                return print(&format!("{:#}\n", serde_json::Value::from_iter(rows)));
            }
            names.iter().try_for_each(|(name, _)| print(&format!("{name}\n")))
        }
        VaultCommand::Secret { command: SecretCommand::Rm { name } } => Ok(vault.forget(ACTOR, name).await?),
    }
}

fn from_stdin() -> anyhow::Result<String> {
    let input = std::io::stdin();
    if input.is_terminal() {
        say("type the secret, then Ctrl-D on a line of its own");
    }
    let mut text = String::new();
    input.take(SECRET_BYTES_MAX + 1).read_to_string(&mut text).context("read the secret from stdin")?;
    ensure!(text.len() as u64 <= SECRET_BYTES_MAX, "the secret has more than {SECRET_BYTES_MAX} bytes");
    Ok(text.trim().to_owned())
}

async fn new_pair(is_json: bool, vault: &Vault, clock: &dyn Clock, new: &NewArguments) -> anyhow::Result<()> {
    ensure!(
        new.days.is_none_or(|days| (1..=DAYS_MAX).contains(&days)),
        "--days {}: 1 to {DAYS_MAX}",
        new.days.unwrap_or_default()
    );
    let scopes = Scopes { buckets: new.buckets.clone(), dialects: new.dialects.clone(), ..Scopes::default() };
    let expires_ms = new.days.map(|days| clock.now_ms() + days * DAY_MS);
    let wanted = NewPair { project: new.project.clone(), name: new.name.clone(), scopes, expires_ms };
    let shown = vault.new_pair(ACTOR, wanted).await?;
    if is_json {
        return print(&format!("{:#}\n", json!({"access_key": shown.access_key, "secret": shown.secret})));
    }
    print(&format!("{} {}\n", shown.access_key, shown.secret))?;
    say("the access key and the secret, which is not shown again");
    Ok(())
}

async fn pairs(is_json: bool, vault: &Vault, clock: &dyn Clock) -> anyhow::Result<()> {
    let pairs = vault.pairs().await?;
    let state = |pair: &Pair| match (pair.revoked_ms, pair.expires_ms) {
        (Some(_), _) => "revoked",
        (None, Some(expires_ms)) if expires_ms <= clock.now_ms() => "expired",
        _ => "good",
    };
    if is_json {
        let row = |pair: &Pair| {
            json!({
                "access_key": pair.access_key, "project": pair.project, "name": pair.name, "scopes": pair.scopes,
                "created_ms": pair.created_ms, "expires_ms": pair.expires_ms, "state": state(pair),
            })
        };
        return print(&format!("{:#}\n", serde_json::Value::from_iter(pairs.iter().map(row))));
    }
    let mut shown = table(&["ACCESS KEY", "PROJECT", "NAME", "BUCKETS", "APIS", "STATE"]);
    let list = |names: &[String]| if names.is_empty() { "all".to_owned() } else { names.join(", ") };
    for pair in &pairs {
        let names = [pair.access_key.clone(), pair.project.clone(), pair.name.clone()];
        let rest = [list(&pair.scopes.buckets), list(&pair.scopes.dialects), state(pair).to_owned()];
        shown.add_row(names.into_iter().chain(rest));
    }
    print(&format!("{shown}\n"))
}
