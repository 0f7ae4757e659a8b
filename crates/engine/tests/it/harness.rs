//! Engines over a tiny model with random weights, and requests for them.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use base::{ManualClock, RequestId, Rng};
use chat::{Answer, GenerateRequest, Prompt};
use engine::{Engine, Files, Options};
use kernels::{Cpu, CpuOptions, KvFormat};
use models::{Checkpoint, KvPool, Predictor};

pub(crate) const MODEL: &str = "tiny";
/// Tests wait for what must happen at once; this long only on a machine that stands still.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn fixture(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fixtures").join(path)
}

pub(crate) fn start(name: &str, options: Options) -> Engine {
    start_at(&fixture(name), options)
}

/// The model at a path.
pub(crate) fn start_at(path: &Path, options: Options) -> Engine {
    let cpu = CpuOptions { isa: None, threads: NonZeroUsize::MIN, is_pinned: false };
    let checkpoint = Checkpoint::open(path).unwrap();
    let clock = Arc::new(ManualClock::default());
    Engine::start(MODEL, &checkpoint, Arc::new(Cpu::new(cpu).unwrap()), clock, options, |_, _| {}).unwrap()
}

/// The same with a smaller model that guesses.
pub(crate) fn start_drafted(name: &str, draft: &str, options: Options) -> engine::Result<Engine> {
    let cpu = CpuOptions { isa: None, threads: NonZeroUsize::MIN, is_pinned: false };
    let (checkpoint, draft) = (Checkpoint::open(&fixture(name)).unwrap(), Checkpoint::open(&fixture(draft)).unwrap());
    let files = Files { checkpoint: &checkpoint, draft: Some(&draft) };
    let clock = Arc::new(ManualClock::default());
    Engine::start(MODEL, files, Arc::new(Cpu::new(cpu).unwrap()), clock, options, |_, _| {})
}

/// A cache of so many blocks.
pub(crate) fn small(name: &str, blocks: u64) -> Options {
    let checkpoint = Checkpoint::open(&fixture(name)).unwrap();
    let mut block_bytes = KvPool::new(&checkpoint.config, KvFormat::Bf16, 1).unwrap().block_bytes();
    if Predictor::is_in(&checkpoint) {
        block_bytes += Predictor::block_bytes(&checkpoint.config, KvFormat::Bf16).unwrap();
    }
    Options { kv_bytes: blocks * block_bytes as u64, ..Options::default() }
}

/// `count` tokens after `tokens`, whatever the model would rather do.
pub(crate) fn continuation(tokens: Vec<u32>, count: u32) -> GenerateRequest {
    let id = RequestId::random(&mut Rng::seeded(u64::from(count)));
    let mut request = GenerateRequest::new(id, MODEL, Prompt::Tokens(tokens));
    request.max_tokens = Some(count);
    request.stop.ignore_eos = true;
    request.sampling.temperature = Some(0.0);
    request
}

/// Tokens of a made-up prompt.
pub(crate) fn prompt(rng: &mut Rng, length: usize) -> Vec<u32> {
    (0..length).map(|_| rng.below(200) as u32).collect()
}

pub(crate) async fn answer(engine: &Engine, request: GenerateRequest) -> Answer {
    chat::collect(engine.start_generation(request).await.unwrap()).await.unwrap()
}

/// Waits until something is so.
pub(crate) async fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    #[expect(clippy::disallowed_methods, reason = "the engine has a thread of its own; nothing tells when it is done")]
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < PATIENCE, "{what} did not happen");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
