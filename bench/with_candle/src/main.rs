//! Candle's quantised Qwen3 on a GGUF file, as a peer of `compare`: prints {sequences: tokens a second}.
//!
//! `RAYON_NUM_THREADS=2 bench/.work/candle/bin/with_candle FILE.gguf QUESTION`
//!
//! After a prompt and two tokens that warm up (Candle packs weights at their first use), a prompt is timed until its
//! logits are there, and generated tokens in a loop of their own. Tokens are given, not sampled. One sequence only: on
//! CPUs its model has no cache for several.

use std::fs::File;
use std::time::Instant;

use anyhow::bail;
use candle_core::quantized::gguf_file::Content;
use candle_core::{Device, Tensor};
use candle_transformers::models::quantized_qwen3::ModelWeights;

/// More than these do not warm up any better.
const WARM_UP_TOKENS_MAX: usize = 64;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [path, question] = arguments.as_slice() else { bail!("FILE.gguf QUESTION") };
    let (prompt, generated) = match question.as_str() {
        "decode" => (4, 64),
        "prefill" => (512, 0),
        "prefill2048" => (2048, 0),
        "depth" => (2048, 32),
        other => bail!("{other} is not measured with Candle"),
    };
    let mut file = File::open(path)?;
    let content = Content::read(&mut file)?;
    let mut model = ModelWeights::from_gguf(content, &mut file, &Device::Cpu)?;

    let warm_up = prompt.min(WARM_UP_TOKENS_MAX);
    read(&mut model, warm_up)?;
    generate(&mut model, warm_up, 2)?;
    model.clear_kv_cache();

    let began = Instant::now();
    read(&mut model, prompt)?;
    let mut speed = prompt as f64 / began.elapsed().as_secs_f64();
    if generated > 0 {
        let began = Instant::now();
        generate(&mut model, prompt, generated)?;
        speed = generated as f64 / began.elapsed().as_secs_f64();
    }
    println!("{{\"1\": {speed}}}");
    Ok(())
}

fn read(model: &mut ModelWeights, count: usize) -> anyhow::Result<()> {
    let tokens: Vec<u32> = (0..count).map(token).collect();
    model.forward(&Tensor::new(tokens, &Device::Cpu)?.unsqueeze(0)?, 0)?;
    Ok(())
}

fn generate(model: &mut ModelWeights, first: usize, count: usize) -> anyhow::Result<()> {
    for position in first..first + count {
        model.forward(&Tensor::new(&[token(position)], &Device::Cpu)?.unsqueeze(0)?, position)?;
    }
    Ok(())
}

/// Some token of the vocabulary.
fn token(position: usize) -> u32 {
    1000 + (position as u32 * 7919) % 100_000
}
