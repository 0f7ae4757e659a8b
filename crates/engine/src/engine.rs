//! The engine of one model, as requests see it.

use std::collections::BTreeMap;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::JoinHandle;

use base::{Clock, Rng};
use chat::{Event, EventStream, Generate, GenerateRequest, ModelCard, Priority};
use futures::future::BoxFuture;
use futures::{FutureExt as _, stream};
use kernels::{Cpu, KV_BLOCK_TOKENS, KvFormat, Precision};
use models::{Adapter, AdapterFiles, Checkpoint, Config, KvPool, Predictor, Qwen3};
use tokio::sync::mpsc;

use crate::checked;
use crate::constraint::{Constrainer, Held};
use crate::drafter::Drafter;
use crate::eyes::{Eyes, Look};
use crate::figures::Figures;
use crate::fill;
use crate::output::Output;
use crate::places::{Place, Places};
use crate::prompt::TextSide;
use crate::sampler::{Sampler, Settings};
use crate::scheduler::{Limits, Scheduler};
use crate::sight::Sight;
use crate::worker::{Command, EVENTS_MAX, Submission, Worker};
use crate::{Error, Result, facts};

/// Sequences that get a recurrent state however small the cache is: with fewer, a long prompt would hold up all others.
const STATES_MIN: usize = 4;
/// Recurrent states that are kept besides, for each sequence at most.
const SNAPSHOTS_PER_SEQUENCE: usize = 4;

/// How an engine uses the machine.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Bytes that keys and values may take. They are taken from the system when they are needed.
    pub kv_bytes: u64,
    /// How keys and values are stored.
    pub kv_format: KvFormat,
    /// How weights and activations are multiplied.
    pub precision: Precision,
    /// Sequences that are computed together.
    pub sequences_max: usize,
    /// Rows of one step: how long a long prompt may hold up the next token of the others.
    pub rows_per_step: usize,
    /// Requests that are running or waiting; more are refused.
    pub requests_max: usize,
    /// The same of one project: others find room whatever it does.
    pub project_requests_max: usize,
    /// Where seeds come from when a request names none.
    pub seed: u64,
    /// Whether next tokens are guessed where an answer repeats what stands before it. No answer depends on it.
    pub guesses: bool,
    /// Bytes that the experts of one model may take; those of a mixture that has more are read from its files when they
    /// are chosen. `None`: all are loaded.
    pub expert_bytes: Option<u64>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            kv_bytes: 1 << 30,
            kv_format: KvFormat::Bf16,
            precision: Precision::Fast,
            sequences_max: 32,
            rows_per_step: 256,
            requests_max: 256,
            project_requests_max: 128,
            seed: 0,
            guesses: true,
            expert_bytes: None,
        }
    }
}

impl Options {
    /// Bytes for the experts of this model, if they are streamed.
    fn streamed_bytes(&self, checkpoint: &Checkpoint) -> Option<u64> {
        self.expert_bytes.filter(|&limit| checkpoint.expert_bytes(self.precision) > limit)
    }

    /// Bytes that the weights of this model will take.
    pub(crate) fn weights_bytes(&self, checkpoint: &Checkpoint) -> u64 {
        let all = checkpoint.packed_bytes(self.precision);
        match self.streamed_bytes(checkpoint) {
            Some(limit) => all - checkpoint.expert_bytes(self.precision) + limit,
            None => all,
        }
    }
}

/// The files of a model and of whoever guesses for it.
#[derive(Debug, Clone, Copy)]
pub struct Files<'a> {
    /// The model.
    pub checkpoint: &'a Checkpoint,
    /// A smaller model with the same tokenizer that guesses next tokens ahead.
    pub draft: Option<&'a Checkpoint>,
}

impl<'a> From<&'a Checkpoint> for Files<'a> {
    fn from(checkpoint: &'a Checkpoint) -> Self {
        Self { checkpoint, draft: None }
    }
}

/// A loaded model that answers requests.
pub struct Engine {
    card: ModelCard,
    cpu: Arc<Cpu>,
    config: Config,
    precision: Precision,
    weights_bytes: u64,
    kv_bytes: u64,
    kv_block_bytes: u64,
    shared: Arc<Shared>,
    commands: Sender<Command>,
    worker: Option<JoinHandle<()>>,
}

/// What requests and the worker both look at.
pub(crate) struct Shared {
    text: TextSide,
    constrainer: Constrainer,
    /// By the names that requests use.
    adapters: RwLock<BTreeMap<String, Arc<Adapter>>>,
    context_tokens: usize,
    vocabulary: usize,
    guesses: bool,
    places: Arc<Places>,
    figures: Arc<Figures>,
    seeds: Mutex<Rng>,
    clock: Arc<dyn Clock>,
}

/// What the requests of an engine have of it, as of its last step.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Occupancy {
    /// Sequences that hold cache blocks.
    pub running: u64,
    /// Sequences that wait for their turn.
    pub waiting: u64,
    /// Cache blocks that sequences hold; those that are only kept for whoever comes next are not among them.
    pub blocks_held: u64,
}

impl Engine {
    /// Loads a checkpoint and starts its worker.
    ///
    /// `progress` is called with the layers loaded and all layers.
    ///
    /// # Errors
    /// If the checkpoint is broken, or the cache would not hold one block.
    pub fn start<'a>(
        name: &str,
        files: impl Into<Files<'a>>,
        cpu: Arc<Cpu>,
        clock: Arc<dyn Clock>,
        options: Options,
        progress: impl FnMut(usize, usize),
    ) -> Result<Self> {
        let Files { checkpoint, draft } = files.into();
        if !checkpoint.has_head() {
            return Err(Error::Headless { name: name.to_owned() });
        }
        let eyes = Eyes::open(checkpoint, &cpu, options.precision)?;
        let text = TextSide::new(checkpoint, eyes)?;
        let model = match options.streamed_bytes(checkpoint) {
            Some(bytes) => {
                let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
                Qwen3::load_streaming(&cpu, checkpoint, options.precision, bytes, progress)?
            }
            None => Qwen3::load(&cpu, checkpoint, options.precision, progress)?,
        };
        let predicts = predicts(checkpoint, draft.is_some(), &options);
        let Cache { kv, limits, block_bytes: kv_block_bytes } = cache(checkpoint, predicts, options)?;
        let drafter = draft.map(|draft| Drafter::load(&cpu, draft, checkpoint, &options)).transpose()?;
        let predictor = || Predictor::load(&cpu, checkpoint, options.precision, options.kv_format, kv.blocks());
        let predictor = predicts.then(predictor).transpose()?;
        let guesser_bytes = drafter.as_ref().map_or(0, Drafter::size_bytes)
            + predictor.as_ref().map_or(0, Predictor::size_bytes) as u64;
        let weights_bytes = model.size_bytes() as u64 + guesser_bytes;
        let kv_bytes = kv_bytes(&kv, kv_block_bytes, &checkpoint.config);
        let scheduler = Scheduler::new(limits);
        let logits = checkpoint.config.vocabulary;
        let tokens = text.tokenizer.as_ref().map_or(logits, |tokenizer| tokenizer.vocabulary_size());
        if tokens > logits {
            return Err(Error::Vocabulary { tokens, logits });
        }
        let context_tokens = checkpoint.config.context_tokens.min(scheduler.capacity_tokens());
        let card = ModelCard {
            id: name.to_owned(),
            owner: "sampan".to_owned(),
            created_s: clock.now_ms() / 1000,
            context_tokens: u32::try_from(context_tokens).unwrap_or(u32::MAX),
            facts: facts::of(checkpoint, &text),
        };
        let (commands, receiver) = channel();
        let worker = Worker::new(name.to_owned(), model, kv, Arc::clone(&cpu), Arc::clone(&clock), scheduler, receiver)
            .with_guessers(drafter, predictor);
        let constrainer = Constrainer::new(text.tokenizer.clone(), &text.defaults.eos);
        let shared = Arc::new(Shared {
            text,
            constrainer,
            adapters: RwLock::default(),
            context_tokens,
            vocabulary: tokens,
            guesses: options.guesses,
            places: Places::new(options.requests_max, options.project_requests_max),
            figures: worker.figures(),
            seeds: Mutex::new(Rng::seeded(options.seed)),
            clock,
        });
        let worker = std::thread::Builder::new()
            .name(format!("engine {name}"))
            .spawn(move || worker.run())
            .map_err(Error::Thread)?;
        let (config, precision) = (checkpoint.config.clone(), options.precision);
        let worker = Some(worker);
        Ok(Self { card, cpu, config, precision, weights_bytes, kv_bytes, kv_block_bytes, shared, commands, worker })
    }

    /// Adds an adapter. From now on requests whose model has this name are computed with it; those that run go on.
    ///
    /// # Errors
    /// If it does not fit the model, or the name is taken.
    pub fn adapt(&self, name: &str, files: &AdapterFiles) -> Result<()> {
        let adapter = Arc::new(Adapter::load(&self.cpu, files, &self.config, self.precision)?);
        let mut adapters = self.shared.adapters.write().unwrap_or_else(PoisonError::into_inner);
        if name == self.card.id || adapters.contains_key(name) {
            return Err(Error::SameName { name: name.to_owned() });
        }
        adapters.insert(name.to_owned(), adapter);
        Ok(())
    }

    fn answers_to(&self, model: &str) -> bool {
        model == self.card.id || self.shared.adapter(model).is_some()
    }

    /// Name and limits.
    #[must_use]
    pub fn card(&self) -> &ModelCard {
        &self.card
    }

    /// Requests that are running or waiting.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.shared.places.taken()
    }

    /// What its requests have of it.
    #[must_use]
    pub fn occupancy(&self) -> Occupancy {
        let Figures { running, waiting, blocks_held, .. } = self.figures();
        Occupancy { running: running.get(), waiting: waiting.get(), blocks_held: blocks_held.get() }
    }

    /// Memory of the packed weights, those of adapters too.
    pub(crate) fn weights_bytes(&self) -> u64 {
        let adapters = self.shared.adapters.read().unwrap_or_else(PoisonError::into_inner);
        self.weights_bytes + adapters.values().map(|adapter| adapter.size_bytes() as u64).sum::<u64>()
    }

    /// Memory that keys and values and recurrent states take when the cache is full.
    pub(crate) fn kv_bytes(&self) -> u64 {
        self.kv_bytes
    }

    /// Memory of the blocks that are in use or kept.
    pub(crate) fn kv_used_bytes(&self) -> u64 {
        self.figures().blocks_used.get() * self.kv_block_bytes
    }

    pub(crate) fn figures(&self) -> &Figures {
        &self.shared.figures
    }

    /// Tokens that were guessed ahead, and how many of them were right.
    #[must_use]
    pub fn guesses(&self) -> (u64, u64) {
        let figures = self.figures();
        (figures.drafted_tokens.get(), figures.accepted_tokens.get())
    }

    /// Ends what is running: the streams end with [`chat::Error::ShuttingDown`], and so does every later request.
    pub fn stop(&self) {
        // The worker is gone already if this fails.
        let _ = self.commands.send(Command::Stop);
    }

    /// How often a sequence gave its memory to an older one and was computed again.
    #[must_use]
    pub fn preemptions(&self) -> u64 {
        self.shared.figures.preemptions.get()
    }

    /// Starts a generation, with an adapter if the request's model is the name of one; else the name is not looked at.
    ///
    /// # Errors
    /// If the request is out of range, its prompt too long, or too many are waiting.
    pub async fn start_generation(&self, request: GenerateRequest) -> chat::Result<EventStream> {
        request.validate()?;
        let door = Door { shared: Arc::clone(&self.shared), commands: self.commands.clone() };
        let (held, events) = door.submit(&request, None).await?;
        match held {
            Some(held) if !held.is_exact() => Ok(checked::stream(door, request, held, events)),
            Some(_) | None => Ok(events),
        }
    }
}

impl Engine {
    /// Tokens of a request's prompt; its model name is not looked at.
    ///
    /// # Errors
    /// If the request is out of range or the template refuses it.
    pub async fn count_prompt(&self, request: GenerateRequest) -> chat::Result<u32> {
        request.validate()?;
        let shared = Arc::clone(&self.shared);
        let encoded = tokio::task::spawn_blocking(move || shared.text.encode(&request, shared.clock.now_ms())).await;
        let interrupted = |_| chat::Error::Interrupted { reason: "the prompt could not be prepared".to_owned() };
        Ok(encoded.map_err(interrupted)??.tokens.len() as u32)
    }
}

/// Whether a model's own predictor guesses for it: where it has one, and nobody else does.
fn predicts(checkpoint: &Checkpoint, is_drafted: bool, options: &Options) -> bool {
    options.guesses && !is_drafted && Predictor::is_in(checkpoint)
}

/// The cache of a model.
struct Cache {
    kv: KvPool,
    limits: Limits,
    /// Bytes of a block, those of the predictor too.
    block_bytes: u64,
}

/// The cache that the options allow: never more than all sequences can use.
fn cache(checkpoint: &Checkpoint, predicts: bool, options: Options) -> Result<Cache> {
    let config = &checkpoint.config;
    let predictor_bytes = if predicts { Predictor::block_bytes(config, options.kv_format)? } else { 0 };
    let block_bytes = KvPool::new(config, options.kv_format, 1)?.block_bytes() + predictor_bytes;
    let affordable = options.kv_bytes / block_bytes as u64;
    let useful = config.context_tokens.div_ceil(KV_BLOCK_TOKENS) as u64 * options.sequences_max as u64;
    let blocks = u32::try_from(affordable.min(useful)).unwrap_or(u32::MAX);
    if blocks == 0 {
        return Err(Error::CacheTooSmall { asked_bytes: options.kv_bytes, block_bytes });
    }
    let (sequences_max, snapshots) = states_that_fit(config, options);
    let Options { rows_per_step, kv_format, .. } = options;
    let limits = Limits { sequences_max, rows_per_step, block_tokens: KV_BLOCK_TOKENS, blocks, snapshots };
    let slots = sequences_max as u32 + snapshots.unwrap_or(0);
    Ok(Cache { kv: KvPool::with_slots(config, kv_format, blocks, slots)?, limits, block_bytes: block_bytes as u64 })
}

/// Memory that the cache of a model would take.
pub(crate) fn cache_bytes(checkpoint: &Checkpoint, options: Options) -> Result<u64> {
    let Cache { kv, block_bytes, .. } = cache(checkpoint, predicts(checkpoint, false, &options), options)?;
    Ok(kv_bytes(&kv, block_bytes, &checkpoint.config))
}

fn kv_bytes(kv: &KvPool, block_bytes: u64, config: &Config) -> u64 {
    u64::from(kv.blocks()) * block_bytes + u64::from(kv.slots()) * config.state_bytes() as u64
}

/// How many sequences run at once, and how many recurrent states are kept besides theirs. All of them together may take
/// as much memory again as keys and values; a few there always are.
fn states_that_fit(config: &Config, options: Options) -> (usize, Option<u32>) {
    let state_bytes = config.state_bytes() as u64;
    if state_bytes == 0 {
        return (options.sequences_max, None);
    }
    let affordable = usize::try_from(options.kv_bytes / state_bytes).unwrap_or(usize::MAX);
    let running = options.sequences_max.min((affordable / 2).max(STATES_MIN));
    let kept = (affordable - running.min(affordable))
        .clamp(STATES_MIN, STATES_MIN.max(SNAPSHOTS_PER_SEQUENCE * options.sequences_max));
    (running, Some(u32::try_from(kept).unwrap_or(u32::MAX)))
}

/// What it takes to start a generation, again and again if need be.
pub(crate) struct Door {
    shared: Arc<Shared>,
    commands: Sender<Command>,
}

impl Door {
    /// Starts a generation. `held`: what an earlier attempt at the same request found out about its form.
    pub(crate) async fn submit(
        &self,
        request: &GenerateRequest,
        held: Option<Arc<Held>>,
    ) -> chat::Result<(Option<Arc<Held>>, EventStream)> {
        let place = self.shared.places.take(request.caller.as_ref())?;
        let (shared, request) = (Arc::clone(&self.shared), request.clone());
        // Rendering and encoding take milliseconds for long prompts.
        let prepared = tokio::task::spawn_blocking(move || shared.prepare(&request, held, place)).await;
        let interrupted = |_| chat::Error::Interrupted { reason: "the prompt could not be prepared".to_owned() };
        let (submission, held, events) = prepared.map_err(interrupted)??;
        self.commands.send(Command::Submit(Box::new(submission))).map_err(|_| chat::Error::ShuttingDown)?;
        Ok((held, told(events, Arc::clone(&self.shared.figures))))
    }
}

/// The events of a generation up to its last one. If they end without one because the engine stops, they say so.
fn told(events: mpsc::Receiver<chat::Result<Event>>, figures: Arc<Figures>) -> EventStream {
    let events = stream::unfold(Some((events, figures)), async |state| {
        let (mut events, figures) = state?;
        match events.recv().await {
            Some(last @ (Ok(Event::Finished(_)) | Err(_))) => Some((last, None)),
            Some(event) => Some((event, Some((events, figures)))),
            None if figures.has_stopped() => Some((Err(chat::Error::ShuttingDown), None)),
            None => None,
        }
    });
    Box::pin(events)
}

/// A request that is ready for the worker, what its answer is held to, and where its events come out.
type Prepared = (Submission, Option<Arc<Held>>, mpsc::Receiver<chat::Result<Event>>);

impl Shared {
    fn prepare(&self, request: &GenerateRequest, held: Option<Arc<Held>>, place: Place) -> chat::Result<Prepared> {
        let encoded = self.text.encode(request, self.clock.now_ms())?;
        let tokens = encoded.tokens;
        let too_long =
            || chat::Error::PromptTooLong { prompt_tokens: tokens.len(), context_tokens: self.context_tokens };
        if tokens.is_empty() {
            return Err(chat::Error::EmptyPrompt);
        }
        if tokens.len() >= self.context_tokens {
            return Err(too_long());
        }
        if let Some(&token) = tokens.iter().find(|&&token| token as usize >= self.vocabulary) {
            return Err(chat::Error::UnknownToken { token, vocabulary: self.vocabulary });
        }
        let sight = self.sight(&tokens, &encoded.looks, request)?;
        let held = match held {
            Some(held) => Some(held),
            None => self.constrainer.held(request, &encoded.output)?,
        };
        let constraint = held.clone().map(|held| self.constrainer.start(held, encoded.output.opening));
        let room = u32::try_from(self.context_tokens - tokens.len()).unwrap_or(u32::MAX);
        let seed = request.sampling.seed.unwrap_or_else(|| self.draw_seed());
        let settings = Settings::new(&request.sampling, &self.text.defaults);
        let echo = if request.echo { self.echo(&tokens) } else { String::new() };
        let (sender, receiver) = mpsc::channel(EVENTS_MAX);
        let output = Output::new(encoded.output, self.text.tokenizer.clone(), echo);
        let prompt_tokens = tokens.len() as u32;
        let project = request.caller.as_ref().map_or_else(|| Arc::from(""), |caller| Arc::clone(&caller.project));
        let adapter = self.adapter(&request.model);
        sender.try_send(Ok(Event::Started { prompt_tokens })).expect("the channel is new");
        Ok((
            Submission {
                id: request.id,
                realm: realm(&project, adapter.as_ref().map(|_| &*request.model)),
                project,
                adapter,
                priority: request.caller.as_ref().map_or_else(Priority::default, |caller| caller.priority),
                sampler: Sampler::new(settings, seed, &tokens),
                head: self.text.head(request, &tokens),
                tokens,
                sight,
                most_tokens: request.max_tokens.unwrap_or(room).min(room),
                ending_tokens: self.ending_tokens(request),
                stop_tokens: request.stop.tokens.clone(),
                logprobs: request.logprobs,
                scores_prompt: request.echo && request.logprobs.is_some(),
                vocabulary: self.vocabulary,
                output,
                budget: self.text.budget(request)?,
                constraint,
                may_guess: self.guesses && request.speculates,
                events: sender,
                place,
            },
            held,
            receiver,
        ))
    }

    /// What the tower makes of the pictures, and where they stand.
    fn sight(&self, tokens: &[u32], looks: &[Look<'_>], request: &GenerateRequest) -> chat::Result<Option<Arc<Sight>>> {
        let Some(eyes) = self.text.eyes.as_ref().filter(|_| !looks.is_empty()) else { return Ok(None) };
        if request.echo {
            let why = "a prompt with pictures has no text to echo".to_owned();
            return Err(chat::Error::Unsupported { what: "echo".to_owned(), why });
        }
        let grids: Vec<[usize; 3]> = looks.iter().map(|look| look.grid).collect();
        let placed = models::vision::placed(tokens, |token| self.text.is_placeholder(token), &grids);
        let seen = looks.iter().map(|look| eyes.see(look)).collect::<chat::Result<Vec<_>>>()?;
        Ok(Some(Arc::new(Sight::new(placed.expect("the prompt was made for these grids"), &seen))))
    }

    fn adapter(&self, name: &str) -> Option<Arc<Adapter>> {
        self.adapters.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    fn echo(&self, tokens: &[u32]) -> String {
        self.text.tokenizer.as_ref().map(|tokenizer| tokenizer.decode(tokens, false)).unwrap_or_default()
    }

    fn draw_seed(&self) -> u64 {
        self.seeds.lock().unwrap_or_else(PoisonError::into_inner).next_u64()
    }

    fn ending_tokens(&self, request: &GenerateRequest) -> Vec<u32> {
        match (&request.suffix, &self.text.tokenizer) {
            _ if request.stop.ignore_eos => Vec::new(),
            (Some(_), Some(tokenizer)) => fill::ends(tokenizer),
            _ => self.text.defaults.eos.clone(),
        }
    }
}

/// Whose kept blocks a sequence may take: those of its project, computed with the same adapter.
fn realm(project: &Arc<str>, adapter: Option<&str>) -> Arc<str> {
    // No project's name holds the separator.
    adapter.map_or_else(|| Arc::clone(project), |adapter| format!("{project}\u{1f}{adapter}").into())
}

impl Generate for Engine {
    fn models(&self) -> Vec<ModelCard> {
        vec![self.card.clone()]
    }

    fn generate(&self, request: GenerateRequest) -> BoxFuture<'_, chat::Result<EventStream>> {
        async move {
            if !self.answers_to(&request.model) {
                return Err(chat::Error::UnknownModel { model: request.model });
            }
            self.start_generation(request).await
        }
        .boxed()
    }

    fn count_tokens(&self, request: GenerateRequest) -> BoxFuture<'_, chat::Result<u32>> {
        async move {
            if !self.answers_to(&request.model) {
                return Err(chat::Error::UnknownModel { model: request.model });
            }
            self.count_prompt(request).await
        }
        .boxed()
    }
}

impl Drop for Engine {
    /// Ends what is still running (their streams end with an error) and waits for the worker.
    fn drop(&mut self) {
        self.stop();
        if let Some(worker) = self.worker.take()
            && worker.join().is_err()
        {
            tracing::error!(model = self.card.id, "the engine's thread panicked");
        }
    }
}
