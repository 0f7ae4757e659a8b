//! `sampan pull`, `rm` and `verify`: the models that were pulled.

pub(crate) mod args;

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, bail};
use base::{Clock as _, Kind};
use hub::{Cache, Depot, Event, HttpOptions, HuggingFace, Mirror, ModelScope, Options, Origin, Planes, Source, Wanted};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use crate::args::Data;
use crate::machine::{self, SystemClock, print, say};
use crate::model::bytes;
use crate::{net, shelf};
use args::{Pull, Rm, Verify};

/// A hub that is silent for so long is asked again.
const SILENCE: Duration = Duration::from_secs(30);
/// The longest file with a token.
const TOKEN_BYTES_MAX: u64 = 4096;
/// `--json` tells how far it is after so many bytes more.
const TOLD_BYTES: u64 = 64 << 20;

/// The folder of models in the folder of data.
pub(crate) fn depot(data: &Path) -> Depot {
    Depot::new(&data.join("models"))
}

/// The cache of Hugging Face's own tools on this machine.
pub(crate) fn cache() -> Option<Cache> {
    machine::huggingface_cache().map(|folder| Cache::new(&folder))
}

pub(crate) fn pull(pull: &Pull) -> anyhow::Result<()> {
    let wanted = Wanted::parse(&pull.model)?;
    let source = source(pull)?;
    let depot = depot(&machine::data_folder(&pull.data));
    let options = Options {
        name: pull.name.clone(),
        include: pull.include.clone(),
        jobs: pull.jobs,
        cache: cache(),
        planes: planes(&pull.planes)?,
        now_ms: SystemClock::start().now_ms(),
        ..Options::default()
    };
    let shown = Shown { json: pull.json, bar: bar(&wanted.repository.id), moved: AtomicU64::new(0) };
    let pulled = hub::pull(&depot, &*source, &wanted, &options, &|event| shown.tell(&event));
    shown.bar.finish_and_clear();
    let pulled = pulled.map_err(|error| with_hint(error, pull)).with_context(|| format!("pull {}", pull.model))?;
    if pull.json {
        return shown.line(&json!({
            "event": "done", "name": pulled.name, "path": pulled.path, "bytes": pulled.record.size_bytes(),
            "fetched_bytes": pulled.fetched_bytes, "revision": pulled.record.revision,
        }));
    }
    let size = bytes(pulled.record.size_bytes());
    let fetched = if pulled.fetched_bytes == 0 { "nothing".to_owned() } else { bytes(pulled.fetched_bytes) };
    print(&format!("{}\n", pulled.name))?;
    say(&format!("{}: {size}, {fetched} fetched, at {}", pulled.name, pulled.path.display()));
    say(&format!("  sampan up --model {}", pulled.name));
    Ok(())
}

/// Where a pull listens for the mover; `None` where it does not.
pub(crate) fn planes(addresses: &[String]) -> anyhow::Result<Option<Planes>> {
    if addresses.is_empty() {
        return Ok(None);
    }
    let listen = addresses.iter().map(|text| net::address(text, 0)).collect::<anyhow::Result<_>>()?;
    Ok(Some(Planes { listen, machine: net::machine() }))
}

fn with_hint(error: hub::Error, pull: &Pull) -> anyhow::Error {
    let hint = match error.kind() {
        Kind::Unauthenticated | Kind::Forbidden => {
            "\nhint: HF_TOKEN, MODELSCOPE_API_TOKEN or --token-file say who asks"
        }
        Kind::Conflict if matches!(error, hub::Error::Taken { .. }) => "\nhint: --as NAME gives it another name",
        Kind::Unavailable if pull.from.is_none() => "\nhint: --from modelscope, or the address of a mirror",
        _ if matches!(error, hub::Error::NoMover { .. }) => "\nhint: without --plane it is fetched over HTTP",
        Kind::Unavailable if !pull.planes.is_empty() => {
            "\nhint: --plane names addresses of this machine that the other one reaches"
        }
        _ => return anyhow::Error::new(error),
    };
    let said = format!("{:#}", anyhow::Error::new(error));
    anyhow::anyhow!("{said}{hint}")
}

/// Where models come from.
fn source(pull: &Pull) -> anyhow::Result<Box<dyn Source>> {
    let given = pull.token_file.as_deref().map(token).transpose()?;
    match pull.from.as_deref() {
        Some(folder) if !folder.contains("://") && Path::new(folder).is_dir() => {
            Ok(Box::new(Mirror::new(Path::new(folder))))
        }
        from => hub_of(&pull.model, from, given),
    }
}

/// The hub that a name or an address means. A token of the environment goes to its own hub only.
pub(crate) fn hub_of(model: &str, from: Option<&str>, given: Option<String>) -> anyhow::Result<Box<dyn Source>> {
    // The address of a page says which hub it is at; an address in the environment stands for Hugging Face's.
    let page = model.split_once("://").map(|(scheme, rest)| {
        let host = rest.split('/').next().unwrap_or_default();
        if host == "modelscope.cn" || host == "www.modelscope.cn" {
            "modelscope".to_owned()
        } else {
            format!("{scheme}://{host}")
        }
    });
    let from = from.map(str::to_owned).or(page).unwrap_or_else(|| "hf".to_owned());
    let options = |endpoint: String, token| HttpOptions { endpoint, token, silence: SILENCE };
    let hugging_face = |endpoint: String| -> anyhow::Result<Box<dyn Source>> {
        let token = given.clone().or_else(|| machine::variable("HF_TOKEN"));
        Ok(Box::new(HuggingFace::new(&options(endpoint, token))?))
    };
    match from.as_str() {
        "hf" => hugging_face(machine::variable("HF_ENDPOINT").unwrap_or_else(|| HuggingFace::ENDPOINT.to_owned())),
        "modelscope" => {
            let token = given.or_else(|| machine::variable("MODELSCOPE_API_TOKEN"));
            Ok(Box::new(ModelScope::new(&options(ModelScope::ENDPOINT.to_owned(), token))?))
        }
        HuggingFace::ENDPOINT => hugging_face(from),
        address if address.contains("://") => Ok(Box::new(HuggingFace::new(&options(from, given))?)),
        _ => bail!("{from:?} is no place for models: neither hf, modelscope, an address nor a folder here"),
    }
}

fn token(path: &Path) -> anyhow::Result<String> {
    let told = || format!("read the token in {}", path.display());
    let size_bytes = std::fs::metadata(path).with_context(told)?.len();
    if size_bytes > TOKEN_BYTES_MAX {
        bail!("{} has {size_bytes} bytes; a token has {TOKEN_BYTES_MAX} at most", path.display());
    }
    let text = std::fs::read_to_string(path).with_context(told)?;
    let bare = text.trim();
    if bare.is_empty() || bare.bytes().any(|byte| !byte.is_ascii_graphic()) {
        bail!("{} holds no token", path.display());
    }
    Ok(bare.to_owned())
}

/// What the person or the script at the terminal sees.
struct Shown {
    json: bool,
    bar: ProgressBar,
    /// Bytes that are there.
    moved: AtomicU64,
}

impl Shown {
    fn tell(&self, event: &Event<'_>) {
        match event {
            Event::Listed { name, revision, files, bytes } => {
                self.bar.set_length(*bytes);
                self.tell_json(&json!({
                    "event": "listed", "name": name, "revision": revision, "files": files, "bytes": bytes,
                }));
            }
            Event::Moved(count) => self.moved(*count),
            Event::Retry { path, why } => {
                self.tell_json(&json!({"event": "retry", "file": path, "why": why.to_string()}));
                self.say(&format!("{path}: {why}; trying again"));
            }
            Event::Corrupt { path, why } => {
                self.tell_json(&json!({"event": "corrupt", "file": path, "why": why.to_string()}));
                self.say(&format!("{why}; fetching it again"));
            }
            Event::Whole { path, bytes, origin } => {
                let origin = match origin {
                    Origin::Fetched => "fetched",
                    Origin::Here => "here",
                    Origin::Cache => "cache",
                };
                self.tell_json(&json!({"event": "file", "file": path, "bytes": bytes, "origin": origin}));
            }
            _ => {}
        }
    }

    fn moved(&self, count: i64) {
        let before = self.moved.fetch_add(count as u64, Ordering::AcqRel);
        let now = before.wrapping_add_signed(count);
        self.bar.set_position(now);
        if self.json && now / TOLD_BYTES > before / TOLD_BYTES {
            self.tell_json(&json!({"event": "progress", "bytes": now, "of": self.bar.length()}));
        }
    }

    fn say(&self, line: &str) {
        if !self.json {
            self.bar.suspend(|| say(line));
        }
    }

    fn tell_json(&self, value: &Value) {
        // A reader that went away is told nothing more; the pull goes on.
        if self.json {
            let _ = self.line(value);
        }
    }

    fn line(&self, value: &Value) -> anyhow::Result<()> {
        print(&format!("{value}\n"))
    }
}

/// A bar that counts bytes; silent where stderr is no terminal.
fn bar(name: &str) -> ProgressBar {
    let template = "{msg} [{bar:30}] {decimal_bytes} of {decimal_total_bytes}, {decimal_bytes_per_sec}, {eta} left";
    let style = ProgressStyle::with_template(template).expect("the template is ours");
    ProgressBar::new(0).with_style(style.progress_chars("=> ")).with_message(name.to_owned())
}

pub(crate) fn remove(rm: &Rm) -> anyhow::Result<()> {
    let data = machine::data_folder(&rm.data);
    let depot = depot(&data);
    let mut rows = Vec::new();
    for name in &rm.models {
        forget_packed(&data, name);
        let removed = depot.remove(name).map_err(|error| not_pulled(error, &rm.data))?;
        rows.push((name.as_str(), removed));
    }
    if rm.unfinished {
        rows.push(("unfinished", depot.remove_unfinished()?));
    }
    if rm.json {
        let rows: Vec<Value> = rows
            .iter()
            .map(|(name, removed)| json!({"name": name, "files": removed.files, "bytes": removed.bytes}))
            .collect();
        return print(&format!("{}\n", serde_json::to_string_pretty(&rows)?));
    }
    for (name, removed) in rows {
        say(&format!("{name}: {} files that nobody needs, {}", removed.files, bytes(removed.bytes)));
    }
    Ok(())
}

/// Removes packed weights of a model that goes. Where that fails, they go when there is no room for others.
fn forget_packed(data: &Path, name: &str) {
    let entry = shelf::entries(data).ok().and_then(|entries| entries.into_iter().find(|entry| entry.name == name));
    let checkpoint = entry.and_then(|entry| shelf::open(&entry).ok());
    if let (Some(checkpoint), Some(cache)) = (checkpoint, machine::weight_cache(data, Some(1)))
        && let Err(why) = cache.forget(&checkpoint)
    {
        tracing::warn!(name, %why, "packed weights stay");
    }
}

fn not_pulled(error: hub::Error, data: &Data) -> anyhow::Error {
    if matches!(error, hub::Error::NotPulled { .. }) {
        let folder = machine::data_folder(data).join("models");
        let hint = format!("{error}\nhint: what you put into {} yourself is yours to remove", folder.display());
        return anyhow::anyhow!(hint);
    }
    error.into()
}

pub(crate) fn verify(verify: &Verify) -> anyhow::Result<()> {
    let depot = depot(&machine::data_folder(&verify.data));
    let names = match verify.models.as_slice() {
        [] => depot.models()?.into_iter().map(|(name, _)| name).collect(),
        named => named.to_vec(),
    };
    let mut rows = Vec::new();
    let mut wrong = Vec::new();
    for name in names {
        let record = depot.record(&name)?;
        let bar = bar(&name);
        bar.set_length(record.size_bytes());
        let faults = depot.verify(&name, &mut |count| bar.inc(count));
        bar.finish_and_clear();
        let faults = faults?;
        if !verify.json && faults.is_empty() {
            print(&format!("{name}: {} files, {}, as pulled\n", record.files.len(), bytes(record.size_bytes())))?;
        }
        for fault in faults.iter().filter(|_| !verify.json) {
            print(&format!("{name}: {}: {}\n", fault.path, fault.why))?;
        }
        let list: Vec<Value> = faults.iter().map(|fault| json!({"file": fault.path, "why": fault.why})).collect();
        rows.push(json!({
            "name": name, "repository": record.repository, "revision": record.revision,
            "files": record.files.len(), "bytes": record.size_bytes(), "faults": list,
        }));
        if !faults.is_empty() {
            wrong.push(format!("{name} ({})", record.repository));
        }
    }
    if verify.json {
        print(&format!("{}\n", serde_json::to_string_pretty(&rows)?))?;
    }
    if wrong.is_empty() {
        return Ok(());
    }
    bail!("not what was pulled: {}\nhint: `sampan pull` fetches the broken files again", wrong.join(", "))
}
