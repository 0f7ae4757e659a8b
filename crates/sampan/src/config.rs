//! Settings in one TOML file: what stands there is a default of an option, so that a variable of the environment and
//! the command line still win.
//!
//! ```toml
//! log = "info"
//! [up]
//! listen = "127.0.0.1:9000"
//! models = ["/srv/models"]
//! [vectors.put]
//! batch = 500
//! ```
//! A section is a command, a name an option without its dashes. What no command knows is refused, all of it at once.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::parser::ValueSource;
use clap::{Args, CommandFactory as _, FromArgMatches as _, Subcommand};
use serde_json::json;
use toml::{Table, Value};

use crate::args::{Arguments, Command};
use crate::machine;

/// Bytes of the file at most.
const FILE_BYTES_MAX: u64 = 1 << 20;

#[derive(Subcommand)]
pub(crate) enum ConfigCommand {
    /// Print where the file of settings is looked for. SAMPAN_CONFIG names another.
    Path {
        /// For scripts.
        #[arg(long)]
        json: bool,
    },
    /// Print the settings that `sampan up` would start with.
    Show(Show),
}

#[derive(Args)]
pub(crate) struct Show {
    /// Say where each of them comes from.
    #[arg(long)]
    origin: bool,
    /// For scripts.
    #[arg(long)]
    json: bool,
}

/// The command line, with what the file says as defaults. With it, what is wrong with the file, if that is no reason
/// not to run the command: the doctor tells it.
///
/// # Errors
/// If the file cannot be read, is no TOML, or sets what no command knows.
pub(crate) fn arguments() -> anyhow::Result<(Arguments, Option<anyhow::Error>)> {
    let file = machine::config_file();
    let given = machine::arguments();
    let wrong = match command(&file).map(|command| command.try_get_matches_from(&given)) {
        Ok(Ok(matches)) => {
            let arguments = Arguments::from_arg_matches(&matches)?;
            let is_doctor = matches!(arguments.command, Command::Doctor(_));
            return Ok((arguments, if is_doctor { unfit(&file) } else { None }));
        }
        Ok(Err(error)) => error.into(),
        Err(error) => error,
    };
    // Either the file is wrong or the command line is: without the file it shows which.
    let arguments = match Arguments::command().try_get_matches_from(&given) {
        Ok(matches) => Arguments::from_arg_matches(&matches)?,
        // Help, a version and bad usage are clap's to print, with its exit codes.
        Err(error) => wrong.downcast::<clap::Error>().unwrap_or(error).exit(),
    };
    match arguments.command {
        Command::Doctor(_) => Ok((arguments, Some(unfit(&file).unwrap_or(wrong)))),
        _ => Err(wrong),
    }
}

fn command(file: &Path) -> anyhow::Result<clap::Command> {
    with_defaults(Arguments::command(), &read(file)?, file)
}

/// Why `sampan up` would not start with this file.
fn unfit(file: &Path) -> Option<anyhow::Error> {
    let tried = command(file).and_then(|command| {
        let tried = command.try_get_matches_from(["sampan", "up"]);
        tried.map(drop).map_err(|error| anyhow::anyhow!("`sampan up` would not start: {}", brief(&error)))
    });
    tried.err()
}

/// The first line of what clap says, without its prefix.
fn brief(error: &clap::Error) -> String {
    let text = error.to_string();
    let line = text.lines().next().unwrap_or_default();
    line.trim_start_matches("error: ").to_owned()
}

/// # Errors
/// If stdout is closed, or the file has changed into a bad one meanwhile.
pub(crate) fn run(what: &ConfigCommand) -> anyhow::Result<()> {
    let file = machine::config_file();
    match what {
        ConfigCommand::Path { json } => {
            let line = if *json { json!({"path": file}).to_string() } else { file.display().to_string() };
            machine::print(&format!("{line}\n"))
        }
        ConfigCommand::Show(options) => {
            let text = shown(Arguments::command(), &read(&file)?, &file, options)?;
            machine::print(&text)
        }
    }
}

/// The file's content; nothing if there is no file.
fn read(file: &Path) -> anyhow::Result<Table> {
    match std::fs::metadata(file) {
        Err(why) if why.kind() == std::io::ErrorKind::NotFound => return Ok(Table::new()),
        Ok(facts) if facts.len() > FILE_BYTES_MAX => {
            bail!("{} has {} bytes, {FILE_BYTES_MAX} allowed", file.display(), facts.len())
        }
        _ => {}
    }
    let text = std::fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
    text.parse().with_context(|| format!("read {} as TOML", file.display()))
}

fn with_defaults(command: clap::Command, table: &Table, file: &Path) -> anyhow::Result<clap::Command> {
    let mut wrong = Vec::new();
    let command = set(command, table, "", &mut wrong);
    match wrong.is_empty() {
        true => Ok(command),
        false => bail!("{}: {}", file.display(), wrong.join("; ")),
    }
}

/// Sets defaults of a command and the commands below it. The depth is that of the TOML, which its parser limits.
fn set(mut command: clap::Command, table: &Table, above: &str, wrong: &mut Vec<String>) -> clap::Command {
    for (name, value) in table {
        let path = format!("{above}{name}");
        if let Value::Table(inner) = value {
            match command.find_subcommand(name).is_some() {
                true => command = command.mut_subcommand(name, |below| set(below, inner, &format!("{path}."), wrong)),
                false => wrong.push(format!("[{path}] is no command")),
            }
            continue;
        }
        let option = command.get_arguments().find(|option| option.get_long() == Some(name));
        let Some((id, is_flag)) = option.map(|option| (option.get_id().clone(), !option.get_action().takes_values()))
        else {
            wrong.push(format!("{path} is no option"));
            continue;
        };
        match texts(value) {
            Some(values) if is_flag == value.is_bool() => {
                // The command line lives as long as the program.
                let values = values.into_iter().map(|text| &*Box::leak(text.into_boxed_str()));
                command = command.mut_arg(id, |option| option.default_values(values.collect::<Vec<&'static str>>()));
            }
            _ if is_flag => wrong.push(format!("{path} is {value}, allowed: true, false")),
            _ => wrong.push(format!("{path} is {value}, allowed: a text, a number or a list of these")),
        }
    }
    command
}

fn texts(value: &Value) -> Option<Vec<String>> {
    match value {
        Value::String(text) => Some(vec![text.clone()]),
        Value::Integer(number) => Some(vec![number.to_string()]),
        Value::Float(number) => Some(vec![number.to_string()]),
        Value::Boolean(is_on) => Some(vec![is_on.to_string()]),
        Value::Array(values) if values.iter().all(|value| !value.is_array()) => {
            values.iter().map(texts).collect::<Option<Vec<_>>>().map(|all| all.concat())
        }
        Value::Array(_) | Value::Table(_) | Value::Datetime(_) => None,
    }
}

/// One setting of `up`.
struct Setting {
    name: String,
    values: Vec<String>,
    origin: String,
}

fn shown(command: clap::Command, table: &Table, file: &Path, options: &Show) -> anyhow::Result<String> {
    let settings = settings(command, table, file)?;
    if options.json {
        let entries = settings.iter().map(|setting| {
            let value = json!({"values": setting.values, "origin": setting.origin});
            (setting.name.clone(), value)
        });
        return Ok(format!("{:#}\n", serde_json::Value::Object(entries.collect())));
    }
    let mut text = "[up]\n".to_owned();
    for Setting { name, values, origin } in &settings {
        let value = match values.as_slice() {
            [] => {
                text.push_str(&format!("# {name} is not set\n"));
                continue;
            }
            [one] if one == "true" || one == "false" => one.clone(),
            [one] => Value::String(one.clone()).to_string(),
            several => Value::Array(several.iter().cloned().map(Value::String).collect()).to_string(),
        };
        match options.origin {
            true => text.push_str(&format!("{name} = {value}  # {origin}\n")),
            false => text.push_str(&format!("{name} = {value}\n")),
        }
    }
    Ok(text)
}

fn settings(command: clap::Command, table: &Table, file: &Path) -> anyhow::Result<Vec<Setting>> {
    let mut command = with_defaults(command, table, file)?;
    let matches = command.try_get_matches_from_mut(["sampan", "up"]).context("read the settings of `sampan up`")?;
    let (_, up) = matches.subcommand().context("`sampan up` is a command")?;
    let own = table.get("up").and_then(Value::as_table);
    let known = command.find_subcommand("up").context("`sampan up` is a command")?;
    let options = known.get_arguments().filter(|option| !matches!(option.get_id().as_str(), "help" | "version"));
    let found = options.filter_map(|option| {
        let name = option.get_long()?.to_owned();
        let values = up.try_get_raw(option.get_id().as_str()).ok().flatten().into_iter().flatten();
        let values = values.map(|value| value.to_string_lossy().into_owned()).collect();
        let in_file = own.is_some_and(|own| own.contains_key(&name)) || table.contains_key(&name);
        let origin = match up.value_source(option.get_id().as_str()) {
            Some(ValueSource::EnvVariable) => {
                let variable = option.get_env().map(|variable| variable.to_string_lossy().into_owned());
                format!("environment {}", variable.unwrap_or_default())
            }
            Some(ValueSource::DefaultValue) if in_file => file.display().to_string(),
            _ => "default".to_owned(),
        };
        Some(Setting { name, values, origin })
    });
    Ok(found.collect())
}

/// Where the file is looked for, if nobody names another.
pub(crate) fn default_file(config_home: Option<PathBuf>, home: Option<PathBuf>) -> PathBuf {
    let folder = config_home.or_else(|| home.map(|home| home.join(".config")));
    folder.unwrap_or_default().join("sampan/sampan.toml")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use clap::{CommandFactory as _, FromArgMatches as _};
    use toml::Table;

    use super::{settings, with_defaults};
    use crate::args::{Arguments, Command};

    fn table(text: &str) -> Table {
        text.parse().unwrap()
    }

    fn refused(text: &str, words: &[&str]) {
        let error = with_defaults(Arguments::command(), &table(text), Path::new("s.toml")).unwrap_err().to_string();
        for word in words {
            assert!(error.contains(word), "{error}");
        }
    }

    #[test]
    fn the_file_gives_defaults_and_the_command_line_wins() {
        let text = "log = \"info\"\n[up]\nlisten = \"127.0.0.1:9000\"\nmemory = 4096\nmodels = [\"/a\", \"/b\"]\n";
        let command = with_defaults(Arguments::command(), &table(text), Path::new("s.toml")).unwrap();
        let matches = command.try_get_matches_from(["sampan", "up", "--listen", "127.0.0.1:1"]).unwrap();
        let arguments = Arguments::from_arg_matches(&matches).unwrap();
        assert_eq!(arguments.log, "info");
        let Command::Up(up) = arguments.command else { panic!("another command") };
        assert_eq!((up.listen.port(), up.memory_mib, up.folders.len()), (1, Some(4096), 2));
    }

    #[test]
    fn everything_that_is_wrong_is_named_at_once() {
        refused("[up]\nlissten = 1\nkeys = \"yes\"\n[upp]\n", &["s.toml", "up.lissten", "up.keys is \"yes\"", "[upp]"]);
        refused("[up]\nlisten = 1979-05-27\n", &["up.listen"]);
    }

    #[test]
    fn each_setting_says_where_it_comes_from() {
        let found = settings(Arguments::command(), &table("[up]\nmemory = 1\n"), Path::new("s.toml")).unwrap();
        let of = |name: &str| found.iter().find(|setting| setting.name == name).unwrap();
        assert_eq!((of("memory").values[0].as_str(), of("memory").origin.as_str()), ("1", "s.toml"));
        assert_eq!(of("precision").origin, "default");
    }
}
