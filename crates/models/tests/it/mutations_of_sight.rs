//! The mistakes that are made with pictures, made on purpose: see `mutations`.

use std::path::Path;

use kernels::Precision;
use models::picture::{PATCH_NUMBERS, Patches};
use models::vision::{Features, Placed, placed};
use models::{Checkpoint, Vision};
use safetensors::SafeTensors;

use crate::mutant::Mutant;
use crate::mutations::NEAR;
use crate::truth::{Runner, fixtures, ids, json, relative, tensor};
use crate::vision::{logits, patches};

/// A model that looks at the two pictures of its golden case.
struct Scene {
    runner: Runner,
    tower: Vision,
    patches: Vec<Patches>,
    prompt: Vec<u32>,
    placed: Placed,
    truth: Vec<f32>,
}

impl Scene {
    /// The model of a folder, with the goldens of a family.
    fn open(folder: &Path, family: &str) -> Self {
        let golden = json(&format!("tiny/{family}/golden.json"));
        let bytes = std::fs::read(fixtures().join(format!("tiny/{family}/golden.safetensors"))).unwrap();
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        let cases = golden["vision_cases"].as_array().unwrap();
        let case = cases.iter().find(|case| case["name"] == "two_images").unwrap();
        let size = |size: &serde_json::Value| size.as_u64().unwrap() as usize;
        let grid = |grid: &serde_json::Value| [size(&grid[0]), size(&grid[1]), size(&grid[2])];
        let grids: Vec<[usize; 3]> = case["grid_thw"].as_array().unwrap().iter().map(grid).collect();
        let runner = Runner::open(folder.to_str().unwrap(), Precision::Exact, None);
        let checkpoint = Checkpoint::open(folder).unwrap();
        let tower = Vision::load(&runner.cpu, &checkpoint, Precision::Exact).unwrap().unwrap();
        let vision = checkpoint.config.vision.unwrap();
        let prompt = ids(&case["input_ids"]);
        let is_placeholder = |token: u32| token == vision.image_token || token == vision.video_token;
        Self {
            runner,
            tower,
            patches: patches(&tensors, "two_images", &grids),
            placed: placed(&prompt, is_placeholder, &grids).unwrap(),
            prompt,
            truth: tensor(&tensors, "two_images.logits"),
        }
    }

    fn of(family: &str) -> Self {
        Self::open(&fixtures().join("tiny").join(family), family)
    }

    fn features(&self) -> Vec<Features> {
        self.patches.iter().map(|patches| self.tower.encode(&self.runner.cpu, patches).unwrap()).collect()
    }

    fn off(&mut self, features: &[Features]) -> f64 {
        relative(&logits(&mut self.runner, &self.prompt, &self.placed, features, usize::MAX), &self.truth)
    }
}

/// The limit of the hybrids with vision.
const RIGHT: f64 = 2e-4;

fn seen(what: &str, found: f64, relative: f64) {
    assert!((found / relative - 1.0).abs() < NEAR, "{what}: {found:.4e}, the reference shows {relative:.4e}");
}

/// A mistake that the reference was not made to make: far beyond any rounding.
fn garbled(what: &str, found: f64) {
    assert!(found > 0.02, "{what} is hardly seen: {found:.2e}");
}

#[test]
fn without_a_mistake_nothing_is_seen() {
    for family in ["qwen3_vl", "qwen3_vl_moe", "qwen3_5", "qwen3_5_moe"] {
        let mut scene = Scene::of(family);
        let features = scene.features();
        let off = scene.off(&features);
        assert!(off <= RIGHT, "{family}: {off:.2e}");
    }
}

#[test]
fn features_in_the_decoder() {
    let mut scene = Scene::of("qwen3_vl");
    let mut features = scene.features();
    features.iter_mut().for_each(|one| one.deep.reverse());
    garbled("features of mergers in reverse order", scene.off(&features));
    features.iter_mut().for_each(|one| one.deep.iter_mut().for_each(|deep| deep.fill(0.0)));
    seen("DeepStack left out", scene.off(&features), 0.423_93);
    let mut features = scene.features();
    features.swap(0, 1);
    let swapped = features.iter().map(|one| one.grid).collect::<Vec<_>>();
    assert_ne!(swapped[0], swapped[1], "pictures in the wrong order do not even fit their places");
}

#[test]
fn places_of_pictures() {
    let mut scene = Scene::of("qwen3_vl");
    let features = scene.features();
    let right = scene.placed.positions.clone();
    let count = 0..right.len() as u32;
    scene.placed.positions = count.map(|position| [position; 3]).collect();
    seen("positions in one dimension", scene.off(&features), 0.436_352);
    scene.placed.positions = right.iter().map(|&[time, row, column]| [time, column, row]).collect();
    garbled("rows and columns swapped", scene.off(&features));
}

/// Patches changed before the tower sees them.
fn with_patches(what: &str, change: impl Fn(&mut Patches)) {
    let mut scene = Scene::of("qwen3_vl");
    scene.patches.iter_mut().for_each(change);
    let features = scene.features();
    garbled(what, scene.off(&features));
}

#[test]
fn what_the_tower_sees() {
    with_patches("patches row by row instead of block by block", |patches| {
        let [_, rows, columns] = patches.grid;
        let blocks = |row: usize, column: usize| {
            let block = row / 2 * (columns / 2) + column / 2;
            4 * block + row % 2 * 2 + column % 2
        };
        let order = (0..rows).flat_map(|row| (0..columns).map(move |column| blocks(row, column)));
        let values = patches.values.clone();
        patches.values =
            order.flat_map(|patch| values[patch * PATCH_NUMBERS..(patch + 1) * PATCH_NUMBERS].to_vec()).collect();
    });
    with_patches("pixels from 0 to 1", |patches| {
        patches.values.iter_mut().for_each(|value| *value = (*value + 1.0) / 2.0)
    });
    with_patches("a still picture with one frame", |patches| {
        let frames = patches.values.chunks_exact_mut(256).skip(1).step_by(2);
        frames.for_each(|frame| frame.fill(0.0));
    });
    with_patches("colours the wrong way round", |patches| {
        for patch in patches.values.chunks_exact_mut(PATCH_NUMBERS) {
            let (red, rest) = patch.split_at_mut(512);
            red.swap_with_slice(&mut rest[512..]);
        }
    });
}

fn mutated(family: &'static str, mutant: &Mutant) -> f64 {
    let folder = mutant.write();
    let mut scene = Scene::open(folder.path(), family.trim_start_matches("tiny/"));
    let features = scene.features();
    scene.off(&features)
}

#[test]
fn weights_of_the_tower() {
    const VL: &str = "tiny/qwen3_vl";
    let halves = Mutant::of(VL).each("attn.qkv.weight", |part| {
        let third = part.shape[0] / 3;
        part.gather_rows(|row| [1, 0, 2][row / third] * third + row % third);
    });
    garbled("queries and keys swapped", mutated(VL, &halves));
    let unbiased = Mutant::of(VL).each("patch_embed.proj.bias", |part| part.map(|_| 0.0));
    garbled("a patch without its bias", mutated(VL, &unbiased));
    let transposed = Mutant::of(VL).each("pos_embed.weight", |part| {
        part.gather_rows(|place| place % 6 * 6 + place / 6);
    });
    garbled("table of places read by columns", mutated(VL, &transposed));
}

#[test]
fn experts_of_vision_models() {
    const MOE: &str = "tiny/qwen3_vl_moe";
    // The bytes of `[E, H, 2 I]` read as `[E, 2 I, H]`.
    let as_they_stand = Mutant::of(MOE)
        .each("experts.gate_up_proj", |part| part.shape.swap(1, 2))
        .each("experts.down_proj", |part| part.shape.swap(1, 2));
    garbled("experts not transposed", mutated(MOE, &as_they_stand));
}
