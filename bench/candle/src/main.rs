//! candle's quantised Qwen3 on a GGUF file: `candle-bench FILE decode|prefill TOKENS`. Prints `{"1": tokens a second}` of
//! the second of two runs; RAYON_NUM_THREADS says how many threads compute.

use std::fs::File;
use std::time::Instant;

use candle_core::quantized::gguf_file::Content;
use candle_core::{Device, Result, Tensor};
use candle_transformers::models::quantized_qwen3::ModelWeights;

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().collect();
    let [_, path, what, tokens] = words.as_slice() else {
        candle_core::bail!("usage: candle-bench FILE decode|prefill TOKENS");
    };
    let tokens: u32 = tokens.parse().map_err(candle_core::Error::wrap)?;
    let mut file = File::open(path)?;
    let content = Content::read(&mut file)?;
    let mut model = ModelWeights::from_gguf(content, &mut file, &Device::Cpu)?;
    let mut seconds = 0.0;
    for _ in 0..2 {
        model.clear_kv_cache();
        let began = Instant::now();
        match what.as_str() {
            "prefill" => {
                let prompt: Vec<u32> = (0..tokens).map(|index| 1000 + 7919 * index % 100_000).collect();
                step(&mut model, &prompt, 0)?;
            }
            "decode" => {
                for position in 0..tokens {
                    step(&mut model, &[1000 + 7919 * position % 100_000], position as usize)?;
                }
            }
            _ => candle_core::bail!("{what}: neither decode nor prefill"),
        }
        seconds = began.elapsed().as_secs_f64();
    }
    println!("{{\"1\": {}}}", f64::from(tokens) / seconds);
    Ok(())
}

/// Computes the tokens, logits of the last included.
fn step(model: &mut ModelWeights, tokens: &[u32], position: usize) -> Result<()> {
    let input = Tensor::new(tokens, &Device::Cpu)?.unsqueeze(0)?;
    model.forward(&input, position)?.to_vec2::<f32>().map(drop)
}
