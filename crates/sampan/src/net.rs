//! `sampan net`: the network planner and the mover in a terminal.

pub(crate) mod args;
mod check;
mod doctor;
mod fabric;
mod plan;
mod recv;
mod send;
mod simai;
mod transfer;
mod uplinks;

use args::NetCommand;
pub(crate) use transfer::{address, machine};

pub(crate) fn run(command: &NetCommand) -> anyhow::Result<()> {
    match command {
        NetCommand::Check(check) => check::run(check),
        NetCommand::Plan(plan) => plan::run(plan),
        NetCommand::Uplinks(uplinks) => uplinks::run(uplinks),
        NetCommand::Fabric(fabric) => fabric::run(fabric),
        NetCommand::Doctor(doctor) => doctor::run(doctor),
        NetCommand::Simai(simai) => simai::run(simai),
        NetCommand::Send(send) => send::run(send),
        NetCommand::Recv(recv) => recv::run(recv),
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

fn write_picture(path: &std::path::Path, html: &str) -> anyhow::Result<()> {
    use anyhow::Context as _;
    std::fs::write(path, html).with_context(|| format!("write {}", path.display()))?;
    crate::machine::say(&format!("picture: {}", path.display()));
    Ok(())
}

/// A bar for work that may take seconds; silent where stderr is no terminal.
fn working(what: &'static str) -> indicatif::ProgressBar {
    let bar = indicatif::ProgressBar::new_spinner().with_message(what);
    bar.enable_steady_tick(std::time::Duration::from_millis(100));
    bar
}
