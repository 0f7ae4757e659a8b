//! The one binary: arguments, wiring, and what a person sees in a terminal.
//!
//! stdout is data, stderr is talk. Everything that the libraries must not reach for (clocks, randomness, the
//! environment, the machine's size) is read here and handed down.

mod accounts;
mod admin;
mod args;
mod bench;
mod books;
mod buckets;
mod built_in;
mod client;
mod config;
mod conversation;
mod depot;
mod doctor;
mod listen;
mod logits;
mod machine;
mod man;
mod model;
mod net;
mod pulls;
mod residency;
mod route_commands;
mod see;
mod shelf;
mod sign_in;
mod top;
mod traces;
mod up;
mod vault;
mod vector_commands;

use std::process::ExitCode;

use clap::CommandFactory as _;

use args::{Arguments, Command, ModelCommand};

fn main() -> ExitCode {
    machine::share_heaps();
    let (arguments, settings) = match config::arguments() {
        Ok(read) => read,
        Err(error) => {
            machine::say(&format!("error: {error:#}"));
            return ExitCode::FAILURE;
        }
    };
    // The first to install one: nothing has run yet.
    let _ = rustls::crypto::ring::default_provider().install_default();
    machine::start_log(&arguments.log);
    match run(arguments, settings.as_ref()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            machine::say(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// `settings`: what is wrong with the file of settings, which only the doctor goes on with.
fn run(arguments: Arguments, settings: Option<&anyhow::Error>) -> anyhow::Result<()> {
    match arguments.command {
        Command::Up(up) => up::run(&up),
        Command::Chat(chat) => conversation::run(&chat),
        Command::Pull(pull) => depot::pull(&pull),
        Command::Rm(rm) => depot::remove(&rm),
        Command::Verify(verify) => depot::verify(&verify),
        Command::Ls(ls) | Command::Model { command: ModelCommand::Ls(ls) } => model::list(&ls),
        Command::Model { command: ModelCommand::Show(show) } => model::show(&show),
        Command::Model { command: ModelCommand::Logits(logits) } => logits::run(&logits),
        Command::Model { command: ModelCommand::Plan(plan) } => model::plan::run(&plan),
        Command::Model { command: ModelCommand::Convert(convert) } => model::convert::run(&convert),
        Command::Model { command: ModelCommand::Quantize(quantize) } => model::quantize::run(&quantize),
        Command::See(see) => see::run(&see),
        Command::Top(top) => top::run(&top),
        Command::Bench(bench) => bench::run(&bench),
        Command::Net { command } => net::run(&command),
        Command::Route { command } => route_commands::run(&command),
        Command::Vectors { place, command } => vector_commands::run(&place, &command),
        Command::Admin(admin) => books::run(&admin),
        Command::Doctor(doctor) => doctor::run(&doctor, settings),
        Command::Config { command } => config::run(&command),
        Command::Man { out } => man::run(out.as_deref()),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Arguments::command(), "sampan", &mut std::io::stdout());
            Ok(())
        }
    }
}
