//! LoRA adapters against what PEFT computes with them, and files that are refused.

use std::num::NonZeroUsize;
use std::path::Path;

use kernels::{Cpu, CpuOptions, Isa, KV_BLOCK_TOKENS, KvFormat, Precision};
use models::{Adapter, AdapterFiles, Checkpoint, Error, KvPool, LogitRows, Qwen3, Recurrence, Sequence, Workspace};
use safetensors::SafeTensors;
use serde_json::{Value, json};

use crate::goldens::{EXACT_RELATIVE_MAX, EXACT_WORST_MAX, check_logits};
use crate::truth::{fixtures, relative, tensor};

/// Weights, adapters and activations in BF16: as the models without adapters.
const FAST_RELATIVE_MAX: f64 = 0.05;

struct Base {
    cpu: Cpu,
    model: Qwen3,
    precision: Precision,
}

/// Some tokens of a sequence, with an adapter.
struct Slice<'a> {
    /// Which sequence: it has its own blocks.
    sequence: usize,
    first: usize,
    tokens: &'a [u32],
    prompt: usize,
    adapter: Option<&'a Adapter>,
}

impl<'a> Slice<'a> {
    fn with(&self, blocks: &'a [u32]) -> Sequence<'a> {
        Sequence {
            tokens: self.tokens,
            prompt_tokens: self.prompt,
            first_position: self.first,
            blocks,
            state: Recurrence::default(),
            places: None,
            inserted: &[],
            adapter: self.adapter,
            logits: LogitRows::All,
        }
    }
}

impl Base {
    fn open(family: &str, precision: Precision, isa: Option<Isa>) -> Self {
        let cpu = Cpu::new(CpuOptions { isa, threads: NonZeroUsize::new(2).unwrap(), is_pinned: false }).unwrap();
        let checkpoint = Checkpoint::open(&fixtures().join("tiny").join(family)).unwrap();
        let model = Qwen3::load(&cpu, &checkpoint, precision, |_, _| {}).unwrap();
        Self { cpu, model, precision }
    }

    fn adapter(&self, name: &str) -> Adapter {
        let files = AdapterFiles::open(&fixtures().join("adapters").join(name)).unwrap();
        Adapter::load(&self.cpu, &files, self.model.config(), self.precision).unwrap()
    }

    /// Logits of all rows of every step.
    fn run(&self, steps: &[&[Slice<'_>]]) -> Vec<Vec<f32>> {
        let format = if self.precision == Precision::Exact { KvFormat::F32 } else { KvFormat::Bf16 };
        let each = 64_usize.div_ceil(KV_BLOCK_TOKENS) as u32;
        let mut kv = KvPool::new(self.model.config(), format, 4 * each).unwrap();
        let blocks: Vec<Vec<u32>> = (0..4).map(|of| (of * each..(of + 1) * each).collect()).collect();
        let mut workspace = Workspace::default();
        let step = |slices: &&[Slice<'_>]| {
            let batch: Vec<_> = slices.iter().map(|slice| slice.with(&blocks[slice.sequence])).collect();
            self.model.forward(&self.cpu, &mut kv, &batch, &mut workspace).to_vec()
        };
        steps.iter().map(step).collect()
    }
}

fn whole<'a>(sequence: usize, tokens: &'a [u32], adapter: Option<&'a Adapter>) -> Slice<'a> {
    Slice { sequence, first: 0, tokens, prompt: tokens.len(), adapter }
}

fn golden(name: &str) -> (Vec<u32>, Vec<f32>) {
    let bytes = std::fs::read(fixtures().join("adapters/golden.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let tokens = tensors.tensor("tokens").unwrap();
    let tokens = tokens.data().chunks_exact(8).map(|id| u64::from_le_bytes(id.try_into().unwrap()) as u32).collect();
    (tokens, tensor(&tensors, &format!("{name}.logits")))
}

#[test]
fn adapters_compute_what_peft_computes() {
    for isa in [None, Some(Isa::Scalar)] {
        for (family, name) in [("qwen3_dense", "all"), ("qwen3_dense", "some"), ("qwen3_moe", "mixture")] {
            let (tokens, truth) = golden(name);
            let exact = Base::open(family, Precision::Exact, isa);
            let adapter = exact.adapter(name);
            let found = exact.run(&[&[whole(0, &tokens, Some(&adapter))]]).remove(0);
            check_logits(&format!("{name} {isa:?}"), &found, &truth, EXACT_RELATIVE_MAX, EXACT_WORST_MAX);

            // The prompt, and then token by token.
            let generated = (20..tokens.len()).map(|at| {
                let adapter = Some(&adapter);
                [Slice { sequence: 0, first: at, tokens: &tokens[at..=at], prompt: 0, adapter }]
            });
            let steps: Vec<_> = std::iter::once([whole(0, &tokens[..20], Some(&adapter))]).chain(generated).collect();
            let steps: Vec<&[Slice<'_>]> = steps.iter().map(|step| &step[..]).collect();
            let found = exact.run(&steps).concat();
            check_logits(&format!("{name} in steps"), &found, &truth, EXACT_RELATIVE_MAX, EXACT_WORST_MAX);

            let fast = Base::open(family, Precision::Fast, isa);
            let adapter = fast.adapter(name);
            let found = fast.run(&[&[whole(0, &tokens, Some(&adapter))]]).remove(0);
            let off = relative(&found, &truth);
            assert!(off <= FAST_RELATIVE_MAX, "{name} {isa:?} fast: {off}");
        }
    }
}

/// Rows of several adapters, of none, of prompts and of generated tokens share a step, and none notices the others.
#[test]
fn the_company_of_other_adapters_changes_nothing() {
    for precision in [Precision::Exact, Precision::Fast] {
        let base = Base::open("qwen3_dense", precision, None);
        let (all, some) = (base.adapter("all"), base.adapter("some"));
        let (tokens, _) = golden("all");
        let choices = [Some(&all), None, Some(&some), Some(&all)];
        let alone = |adapter, count: usize| {
            let prompt = [whole(0, &tokens[..count], adapter)];
            let next = [Slice { sequence: 0, first: count, tokens: &tokens[count..=count], prompt: 0, adapter }];
            base.run(&[&prompt, &next])
        };
        let count = |sequence: usize| 7 + 5 * sequence;
        let prompts: Vec<_> =
            choices.iter().enumerate().map(|(at, &adapter)| whole(at, &tokens[..count(at)], adapter)).collect();
        let next = |(sequence, &adapter): (usize, &Option<_>)| {
            let first = count(sequence);
            Slice { sequence, first, tokens: &tokens[first..=first], prompt: 0, adapter }
        };
        let nexts: Vec<_> = choices.iter().enumerate().map(next).collect();
        let together = base.run(&[&prompts, &nexts]);
        let mut begun = [0, 0];
        for (sequence, &adapter) in choices.iter().enumerate() {
            for (step, alone) in alone(adapter, count(sequence)).iter().enumerate() {
                let found = &together[step][begun[step]..][..alone.len()];
                assert_eq!(found, alone, "{precision:?} sequence {sequence} step {step}");
                begun[step] += alone.len();
            }
        }
    }
}

/// A copy of the adapter `all` whose configuration is changed.
fn changed(change: impl FnOnce(&mut Value)) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let from = fixtures().join("adapters/all");
    let text = std::fs::read(from.join("adapter_config.json")).unwrap();
    let mut config: Value = serde_json::from_slice(&text).unwrap();
    change(&mut config);
    std::fs::write(folder.path().join("adapter_config.json"), config.to_string()).unwrap();
    std::fs::copy(from.join("adapter_model.safetensors"), folder.path().join("adapter_model.safetensors")).unwrap();
    folder
}

fn refusal(folder: &Path, family: &str) -> String {
    let cpu = Cpu::new(CpuOptions { isa: None, threads: NonZeroUsize::MIN, is_pinned: false }).unwrap();
    let config = Checkpoint::open(&fixtures().join("tiny").join(family)).unwrap().config;
    let loaded = |files: &AdapterFiles| Adapter::load(&cpu, files, &config, Precision::Exact);
    let error: Error = AdapterFiles::open(folder).and_then(|files| loaded(&files)).expect_err("it is refused");
    error.to_string()
}

#[test]
fn what_an_adapter_asks_for_and_does_not_get_is_named() {
    let check = |field: &str, value: Value, words: &str| {
        let folder = changed(|config| config[field] = value);
        let said = refusal(folder.path(), "qwen3_dense");
        assert!(said.contains(words), "{said}");
    };
    check("peft_type", json!("IA3"), "peft_type is IA3");
    check("use_dora", json!(true), "use_dora is true");
    check("bias", json!("all"), "bias is \"all\"");
    check("modules_to_save", json!(["lm_head"]), "modules_to_save is [\"lm_head\"]");
    check("init_lora_weights", json!("pissa"), "init_lora_weights is \"pissa\"");
    check("lora_alpha", json!("much"), "lora_alpha is \"much\"");
    check("lora_alpha", Value::Null, "lora_alpha is null");
    check("alpha_pattern", json!({".*q_proj": 3}), "alpha_pattern is .*q_proj");
    check("alpha_pattern", json!({"q_proj": 3, "self_attn.q_proj": 4}), "two of its names");

    // Another model: shapes, layers, experts, a kind that is not supported.
    let all = fixtures().join("adapters/all");
    assert!(refusal(&all, "qwen3_moe").contains("mixture of experts"));
    assert!(refusal(&all, "qwen3_next").contains("hybrids"));
    let wider = refusal(&all, "../nano");
    assert!(wider.contains("has shape"), "{wider}");
}

#[test]
fn broken_files_of_adapters_are_refused() {
    let folder = changed(|_| {});
    let weights = folder.path().join("adapter_model.safetensors");
    let bytes = std::fs::read(&weights).unwrap();
    for length in [0, 7, 8, 100, bytes.len() / 2, bytes.len() - 1] {
        std::fs::write(&weights, &bytes[..length]).unwrap();
        assert!(refusal(folder.path(), "qwen3_dense").contains("corrupt"), "{length} bytes");
    }
    // One number that is none, in the last of the tensors.
    let mut poisoned = bytes.clone();
    let end = poisoned.len();
    poisoned[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    std::fs::write(&weights, &poisoned).unwrap();
    assert!(refusal(folder.path(), "qwen3_dense").contains("not finite"));
    // Another name for one of the tensors, of the same length.
    let names = String::from_utf8_lossy(&bytes).into_owned();
    for (from, to, words) in [
        ("layers.0.mlp.up_proj.lora_A", "layers.9.mlp.up_proj.lora_A", "the model has 3 layers"),
        ("layers.0.mlp.up_proj.lora_A", "layers.0.mlp.up_prox.lora_A", "up_prox"),
        ("layers.0.mlp.up_proj.lora_A", "layers.0.mlp.up_proj.lora_E", "lora_E"),
    ] {
        let at = names.find(from).unwrap();
        let mut renamed = bytes.clone();
        renamed[at..at + to.len()].copy_from_slice(to.as_bytes());
        std::fs::write(&weights, &renamed).unwrap();
        let said = refusal(folder.path(), "qwen3_dense");
        assert!(said.contains(words), "{said}");
    }
    std::fs::remove_file(&weights).unwrap();
    assert!(refusal(folder.path(), "qwen3_dense").contains("adapter_model.safetensors is not there"));
    assert!(refusal(&folder.path().join("none"), "qwen3_dense").contains("adapter_config.json"));
}
