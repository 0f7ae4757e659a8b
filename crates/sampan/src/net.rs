//! `sampan net`: the network planner in a terminal.

pub(crate) mod args;
mod check;

use args::NetCommand;

pub(crate) fn run(command: &NetCommand) -> anyhow::Result<()> {
    match command {
        NetCommand::Check(check) => check::run(check),
    }
}

/// Reads a file, or stdin where the name is `-`.
fn read_text(path: &std::path::Path) -> anyhow::Result<String> {
    use anyhow::Context as _;
    use std::io::Read as _;
    if path.as_os_str() == "-" {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).context("read stdin")?;
        return Ok(text);
    }
    std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))
}
