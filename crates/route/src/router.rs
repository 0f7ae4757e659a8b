//! All pools as one [`Generate`].
//!
//! A request is tried until somebody begins to answer; from the first byte on it stays where it is. What is tried again
//! is limited for each request and for all of them together.

mod attempt;
mod status;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use base::{Clock, RequestId, Rng};
use chat::{EventStream, Generate, GenerateRequest, ModelCard, Prompt, Role};
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, StreamExt as _};
use serde_json::Value;
use tokio::task::AbortHandle;

use crate::decide::{Ask, Choice, Decision, Fleet, Question, decide, mixed};
use crate::policy::OUTPUT_TOKENS_GUESS;
use crate::state::RetryBudget;
use crate::upstream::{bytes, estimate};
use crate::{Bound, Error, Fault, Policy, PoolState, Residency, Result, Secret, Upstream};
use attempt::{Failure, How, Running};

/// Decisions that are kept for whoever wants to see them.
const RECENT_MAX: usize = 50;
/// How long the check of a pool's health may take.
const CHECK_LIMIT: Duration = Duration::from_secs(5);
/// Bytes of a text that say where its prompt belongs.
const PREFIX_BYTES_MAX: usize = 4_096;

/// Finds the secret of a name, or says why there is none.
pub type Secrets<'a> = &'a dyn Fn(&str) -> std::result::Result<String, String>;

/// All pools behind one door.
pub struct Router {
    shared: Arc<Shared>,
    checks: Vec<AbortHandle>,
}

/// Who answers for a pool.
enum Member {
    Local(Arc<dyn Generate>),
    Upstream(Box<Upstream>),
}

struct Shared {
    /// As it was configured.
    configured: Policy,
    /// With the models that this machine serves now.
    policy: RwLock<Arc<Policy>>,
    members: Vec<Member>,
    states: Mutex<Vec<PoolState>>,
    budget: Mutex<RetryBudget>,
    draws: Mutex<Rng>,
    residency: RwLock<Arc<Residency>>,
    recent: Mutex<VecDeque<(u64, RequestId, Arc<Decision>)>>,
    clock: Arc<dyn Clock>,
}

/// A thread that panicked between two lines leaves figures that are still good.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Router {
    /// Starts the pools of a policy beside this machine's own models, and the checks of their health.
    ///
    /// # Errors
    /// [`Error::NoSecret`] or [`Error::Client`] if a pool cannot be set up.
    ///
    /// # Panics
    /// Outside of a tokio runtime, if a pool is to be checked.
    pub fn start(
        policy: Policy,
        local: &Arc<dyn Generate>,
        secrets: Secrets<'_>,
        clock: Arc<dyn Clock>,
        seed: u64,
    ) -> Result<Self> {
        let members = policy.pools.iter().map(|pool| {
            let Some(options) = &pool.upstream else { return Ok(Member::Local(Arc::clone(local))) };
            let secret = match &pool.secret {
                None => None,
                Some(name) => {
                    let missing = |reason| Error::NoSecret { pool: pool.name.clone(), name: name.clone(), reason };
                    Some(Secret::new(&secrets(name).map_err(missing)?)?)
                }
            };
            Ok(Member::Upstream(Box::new(Upstream::new(options.clone(), secret)?)))
        });
        let members = members.collect::<Result<Vec<_>>>()?;
        let completed = policy.clone().completed(&names(&**local));
        let shared = Arc::new(Shared {
            states: Mutex::new(vec![PoolState::default(); policy.pools.len()]),
            budget: Mutex::new(RetryBudget::new(policy.retry.budget_percent)),
            draws: Mutex::new(Rng::seeded(seed)),
            residency: RwLock::new(Arc::new(policy.residency.clone())),
            recent: Mutex::default(),
            policy: RwLock::new(Arc::new(completed)),
            configured: policy,
            members,
            clock,
        });
        let checks = (0..shared.members.len()).filter_map(|pool| check(&shared, pool)).collect();
        Ok(Self { shared, checks })
    }

    /// Replaces the settings of residency, from now on for every new request.
    pub fn set_residency(&self, residency: Residency) {
        *self.shared.residency.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(residency);
    }

    /// What would be decided for a request now, as JSON; `None` if nothing of this name is served. Nothing is sent.
    #[must_use]
    pub fn explain(&self, question: &Question<'_>) -> Option<Value> {
        let Question { model, caller, bucket, bytes } = *question;
        let policy = self.shared.policy_of(model)?;
        let residency = &*self.shared.residency();
        let bounds = residency.of(caller, bucket, model);
        let (prefix, draw) = (self.shared.draw(), self.shared.draw());
        let (prompt_tokens, output_tokens) = (OUTPUT_TOKENS_GUESS, OUTPUT_TOKENS_GUESS);
        let ask =
            Ask { model, bounds: &bounds, residency, prefix, draw, prompt_tokens, output_tokens, bytes, tried: &[] };
        let states = locked(&self.shared.states);
        let decision = decide(self.shared.clock.now_ms(), &ask, Fleet { policy: &policy, states: &states });
        Some(decision.explain(&policy))
    }

    /// The policy, the state of every pool and the last decisions, as JSON.
    #[must_use]
    pub fn status(&self) -> Value {
        status::status(&self.shared)
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        self.checks.iter().for_each(AbortHandle::abort);
    }
}

fn names(local: &dyn Generate) -> Vec<String> {
    local.models().into_iter().map(|card| card.id).collect()
}

/// The task that checks a pool, if it is to be checked.
fn check(shared: &Arc<Shared>, pool: usize) -> Option<AbortHandle> {
    let every = Duration::from_millis(shared.configured.pools[pool].check_every_ms?);
    // The router aborts the task; it must not keep what the router shares alive.
    let shared = Arc::downgrade(shared);
    let task = tokio::spawn(async move {
        let mut was_well = true;
        // Ends when the router is gone.
        while let Some(shared) = shared.upgrade() {
            if let Member::Upstream(upstream) = &shared.members[pool] {
                let outcome = upstream.check(CHECK_LIMIT.min(every)).await;
                // What goes on is not news: a pool that stays away would fill the log.
                match &outcome {
                    Err(fault) if was_well => {
                        tracing::warn!(pool = upstream.name(), error = %fault, "a pool's check failed");
                    }
                    Ok(()) if !was_well => tracing::info!(pool = upstream.name(), "a pool answers its checks again"),
                    _ => {}
                }
                was_well = outcome.is_ok();
                locked(&shared.states)[pool].checked(outcome.map_err(|fault| fault.to_string()));
            }
            drop(shared);
            tokio::time::sleep(every).await;
        }
    });
    Some(task.abort_handle())
}

impl Shared {
    /// The policy, if it has a route for this name. Models that this machine has learnt since are looked for once.
    fn policy_of(&self, model: &str) -> Option<Arc<Policy>> {
        let policy = self.policy();
        if policy.route(model).is_some() {
            return Some(policy);
        }
        let policy = self.refreshed();
        policy.route(model).is_some().then_some(policy)
    }

    fn policy(&self) -> Arc<Policy> {
        Arc::clone(&self.policy.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The policy with the models that this machine has now.
    fn refreshed(&self) -> Arc<Policy> {
        let mut local = Vec::new();
        for member in &self.members {
            if let Member::Local(generate) = member {
                local.extend(names(&**generate));
            }
        }
        let completed = Arc::new(self.configured.clone().completed(&local));
        *self.policy.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&completed);
        completed
    }

    fn residency(&self) -> Arc<Residency> {
        Arc::clone(&self.residency.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn draw(&self) -> u64 {
        locked(&self.draws).next_u64()
    }

    /// Decides, and takes the place of whoever was chosen.
    fn choose(&self, policy: &Policy, ask: &Ask<'_>) -> Decision {
        let now_ms = self.clock.now_ms();
        let mut states = locked(&self.states);
        let decision = decide(now_ms, ask, Fleet { policy, states: &states });
        if let Some(choice) = &decision.choice {
            let state = &mut states[choice.pool];
            state.running += 1;
            state.breaker.begin(now_ms);
            state.counts.sent += 1;
        }
        decision
    }

    fn remember(&self, id: RequestId, decision: Decision) {
        let mut recent = locked(&self.recent);
        if recent.len() >= RECENT_MAX {
            recent.pop_front();
        }
        recent.push_back((self.clock.now_ms(), id, Arc::new(decision)));
    }

    async fn generate(self: Arc<Self>, request: GenerateRequest) -> chat::Result<EventStream> {
        request.validate()?;
        let unknown = || chat::Error::UnknownModel { model: request.model.clone() };
        let policy = self.policy_of(&request.model).ok_or_else(unknown)?;
        locked(&self.budget).deposit();
        let residency = self.residency();
        let bounds = residency.of(request.caller.as_ref(), None, &request.model);
        let held = Held { bounds: &bounds, residency: &residency };
        let (shared, tried) = (&self, Vec::new());
        let mut search = Search { shared, policy: &policy, request: &request, held, tried };
        let mut running = FuturesUnordered::new();
        let mut last: Option<Failure> = None;
        let mut may_hedge = true;
        // Every round tries a target that was not tried, or ends.
        loop {
            if running.is_empty() {
                let first = search.tried.is_empty();
                if !first && !search.may_retry(last.as_ref()) {
                    return Err(last.map_or_else(unknown, Failure::error));
                }
                let how = if first { How::First } else { How::Retry };
                match search.next(how) {
                    Ok(attempt) => running.push(attempt),
                    // What went wrong says more than that nobody is left.
                    Err(refusal) => return Err(last.map_or(refusal, Failure::error)),
                }
            }
            let hedge_ms = policy.route(&request.model).and_then(|route| route.hedge_ms).filter(|_| may_hedge);
            tokio::select! {
                biased;
                Some(ended) = running.next() => match ended {
                    Ok(events) => return Ok(events),
                    Err(failure) if failure.may_be_retried() => last = Some(failure),
                    Err(failure) => return Err(failure.error()),
                },
                () = pause(hedge_ms) => {
                    may_hedge = false;
                    if locked(&self.budget).withdraw() && let Ok(attempt) = search.next(How::Hedge) {
                        running.push(attempt);
                    }
                }
            }
        }
    }

    async fn count(self: Arc<Self>, request: GenerateRequest) -> chat::Result<u32> {
        request.validate()?;
        let unknown = || chat::Error::UnknownModel { model: request.model.clone() };
        let policy = self.policy_of(&request.model).ok_or_else(unknown)?;
        let residency = self.residency();
        let bounds = residency.of(request.caller.as_ref(), None, &request.model);
        let held = Held { bounds: &bounds, residency: &residency };
        let mut tried = Vec::new();
        let mut last = None;
        // Every round looks at a target that was not looked at, or ends.
        loop {
            let ask = ask(&request, held, &tried, self.draw());
            let now_ms = self.clock.now_ms();
            let decision = decide(now_ms, &ask, Fleet { policy: &policy, states: &locked(&self.states) });
            let Some(choice) = decision.choice.clone() else {
                return Err(last.unwrap_or_else(|| refused(&decision)));
            };
            let there = GenerateRequest { model: choice.model.clone(), ..request.clone() };
            let counted = match &self.members[choice.pool] {
                Member::Local(generate) => generate.count_tokens(there).await,
                Member::Upstream(upstream) => upstream.count_tokens(there).await,
            };
            match counted {
                Ok(count) => return Ok(count),
                // Only of this one: another form may hold what this one cannot.
                Err(error) => last = Some(error),
            }
            tried.push((choice.pool, choice.model));
        }
    }
}

async fn pause(wait_ms: Option<u64>) {
    match wait_ms {
        Some(wait_ms) => tokio::time::sleep(Duration::from_millis(wait_ms)).await,
        None => std::future::pending().await,
    }
}

/// The search for somebody who answers.
struct Search<'a> {
    shared: &'a Arc<Shared>,
    policy: &'a Policy,
    request: &'a GenerateRequest,
    held: Held<'a>,
    tried: Vec<(usize, String)>,
}

impl Search<'_> {
    /// Whether the request may be tried again. What was refused before it was sent costs nobody anything.
    fn may_retry(&self, last: Option<&Failure>) -> bool {
        let was_sent = !matches!(last, Some(Failure::Fault(_, Fault::Unsupported { .. })));
        let tries = self.tried.len() as u32;
        !was_sent || (tries < self.policy.retry.tries_max && locked(&self.shared.budget).withdraw())
    }

    /// Asks the next one.
    fn next(&mut self, how: How) -> chat::Result<BoxFuture<'static, std::result::Result<EventStream, Failure>>> {
        let ask = ask(self.request, self.held, &self.tried, self.shared.draw());
        let decision = self.shared.choose(self.policy, &ask);
        let chosen = decision.choice.clone();
        let refusal = chosen.is_none().then(|| refused(&decision));
        self.shared.remember(self.request.id, decision);
        let Some(choice) = chosen else { return Err(refusal.expect("it was made where there is no choice")) };
        self.tried.push((choice.pool, choice.model.clone()));
        let running = Running::begin(Arc::clone(self.shared), choice.pool, how);
        let Choice { pool, model, .. } = choice;
        tracing::debug!(
            request.id = %self.request.id, model = self.request.model, pool = self.policy.pools[pool].name, "routed"
        );
        let there = GenerateRequest { model, ..self.request.clone() };
        Ok(attempt::attempt(running, there).boxed())
    }
}

fn refused(decision: &Decision) -> chat::Error {
    let (kind, reason) = decision.refusal();
    chat::Error::NoRoute { model: decision.asked.clone(), kind, reason }
}

/// The settings of residency that a request is held to, and all of them for the models it may come to.
#[derive(Clone, Copy)]
struct Held<'a> {
    bounds: &'a [Arc<Bound>],
    residency: &'a Residency,
}

fn ask<'a>(request: &'a GenerateRequest, held: Held<'a>, tried: &'a [(usize, String)], draw: u64) -> Ask<'a> {
    Ask {
        model: &request.model,
        bounds: held.bounds,
        residency: held.residency,
        prefix: prefix(request),
        draw,
        prompt_tokens: estimate(request),
        output_tokens: request.max_tokens.unwrap_or(OUTPUT_TOKENS_GUESS),
        bytes: bytes(request),
        tried,
    }
}

/// A digest of how a prompt begins: the project (caches are kept apart by it), the instructions and the first question,
/// so that all turns of a conversation have one, and conversations differ.
fn prefix(request: &GenerateRequest) -> u64 {
    let mut hash = 0;
    let mut add = |bytes: &[u8]| {
        for piece in bytes[..bytes.len().min(PREFIX_BYTES_MAX)].chunks(8) {
            let mut word = [0; 8];
            word[..piece.len()].copy_from_slice(piece);
            hash = mixed(hash, u64::from_le_bytes(word) | 1);
        }
        hash = mixed(hash, bytes.len() as u64);
    };
    add(request.caller.as_ref().map_or("", |caller| &caller.project).as_bytes());
    match &request.prompt {
        Prompt::Text(text) => add(text.as_bytes()),
        Prompt::Tokens(tokens) => tokens.iter().take(PREFIX_BYTES_MAX / 4).for_each(|token| add(&token.to_le_bytes())),
        Prompt::Messages(messages) => {
            let until = messages.iter().position(|message| message.role == Role::User).map_or(0, |first| first + 1);
            messages[..until].iter().for_each(|message| add(message.plain_text().as_bytes()));
        }
    }
    hash
}

impl Generate for Router {
    /// This machine's models, then those of the pools and the names of routes, each once.
    fn models(&self) -> Vec<ModelCard> {
        let policy = self.shared.refreshed();
        let mut cards: Vec<ModelCard> = Vec::new();
        for member in &self.shared.members {
            let new = match member {
                Member::Local(generate) => generate.models(),
                Member::Upstream(upstream) => upstream.models(),
            };
            for card in new {
                if !cards.iter().any(|known| known.id == card.id) {
                    cards.push(card);
                }
            }
        }
        for route in &policy.routes {
            if cards.iter().any(|card| card.id == route.model) {
                continue;
            }
            let targets = route.groups.iter().flat_map(|group| &group.targets);
            let known = |model: &str| cards.iter().find(|card| card.id == model);
            if let Some(card) = targets.filter_map(|target| known(&target.model)).next() {
                let id = route.model.clone();
                cards.push(ModelCard { id, ..card.clone() });
            }
        }
        cards
    }

    fn context_tokens(&self, model: &str) -> Option<u32> {
        let of_members = |name: &str| {
            self.shared.members.iter().find_map(|member| match member {
                Member::Local(generate) => generate.context_tokens(name),
                Member::Upstream(upstream) => upstream.context_tokens(name),
            })
        };
        of_members(model).or_else(|| {
            let policy = self.shared.policy_of(model)?;
            let targets = policy.route(model)?.groups.iter().flat_map(|group| &group.targets);
            targets.map(|target| of_members(&target.model)).find_map(|known| known)
        })
    }

    fn generate(&self, request: GenerateRequest) -> BoxFuture<'_, chat::Result<EventStream>> {
        Arc::clone(&self.shared).generate(request).boxed()
    }

    fn count_tokens(&self, request: GenerateRequest) -> BoxFuture<'_, chat::Result<u32>> {
        Arc::clone(&self.shared).count(request).boxed()
    }
}
