//! `sampan man`: manual pages, one of every command.

use std::path::Path;

use anyhow::Context as _;
use clap::CommandFactory as _;

use crate::args::Arguments;
use crate::machine;

/// # Errors
/// If a page cannot be written.
pub(crate) fn run(out: Option<&Path>) -> anyhow::Result<()> {
    // Without the file of settings: a manual tells everybody the same.
    let command = Arguments::command();
    let Some(folder) = out else {
        let mut page = Vec::new();
        clap_mangen::Man::new(command).render(&mut page).context("write the page")?;
        return machine::print(&String::from_utf8(page).context("write the page")?);
    };
    std::fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    clap_mangen::generate_to(command, folder).with_context(|| format!("write pages to {}", folder.display()))?;
    machine::say(&format!("wrote the pages to {0}; MANPATH or `man {0}/sampan.1` shows them", folder.display()));
    Ok(())
}
