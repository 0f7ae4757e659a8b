//! Experts that are read when they are chosen: the same numbers, to the bit, and what is wrong with them is told.

use std::fs::OpenOptions;
use std::num::NonZeroUsize;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use base::Rng;
use kernels::{Cpu, CpuOptions, KV_BLOCK_TOKENS, KvFormat, Precision};
use models::{Checkpoint, Error, KvPool, LogitRows, Qwen3, ReadWay, Recurrence, Sequence, Workspace};

use crate::truth::fixtures;

/// Tokens of a sequence.
const TOKENS: u32 = 48;
/// Of them, those that come in one step.
const PROMPT: usize = 24;

struct Reader {
    cpu: Cpu,
    model: Qwen3,
}

impl Reader {
    fn resident(checkpoint: &Checkpoint, precision: Precision) -> Self {
        let cpu = cpu();
        let model = Qwen3::load(&cpu, checkpoint, precision, |_, _| {}).unwrap();
        Self { cpu, model }
    }

    fn streaming(checkpoint: &Checkpoint, precision: Precision, bytes: usize) -> Result<Self, Error> {
        let cpu = cpu();
        let model = Qwen3::load_streaming(&cpu, checkpoint, precision, bytes, |_, _| {})?;
        Ok(Self { cpu, model })
    }

    /// Logits of a prompt in one step and of what follows token by token, or why there are none.
    fn logits(&self) -> Result<Vec<f32>, Error> {
        let blocks: Vec<u32> = (0..(TOKENS as usize).div_ceil(KV_BLOCK_TOKENS) as u32).collect();
        let mut kv = KvPool::new(self.model.config(), KvFormat::F32, blocks.len() as u32).unwrap();
        let mut workspace = Workspace::default();
        let mut rng = Rng::seeded(7);
        let tokens: Vec<u32> = (0..TOKENS).map(|_| rng.below(self.model.config().vocabulary as u64) as u32).collect();
        let (prompt, rest) = tokens.split_at(PROMPT);
        let mut all = Vec::new();
        let steps = std::iter::once(prompt).chain(rest.chunks(1));
        let mut first_position = 0;
        for tokens in steps {
            let sequence = Sequence {
                tokens,
                prompt_tokens: tokens.len(),
                first_position,
                blocks: &blocks,
                state: Recurrence::default(),
                places: None,
                inserted: &[],
                adapter: None,
                logits: LogitRows::All,
            };
            all.extend_from_slice(self.model.forward(&self.cpu, &mut kv, &[sequence], &mut workspace));
            first_position += tokens.len();
            if let Some(failure) = workspace.failure() {
                return Err(failure);
            }
        }
        Ok(all)
    }
}

fn cpu() -> Cpu {
    Cpu::new(CpuOptions { isa: None, threads: NonZeroUsize::new(2).unwrap(), is_pinned: false }).unwrap()
}

fn open(path: &str) -> Checkpoint {
    Checkpoint::open(&fixtures().join(path)).unwrap()
}

/// As little memory as the model takes.
fn least(checkpoint: &Checkpoint, precision: Precision) -> usize {
    match Reader::streaming(checkpoint, precision, 1).map(|_| ()) {
        Err(Error::ExpertMemory { given_bytes: 1, needed_bytes }) => needed_bytes as usize,
        other => panic!("{other:?}"),
    }
}

fn check(path: &str) {
    let checkpoint = open(path);
    for precision in [Precision::Exact, Precision::Fast] {
        let expected = Reader::resident(&checkpoint, precision).logits().unwrap();
        let all = checkpoint.expert_bytes(precision) as usize;
        let least = least(&checkpoint, precision);
        for bytes in [least, least + (all.saturating_sub(least)) / 2, 2 * all + least] {
            let reader = Reader::streaming(&checkpoint, precision, bytes).unwrap();
            let found = reader.logits().unwrap();
            assert!(found == expected, "{path}, {precision:?}, {bytes} of {all} bytes");
            let figures = reader.model.stream_figures().unwrap();
            assert!(figures.chosen > 0 && figures.read_bytes >= figures.needed_bytes, "{figures:?}");
            if bytes >= all {
                reader.logits().unwrap();
                let again = reader.model.stream_figures().unwrap();
                assert_eq!(again.needed_bytes, figures.needed_bytes, "what fits is read once: {again:?}");
            }
        }
    }
}

#[test]
fn a_mixture_is_the_same_in_every_form() {
    check("tiny/qwen3_moe");
}

#[test]
fn a_mixture_with_a_shared_expert_is_the_same() {
    check("tiny/qwen3_next");
}

#[test]
fn fused_experts_are_found() {
    check("tiny/qwen3_5_moe");
}

#[test]
fn a_gguf_file_and_a_mixture_with_dense_layers_are_the_same() {
    check("gguf/qwen3_moe.Q8_0.gguf");
    check("gguf/qwen3_moe.F32.gguf");
    check("tiny/qwen3_moe_mixed");
}

#[test]
fn what_is_no_mixture_or_not_stored_as_it_is_computed_is_refused() {
    let refused = Reader::streaming(&open("tiny/qwen3_dense"), Precision::Exact, 1 << 30).map(|_| ());
    assert!(refused.unwrap_err().to_string().contains("only experts"));
    let input_major = Reader::streaming(&open("tiny/qwen3_vl_moe"), Precision::Exact, 1 << 30).map(|_| ());
    assert!(input_major.unwrap_err().to_string().contains("sampan model convert"));
}

#[test]
fn the_disk_can_be_measured_in_both_ways() {
    let checkpoint = open("tiny/qwen3_moe");
    let reader = Reader::streaming(&checkpoint, Precision::Exact, 1 << 30).unwrap();
    let expected = reader.logits().unwrap();
    let mut rng = Rng::seeded(1);
    for way in [ReadWay::Direct, ReadWay::Cached] {
        assert!(reader.model.probe_experts(&reader.cpu, &mut rng, 1 << 20, way).unwrap() >= 1 << 20);
    }
    assert!(reader.logits().unwrap() == expected, "and nothing of it is kept");
}

fn copy(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

#[test]
fn an_expert_that_is_not_finite_ends_the_step_and_not_the_model() {
    let folder = tempfile::tempdir().unwrap();
    copy(&fixtures().join("tiny/qwen3_moe"), folder.path());
    let checkpoint = Checkpoint::open(folder.path()).unwrap();
    let path = folder.path().join("model.safetensors");
    let name = "layers.1.mlp.experts.2.down_proj.weight";
    let stored = checkpoint.weights.get(name).unwrap().bytes().to_vec();
    let whole = std::fs::read(&path).unwrap();
    let at = whole.windows(stored.len()).position(|window| window == stored).unwrap() as u64;
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    let reader = Reader::streaming(&checkpoint, Precision::Exact, 1 << 30).unwrap();
    // The fourth number of its sixth row.
    let wild = 2 * (5 * 32 + 3);
    file.write_all_at(&[0x80, 0x7f], at + wild).unwrap();
    let refused = reader.logits().unwrap_err();
    assert!(matches!(&refused, Error::NotFinite { name: found, row: 5 } if found.contains(name)), "{refused:?}");
    file.write_all_at(&stored, at).unwrap();
    let expected = Reader::resident(&open("tiny/qwen3_moe"), Precision::Exact).logits().unwrap();
    assert!(reader.logits().unwrap() == expected, "what was wrong is read again");
}

#[test]
fn a_file_that_was_replaced_is_not_read() {
    let folder = tempfile::tempdir().unwrap();
    copy(&fixtures().join("tiny/qwen3_moe"), folder.path());
    let checkpoint = Checkpoint::open(folder.path()).unwrap();
    let path = folder.path().join("model.safetensors");
    std::fs::copy(&path, folder.path().join("other")).unwrap();
    std::fs::rename(folder.path().join("other"), &path).unwrap();
    let refused = Reader::streaming(&checkpoint, Precision::Exact, 1 << 30).map(|_| ()).unwrap_err();
    let source = std::error::Error::source(&refused).unwrap().to_string();
    assert!(source.contains("replaced"), "{source}");
}
