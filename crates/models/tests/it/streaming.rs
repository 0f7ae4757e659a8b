//! Experts that are read when they are chosen: the same numbers, to the bit, and what is wrong with them is told.

use std::fs::OpenOptions;
use std::num::NonZeroUsize;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use base::Rng;
use kernels::{Cpu, CpuOptions, KV_BLOCK_TOKENS, KvFormat, Precision};
use models::{Checkpoint, Error, KvPool, LogitRows, Qwen3, ReadWay, Recurrence, Sequence, Workspace};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

use crate::truth::fixtures;

/// Tokens of a sequence.
const TOKENS: u32 = 48;
/// Of them, those that come in one step.
const PROMPT: usize = 24;

pub(crate) struct Reader {
    cpu: Cpu,
    pub(crate) model: Qwen3,
}

impl Reader {
    pub(crate) fn resident(checkpoint: &Checkpoint, precision: Precision) -> Self {
        Self::try_resident(checkpoint, precision).unwrap()
    }

    pub(crate) fn try_resident(checkpoint: &Checkpoint, precision: Precision) -> Result<Self, Error> {
        let cpu = cpu();
        let model = Qwen3::load(&cpu, checkpoint, precision, |_, _| {})?;
        Ok(Self { cpu, model })
    }

    pub(crate) fn streaming(checkpoint: &Checkpoint, precision: Precision, bytes: usize) -> Result<Self, Error> {
        let cpu = cpu();
        let model = Qwen3::load_streaming(&cpu, checkpoint, precision, bytes, |_, _| {})?;
        Ok(Self { cpu, model })
    }

    /// Logits of a prompt in one step and of what follows token by token, or why there are none.
    pub(crate) fn logits(&self) -> Result<Vec<f32>, Error> {
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
    check_all(path, &open(path));
}

fn check_all(path: &str, checkpoint: &Checkpoint) {
    for precision in [Precision::Exact, Precision::Fast] {
        let expected = Reader::resident(checkpoint, precision).logits().unwrap();
        let all = checkpoint.expert_bytes(precision) as usize;
        let least = least(checkpoint, precision);
        for bytes in [least, least + (all.saturating_sub(least)) / 2, 2 * all + least] {
            let reader = Reader::streaming(checkpoint, precision, bytes).unwrap();
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
fn experts_with_the_input_outermost_are_the_same() {
    check("tiny/qwen3_vl_moe");
}

#[test]
fn a_gguf_file_and_a_mixture_with_dense_layers_are_the_same() {
    check("gguf/qwen3_moe.Q8_0.gguf");
    check("gguf/qwen3_moe.F32.gguf");
    check("tiny/qwen3_moe_mixed");
}

#[test]
fn experts_in_fp8_are_the_same() {
    check("quant/fp8_moe");
}

/// Four-bit experts of the method, in place of those of a mixture in BF16. `group_of` is the group of a column, of two.
fn in_four_bits(folder: &Path, method: &str, has_zeros: bool, group_of: fn(usize) -> i32) -> Checkpoint {
    const GROUP: usize = 32;
    let from = fixtures().join("tiny/qwen3_moe");
    copy(&from, folder);
    let mut config: serde_json::Value =
        serde_json::from_slice(&std::fs::read(from.join("config.json")).unwrap()).unwrap();
    config["quantization_config"] = serde_json::json!({
        "quant_method": method, "bits": 4, "group_size": GROUP, "desc_act": false, "sym": !has_zeros, "version": "gemm",
        "zero_point": has_zeros,
    });
    std::fs::write(folder.join("config.json"), config.to_string()).unwrap();
    let whole = std::fs::read(from.join("model.safetensors")).unwrap();
    let (stored, mut rng) = (SafeTensors::deserialize(&whole).unwrap(), Rng::seeded(3));
    let mut tensors: Vec<(String, Dtype, Vec<usize>, Vec<u8>)> = Vec::new();
    for (name, tensor) in stored.tensors() {
        let (&[rows, columns], Some(stem)) = (tensor.shape(), name.strip_suffix(".weight")) else {
            tensors.push((name, tensor.dtype(), tensor.shape().to_vec(), tensor.data().to_vec()));
            continue;
        };
        if !name.contains(".experts.") {
            tensors.push((name, tensor.dtype(), tensor.shape().to_vec(), tensor.data().to_vec()));
            continue;
        }
        let groups = columns / GROUP;
        let mut words = |count: usize| -> Vec<u8> { (0..4 * count).map(|_| rng.below(256) as u8).collect() };
        let numbers = words(rows * columns / 8);
        // GPTQ keeps zero points less one, and means 8 without any.
        let zeros = if has_zeros { words(groups * rows / 8) } else { vec![0x77; 4 * (groups * rows / 8)] };
        let scales: Vec<u8> = (0..groups * rows).flat_map(|i| [0, 0x20 | (i % 4) as u8]).collect();
        let shape = if method == "awq" { vec![columns, rows / 8] } else { vec![columns / 8, rows] };
        tensors.push((format!("{stem}.qweight"), Dtype::I32, shape, numbers));
        tensors.push((format!("{stem}.qzeros"), Dtype::I32, vec![groups, rows / 8], zeros));
        tensors.push((format!("{stem}.scales"), Dtype::F16, vec![groups, rows], scales));
        if method == "gptq" {
            let indexes = (0..columns).flat_map(|column| (group_of(column) % groups as i32).to_le_bytes()).collect();
            tensors.push((format!("{stem}.g_idx"), Dtype::I32, vec![columns], indexes));
        }
    }
    let views = tensors
        .iter()
        .map(|(name, dtype, shape, bytes)| (name.as_str(), TensorView::new(*dtype, shape.clone(), bytes).unwrap()));
    std::fs::write(folder.join("model.safetensors"), safetensors::serialize(views, None).unwrap()).unwrap();
    Checkpoint::open(folder).unwrap()
}

/// The three formats that such matrices become: Q4_0, Q8_0 and, with groups that are scattered, F32.
#[test]
fn experts_in_four_bits_are_the_same() {
    let in_order: fn(usize) -> i32 = |column| (column / 32) as i32;
    let scattered: fn(usize) -> i32 = |column| (column % 2) as i32;
    for (method, has_zeros, group_of) in
        [("gptq", false, in_order), ("gptq", true, in_order), ("gptq", true, scattered), ("awq", true, in_order)]
    {
        let folder = tempfile::tempdir().unwrap();
        let checkpoint = in_four_bits(folder.path(), method, has_zeros, group_of);
        check_all(&format!("{method}, zero points: {has_zeros}"), &checkpoint);
    }
}

#[test]
fn a_scale_of_fp8_that_is_not_finite_ends_the_step() {
    let folder = tempfile::tempdir().unwrap();
    copy(&fixtures().join("quant/fp8_moe"), folder.path());
    let path = folder.path().join("model.safetensors");
    let mut whole = std::fs::read(&path).unwrap();
    let head = 8 + u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
    let listed: serde_json::Value = serde_json::from_slice(&whole[8..head]).unwrap();
    let name = "layers.1.mlp.experts.2.up_proj.weight_scale_inv";
    let start = listed[format!("model.{name}")]["data_offsets"][0].as_u64().unwrap() as usize;
    whole[head + start..][..4].copy_from_slice(&f32::NAN.to_le_bytes());
    std::fs::write(&path, whole).unwrap();
    let checkpoint = Checkpoint::open(folder.path()).unwrap();
    let reader = Reader::streaming(&checkpoint, Precision::Exact, 1 << 30).unwrap();
    let refused = reader.logits().unwrap_err();
    assert!(matches!(&refused, Error::NotFinite { name: found, row: 0 } if found == name), "{refused:?}");
}

#[test]
fn what_is_no_mixture_is_refused() {
    let refused = Reader::streaming(&open("tiny/qwen3_dense"), Precision::Exact, 1 << 30).map(|_| ());
    assert!(refused.unwrap_err().to_string().contains("only experts"));
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

pub(crate) fn copy(from: &Path, to: &Path) {
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
