//! Pictures against PIL and transformers: sizes, pixels, patches, the tower, positions, and the logits behind them.

use base::Rng;
use kernels::Precision;
use models::picture::{self, Patches, Picture, PixelLimits};
use models::vision::{Features, Placed, placed};
use models::{Checkpoint, Inserted, LogitRows, Vision};
use safetensors::SafeTensors;
use serde_json::Value;

use crate::goldens::{EXACT_WORST_MAX, check_logits};
use crate::truth::{Runner, best, fixtures, ids, json, tensor, worst};

/// The tower in f32: its noise is 1.4e-5, the wrong kind of Gaussian gate makes 7e-4.
const TOWER_WORST_MAX: f32 = 1e-4;

fn read(path: &str) -> Picture {
    picture::decode(&std::fs::read(fixtures().join(path)).unwrap()).unwrap()
}

fn sizes(value: &Value) -> Vec<usize> {
    value.as_array().unwrap().iter().map(|size| size.as_u64().unwrap() as usize).collect()
}

#[test]
fn sizes_equal_the_reference() {
    let table = json("vision/smart_resize.json");
    for (list, limits) in [("images", "image_size"), ("videos", "video_size")] {
        let edge = |name: &str| table[limits][name].as_u64().unwrap() as usize;
        let limits = PixelLimits { fewest: edge("shortest_edge"), most: edge("longest_edge") };
        for case in table[list].as_array().unwrap() {
            let size = |name: &str| case[name].as_u64().unwrap() as usize;
            let (height, width) = (size("height"), size("width"));
            let found = match list {
                "images" => picture::resized(height, width, limits),
                _ => picture::resized_frames(size("frames"), height, width, limits),
            };
            match found {
                Ok((height, width)) => assert_eq!(vec![height, width], sizes(&case["resized"]), "{list} {case}"),
                Err(why) => assert!(case.get("error").is_some(), "{list} {case}: {why}"),
            }
        }
    }
}

#[test]
fn resampled_pixels_equal_pils() {
    let cases = json("vision/resize.json");
    for case in cases["cases"].as_array().unwrap() {
        let path = |field: &str| format!("vision/{}", case[field].as_str().unwrap());
        let size = sizes(&case["resized_hw"]);
        let found = picture::resize(&read(&path("input")), size[0], size[1]);
        assert!(found == read(&path("pil")), "{case}: not the bytes of PIL");
        let other = read(&path("torchvision"));
        let off = found.pixels.iter().zip(&other.pixels).filter(|(a, b)| a != b).collect::<Vec<_>>();
        assert!(off.iter().all(|(a, b)| a.abs_diff(**b) <= 2), "{case}: far from torchvision");
        assert!(off.len() * 100 < found.pixels.len(), "{case}: {} pixels differ from torchvision's", off.len());
    }
}

/// The patches of a case: those of the reference, whose resampling differs from PIL's in a few values.
pub(crate) fn patches(tensors: &SafeTensors<'_>, name: &str, grids: &[[usize; 3]]) -> Vec<Patches> {
    let all = tensor(tensors, &format!("{name}.pixel_values"));
    let mut rest = all.as_slice();
    let cut = grids.iter().map(|&grid| {
        let (values, after) = rest.split_at(grid.iter().product::<usize>() * picture::PATCH_NUMBERS);
        rest = after;
        Patches { grid, values: values.to_vec() }
    });
    cut.collect()
}

fn check(family: &str, relative_max: f64) {
    check_at(family, &format!("tiny/{family}"), relative_max);
}

/// The model at a path against the goldens of a family.
fn check_at(family: &str, path: &str, relative_max: f64) {
    let golden = json(&format!("tiny/{family}/golden.json"));
    let bytes = std::fs::read(fixtures().join(format!("tiny/{family}/golden.safetensors"))).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let mut runner = Runner::open(path, Precision::Exact, None);
    let checkpoint = Checkpoint::open(&fixtures().join(path)).unwrap();
    let limits = Checkpoint::open(&fixtures().join("tiny").join(family)).unwrap().pixels;
    let tower = Vision::load(&runner.cpu, &checkpoint, Precision::Exact).unwrap().unwrap();
    let vision = checkpoint.config.vision.unwrap();
    let is_placeholder = |token: u32| token == vision.image_token || token == vision.video_token;
    for case in golden["vision_cases"].as_array().unwrap() {
        let name = case["name"].as_str().unwrap();
        let what = format!("{family} {name}");
        let grid = |grid: &Value| <[usize; 3]>::try_from(sizes(grid)).unwrap();
        let grids: Vec<[usize; 3]> = case["grid_thw"].as_array().unwrap().iter().map(grid).collect();
        let patches = patches(&tensors, name, &grids);
        check_own_patches(case, &tensors, &format!("tiny/{family}"), limits, &patches);
        let features: Vec<Features> =
            patches.iter().map(|patches| tower.encode(&runner.cpu, patches).unwrap()).collect();
        check_tower(&what, &tensors, name, &features);

        let prompt = ids(&case["input_ids"]);
        let placed = placed(&prompt, is_placeholder, &grids).unwrap();
        check_positions(&what, &placed, &tensors, name, case, prompt.len());
        for chunk in [usize::MAX, 7] {
            let found = logits(&mut runner, &prompt, &placed, &features, chunk);
            let truth = tensor(&tensors, &format!("{name}.logits"));
            check_logits(&what, &found, &truth, relative_max, EXACT_WORST_MAX);
        }
        let mut last = logits(&mut runner, &prompt, &placed, &features, usize::MAX);
        last.drain(..last.len() - 512);
        let mut found = vec![best(&last)];
        while found.len() < 32 {
            let said = found.len() as u32 - 1;
            let place = [[placed.next + said; 3]];
            let position = prompt.len() + said as usize;
            let logits = runner.step_placed(&[found[said as usize]], position, Some(&place), &[], LogitRows::Last);
            found.push(best(&logits));
        }
        assert_eq!(found, ids(&case["greedy_ids"]), "{what}");
    }
}

/// The same patches from the files, up to what torchvision resamples otherwise than PIL.
fn check_own_patches(case: &Value, tensors: &SafeTensors<'_>, path: &str, limits: PixelLimits, truth: &[Patches]) {
    let files = case["images"].as_array().unwrap();
    let own: Vec<Patches> = if files.is_empty() {
        let video = tensors.tensor("video.frames_u8").unwrap();
        let [count, _, height, width] = video.shape().try_into().unwrap();
        let plane = height * width;
        let frame = |index: usize| {
            let planes = &video.data()[index * 3 * plane..][..3 * plane];
            let pixels = (0..plane).flat_map(|at| [planes[at], planes[plane + at], planes[2 * plane + at]]).collect();
            Picture { width, height, pixels }
        };
        vec![picture::frame_patches(&(0..count).map(frame).collect::<Vec<_>>()).unwrap()]
    } else {
        let own =
            |file: &Value| picture::patches(&read(&format!("{path}/{}", file.as_str().unwrap())), limits).unwrap();
        files.iter().map(own).collect()
    };
    for (own, truth) in own.iter().zip(truth) {
        assert_eq!(own.grid, truth.grid, "{case}");
        let (off, at, a, b) = worst(&own.values, &truth.values);
        assert!(off <= 2.0 * 2.0 / 255.0 + 1e-6, "{}: pixel {at} is {a} for {b}", case["name"]);
    }
}

fn check_tower(what: &str, tensors: &SafeTensors<'_>, name: &str, features: &[Features]) {
    let close = |found: Vec<f32>, golden: String| {
        let (off, at, a, b) = worst(&found, &tensor(tensors, &golden));
        assert!(off <= TOWER_WORST_MAX, "{what} {golden}: [{at}] is {a} for {b}");
    };
    close(features.iter().flat_map(|one| one.merged.clone()).collect(), format!("{name}.vision_merged"));
    for layer in 0..features[0].deep.len() {
        close(features.iter().flat_map(|one| one.deep[layer].clone()).collect(), format!("{name}.deepstack.{layer}"));
    }
}

fn check_positions(what: &str, found: &Placed, tensors: &SafeTensors<'_>, name: &str, case: &Value, count: usize) {
    let view = tensors.tensor(&format!("{name}.position_ids")).unwrap();
    let size = view.data().len() / (3 * count);
    let truth = |axis: usize, token: usize| u32::from(view.data()[(axis * count + token) * size]);
    for (token, position) in found.positions.iter().enumerate() {
        assert_eq!(*position, [0, 1, 2].map(|axis| truth(axis, token)), "{what}: token {token}");
    }
    let delta = i64::from(found.next) - count as i64;
    assert_eq!(Some(delta), case["rope_delta"].as_i64(), "{what}");
}

/// Logits of every position in steps of at most `chunk` tokens, which may cut through pictures.
pub(crate) fn logits(
    runner: &mut Runner,
    prompt: &[u32],
    placed: &Placed,
    features: &[Features],
    chunk: usize,
) -> Vec<f32> {
    let mut runs = placed.starts.iter();
    let mut pieces = Vec::new(); // first token, features, first feature, how many
    for one in features {
        let per_frame = one.grid[1] * one.grid[2] / 4;
        for frame in 0..one.grid[0] {
            pieces.push((*runs.next().unwrap(), one, frame * per_frame, per_frame));
        }
    }
    let mut all = Vec::new();
    let chunk = chunk.min(prompt.len());
    for (index, tokens) in prompt.chunks(chunk).enumerate() {
        let (first, end) = (index * chunk, index * chunk + tokens.len());
        let inserted: Vec<Inserted<'_>> = pieces
            .iter()
            .filter(|(start, _, _, count)| *start < end && start + count > first)
            .map(|&(start, features, first_feature, count)| {
                let (from, to) = (start.max(first), (start + count).min(end));
                Inserted { row: from - first, features, first: first_feature + from - start, count: to - from }
            })
            .collect();
        let places = Some(&placed.positions[first..end]);
        all.extend(runner.step_placed(tokens, first, places, &inserted, LogitRows::All));
    }
    all
}

#[test]
fn vision_with_deepstack() {
    check("qwen3_vl", 3e-5);
}

/// The tower in a file of its own, as llama.cpp's converter writes it.
#[test]
fn vision_of_gguf_files() {
    check_at("qwen3_vl", "gguf/qwen3_vl/qwen3_vl.BF16.gguf", 3e-5);
    check_at("qwen3_5", "gguf/qwen3_5/qwen3_5.BF16.gguf", 2e-4);
}

#[test]
fn vision_with_fused_experts() {
    check("qwen3_vl_moe", 3e-5);
}

#[test]
fn vision_of_the_hybrids() {
    // One badly conditioned token amplifies the noise of f32 arithmetic.
    check("qwen3_5", 2e-4);
    check("qwen3_5_moe", 2e-4);
}

#[test]
fn runs_that_do_not_fit_their_grids_are_noticed() {
    let is_placeholder = |token: u32| token == 9;
    assert!(placed(&[1, 9, 9, 2], is_placeholder, &[[1, 2, 4]]).is_some());
    assert!(placed(&[1, 9, 2], is_placeholder, &[[1, 2, 4]]).is_none());
    assert!(placed(&[1, 9, 9, 9, 2], is_placeholder, &[[1, 2, 4]]).is_none());
    assert!(placed(&[1, 2], is_placeholder, &[[1, 2, 4]]).is_none());
    assert!(placed(&[9], is_placeholder, &[]).is_none());
}

#[test]
fn pictures_from_hell_are_refused_in_words() {
    let refused = |bytes: &[u8], word: &str| {
        let error = picture::decode(bytes).unwrap_err().to_string();
        assert!(error.contains(word), "{error:?} lacks {word:?}");
    };
    refused(&[], "it is empty");
    refused(b"hello", "neither PNG");
    let png = std::fs::read(fixtures().join("vision/resize/0_in.png")).unwrap();
    for cut in [8, 30, png.len() / 2] {
        assert!(picture::decode(&png[..cut]).is_err(), "cut at {cut}");
    }
    // A header that promises 30,000 x 30,000 pixels.
    let mut bomb = png;
    bomb[16..20].copy_from_slice(&30_000_u32.to_be_bytes());
    bomb[20..24].copy_from_slice(&30_000_u32.to_be_bytes());
    let sum = crc(&bomb[12..29]);
    bomb[29..33].copy_from_slice(&sum.to_be_bytes());
    refused(&bomb, "30000 x 30000");
    refused(&vec![0; picture::FILE_BYTES_MAX + 1], "allowed");
    let thin = Picture { width: 20_000, height: 1, pixels: vec![0; 60_000] };
    assert!(picture::patches(&thin, PixelLimits::default()).unwrap_err().to_string().contains("ratio"));
}

#[test]
fn sixteen_bits_grey_and_transparency_become_three_bytes() {
    let encode = |image: image::DynamicImage| {
        let mut bytes = std::io::Cursor::new(Vec::new());
        image.write_to(&mut bytes, image::ImageFormat::Png).unwrap();
        picture::decode(&bytes.into_inner()).unwrap().pixels
    };
    let deep = image::ImageBuffer::from_pixel(1, 1, image::Rgb([65_535_u16, 0, 32_896]));
    assert_eq!(encode(deep.into()), [255, 0, 128]);
    assert_eq!(encode(image::GrayImage::from_pixel(1, 1, image::Luma([7])).into()), [7, 7, 7]);
    assert_eq!(encode(image::RgbaImage::from_pixel(1, 1, image::Rgba([1, 2, 3, 0])).into()), [1, 2, 3]);
}

#[test]
fn damaged_pictures_never_panic() {
    let mut rng = Rng::seeded(0x01CE);
    for name in ["vision/resize/2_in.png", "tiny/qwen3_vl/image0.png"] {
        let good = std::fs::read(fixtures().join(name)).unwrap();
        for _ in 0..300 {
            let mut bytes = good.clone();
            for _ in 0..=rng.below(5) {
                let at = rng.below(bytes.len() as u64) as usize;
                bytes[at] = rng.next_u64() as u8;
            }
            bytes.truncate(1 + rng.below(bytes.len() as u64) as usize);
            let _ = picture::decode(&bytes);
        }
    }
}

/// The checksum of PNG.
fn crc(bytes: &[u8]) -> u32 {
    let step = |sum: u32, byte: &u8| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| if sum & 1 == 1 { sum >> 1 ^ 0xEDB8_8320 } else { sum >> 1 })
    };
    !bytes.iter().fold(u32::MAX, step)
}

/// A picture for printers, as PIL turns it into light.
#[test]
fn four_inks_become_three_colours_as_pil_mixes_them() {
    let (found, expected) = (read("vision/cmyk.jpg"), read("vision/cmyk.png"));
    assert_eq!((found.width, found.height), (expected.width, expected.height));
    // Two decoders of JPEG round differently where colours meet.
    let off = found.pixels.iter().zip(&expected.pixels).map(|(a, b)| usize::from(a.abs_diff(*b)));
    let (sum, most) = off.fold((0, 0), |(sum, most), off| (sum + off, most.max(off)));
    assert!(most <= 24 && sum <= 2 * found.pixels.len(), "at most {most}, together {sum}");
}
