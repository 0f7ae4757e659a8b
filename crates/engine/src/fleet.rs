//! Several models behind one door, chosen by name, loaded when they are asked for.
//!
//! `seats` decides who is in memory; `load` reads files. A request that names a model holds it from the moment it is
//! loaded until its last event: a model in use is never taken away. Requests for a model that is being loaded wait for
//! the one load, and are all told if it fails.

mod adding;
mod extras;
mod load;
mod seats;

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use base::{Clock, chain};
use chat::{
    Caller, Embed, EmbedRequest, Embeddings, Event, EventStream, Generate, GenerateRequest, KeepAlive, Manage,
    ModelCard, ModelState, ModelStatus, Relevance, RerankRequest,
};
use futures::future::BoxFuture;
use futures::{FutureExt as _, Stream};
use kernels::Cpu;
use models::WeightCache;
use tokio::sync::Notify;

use crate::places::Places;
use crate::source::{Opened, Role, Source};
use crate::{Error, Options, Result};
use extras::Named;
use load::Loaded;
use seats::{Ask, Seats, Stage};

/// Whoever finds all memory used by others waits for so long.
const ROOM_WAIT_MS: u64 = 60_000;

pub use extras::{AdapterEntry, Extras};

/// A model that may be asked for.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// Where its files are.
    pub source: Source,
    /// If it cannot be opened, the others are served without it.
    pub is_optional: bool,
}

/// What all models share.
#[derive(Clone)]
pub struct Machine {
    /// The processor: one step at a time has all of it.
    pub cpu: Arc<Cpu>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// How each model uses it. `kv_bytes` is what the keys and values of one model may take.
    pub options: Options,
    /// Memory of all models together: weights, keys and values.
    pub memory_bytes: u64,
    /// Where packed weights are kept for the next load, if they are.
    pub weight_cache: Option<WeightCache>,
    /// How long a model stays after its last request, where nobody says otherwise.
    pub keep_alive: KeepAlive,
}

/// Models by name. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Fleet {
    shared: Arc<Shared>,
}

struct Shared {
    machine: Machine,
    /// They only become more.
    models: boxcar::Vec<Model>,
    state: Mutex<State>,
    /// A model was loaded or not, or became idle, or time passed.
    changed: Notify,
}

/// What does not change while the program runs, but for the counters.
struct Model {
    name: String,
    aliases: Vec<String>,
    adapters: Vec<Named>,
    /// The smaller model that guesses for it.
    draft: Option<PathBuf>,
    source: Source,
    role: Role,
    layers_done: AtomicU32,
    layers_all: AtomicU32,
    /// Requests that wait until it is loaded.
    waiting: Arc<Places>,
}

struct State {
    seats: Seats,
    /// What is loaded, by the index of the model.
    loaded: Vec<Option<Arc<Loaded>>>,
    /// A model's card is made without loading it; a loaded one may have room for fewer tokens.
    cards: Vec<ModelCard>,
}

/// A use of a model: it stays loaded as long as this lives.
struct Lease {
    shared: Arc<Shared>,
    index: usize,
    /// `None` only while it is dropped.
    loaded: Option<Arc<Loaded>>,
}

impl Drop for Lease {
    fn drop(&mut self) {
        // The state's own handle must be the last one when somebody vacates the seat.
        self.loaded = None;
        self.shared.lock().seats.release(self.index, self.shared.machine.clock.now_ms());
        self.shared.changed.notify_waiters();
    }
}

impl Lease {
    fn loaded(&self) -> &Loaded {
        self.loaded.as_deref().expect("it is dropped last")
    }
}

/// Events of a generation that keep their model.
struct Leased {
    // Dropped in this order: the generation ends before its model may.
    events: EventStream,
    _lease: Lease,
}

impl Stream for Leased {
    type Item = chat::Result<Event>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.events.as_mut().poll_next(context)
    }
}

impl Fleet {
    /// A fleet of these models, none of them loaded. The order is that of the lists of models; `aliases` are pairs of a
    /// further name and a model's name.
    ///
    /// Cost: headers, configurations and tokenizers are read.
    ///
    /// # Errors
    /// If a model's files cannot be opened, two have one name, or an alias means no model.
    pub fn new(entries: Vec<Entry>, aliases: &[(String, String)], machine: Machine) -> Result<Self> {
        Self::with_extras(entries, aliases, Extras::default(), machine)
    }

    /// The same with adapters, each of which is loaded with its model and answers under its own name, and with models
    /// that guess for others.
    ///
    /// # Errors
    /// Also if one of them cannot be opened or belongs to no model here.
    pub fn with_extras(
        entries: Vec<Entry>,
        aliases: &[(String, String)],
        extras: Extras,
        machine: Machine,
    ) -> Result<Self> {
        let (mut models, mut cards, mut needs): (Vec<Model>, _, _) = (Vec::new(), Vec::new(), Vec::new());
        for Entry { name, source, is_optional } in entries {
            if models.iter().any(|other| other.name == name) {
                return Err(Error::SameName { name });
            }
            match Model::look_at(&name, source, &machine) {
                Ok((model, card, needed_bytes)) => {
                    models.push(model);
                    cards.push(card);
                    needs.push(needed_bytes);
                }
                Err(error) if is_optional => {
                    tracing::warn!(model = name, error = chain(&error), "a model is left out");
                }
                Err(error) => return Err(error.of(&name)),
            }
        }
        for (alias, target) in aliases {
            if models.iter().any(|model| model.is_called(alias)) {
                return Err(Error::SameName { name: alias.clone() });
            }
            let target = models.iter_mut().find(|model| model.name == *target);
            let unknown = || Error::UnknownAlias { alias: alias.clone() };
            target.ok_or_else(unknown)?.aliases.push(alias.clone());
        }
        extras::assign(extras, &mut models, &mut needs, &machine)?;
        let seats = Seats::new(needs, machine.keep_alive, machine.memory_bytes);
        let loaded = models.iter().map(|_| None).collect();
        let models = models.into_iter().collect();
        let state = Mutex::new(State { seats, loaded, cards });
        Ok(Self { shared: Arc::new(Shared { machine, models, state, changed: Notify::new() }) })
    }

    /// Lets go of models whose time is over, and reminds those who wait of theirs. To be called every second or
    /// oftener, off the async threads: it waits for the threads of models that go.
    pub fn tick(&self) {
        self.shared.let_go_of_due();
        self.shared.changed.notify_waiters();
    }

    /// Cuts off what the loaded models are generating: streams end with an error that says why.
    pub fn stop(&self) {
        for loaded in self.shared.lock().loaded.iter().flatten() {
            loaded.stop();
        }
    }

    /// Layers of a model that are loaded, and all of them; 0 until that is known.
    #[must_use]
    pub fn progress(&self, model: &str) -> (u32, u32) {
        let found = self.shared.models.iter().find(|(_, known)| known.is_called(model));
        found.map_or((0, 0), |(_, known)| known.progress())
    }

    fn cards_of(&self, role: Role) -> Vec<ModelCard> {
        let state = self.shared.lock();
        let models = self.shared.models.iter().map(|(_, model)| model);
        let of_role = models.zip(&state.cards).filter(|(model, _)| model.role == role);
        let named = |(model, card): (&Model, &ModelCard)| {
            let adapters = model.adapters.iter().map(|adapter| ModelCard { id: adapter.name.clone(), ..card.clone() });
            std::iter::once(card.clone()).chain(adapters).collect::<Vec<_>>()
        };
        of_role.flat_map(named).collect()
    }

    /// Waits until a model is loaded and holds it.
    async fn hold(&self, name: &str, role: Option<Role>, caller: Option<&Caller>) -> chat::Result<Lease> {
        let shared = &self.shared;
        let index = shared.find(name, role)?;
        let model = &shared.models[index];
        let began_ms = shared.machine.clock.now_ms();
        let (mut place, mut awaited) = (None, None);
        loop {
            let changed = shared.changed.notified();
            tokio::pin!(changed);
            // What happens from here on is not missed.
            changed.as_mut().enable();
            match shared.look(index, awaited)? {
                Looked::Lease(lease) => return Ok(lease),
                Looked::Load { attempt, evicted } => {
                    awaited = Some(attempt);
                    shared.start_loading(index, evicted);
                }
                Looked::Loading { attempt } => awaited = Some(attempt),
                Looked::Full => {
                    if shared.machine.clock.now_ms().saturating_sub(began_ms) > ROOM_WAIT_MS {
                        return Err(chat::Error::NotLoaded {
                            model: model.name.clone(),
                            reason: "all memory is used by models that are busy".to_owned(),
                        });
                    }
                }
            }
            if place.is_none() {
                place = Some(model.waiting.take(caller)?);
            }
            changed.await;
        }
    }
}

/// What there is to see at a model's seat.
enum Looked {
    Lease(Lease),
    /// The caller has to start the load; it is attempt number `attempt`.
    Load {
        attempt: u64,
        evicted: Vec<Arc<Loaded>>,
    },
    Loading {
        attempt: u64,
    },
    Full,
}

impl Model {
    /// The model with its card and the memory that it is going to take.
    fn look_at(name: &str, source: Source, machine: &Machine) -> Result<(Self, ModelCard, u64)> {
        let opened = source.open()?;
        let role = source.role(name, &opened);
        let card = opened.card(name, machine.clock.now_ms() / 1000)?;
        let needed_bytes = load::needed_bytes(&opened, role, machine)?;
        let model = Self {
            name: name.to_owned(),
            aliases: Vec::new(),
            adapters: Vec::new(),
            draft: None,
            source,
            role,
            layers_done: AtomicU32::new(0),
            layers_all: AtomicU32::new(0),
            waiting: Places::new(machine.options.requests_max, machine.options.project_requests_max),
        };
        Ok((model, card, needed_bytes))
    }

    fn is_called(&self, name: &str) -> bool {
        self.name == name || self.further_names().any(|further| further == name)
    }

    fn further_names(&self) -> impl Iterator<Item = &String> {
        self.aliases.iter().chain(self.adapters.iter().map(|adapter| &adapter.name))
    }

    fn progress(&self) -> (u32, u32) {
        (self.layers_done.load(Ordering::Relaxed), self.layers_all.load(Ordering::Relaxed))
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic between two lines of bookkeeping is a bug of ours; the state machine checks itself.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, name: &str, role: Option<Role>) -> chat::Result<usize> {
        let found = self.models.iter().position(|(_, model)| model.is_called(name));
        let index = found.ok_or_else(|| chat::Error::UnknownModel { model: name.to_owned() })?;
        let its_role = self.models[index].role;
        match role {
            Some(role) if role != its_role => Err(chat::Error::Unsupported {
                what: role.verb().to_owned(),
                why: format!("model {name:?} is for {}", its_role.verb()),
            }),
            Some(_) | None => Ok(index),
        }
    }

    /// `awaited`: the attempt at loading that the caller waits for, if it waits for one.
    fn look(self: &Arc<Self>, index: usize, awaited: Option<u64>) -> chat::Result<Looked> {
        let mut state = self.lock();
        let seat = state.seats.of(index);
        let attempt = seat.attempts;
        if let Stage::Failed(reason) = &seat.stage
            && awaited.is_some_and(|awaited| awaited < attempt)
        {
            return Err(self.not_loaded(index, reason.clone()));
        }
        match state.seats.ask(index, self.machine.clock.now_ms()) {
            Ask::Ready => {
                let loaded = state.loaded[index].clone();
                Ok(Looked::Lease(Lease { shared: Arc::clone(self), index, loaded }))
            }
            Ask::Load { evicted } => {
                let gone = evicted.into_iter().filter_map(|other| state.loaded[other].take()).collect();
                Ok(Looked::Load { attempt, evicted: gone })
            }
            Ask::Wait if state.seats.of(index).stage == Stage::Loading => Ok(Looked::Loading { attempt }),
            Ask::Wait => Ok(Looked::Full),
            Ask::TooLarge { room_bytes } => {
                let needed_bytes = state.seats.of(index).bytes;
                let reason = format!("it needs {needed_bytes} bytes of memory, there are {room_bytes} for it");
                Err(self.not_loaded(index, reason))
            }
        }
    }

    fn not_loaded(&self, index: usize, reason: String) -> chat::Error {
        chat::Error::NotLoaded { model: self.models[index].name.clone(), reason }
    }

    /// Loads on a thread of its own, whoever goes on waiting for it: what was begun is of use to the next request. The
    /// thread ends by itself.
    fn start_loading(self: &Arc<Self>, index: usize, evicted: Vec<Arc<Loaded>>) {
        let (shared, model) = (Arc::clone(self), &self.models[index]);
        model.layers_done.store(0, Ordering::Relaxed);
        model.layers_all.store(0, Ordering::Relaxed);
        let thread = std::thread::Builder::new().name(format!("load {}", model.name));
        let spawned = thread.spawn(move || {
            drop(evicted);
            shared.load(index);
        });
        if let Err(error) = spawned {
            self.settle(index, Err(format!("start a thread: {error}")));
        }
    }

    fn load(&self, index: usize) {
        let (model, clock) = (&self.models[index], &self.machine.clock);
        let began_us = clock.monotonic_us();
        let progress = |done: usize, all: usize| {
            model.layers_all.store(all as u32, Ordering::Relaxed);
            model.layers_done.store(done as u32, Ordering::Relaxed);
        };
        let read = || -> Result<Loaded> {
            let draft = model.draft.as_deref();
            let loaded = load::load(&model.name, &model.source, model.role, &self.machine, draft, progress)?;
            if let Ok(engine) = loaded.engine() {
                extras::adapt(engine, &model.adapters)?;
            }
            Ok(loaded)
        };
        // A panic is our bug; it must not leave everybody waiting.
        let outcome = match std::panic::catch_unwind(std::panic::AssertUnwindSafe(read)) {
            Ok(Ok(loaded)) => Ok(loaded),
            Ok(Err(error)) => Err(chain(&error)),
            Err(_) => Err("loading it panicked".to_owned()),
        };
        let elapsed_ms = (clock.monotonic_us() - began_us) / 1000;
        match &outcome {
            Ok(_) => tracing::info!(model = model.name, elapsed_ms, "model loaded"),
            Err(reason) => tracing::warn!(model = model.name, elapsed_ms, reason, "a model could not be loaded"),
        }
        self.settle(index, outcome);
    }

    fn settle(&self, index: usize, outcome: std::result::Result<Loaded, String>) {
        let mut state = self.lock();
        let now_ms = self.machine.clock.now_ms();
        match outcome {
            Ok(loaded) => {
                if let Some(context_tokens) = loaded.context_tokens() {
                    state.cards[index].context_tokens = context_tokens;
                }
                // What was planned holds; what is really there may be a little more or less.
                let bytes = loaded.bytes().max(1);
                state.loaded[index] = Some(Arc::new(loaded));
                state.seats.loaded(index, Ok(bytes), now_ms);
            }
            Err(reason) => state.seats.loaded(index, Err(reason), now_ms),
        }
        drop(state);
        self.changed.notify_waiters();
    }

    fn let_go_of_due(&self) {
        let mut state = self.lock();
        let due = state.seats.due(self.machine.clock.now_ms());
        let gone: Vec<_> = due.iter().filter_map(|&index| state.loaded[index].take()).collect();
        drop(state);
        for index in due {
            tracing::info!(model = self.models[index].name, "model unloaded");
        }
        drop(gone);
    }

    fn status(&self, state: &State, index: usize) -> ModelStatus {
        let (model, seat) = (&self.models[index], state.seats.of(index));
        let (layers_done, layers_all) = model.progress();
        let stage = match &seat.stage {
            Stage::OnDisk => ModelState::OnDisk,
            Stage::Loading => ModelState::Loading { layers_done, layers_all },
            Stage::Loaded => ModelState::Loaded,
            Stage::Failed(reason) => ModelState::Failed { reason: reason.clone() },
        };
        let mut status = ModelStatus {
            card: state.cards[index].clone(),
            aliases: model.further_names().cloned().collect(),
            state: stage,
            keep_alive: seat.keep,
            expires_ms: state.seats.expires_ms(index),
            weights_bytes: state.cards[index].facts.size_bytes,
            kv_used_bytes: 0,
            kv_max_bytes: 0,
            running: 0,
            waiting: model.waiting.taken() as u32,
            tokens_per_second: 0.0,
            prompt_tokens: 0,
            cached_tokens: 0,
            output_tokens: 0,
            begun: 0,
            waited_us: 0,
            steps: 0,
            step_sequences: 0,
            preemptions: 0,
            drafted_tokens: 0,
            accepted_tokens: 0,
            masks: 0,
            masks_us: 0,
            mask_waits_us: 0,
        };
        if let Some(loaded) = &state.loaded[index] {
            loaded.describe(&mut status);
        }
        status
    }
}

impl Generate for Fleet {
    fn models(&self) -> Vec<ModelCard> {
        self.cards_of(Role::Generates)
    }

    fn context_tokens(&self, model: &str) -> Option<u32> {
        let state = self.shared.lock();
        let mut models = self.shared.models.iter().zip(&state.cards);
        let found = models.find(|((_, known), _)| known.role == Role::Generates && known.is_called(model));
        found.map(|(_, card)| card.context_tokens)
    }

    fn generate(&self, request: GenerateRequest) -> BoxFuture<'_, chat::Result<EventStream>> {
        async move {
            // Nothing is loaded for a request that is refused anyway.
            request.validate()?;
            let lease = self.hold(&request.model, Some(Role::Generates), request.caller.as_ref()).await?;
            let events = lease.loaded().engine()?.start_generation(request).await?;
            Ok(Box::pin(Leased { events, _lease: lease }) as EventStream)
        }
        .boxed()
    }

    fn count_tokens(&self, request: GenerateRequest) -> BoxFuture<'_, chat::Result<u32>> {
        async move {
            request.validate()?;
            let lease = self.hold(&request.model, Some(Role::Generates), request.caller.as_ref()).await?;
            lease.loaded().engine()?.count_prompt(request).await
        }
        .boxed()
    }
}

impl Embed for Fleet {
    fn embedding_models(&self) -> Vec<ModelCard> {
        self.cards_of(Role::Embeds)
    }

    fn reranking_models(&self) -> Vec<ModelCard> {
        self.cards_of(Role::Ranks)
    }

    fn embeds(&self, model: &str) -> chat::Result<()> {
        self.shared.find(model, Some(Role::Embeds)).map(|_| ())
    }

    fn ranks(&self, model: &str) -> chat::Result<()> {
        self.shared.find(model, Some(Role::Ranks)).map(|_| ())
    }

    fn embed(&self, request: EmbedRequest) -> BoxFuture<'_, chat::Result<Embeddings>> {
        async move {
            request.validate()?;
            let lease = self.hold(&request.model, Some(Role::Embeds), request.caller.as_ref()).await?;
            lease.loaded().embedder()?.embed(request).await
        }
        .boxed()
    }

    fn rerank(&self, request: RerankRequest) -> BoxFuture<'_, chat::Result<Relevance>> {
        async move {
            request.validate()?;
            let lease = self.hold(&request.model, Some(Role::Ranks), request.caller.as_ref()).await?;
            lease.loaded().embedder()?.rerank(request).await
        }
        .boxed()
    }
}

impl Manage for Fleet {
    fn statuses(&self) -> Vec<ModelStatus> {
        let state = self.shared.lock();
        let all = state.cards.len();
        let of_role = |role| (0..all).filter(move |&index| self.shared.models[index].role == role);
        let indexes = [Role::Generates, Role::Embeds, Role::Ranks].into_iter().flat_map(of_role);
        indexes.map(|index| self.shared.status(&state, index)).collect()
    }

    fn load<'a>(&'a self, model: &'a str, keep_alive: Option<KeepAlive>) -> BoxFuture<'a, chat::Result<()>> {
        async move {
            let lease = self.hold(model, None, None).await?;
            if let Some(keep) = keep_alive {
                self.shared.lock().seats.set_keep(lease.index, keep);
            }
            Ok(())
        }
        .boxed()
    }

    fn unload<'a>(&'a self, model: &'a str) -> BoxFuture<'a, chat::Result<()>> {
        async move {
            let shared = &self.shared;
            let index = shared.find(model, None)?;
            shared.lock().seats.leave(index);
            loop {
                let changed = shared.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                let letting_go = Arc::clone(shared);
                // Waits for the model's thread.
                let gone = tokio::task::spawn_blocking(move || letting_go.let_go_of_due()).await;
                gone.map_err(|_| chat::Error::Interrupted { reason: "letting go of a model panicked".to_owned() })?;
                if !shared.lock().seats.of(index).leaves {
                    return Ok(());
                }
                changed.await;
            }
        }
        .boxed()
    }
}
