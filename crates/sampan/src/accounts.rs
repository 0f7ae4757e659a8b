//! The accounts of this installation: their directory, and the file with the first key.

use std::io::{IsTerminal as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use base::Clock;
use meta::{Database, Directory, ShownKey};

use crate::machine::{SystemEntropy, say};

/// Where the first key lies, for this user's eyes only.
pub(crate) fn key_file(data: &Path) -> PathBuf {
    data.join("admin.key")
}

/// Makes a database's file for this user's eyes only: it names everybody, and what each may do. The files that stand
/// beside it later take its mode.
pub(crate) fn protect(file: &Path) -> anyhow::Result<()> {
    let private = std::fs::Permissions::from_mode(0o600);
    let made = std::fs::OpenOptions::new().create(true).append(true).mode(0o600).open(file);
    made.and_then(|made| made.set_permissions(private)).with_context(|| format!("protect {}", file.display()))
}

/// The directory of a database; the first time ever, an owner's key is made, kept in a file and shown.
pub(crate) async fn opened_first(data: &Path, database: Database, clock: &Arc<dyn Clock>) -> anyhow::Result<Directory> {
    let directory = Directory::new(database, Arc::clone(clock), Arc::new(SystemEntropy));
    let file = key_file(data);
    match directory.first_start().await? {
        Some(shown) => keep(&file, &shown)?,
        None if !file.exists() => say("hint: `sampan admin recover` makes an owner's key, if it was lost"),
        None => {}
    }
    Ok(directory)
}

/// Writes a new file for this user's eyes only, to the disk.
pub(crate) fn create_private(file: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut out = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(file)?;
    out.write_all(bytes)?;
    out.sync_all()
}

/// Writes an owner's key to its file, and shows it to a person; a log of stderr gets the file's name only.
pub(crate) fn keep(file: &Path, shown: &ShownKey) -> anyhow::Result<()> {
    // Never into a file that is there: it may be open to others.
    let fresh = file.with_extension("new");
    let _ = std::fs::remove_file(&fresh);
    let written = create_private(&fresh, format!("{}\n", shown.text).as_bytes());
    let written = written.and_then(|()| std::fs::rename(&fresh, file));
    written.with_context(|| format!("write {}", file.display()))?;
    if std::io::stderr().is_terminal() {
        say(&format!("the owner's key: {}", shown.text));
    }
    say(&format!("the owner's key {} lies in {}", shown.id, file.display()));
    Ok(())
}
