//! `sampan up`: the platform in one process.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use api::buckets::{Buckets, Owners};
use api::{App, Custody};
use base::Clock;
use chat::{Embed, Generate, Manage};
use engine::{AdapterEntry, Engine, Extras, Fleet, Machine, Options};
use kernels::Cpu;
use meta::Vault;
use route::{Confined, Fetching, Pictures, Policy, Router};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;

use crate::accounts;
use crate::args::Up;
use crate::books::Kept;
use crate::machine::{self, SystemClock, say};
use crate::pulls::Pulls;
use crate::residency::{self, Borders};
use crate::shelf::{self, Entry, Place};
use crate::traces::Traces;
use crate::{depot, listen, model, route_commands};

/// After a signal, streams that are running may go on for so long.
const DRAIN: Duration = Duration::from_secs(60);
/// Readers of answers that are cut off have so long to be told.
const CUT: Duration = Duration::from_secs(5);
/// Memory for models where the machine's size is not known.
const MEMORY_BYTES_FALLBACK: u64 = 4 << 30;
/// How often models whose time is over are looked for.
const FLEET_TICK: Duration = Duration::from_millis(250);
/// How often the bar of a model that is being loaded moves.
const BAR_TICK: Duration = Duration::from_millis(100);

pub(crate) fn run(up: &Up) -> anyhow::Result<()> {
    if up.open && !up.listen.ip().is_loopback() {
        bail!("--open --listen {}: only loopback addresses are served without keys\nhint: leave --open out", up.listen);
    }
    if up.open && up.sign_in.is_elsewhere() {
        bail!("--open asks nobody who they are: --oidc-issuer is nothing with it\nhint: leave --open out");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("start the runtime")?;
    runtime.block_on(serve(up))
}

async fn serve(up: &Up) -> anyhow::Result<()> {
    // The port first: a second server is told at once, not after loading its models.
    let listener = TcpListener::bind(up.listen)
        .await
        .with_context(|| format!("listen on {}\nhint: --listen 127.0.0.1:0 takes a free port", up.listen))?;
    let address = listener.local_addr().context("ask for the address")?;
    let clock: Arc<dyn Clock> = SystemClock::start();
    let (fleet, preloaded) = tokio::task::block_in_place(|| fleet(up, &clock))?;
    preload(&fleet, &preloaded).await?;
    let timekeeper = tokio::spawn(keep_time(fleet.clone()));
    let fleet = Arc::new(fleet);
    let data = machine::data_folder(&up.data);
    let kept = crate::books::open(&data, &up.books, &clock).await?;
    let vault = crate::vault::open(&data, kept.database.clone(), &clock)?;
    let Answering { generate, embed, router, borders } = answering(up, &fleet, &kept, &vault).await?;
    let models: Vec<String> = generate.models().into_iter().map(|card| card.id).collect();
    let secrets = vault.clone();
    let served = tokio::task::block_in_place(|| crate::buckets::serve(&data, &up.vectors, !up.open, vault, &clock))?;
    // Kept to the end: compaction stops when it is dropped.
    let _compactor = served.compactor;
    let app = App::new(kept.charged(generate), clock, machine::random_seed()?);
    let buckets = served.buckets.with_border(borders.of_buckets());
    let custody = Custody { vault: secrets.clone(), database: kept.database.clone() };
    let app = app.with_books(kept.shown()).with_custody(custody);
    let app = app.with_entropy(Arc::new(machine::SystemEntropy));
    let app = app
        .with_embed(kept.charged(embed))
        .with_manage(Arc::clone(&fleet) as Arc<dyn Manage>)
        .with_shelf(model::shelf(&data))
        .with_depot(depot::depot(&data))
        .with_mover(crate::net::machine())
        .with_pulls(pulls(&data, &fleet, kept.meter.ledger().clock())?);
    let (app, traces) = traced(up, app)?;
    let app = match &router {
        Some(router) => app.with_routing(route_commands::routing(router)),
        None => app,
    };
    let app = guarded(up, app, buckets, &data, &kept, &secrets).await?;
    let app = Arc::new(app.with_objects(objects(&data)?).with_may_keep(borders.of_kept()));
    resume(&app).await?;
    tokio::spawn(crate::books::count_kept(Arc::clone(&app)));

    machine::print(&format!("{}\n", place(up, &address.to_string(), &models, &data)))?;
    greet(&address.to_string(), &models, &data, !up.open);
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let mut server = tokio::spawn(listen::serve(listener, api::router(Arc::clone(&app)), stopped));
    tokio::select! {
        biased;
        ended = &mut server => return ended.context("the server's task"),
        () = interrupted() => {}
    }
    say("stopping: running answers may finish; press Ctrl-C again to cut them off");
    timekeeper.abort();
    app.begin_shutdown();
    stop.send_replace(true);
    let ended = drained(server, &fleet).await;
    crate::books::close(&kept).await;
    tokio::task::block_in_place(|| traces.into_iter().for_each(Traces::close));
    ended
}

/// The app whose requests become spans, where there is a collector.
fn traced(up: &Up, app: App) -> anyhow::Result<(App, Option<Traces>)> {
    let Some(collector) = &up.otlp else { return Ok((app, None)) };
    let traces = Traces::start(collector)?;
    Ok((app.with_listener(traces.listener()), Some(traces)))
}

/// The app with whoever may come in, where they sign in, and what belongs to them.
async fn guarded(up: &Up, app: App, buckets: Buckets, data: &Path, kept: &Kept, vault: &Vault) -> anyhow::Result<App> {
    let (clock, tally) = (kept.meter.ledger().clock(), Arc::clone(&kept.tally));
    let (app, first_project) = match up.open {
        true => (app, None),
        false => {
            let directory = accounts::opened_first(data, kept.database.clone(), clock).await?;
            let first_project = directory.first_project().await?;
            (app.with_accounts(directory), Some(first_project.into()))
        }
    };
    let app = app.with_buckets(buckets.with_owners(Owners { tally, first_project }));
    up.sign_in.of(app, vault, clock).await
}

async fn resume(app: &Arc<App>) -> anyhow::Result<()> {
    let resumed = app.resume_batches().await.context("take up the batches of the last start")?;
    if resumed > 0 {
        say(&format!("{resumed} batches go on where the last start left them"));
    }
    Ok(())
}

/// Waits until every answer is out, for a while; then those that are not are cut, and their readers told.
async fn drained(mut server: JoinHandle<()>, fleet: &Fleet) -> anyhow::Result<()> {
    let why = tokio::select! {
        biased;
        ended = &mut server => return ended.context("the server's task"),
        () = interrupted() => "answers were cut off".to_owned(),
        () = tokio::time::sleep(DRAIN) => format!("answers were cut off after {} s", DRAIN.as_secs()),
    };
    fleet.stop();
    if tokio::time::timeout(CUT, &mut server).await.is_err() {
        server.abort();
    }
    bail!(why)
}

/// Whoever answers, and where it may.
struct Answering {
    generate: Arc<dyn Generate>,
    embed: Arc<dyn Embed>,
    /// Upstream pools, if there are any.
    router: Option<Arc<Router>>,
    borders: Borders,
}

/// This machine's models, with upstream pools beside them if a policy names some, held to where data may be.
async fn answering(up: &Up, fleet: &Arc<Fleet>, kept: &Kept, vault: &Vault) -> anyhow::Result<Answering> {
    let pictures = Pictures::new(&up.picture_origins).map_err(anyhow::Error::msg).context("--picture-origin")?;
    let local = Arc::new(Fetching::new(Arc::new(pictures), Arc::clone(fleet))) as Arc<dyn Generate>;
    let clock = kept.meter.ledger().clock();
    let mut policy = up.pools.as_deref().map(route_commands::read).transpose()?.unwrap_or_else(Policy::local_only);
    if policy.home.is_none() {
        policy = policy.at(residency::region(&up.books.region))?;
    }
    let borders = Borders::around(policy.home.clone());
    let configured = policy.residency.clone();
    let router = match up.pools {
        Some(_) => {
            let sealed = vault.secrets().await.context("open the sealed secrets")?;
            Some(route_commands::router(policy, &local, &sealed, Arc::clone(clock))?)
        }
        None => None,
    };
    let (database, border) = (kept.database.clone(), borders.models.clone());
    residency::Watch { database, border, router: router.clone(), configured }.start().await?;
    let generate: Arc<dyn Generate> = match &router {
        Some(router) => Arc::clone(router) as _,
        None => Arc::new(Confined::new(borders.models.clone(), local)),
    };
    let embed = Arc::new(Confined::new(borders.models.clone(), Arc::clone(fleet)));
    Ok(Answering { generate, embed, router, borders })
}

/// Stored responses: what the API keeps for its callers.
fn objects(data: &Path) -> anyhow::Result<Arc<store::Folder>> {
    let folder = data.join("api");
    let objects = tokio::task::block_in_place(|| store::Folder::open(&folder));
    Ok(Arc::new(objects.with_context(|| format!("open the folder {}", folder.display()))?))
}

/// Waits for Ctrl-C or a polite kill.
async fn interrupted() {
    let Ok(mut terminate) = signal(SignalKind::terminate()) else { return std::future::pending().await };
    tokio::select! {
        biased;
        _ = terminate.recv() => {}
        // Without a handler for Ctrl-C the signal keeps its usual effect.
        Ok(()) = tokio::signal::ctrl_c() => {}
    }
}

/// Models that are pulled while it runs, and served when they are there.
fn pulls(data: &Path, fleet: &Arc<Fleet>, clock: &Arc<dyn Clock>) -> anyhow::Result<Arc<dyn api::Pulls>> {
    let fleet = Arc::clone(fleet);
    let serve = move |name: &str, path: &Path| {
        let entry = Entry { name: name.to_owned(), place: Place::Path(path.to_owned()), is_optional: true };
        fleet.add(entry.served()).map_err(anyhow::Error::from)
    };
    Ok(Arc::new(Pulls::start(data, clock, serve)?))
}

/// All models that requests may name, and those that are to be there before the first one.
fn fleet(up: &Up, clock: &Arc<dyn Clock>) -> anyhow::Result<(Fleet, Vec<String>)> {
    let data = machine::data_folder(&up.data);
    let mut entries = shelf::entries(&data)?;
    for folder in &up.folders {
        entries.extend(shelf::entries_of(folder)?);
    }
    let mut preloaded = Vec::new();
    let mut has_experts = false;
    for wanted in &up.models {
        let entry = shelf::find(&data, wanted)?;
        preloaded.push(entry.name.clone());
        has_experts |= up.expert_mib.is_some() && shelf::has_experts(&entry);
        if !entries.contains(&entry) {
            entries.push(Entry { is_optional: false, ..entry });
        }
    }
    // Without --model it is for whatever mixture a request names.
    if let (Some(mib), false, [_, ..]) = (up.expert_mib, has_experts, preloaded.as_slice()) {
        bail!(
            "--expert-memory {mib}: {} has no experts, all of its weights are needed for every token",
            preloaded.join(", ")
        );
    }
    let memory = machine::memory_bytes();
    let memory_bytes = match up.memory_mib {
        Some(mib) => mib.checked_mul(1 << 20).with_context(|| format!("--memory {mib} is too large"))?,
        None => memory.map_or(MEMORY_BYTES_FALLBACK, |bytes| bytes / 4 * 3),
    };
    let kv_bytes = match up.kv_mib {
        Some(mib) => mib.checked_mul(1 << 20).with_context(|| format!("--kv-mib {mib} is too large"))?,
        None => memory_bytes / 4,
    };
    let expert_bytes =
        |mib: u64| mib.checked_mul(1 << 20).with_context(|| format!("--expert-memory {mib} is too large"));
    let machine = Machine {
        cpu: machine::processor(&up.processor)?,
        clock: Arc::clone(clock),
        options: Options {
            kv_bytes,
            kv_format: up.kv_format.kernel(),
            precision: up.precision.kernel(),
            seed: machine::random_seed()?,
            expert_bytes: up.expert_mib.map(expert_bytes).transpose()?,
            ..Options::default()
        },
        memory_bytes,
        weight_cache: machine::weight_cache(&data, up.weight_cache_mib),
        keep_alive: up.keep_alive,
    };
    let aliases = up.aliases.iter().map(|alias| alias_of(alias)).collect::<anyhow::Result<Vec<_>>>()?;
    let entries = entries.into_iter().map(Entry::served).collect();
    let adapters = up.adapters.iter().map(|adapter| adapter_of(adapter)).collect::<anyhow::Result<Vec<_>>>()?;
    let drafts = up.drafts.iter().map(|draft| draft_of(draft)).collect::<anyhow::Result<Vec<_>>>()?;
    Ok((Fleet::with_extras(entries, &aliases, Extras { adapters, drafts }, machine)?, preloaded))
}

fn draft_of(argument: &str) -> anyhow::Result<(String, PathBuf)> {
    match argument.split_once('=') {
        Some((model, path)) if !model.is_empty() && !path.is_empty() => Ok((model.to_owned(), path.into())),
        Some(_) | None => bail!("--draft {argument:?}: it is written MODEL=PATH"),
    }
}

fn adapter_of(argument: &str) -> anyhow::Result<AdapterEntry> {
    let Some((name, place)) = argument.split_once('=').filter(|(name, place)| !name.is_empty() && !place.is_empty())
    else {
        bail!("--adapter {argument:?}: it is written NAME=FOLDER, or NAME=BASE@FOLDER")
    };
    // A folder may have the sign in its name.
    let (base, folder) = match place.split_once('@') {
        Some((base, folder)) if !Path::new(place).is_dir() => (Some(base.to_owned()), folder),
        Some(_) | None => (None, place),
    };
    Ok(AdapterEntry { name: name.to_owned(), folder: folder.into(), base })
}

fn alias_of(argument: &str) -> anyhow::Result<(String, String)> {
    match argument.split_once('=') {
        Some((alias, model)) if !alias.is_empty() && !model.is_empty() => Ok((alias.to_owned(), model.to_owned())),
        Some(_) | None => bail!("--alias {argument:?}: it is written NAME=MODEL"),
    }
}

/// Loads the models that were named on the command line, with a bar for each.
async fn preload(fleet: &Fleet, models: &[String]) -> anyhow::Result<()> {
    for model in models {
        let bar = shelf::loading_bar(model);
        let mut loading = fleet.load(model, None);
        loop {
            tokio::select! {
                biased;
                loaded = &mut loading => break loaded?,
                () = tokio::time::sleep(BAR_TICK) => {
                    let (done, all) = fleet.progress(model);
                    bar.set_length(u64::from(all));
                    bar.set_position(u64::from(done));
                }
            }
        }
        bar.finish_and_clear();
    }
    Ok(())
}

/// Reminds the fleet of the time until the program ends.
async fn keep_time(fleet: Fleet) {
    loop {
        tokio::time::sleep(FLEET_TICK).await;
        let ticking = fleet.clone();
        if tokio::task::spawn_blocking(move || ticking.tick()).await.is_err() {
            tracing::error!("letting go of a model panicked");
        }
    }
}

/// Loads a model and starts its engine.
pub(crate) fn start(entry: &Entry, cpu: &Arc<Cpu>, clock: &Arc<dyn Clock>, options: Options) -> anyhow::Result<Engine> {
    let checkpoint = shelf::open(entry)?;
    let bar = shelf::loading_bar(&entry.name);
    let progress = |done: usize, all: usize| {
        bar.set_length(all as u64);
        bar.set_position(done as u64);
    };
    let engine = Engine::start(&entry.name, &checkpoint, Arc::clone(cpu), Arc::clone(clock), options, progress);
    bar.finish_and_clear();
    engine.with_context(|| format!("start the model {}", entry.name))
}

/// The same for one person in a terminal: a quarter of the memory for keys and values, one answer at a time.
pub(crate) fn start_alone(entry: &Entry, cpu: &Arc<Cpu>, clock: &Arc<dyn Clock>) -> anyhow::Result<Engine> {
    let options = Options {
        kv_bytes: machine::memory_bytes().unwrap_or(MEMORY_BYTES_FALLBACK) / 4,
        sequences_max: 1,
        seed: machine::random_seed()?,
        ..Options::default()
    };
    start(entry, cpu, clock, options)
}

/// Where it listens, for whoever started it.
fn place(up: &Up, address: &str, models: &[String], data: &Path) -> String {
    let url = format!("http://{address}");
    if !up.json {
        return url;
    }
    let key_file = (!up.open).then(|| accounts::key_file(data));
    json!({"url": url, "version": env!("CARGO_PKG_VERSION"), "data": data, "models": models, "key_file": key_file})
        .to_string()
}

fn greet(address: &str, models: &[String], data: &Path, asks_for_keys: bool) {
    if !std::io::stderr().is_terminal() {
        return;
    }
    let model = models.last().map_or("", String::as_str);
    say(&format!("Sampan serves {} at http://{address}/v1", models.join(", ")));
    say("");
    say(&format!("  curl http://{address}/v1/chat/completions -H 'content-type: application/json' \\"));
    if asks_for_keys {
        say(&format!("    -H \"authorization: Bearer $(cat {})\" \\", accounts::key_file(data).display()));
    }
    say(&format!(r#"    -d '{{"model": "{model}", "messages": [{{"role": "user", "content": "Who are you?"}}]}}'"#));
    say("");
    let signing_in = if asks_for_keys { "; it asks for the same key" } else { "" };
    say(&format!("In a browser: http://{address}/{signing_in}"));
    say(&format!(
        "Vector buckets: boto3.client('s3vectors', endpoint_url='http://{address}', region_name='us-east-1')"
    ));
    let pair = crate::buckets::folder(data).join("access-key.json");
    let others = if asks_for_keys { "" } else { ", or with any while keys are not asked for" };
    say(&format!("  with the key pair in {}{others}", pair.display()));
    say("");
    say("Ctrl-C stops it.");
}
