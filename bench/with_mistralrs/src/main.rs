//! mistral.rs on a GGUF file with a tokenizer, as a peer of `compare`: prints {sequences: tokens a second}.
//!
//! `RAYON_NUM_THREADS=2 bench/.work/mistralrs/bin/with_mistralrs FILE.gguf QUESTION`
//!
//! A prompt is timed until its first token is there; the speed of generated tokens is the difference of two runs, with
//! one of them and with many, so that the prompt does not count. Several sequences are choices of one request, which
//! begin together. Its engine is asked as its own benchmark asks it (`mistralrs bench`), which knows neither depth nor
//! several sequences; the best token is taken, and prompts are not remembered.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, bail, ensure};
use mistralrs::{GgufModelBuilder, Model, NormalRequest, Request, RequestMessage, Response, SamplingParams};
use tokio::sync::mpsc;

/// More than these do not warm up any better.
const WARM_UP_TOKENS_MAX: usize = 64;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [path, question] = arguments.as_slice() else { bail!("FILE.gguf QUESTION") };
    let (prompt, generated, batches): (usize, usize, &[usize]) = match question.as_str() {
        "decode" => (4, 64, &[1]),
        "prefill" => (512, 0, &[1]),
        "prefill2048" => (2048, 0, &[1]),
        "depth" => (2048, 32, &[1]),
        "batch" => (4, 32, &[4, 8, 16]),
        other => bail!("{other} is not measured with mistral.rs"),
    };
    let path = Path::new(path);
    let folder = path.parent().context("a folder")?.to_str().context("a path in UTF-8")?;
    let name = path.file_name().and_then(|name| name.to_str()).context("a name in UTF-8")?;
    let model = GgufModelBuilder::new(folder, vec![name])
        .with_force_cpu()
        .with_max_num_seqs(16)
        .with_prefix_cache_n(None)
        .build()
        .await?;

    let mut speeds = Vec::new();
    for &sequences in batches {
        seconds(&model, sequences, prompt.min(WARM_UP_TOKENS_MAX), 2).await?;
        let first = seconds(&model, sequences, prompt, 1).await?;
        let speed = if generated == 0 {
            prompt as f64 / first
        } else {
            (sequences * generated) as f64 / (seconds(&model, sequences, prompt, generated + 1).await? - first)
        };
        speeds.push(format!("\"{sequences}\": {speed}"));
    }
    println!("{{{}}}", speeds.join(", "));
    Ok(())
}

/// How long that many sequences take to read a prompt and to generate.
async fn seconds(model: &Model, sequences: usize, prompt: usize, generated: usize) -> anyhow::Result<f64> {
    let mut sampling = SamplingParams::deterministic();
    sampling.max_len = Some(generated);
    sampling.n_choices = sequences;
    let (sender, mut receiver) = mpsc::channel(1);
    let tokens = (0..prompt as u32).map(|position| 1000 + (position * 7919) % 100_000).collect();
    let request = NormalRequest::new_simple(
        RequestMessage::CompletionTokens(tokens),
        sampling,
        sender,
        model.inner().next_request_id(),
        None,
        None,
    );
    let began = Instant::now();
    model.inner().get_sender(None)?.send(Request::Normal(Box::new(request))).await?;
    let response = receiver.recv().await.context("no response")?;
    let seconds = began.elapsed().as_secs_f64();
    let Response::CompletionDone(done) = response else { bail!("an error, or a response of another kind") };
    let whole = done.choices.iter().filter(|choice| choice.finish_reason == "length").count();
    ensure!(whole == sequences, "{whole} of {sequences} sequences went on to their end");
    Ok(seconds)
}
