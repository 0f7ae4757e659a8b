//! Hybrids and models with vision in another form compute and see the same.

use std::num::NonZeroUsize;
use std::path::Path;

use kernels::{Cpu, CpuOptions, Precision};
use models::convert::{Container, Order, Recipe, convert};
use models::picture::{PixelLimits, decode, patches};
use models::text::TokenizerSource;
use models::vision::Features;
use models::{Checkpoint, Vision};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

use crate::goldens::EXACT_RELATIVE_MAX;
use crate::truth::{Runner, fixtures, ids, json, relative, tensor};

const FAMILIES: [&str; 5] = ["qwen3_next", "qwen3_5", "qwen3_5_moe", "qwen3_vl", "qwen3_vl_moe"];
/// What computing a logarithm and taking it back, and a norm's weights less one, may cost in f32.
const BACK_RELATIVE_MAX: f64 = 2e-5;

/// What another order of a sum's terms may cost.
const ORDER_RELATIVE_MAX: f64 = 5e-6;

/// The tokens of a fixture, as GGUF lists them; whether they merge as they should is `chat`'s business.
fn lists(family: &str) -> TokenizerSource {
    let file = json(&format!("tiny/{family}/tokenizer.json"));
    let mut tokens = vec![String::new(); 512];
    let vocabulary = file["model"]["vocab"].as_object().unwrap().iter();
    let added = file["added_tokens"].as_array().unwrap().iter();
    let added = added.map(|token| (token["content"].as_str().unwrap().to_owned(), token["id"].as_u64().unwrap()));
    for (token, id) in vocabulary.map(|(token, id)| (token.clone(), id.as_u64().unwrap())).chain(added) {
        tokens[id as usize] = token;
    }
    let kinds = vec![1; tokens.len()];
    TokenizerSource::Gguf {
        pre: "qwen2".to_owned(),
        tokens: tokens.iter().collect(),
        kinds,
        merges: models::Texts::default(),
    }
}

fn converted(from: &Path, out: &Path, container: Container, recipe: Recipe, tokenizer: TokenizerSource) {
    let mut checkpoint = Checkpoint::open(from).unwrap();
    checkpoint.text.tokenizer = Some(tokenizer);
    let threads = NonZeroUsize::new(2).unwrap();
    let order = Order { name: "tiny", out, container, recipe, importance: None, threads, shard_bytes_max: u64::MAX };
    let (mut last, mut all) = (0, 0);
    let written = convert(&checkpoint, &order, &mut |done, numbers| {
        assert!(done >= last && done <= numbers);
        (last, all) = (done, numbers);
    });
    let written = written.unwrap();
    assert_eq!((last, all), (written.numbers, written.numbers), "the progress ends at the end");
}

fn logits(path: &Path) -> Vec<f32> {
    let prompt: Vec<u32> = (0..90).map(|at| at * 37 % 480).collect();
    Runner::open(path.to_str().unwrap(), Precision::Exact, None).logits(&prompt, 128)
}

fn bits(numbers: &[f32]) -> Vec<u32> {
    numbers.iter().map(|number| number.to_bits()).collect()
}

/// What the tower of a model sees, if it has one.
fn seen(path: &Path) -> Option<Features> {
    let cpu = Cpu::new(CpuOptions { isa: None, threads: NonZeroUsize::MIN, is_pinned: false }).unwrap();
    let tower = Vision::load(&cpu, &Checkpoint::open(path).unwrap(), Precision::Exact).unwrap()?;
    let picture = std::fs::read(fixtures().join("tiny/qwen3_vl/image1.png")).unwrap();
    let patches = patches(&decode(&picture).unwrap(), PixelLimits { fewest: 1024, most: 16_384 }).unwrap();
    Some(tower.encode(&cpu, &patches).unwrap())
}

/// From the folder to GGUF, and from there to another folder.
fn check_round_trip(family: &str) {
    let (from, out) = (fixtures().join("tiny").join(family), tempfile::tempdir().unwrap());
    let (file, folder) = (out.path().join("m.gguf"), out.path().join("m"));
    converted(&from, &file, Container::Gguf, Recipe::AsIs, lists(family));
    let (truth, sight) = (logits(&from), seen(&from));
    let as_file = logits(&file);
    if family.starts_with("qwen3_5") {
        // Its heads stand in another order there, and so do the terms of sums.
        let off = relative(&as_file, &truth);
        assert!(off <= ORDER_RELATIVE_MAX, "{family} as GGUF: {off:.2e}");
    } else {
        assert_eq!(bits(&as_file), bits(&truth), "{family} as GGUF");
    }
    assert_eq!(seen(&file), sight, "{family} as GGUF sees the same");
    let tokenizer = TokenizerSource::Json(std::fs::read(from.join("tokenizer.json")).unwrap());
    converted(&file, &folder, Container::Folder, Recipe::F32, tokenizer);
    let off = relative(&logits(&folder), &truth);
    assert!(off <= BACK_RELATIVE_MAX, "{family} and back: {off:.2e}");
    assert_eq!(seen(&folder), sight, "{family} and back sees the same");
    let [before, middle, after] = [&from, &file, &folder].map(|path| Checkpoint::open(path).unwrap());
    assert_eq!(before.config.vision, middle.config.vision);
    assert_eq!(before.config, after.config, "{family}");
    let predictors = [&before, &middle, &after].map(models::Predictor::is_in);
    assert_eq!(predictors, [before.config.architecture.is_hybrid(); 3], "{family} keeps its predictor");
    let written = std::fs::read_dir(out.path()).unwrap().count();
    assert_eq!(written, 2 + usize::from(sight.is_some()), "nothing temporary is left");
}

#[test]
fn hybrids_go_both_ways() {
    ["qwen3_next", "qwen3_5", "qwen3_5_moe"].into_iter().for_each(check_round_trip);
}

#[test]
fn models_with_vision_go_both_ways() {
    ["qwen3_vl", "qwen3_vl_moe"].into_iter().for_each(check_round_trip);
}

#[test]
fn the_goldens_hold_for_converted_families() {
    for family in FAMILIES {
        let (from, out) = (fixtures().join("tiny").join(family), tempfile::tempdir().unwrap());
        let folder = out.path().join("m");
        let tokenizer = TokenizerSource::Json(std::fs::read(from.join("tokenizer.json")).unwrap());
        converted(&from, &folder, Container::Folder, Recipe::AsIs, tokenizer);
        let golden = json(&format!("tiny/{family}/golden.json"));
        let bytes = std::fs::read(from.join("golden.safetensors")).unwrap();
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        let case = golden["cases"].as_array().unwrap().iter().find(|case| case["name"] == "chat").unwrap();
        let prompt = ids(&case["input_ids"]);
        let found = Runner::open(folder.to_str().unwrap(), Precision::Exact, None).logits(&prompt, prompt.len());
        let off = relative(&found, &tensor(&tensors, "chat.logits"));
        assert!(off <= EXACT_RELATIVE_MAX, "{family}: {off:.2e}");
    }
}

#[test]
fn hybrids_are_quantised() {
    for family in ["qwen3_next", "qwen3_5", "qwen3_vl_moe"] {
        let (from, out) = (fixtures().join("tiny").join(family), tempfile::tempdir().unwrap());
        let file = out.path().join("m.gguf");
        converted(&from, &file, Container::Gguf, Recipe::Q8_0, lists(family));
        let off = relative(&logits(&file), &logits(&from));
        // A row of 24 or 40 columns fills no block; it stays in f16.
        assert!(off < 0.2, "{family}: {off}");
        if family == "qwen3_vl_moe" {
            assert_eq!(seen(&file), seen(&from), "a tower is not quantised");
        }
    }
}

#[test]
fn two_towers_beside_a_model_are_not_guessed_between() {
    let (from, out) = (fixtures().join("tiny/qwen3_vl"), tempfile::tempdir().unwrap());
    let file = out.path().join("m.gguf");
    converted(&from, &file, Container::Gguf, Recipe::AsIs, lists("qwen3_vl"));
    let beside = models::tower_path(&file);
    assert!(beside.ends_with("mmproj-m.gguf") && models::is_tower(&beside) && !models::is_tower(&file));
    for name in ["mmproj-a.gguf", "mmproj-b.gguf"] {
        std::fs::copy(&beside, out.path().join(name)).unwrap();
    }
    assert!(Checkpoint::open(&file).unwrap().config.vision.is_some(), "its own tower comes first");
    std::fs::remove_file(&beside).unwrap();
    let refused = Checkpoint::open(&file).unwrap_err().to_string();
    assert!(refused.contains("mmproj-a.gguf") && refused.contains("mmproj-b.gguf"), "{refused}");
    std::fs::remove_file(out.path().join("mmproj-b.gguf")).unwrap();
    assert!(Checkpoint::open(&file).unwrap().config.vision.is_some());
    std::fs::remove_file(out.path().join("mmproj-a.gguf")).unwrap();
    assert!(Checkpoint::open(&file).unwrap().config.vision.is_none(), "it is a model without");
}

/// Q4_0 of a model; what it met in a text counts if that is wanted.
fn quantised(from: &Path, out: &Path, is_calibrated: bool, tokenizer: TokenizerSource) -> Checkpoint {
    let mut checkpoint = Checkpoint::open(from).unwrap();
    checkpoint.text.tokenizer = Some(tokenizer);
    let mut runner = Runner::open(from.to_str().unwrap(), Precision::Exact, None);
    runner.workspace.observe();
    let text: Vec<u32> = (0..96).map(|at| at * at * 31 % 480).collect();
    runner.logits(&text, 32);
    let importance = runner.workspace.observed().unwrap();
    let threads = NonZeroUsize::new(2).unwrap();
    let order = Order {
        name: "tiny",
        out,
        container: Container::Gguf,
        recipe: Recipe::Q4_0,
        importance: is_calibrated.then_some(&importance),
        threads,
        shard_bytes_max: u64::MAX,
    };
    convert(&checkpoint, &order, &mut |_, _| {}).unwrap();
    Checkpoint::open(out).unwrap()
}

#[test]
fn a_text_counts_in_every_matrix_of_a_hybrid_that_is_quantised() {
    for family in ["qwen3_next", "qwen3_5_moe"] {
        let (from, out) = (fixtures().join("tiny").join(family), tempfile::tempdir().unwrap());
        let plain = quantised(&from, &out.path().join("plain.gguf"), false, lists(family));
        let calibrated = quantised(&from, &out.path().join("calibrated.gguf"), true, lists(family));
        let mut parts: Vec<&str> = Vec::new();
        for tensor in plain.weights.iter().filter(|tensor| tensor.format() == kernels::Format::Q4_0) {
            let name = tensor.name();
            // Embeddings are looked up, and the predictor reads nothing here.
            if name.starts_with("mtp.") || name == "embed_tokens.weight" {
                continue;
            }
            let other = calibrated.weights.get(name).unwrap();
            assert!(other.bytes() != tensor.bytes(), "{family}: {name} is quantised as if every number counted alike");
            parts.push(name.split_once('.').and_then(|(_, rest)| rest.split_once('.')).map_or(name, |(_, part)| part));
        }
        let shared = "mlp.shared_expert.up_proj.weight";
        for part in
            ["linear_attn.in_proj_qkv.weight", "linear_attn.in_proj_z.weight", "linear_attn.out_proj.weight", shared]
        {
            assert!(parts.contains(&part), "{family} has no {part} in four bits: {parts:?}");
        }
    }
}

/// The tiny Qwen3-Next with shared experts of 64 instead of 40, which four bits hold, and whose every second inner
/// number is nothing: its row of the up projection is zero.
fn with_wider_shared_experts(folder: &Path) {
    const WIDTH: usize = 64;
    let from = fixtures().join("tiny/qwen3_next");
    std::fs::create_dir(folder).unwrap();
    for entry in std::fs::read_dir(&from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), folder.join(entry.file_name())).unwrap();
    }
    let mut config = json("tiny/qwen3_next/config.json");
    config["shared_expert_intermediate_size"] = WIDTH.into();
    std::fs::write(folder.join("config.json"), config.to_string()).unwrap();
    let whole = std::fs::read(from.join("model.safetensors")).unwrap();
    let (stored, mut rng) = (SafeTensors::deserialize(&whole).unwrap(), base::Rng::seeded(5));
    let mut tensors: Vec<(String, Dtype, Vec<usize>, Vec<u8>)> = Vec::new();
    for (name, tensor) in stored.tensors() {
        let (mut shape, mut bytes) = (tensor.shape().to_vec(), tensor.data().to_vec());
        if let Some((_, part)) = name.split_once(".shared_expert.") {
            assert_eq!(tensor.dtype(), Dtype::BF16, "{name}");
            shape = if part == "down_proj.weight" { vec![shape[0], WIDTH] } else { vec![WIDTH, shape[1]] };
            let is_nothing = |at: usize| part == "up_proj.weight" && at / shape[1] % 2 == 1;
            let number =
                |at: usize| if is_nothing(at) { 0 } else { 0x3d00 | (rng.below(0x80) | rng.below(2) << 15) as u16 };
            bytes = (0..shape[0] * shape[1]).map(number).flat_map(u16::to_le_bytes).collect();
        }
        tensors.push((name, tensor.dtype(), shape, bytes));
    }
    let views = tensors
        .iter()
        .map(|(name, dtype, shape, bytes)| (name.as_str(), TensorView::new(*dtype, shape.clone(), bytes).unwrap()));
    std::fs::write(folder.join("model.safetensors"), safetensors::serialize(views, None).unwrap()).unwrap();
}

#[test]
fn the_down_projection_of_a_shared_expert_is_weighed_by_its_own_inner_numbers() {
    let out = tempfile::tempdir().unwrap();
    let from = out.path().join("wider");
    with_wider_shared_experts(&from);
    let plain = quantised(&from, &out.path().join("plain.gguf"), false, lists("qwen3_next"));
    let calibrated = quantised(&from, &out.path().join("calibrated.gguf"), true, lists("qwen3_next"));
    let original = Checkpoint::open(&from).unwrap();
    for layer in 0..original.config.layers {
        let name = format!("layers.{layer}.mlp.shared_expert.down_proj.weight");
        let numbers = |checkpoint: &Checkpoint| checkpoint.weights.get(&name).unwrap().to_f32().unwrap();
        assert_eq!(plain.weights.get(&name).unwrap().format(), kernels::Format::Q4_0);
        let exact = numbers(&original);
        // Squares of the errors in columns that carry something, and in those that carry nothing.
        let errors = |found: Vec<f32>| {
            let of = |odd: usize| -> f32 {
                let columns = exact.iter().zip(&found).skip(odd).step_by(2);
                columns.map(|(exact, found)| (exact - found) * (exact - found)).sum()
            };
            [of(0), of(1)]
        };
        let ([even, odd], [even_plain, odd_plain]) = (errors(numbers(&calibrated)), errors(numbers(&plain)));
        assert!(even < even_plain && odd > odd_plain, "{name}: {even} {odd}, plain {even_plain} {odd_plain}");
    }
}

#[test]
fn importance_follows_the_heads_into_another_order() {
    // As a folder this family has the value heads of a key head together, as GGUF one of each after the other.
    let (from, out) = (fixtures().join("tiny/qwen3_5_moe"), tempfile::tempdir().unwrap());
    let file = out.path().join("m.gguf");
    converted(&from, &file, Container::Gguf, Recipe::F32, lists("qwen3_5_moe"));
    let as_folder = quantised(&from, &out.path().join("folder.gguf"), true, lists("qwen3_5_moe"));
    let as_file = quantised(&file, &out.path().join("file.gguf"), true, lists("qwen3_5_moe"));
    for tensor in as_folder.weights.iter().filter(|tensor| tensor.name().contains("linear_attn.out_proj")) {
        let other = as_file.weights.get(tensor.name()).unwrap();
        let same = tensor.bytes().iter().zip(other.bytes()).filter(|(a, b)| a == b).count();
        let share = same as f64 / tensor.bytes().len() as f64;
        assert!(share > 0.99, "{}: {share}", tensor.name());
    }
}
