//! `sampan model logits`: the numbers themselves.

use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::{Context as _, ensure};
use kernels::{Cpu, KV_BLOCK_TOKENS, KvFormat};
use models::vision::{self, Features, Placed};
use models::{Checkpoint, Inserted, KvPool, LogitRows, Recurrence, Sequence, Vision, Workspace, picture};
use safetensors::tensor::{Dtype, TensorView};
use serde_json::json;

use crate::args::Logits;
use crate::{machine, shelf};

/// Positions that one call prints.
const POSITIONS_MAX: usize = 8192;

pub(crate) fn run(logits: &Logits) -> anyhow::Result<()> {
    let entry = shelf::find(&machine::data_folder(&logits.data), &logits.model)?;
    let checkpoint = shelf::open(&entry)?;
    let vocabulary = checkpoint.config.vocabulary;
    if let Some(token) = logits.tokens.iter().find(|&&token| token as usize >= vocabulary) {
        anyhow::bail!("token {token} is not below the vocabulary size {vocabulary}");
    }
    let cpu = machine::processor(&logits.processor)?;
    let features = features(logits, &checkpoint, &cpu)?;
    let (tokens, placed) = placed(&logits.tokens, &checkpoint, &features)?;
    let positions = tokens.len();
    ensure!(positions <= POSITIONS_MAX, "{positions} tokens, {POSITIONS_MAX} allowed");
    let model = shelf::load(&entry, &checkpoint, &cpu, logits.precision.kernel(), logits.expert_mib)?;
    let blocks: Vec<u32> = (0..positions.div_ceil(KV_BLOCK_TOKENS) as u32).collect();
    let mut kv = KvPool::new(model.config(), KvFormat::F32, blocks.len() as u32)?;
    let mut workspace = Workspace::default();
    let inserted: Vec<Inserted<'_>> = placed
        .starts
        .iter()
        .zip(&features)
        .map(|(&row, features)| {
            let count = features.merged.len() / model.config().hidden;
            Inserted { row, features, first: 0, count }
        })
        .collect();
    let sequence = Sequence {
        tokens: &tokens,
        prompt_tokens: tokens.len(),
        first_position: 0,
        blocks: &blocks,
        state: Recurrence::default(),
        places: (!features.is_empty()).then_some(&*placed.positions),
        inserted: &inserted,
        adapter: None,
        logits: LogitRows::All,
    };
    model.forward(&cpu, &mut kv, &[sequence], &mut workspace);
    if let Some(error) = workspace.failure() {
        return Err(error).context("compute the logits");
    }
    write(logits, workspace.logits(), positions, vocabulary)
}

/// What the model sees in each picture.
fn features(logits: &Logits, checkpoint: &Checkpoint, cpu: &Cpu) -> anyhow::Result<Vec<Features>> {
    if logits.images.is_empty() {
        return Ok(Vec::new());
    }
    let tower = Vision::load(cpu, checkpoint, logits.precision.kernel()).context("load the vision tower")?;
    let tower = tower.context("--image: this model reads text only")?;
    let see = |path: &PathBuf| {
        let bytes = std::fs::read(path).with_context(|| format!("read {}", path.display()))?;
        let picture = picture::decode(&bytes).with_context(|| format!("look at {}", path.display()))?;
        let patches = picture::patches(&picture, checkpoint.pixels)?;
        Ok(tower.encode(cpu, &patches)?)
    };
    logits.images.iter().map(see).collect()
}

/// The tokens with as many placeholders as the pictures take, and where each token stands.
fn placed(tokens: &[u32], checkpoint: &Checkpoint, features: &[Features]) -> anyhow::Result<(Vec<u32>, Placed)> {
    let Some(vision) = checkpoint.config.vision.as_ref().filter(|_| !features.is_empty()) else {
        return Ok((tokens.to_vec(), Placed::default()));
    };
    let is_placeholder = |token: u32| token == vision.image_token;
    let grids: Vec<[usize; 3]> = features.iter().map(|one| one.grid).collect();
    if let Some(placed) = vision::placed(tokens, is_placeholder, &grids) {
        return Ok((tokens.to_vec(), placed));
    }
    let counts = grids.iter().map(|grid| grid.iter().product::<usize>() / (picture::MERGE * picture::MERGE));
    let mut rest = counts.clone();
    let expanded: Vec<u32> = tokens
        .iter()
        .flat_map(|&token| {
            let count = if is_placeholder(token) { rest.next().unwrap_or(1) } else { 1 };
            std::iter::repeat_n(token, count)
        })
        .collect();
    let placed = vision::placed(&expanded, is_placeholder, &grids).with_context(|| {
        let counts: Vec<String> = counts.map(|count| count.to_string()).collect();
        let (token, counts) = (vision.image_token, counts.join(", "));
        format!("--tokens: token {token} must stand once, or {counts} times, for each picture in its place")
    })?;
    Ok((expanded, placed))
}

fn write(logits: &Logits, numbers: &[f32], positions: usize, vocabulary: usize) -> anyhow::Result<()> {
    if let Some(path) = &logits.out {
        let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        let view = TensorView::new(Dtype::F32, vec![positions, vocabulary], &bytes).context("shape the tensor")?;
        return safetensors::serialize_to_file([("logits", view)], None, path)
            .with_context(|| format!("write {}", path.display()));
    }
    if logits.json {
        let rows: Vec<&[f32]> = numbers.chunks_exact(vocabulary).collect();
        return machine::print(&format!("{}\n", json!({"logits": rows})));
    }
    let mut text = String::new();
    for row in numbers.chunks_exact(vocabulary) {
        let line: Vec<String> = row.iter().map(f32::to_string).collect();
        writeln!(text, "{}", line.join(" ")).context("write a line")?;
    }
    machine::print(&text)
}
