//! Arguments of `sampan net`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

#[derive(Subcommand)]
pub(crate) enum NetCommand {
    /// Hold the simulator against a file of reference results: the error of every case beside its tolerance.
    Check(Check),
}

#[derive(Args)]
pub(crate) struct Check {
    /// A file in one of the formats of fixtures/hpn; `-` is stdin.
    #[arg(required = true)]
    pub(crate) files: Vec<PathBuf>,
    /// For scripts.
    #[arg(long)]
    pub(crate) json: bool,
}
