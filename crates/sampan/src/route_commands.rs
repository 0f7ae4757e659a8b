//! `sampan route`: look at a routing policy, and ask why a request goes where it goes.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use base::Clock as _;
use chat::{Caller, Generate, Priority};
use clap::{Args, Subcommand};
use comfy_table::Table;
use comfy_table::presets::NOTHING;
use route::{Policy, Question, Router};
use serde_json::{Value, json};

use crate::args::Data;
use crate::machine::{self, print};
use crate::shelf;

/// How long a server may take to explain itself.
const TIMEOUT: Duration = Duration::from_secs(20);
/// Bytes of a file that holds a secret.
const SECRET_BYTES_MAX: u64 = 1 << 16;

#[derive(Subcommand)]
pub(crate) enum RouteCommand {
    /// Say whether a policy is good, and what it comes to.
    Check(Check),
    /// Say who would answer a request, and why, as JSON with --json.
    Explain(Explain),
}

#[derive(Args)]
pub(crate) struct Check {
    /// The policy.
    file: PathBuf,
    #[command(flatten)]
    data: Data,
    /// For scripts.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub(crate) struct Explain {
    /// The name that the request uses.
    model: String,
    /// Decide by this policy, with every pool well and idle, instead of asking a server.
    #[arg(long, value_name = "FILE")]
    pools: Option<PathBuf>,
    /// The server to ask.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8420", conflicts_with = "pools")]
    server: String,
    /// The key to show to the server, if it asks for one.
    #[arg(long, env = "SAMPAN_API_KEY", hide_env_values = true, conflicts_with = "pools")]
    api_key: Option<String>,
    /// On behalf of this project.
    #[arg(long)]
    project: Option<String>,
    /// With the key of this name.
    #[arg(long)]
    key: Option<String>,
    /// On content of this vector bucket.
    #[arg(long)]
    bucket: Option<String>,
    /// With so many bytes of text and pictures.
    #[arg(long, default_value_t = 0)]
    bytes: u64,
    /// What if this link between two regions fails: its ends, with a comma between them.
    #[arg(long, value_name = "REGION,REGION", requires = "pools")]
    without: Option<String>,
    #[command(flatten)]
    data: Data,
    /// The whole decision.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(command: &RouteCommand) -> anyhow::Result<()> {
    match command {
        RouteCommand::Check(options) => check(options),
        RouteCommand::Explain(options) => explain(options),
    }
}

/// The policy in a file.
pub(crate) fn read(file: &Path) -> anyhow::Result<Policy> {
    let text = std::fs::read_to_string(file).with_context(|| format!("read the policy {}", file.display()))?;
    Policy::parse(&text).with_context(|| format!("the policy {}", file.display()))
}

/// This machine's models and the pools of a policy behind one door.
pub(crate) fn router(
    policy: Policy,
    local: &Arc<dyn Generate>,
    sealed: &[(String, String)],
    clock: Arc<dyn base::Clock>,
) -> anyhow::Result<Arc<Router>> {
    let secret = |name: &str| secret(name, sealed);
    let router = Router::start(policy, local, &secret, clock, machine::random_seed()?);
    Ok(Arc::new(router.context("start the pools")?))
}

/// A look at the router for the API.
pub(crate) fn routing(router: &Arc<Router>) -> api::Routing {
    let (shown, asked) = (Arc::clone(router), Arc::clone(router));
    api::Routing {
        status: Arc::new(move || shown.status()),
        explain: Arc::new(move |question: &api::RouteQuestion| {
            let caller = caller(question.project.as_deref(), question.key.as_deref());
            asked.explain(&Question {
                model: &question.model,
                caller: caller.as_ref(),
                bucket: question.bucket.as_deref(),
                bytes: question.bytes,
            })
        }),
    }
}

fn caller(project: Option<&str>, key: Option<&str>) -> Option<Caller> {
    let (project, key) = match (project, key) {
        (None, None) => return None,
        (project, key) => (project.unwrap_or_default().into(), key.unwrap_or_default().into()),
    };
    Some(Caller { project, key, priority: Priority::Normal })
}

/// The secret of a name: `env:NAME`, `file:PATH`, or `sealed:NAME` among those that were kept.
pub(crate) fn secret(name: &str, sealed: &[(String, String)]) -> Result<String, String> {
    match name.split_once(':') {
        Some(("sealed", name)) => {
            let found = sealed.iter().find(|(known, _)| known == name);
            let missing = || format!("`sampan admin secret ls` lists no secret {name:?}");
            found.map(|(_, secret)| secret.clone()).ok_or_else(missing)
        }
        Some(("env", variable)) => machine::variable(variable).ok_or_else(|| "the variable is not set".to_owned()),
        Some(("file", path)) => {
            let size = std::fs::metadata(path).map_err(|why| why.to_string())?.len();
            if size > SECRET_BYTES_MAX {
                return Err(format!("the file has {size} bytes, {SECRET_BYTES_MAX} allowed"));
            }
            std::fs::read_to_string(path).map_err(|why| why.to_string())
        }
        _ => Err("a secret is named env:VARIABLE, file:PATH or sealed:NAME".to_owned()),
    }
}

/// The names of this machine's models.
fn local_names(data: &Data) -> anyhow::Result<Vec<String>> {
    Ok(shelf::entries(&machine::data_folder(data))?.into_iter().map(|entry| entry.name).collect())
}

fn check(options: &Check) -> anyhow::Result<()> {
    let policy = read(&options.file)?.completed(&local_names(&options.data)?);
    if options.json {
        let pools: Vec<&str> = policy.pools.iter().map(|pool| pool.name.as_str()).collect();
        let residency: Vec<Value> = policy.residency.all().iter().map(|bound| json!(**bound)).collect();
        let whole = json!({
            "version": policy.version, "pools": pools, "routes": policy.routes, "residency": residency,
            "regions": policy.regions, "retry": policy.retry, "links": policy.network.links(),
        });
        return print(&format!("{whole:#}\n"));
    }
    let mut table = Table::new();
    table.load_preset(NOTHING).set_header(["MODEL", "GROUP", "SHARE", "TARGETS", "FALLBACK"]);
    for route in &policy.routes {
        let all: u64 = route.groups.iter().map(|group| u64::from(group.weight)).sum();
        for group in &route.groups {
            let targets = group.targets.iter().map(|target| {
                let pool = &policy.pools[target.pool].name;
                if target.model == route.model { pool.clone() } else { format!("{pool}/{}", target.model) }
            });
            let share = format!("{:.1} %", 100.0 * f64::from(group.weight) / all.max(1) as f64);
            let targets = targets.collect::<Vec<_>>().join(", ");
            table.add_row([route.model.clone(), group.name.clone(), share, targets, route.fallback.join(", ")]);
        }
    }
    let (version, pools) = (policy.version, policy.pools.len());
    print(&format!("{} is good: version {version}, {pools} pools\n\n{table}\n", options.file.display()))
}

fn explain(options: &Explain) -> anyhow::Result<()> {
    let decision = match &options.pools {
        Some(file) => {
            let mut policy = read(file)?;
            if let Some(link) = &options.without {
                let ends = link.split_once(',').context("--without names a link by its ends: frankfurt,virginia")?;
                policy = policy.without_link([ends.0, ends.1])?;
            }
            let policy = policy.completed(&local_names(&options.data)?);
            let caller = caller(options.project.as_deref(), options.key.as_deref());
            let now_ms = machine::SystemClock::start().now_ms();
            let seed = machine::random_seed()?;
            let (bucket, bytes) = (options.bucket.as_deref(), options.bytes);
            let question = Question { model: &options.model, caller: caller.as_ref(), bucket, bytes };
            let decision = policy.explain(&question, now_ms, seed);
            decision.with_context(|| format!("no pool serves a model {:?}", options.model))?
        }
        None => asked(options)?,
    };
    match options.json {
        true => print(&format!("{decision:#}\n")),
        false => print(&told(&decision)),
    }
}

/// What a server says.
fn asked(options: &Explain) -> anyhow::Result<Value> {
    let url = format!("{}/admin/v1/routes/explain", options.server.trim_end_matches('/'));
    let config = ureq::Agent::config_builder().timeout_global(Some(TIMEOUT)).http_status_as_error(false).build();
    let mut request = ureq::Agent::new_with_config(config).get(&url).query("model", &options.model);
    let named = [("project", &options.project), ("key", &options.key), ("bucket", &options.bucket)];
    for (name, value) in named.into_iter().filter_map(|(name, value)| Some((name, value.as_ref()?))) {
        request = request.query(name, value);
    }
    request = request.query("bytes", options.bytes.to_string());
    if let Some(key) = &options.api_key {
        request = request.header("authorization", format!("Bearer {key}"));
    }
    let hint = "hint: is it running? --pools FILE decides without a server";
    let mut response = request.call().with_context(|| format!("ask {url}\n{hint}"))?;
    let status = response.status();
    let text = response.body_mut().read_to_string().with_context(|| format!("read the answer of {url}"))?;
    let body: Value = serde_json::from_str(&text).unwrap_or(Value::Null);
    if !status.is_success() {
        let words = body.pointer("/error/message").and_then(Value::as_str).unwrap_or(&text);
        bail!("{url} answers {status}: {words}");
    }
    Ok(body)
}

/// A decision for people.
fn told(decision: &Value) -> String {
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let model = word(&decision["model"]);
    let mut text = match decision["choice"].as_object() {
        Some(choice) => format!(
            "{model} goes to pool {} as {} ({}, group {})\n",
            word(&choice["pool"]),
            word(&choice["model"]),
            word(&choice["by"]),
            word(&choice["group"]),
        ),
        None => format!("{model} goes nowhere: {}\n", word(&decision["refusal"]["reason"])),
    };
    let mut table = Table::new();
    table.load_preset(NOTHING).set_header(["ROUTE", "GROUP", "POOL", "MODEL", "SCORE", "WAY THERE", "AGAINST IT"]);
    for target in decision["targets"].as_array().into_iter().flatten() {
        let sum = target.pointer("/marks/sum").and_then(Value::as_f64);
        let score = sum.map_or_else(String::new, |sum| format!("{sum:.3}"));
        let against = target.pointer("/against/words").and_then(Value::as_array);
        let against: Vec<String> = against.into_iter().flatten().map(word).collect();
        let words = ["route", "group", "pool", "model"].map(|name| word(&target[name]));
        table.add_row(words.into_iter().chain([score, way(&target["reach"]), against.join("; ")]));
    }
    text.push_str(&format!("\n{table}\n"));
    text
}

/// How a target is reached: `frankfurt, paris: 24 ms + 310 ms for the bytes`.
fn way(reach: &Value) -> String {
    let ms = |name: &str| reach[name].as_f64();
    let (Some(trip), Some(bytes)) = (ms("round_trip_ms"), ms("bytes_ms")) else { return String::new() };
    let via: Vec<&str> = reach["via"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let via = if via.is_empty() { "straight".to_owned() } else { via.join(", ") };
    let bytes = if bytes >= 0.5 { format!(" + {bytes:.0} ms for the bytes") } else { String::new() };
    format!("{via}: {trip:.0} ms{bytes}")
}
