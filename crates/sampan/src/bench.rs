//! `sampan bench`: the instrument of everything that claims speed.
//!
//! A context is computed before what follows it is timed. What its keys and values are does not matter, but that they
//! are there does: memory that nobody has written is one page of zeros for all, which never leaves the cache.

use std::num::NonZeroUsize;

use anyhow::{Context as _, ensure};
use base::{Clock, Rng};
use kernels::{Cpu, KV_BLOCK_TOKENS};
use models::picture::{Picture, patches};
use models::{Checkpoint, KvPool, LogitRows, Qwen3, ReadWay, Recurrence, Sequence, StreamFigures, Vision, Workspace};
use serde_json::{Value, json};

use crate::args::Bench;
use crate::machine::{self, SystemClock};
use crate::{model, shelf};

/// Rows of one step of a prompt: enough for the arithmetic to be full, few enough for the buffers to stay small.
const PROMPT_ROWS: usize = 512;
/// Bytes that are read to see what the disk does.
const DISK_BYTES: u64 = 4 << 30;

struct Subject<'a> {
    cpu: &'a Cpu,
    model: &'a Qwen3,
    kv: KvPool,
    blocks: Vec<Vec<u32>>,
    workspace: Workspace,
    clock: &'a dyn Clock,
    /// Runs that were begun.
    runs: u64,
}

/// What the disk does with the accesses of a step, in bytes a second.
struct Disk {
    direct: f64,
    cached: f64,
}

pub(crate) fn run(bench: &Bench) -> anyhow::Result<()> {
    ensure!(bench.repeat > 0, "--repeat 0 measures nothing");
    let clock = SystemClock::start();
    let data = machine::data_folder(&bench.data);
    let entry = shelf::find(&data, &bench.model)?;
    let cpu = machine::processor(&bench.processor)?;
    let began_us = clock.monotonic_us();
    let weight_cache = machine::weight_cache(&data, Some(bench.weight_cache_mib));
    let checkpoint = Checkpoint { weight_cache, ..shelf::open(&entry)? };
    let model = shelf::load(&entry, &checkpoint, &cpu, bench.precision.kernel(), bench.expert_mib)?;
    let load_ms = (clock.monotonic_us() - began_us) / 1000;

    // A first token needs no room for others.
    let (prompts, depths, decoded) = match bench.first_token {
        true => (&[1][..], &[][..], 0),
        false => (&*bench.prompt, &*bench.depth, bench.decode),
    };
    let batch_max = bench.batch.iter().copied().max().unwrap_or(1);
    let depth_max = depths.iter().copied().max().unwrap_or(0) + decoded + 1;
    let length_max = depth_max.max(prompts.iter().copied().max().unwrap_or(0));
    let per_sequence = length_max.div_ceil(KV_BLOCK_TOKENS) as u32;
    let sequences = NonZeroUsize::new(batch_max).context("--batch 0 measures nothing")?.get() as u32;
    let all_blocks = per_sequence.checked_mul(sequences).context("--batch times --depth is too large")?;
    let kv = KvPool::with_slots(&checkpoint.config, bench.kv_format.kernel(), all_blocks, sequences)?;
    let blocks = (0..sequences).map(|index| (index * per_sequence..(index + 1) * per_sequence).collect()).collect();
    let mut subject = Subject {
        cpu: &cpu,
        model: &model,
        kv,
        blocks,
        workspace: Workspace::default(),
        clock: clock.as_ref(),
        runs: 0,
    };

    let mut rows = Vec::new();
    for &tokens in prompts {
        let mut run = || subject.prompt(tokens);
        let timed = if bench.first_token { run() } else { median(bench.repeat, run) };
        rows.push(timed.report("prefill", tokens, 0, 1));
    }
    for &depth in depths {
        for &batch in &bench.batch {
            subject.fill(depth, batch);
            let disk = subject.disk()?;
            let before = model.stream_figures().unwrap_or_default();
            let timed = median(bench.repeat, || subject.decode(decoded, depth, batch));
            let mut row = timed.report("decode", decoded, depth, batch);
            if let Some(disk) = disk {
                let runs = bench.repeat as u64 + 1;
                row["experts"] = streamed(&disk, &timed, before, model.stream_figures().unwrap_or_default(), runs);
            }
            if let Some(error) = subject.workspace.failure() {
                return Err(error).context("decode");
            }
            rows.push(row);
        }
    }
    rows.extend(look(bench, &checkpoint, &cpu, clock.as_ref())?);
    let report = json!({
        "model": entry.name,
        "threads": cpu.threads(),
        "isa": format!("{:?}", cpu.isa()),
        "load_ms": load_ms,
        "weights_bytes": model.size_bytes(),
        "peak_rss_bytes": machine::peak_rss_bytes(),
        "tests": rows,
    });
    show(&report, bench.json)
}

/// How fast the vision tower looks at pictures, if any are asked for.
fn look(bench: &Bench, checkpoint: &Checkpoint, cpu: &Cpu, clock: &dyn Clock) -> anyhow::Result<Vec<Value>> {
    if bench.pictures.is_empty() {
        return Ok(Vec::new());
    }
    let tower = Vision::load(cpu, checkpoint, bench.precision.kernel())?;
    let tower = tower.with_context(|| format!("{}: it has no vision tower to look at pictures", bench.model))?;
    let mut rows = Vec::new();
    for &(width, height) in &bench.pictures {
        let mut rng = Rng::seeded((width * height) as u64);
        let pixels = (0..3 * width * height).map(|_| rng.below(256) as u8).collect();
        let patches = patches(&Picture { width, height, pixels }, checkpoint.pixels)?;
        let encode = || -> models::Result<Timed> {
            let began_us = clock.monotonic_us();
            let features = tower.encode(cpu, &patches)?;
            let tokens = features.merged.len() / checkpoint.config.hidden;
            Ok(Timed { tokens, elapsed_us: clock.monotonic_us() - began_us })
        };
        let mut runs = (0..=bench.repeat).map(|_| encode()).collect::<models::Result<Vec<_>>>()?;
        // The first one warms up.
        runs.remove(0);
        runs.sort_by_key(|timed| timed.elapsed_us);
        let timed = runs.swap_remove(bench.repeat / 2);
        let mut row = timed.report(&format!("picture {width}x{height}"), timed.tokens, 0, 1);
        row["elapsed_ms"] = json!(timed.elapsed_us as f64 / 1000.0);
        rows.push(row);
    }
    Ok(rows)
}

struct Timed {
    tokens: usize,
    elapsed_us: u64,
}

impl Timed {
    fn report(&self, test: &str, tokens: usize, depth: usize, batch: usize) -> Value {
        let per_second = self.tokens as f64 * 1e6 / self.elapsed_us.max(1) as f64;
        json!({"test": test, "tokens": tokens, "depth": depth, "batch": batch, "tokens_per_second": per_second})
    }
}

/// What decoding read of experts, on the average of all runs, and how much of the disk the median one used.
fn streamed(disk: &Disk, timed: &Timed, before: StreamFigures, after: StreamFigures, runs: u64) -> Value {
    let tokens = (runs * timed.tokens as u64) as f64;
    let per_token = |of: fn(&StreamFigures) -> u64| (of(&after) - of(&before)) as f64 / tokens;
    let needed = per_token(|figures| figures.needed_bytes);
    let per_second = needed * timed.tokens as f64 * 1e6 / timed.elapsed_us.max(1) as f64;
    json!({
        "chosen_per_token": per_token(|figures| figures.chosen),
        "found_per_token": per_token(|figures| figures.found),
        "guessed_per_token": per_token(|figures| figures.guessed),
        "needed_bytes_per_token": needed,
        "read_bytes_per_token": per_token(|figures| figures.read_bytes),
        "needed_bytes_per_second": per_second,
        "disk_bytes_per_second": disk.direct,
        "disk_bytes_per_second_by_the_page_cache": disk.cached,
        "share_of_the_disk": per_second / disk.direct.max(1.0),
    })
}

/// The median of some runs, after one that warms up.
fn median(repeat: usize, mut run: impl FnMut() -> Timed) -> Timed {
    run();
    let mut runs: Vec<Timed> = (0..repeat).map(|_| run()).collect();
    runs.sort_by_key(|timed| timed.elapsed_us);
    runs.swap_remove(repeat / 2)
}

impl Subject<'_> {
    /// Other tokens in every run: what one run brought into memory must not be all that the next one wants.
    fn tokens(&mut self, count: usize) -> Vec<u32> {
        let mut rng = Rng::seeded(count as u64 + (self.runs << 32));
        self.runs += 1;
        (0..count).map(|_| rng.below(self.model.config().vocabulary as u64) as u32).collect()
    }

    fn prompt(&mut self, count: usize) -> Timed {
        let tokens = self.tokens(count);
        let began_us = self.clock.monotonic_us();
        for (index, piece) in tokens.chunks(PROMPT_ROWS).enumerate() {
            let first_position = index * PROMPT_ROWS;
            let is_last = first_position + piece.len() == count;
            let logits = if is_last { LogitRows::Last } else { LogitRows::None };
            let blocks = &self.blocks[0];
            let sequence = Sequence {
                tokens: piece,
                prompt_tokens: piece.len(),
                first_position,
                blocks,
                state: Recurrence::default(),
                places: None,
                inserted: &[],
                adapter: None,
                logits,
            };
            self.model.forward(self.cpu, &mut self.kv, &[sequence], &mut self.workspace);
        }
        Timed { tokens: count, elapsed_us: self.clock.monotonic_us() - began_us }
    }

    /// Measures the disk where experts are streamed.
    fn disk(&mut self) -> anyhow::Result<Option<Disk>> {
        if self.model.stream_figures().is_none() {
            return Ok(None);
        }
        let mut rng = Rng::seeded(1);
        let mut speed = |way| -> anyhow::Result<f64> {
            let began_us = self.clock.monotonic_us();
            let bytes = self.model.probe_experts(self.cpu, &mut rng, DISK_BYTES, way).context("measure the disk")?;
            Ok(bytes as f64 * 1e6 / (self.clock.monotonic_us() - began_us).max(1) as f64)
        };
        Ok(Some(Disk { direct: speed(ReadWay::Direct)?, cached: speed(ReadWay::Cached)? }))
    }

    /// Computes the context of every sequence.
    fn fill(&mut self, depth: usize, batch: usize) {
        let tokens = self.tokens(depth);
        for (state, blocks) in self.blocks.iter().take(batch).enumerate() {
            for (index, piece) in tokens.chunks(PROMPT_ROWS).enumerate() {
                let sequence = Sequence {
                    tokens: piece,
                    prompt_tokens: piece.len(),
                    first_position: index * PROMPT_ROWS,
                    blocks,
                    state: Recurrence::in_slot(state as u32),
                    places: None,
                    inserted: &[],
                    adapter: None,
                    logits: LogitRows::None,
                };
                self.model.hidden(self.cpu, &mut self.kv, &[sequence], &mut self.workspace);
            }
        }
    }

    fn decode(&mut self, count: usize, depth: usize, batch: usize) -> Timed {
        let tokens = self.tokens(count * batch);
        let began_us = self.clock.monotonic_us();
        for (step, row) in tokens.chunks_exact(batch).enumerate() {
            let sequence = |(state, (blocks, token)): (usize, (_, _))| Sequence {
                tokens: std::slice::from_ref(token),
                prompt_tokens: 0,
                first_position: depth + step,
                blocks,
                state: Recurrence::in_slot(state as u32),
                places: None,
                inserted: &[],
                adapter: None,
                logits: LogitRows::Last,
            };
            let step: Vec<Sequence<'_>> =
                self.blocks.iter().map(Vec::as_slice).zip(row).enumerate().map(sequence).collect();
            self.model.forward(self.cpu, &mut self.kv, &step, &mut self.workspace);
        }
        Timed { tokens: count * batch, elapsed_us: self.clock.monotonic_us() - began_us }
    }
}

fn show(report: &Value, as_json: bool) -> anyhow::Result<()> {
    if as_json {
        return machine::print(&format!("{report}\n"));
    }
    let number = |value: &Value| value.as_u64().map_or("-".to_owned(), model::bytes);
    machine::say(&format!(
        "{}: {} threads, {}, loaded in {} ms, weights {}, peak memory {}",
        report["model"].as_str().unwrap_or_default(),
        report["threads"],
        report["isa"].as_str().unwrap_or_default(),
        report["load_ms"],
        number(&report["weights_bytes"]),
        number(&report["peak_rss_bytes"]),
    ));
    let mut table = model::table(&["TEST", "TOKENS", "DEPTH", "BATCH", "TOKENS/S"]);
    for row in report["tests"].as_array().into_iter().flatten() {
        let speed = row["tokens_per_second"].as_f64().unwrap_or_default();
        let cell = |field: &str| row[field].as_str().map_or_else(|| row[field].to_string(), str::to_owned);
        table.add_row([cell("test"), cell("tokens"), cell("depth"), cell("batch"), format!("{speed:.1}")]);
    }
    machine::print(&format!("{table}\n"))?;
    for row in report["tests"].as_array().into_iter().flatten() {
        let experts = &row["experts"];
        let rate = |field: &str| model::bytes(experts[field].as_f64().unwrap_or_default() as u64);
        if experts.is_object() {
            machine::say(&format!(
                "depth {}: {} of experts a token, {}/s; the disk gives {}/s ({}/s by the page cache): {:.0} %",
                row["depth"],
                rate("needed_bytes_per_token"),
                rate("needed_bytes_per_second"),
                rate("disk_bytes_per_second"),
                rate("disk_bytes_per_second_by_the_page_cache"),
                experts["share_of_the_disk"].as_f64().unwrap_or_default() * 100.0,
            ));
        }
    }
    Ok(())
}
