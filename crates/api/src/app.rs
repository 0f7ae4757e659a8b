//! What every handler has at hand, and the routes of all dialects together.

mod shared;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::DefaultBodyLimit;
use base::{Clock, Entropy, RequestId, Rng, SeededEntropy};
use chat::{Caller, Embed, Generate, Manage, ModelCard};
use hub::Depot;
use meta::Directory;
use oidc::Provider;
use store::Store;

use crate::accounting::Books;
use crate::admin::Custody;
use crate::auth::OnBehalf;
use crate::batch::{Desk, Dialect, Lines, Record};
use crate::buckets::{self, Buckets};
use crate::kept::MayKeep;
use crate::lending::Mover;
use crate::observe::{Listener, Observed, Observer};
use crate::pulls::Pulls;
use crate::{
    Routing, Shelf, accounting, admin, anthropic, auth, cohere, console, dashscope, guard, health, lending, limited,
    observe, ollama, openai, ossvectors, planner, pulls, residents, routing, s3vectors, shelf,
};

/// Bytes of a request body. Pictures come inside JSON, so it is generous.
const BODY_BYTES_MAX: usize = 64 << 20;

/// What handlers share.
pub struct App {
    /// Who answers.
    pub generate: Arc<dyn Generate>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Who may come in; `None`: everybody on this machine.
    pub(crate) directory: Option<Directory>,
    /// Where else people sign in to the console.
    pub(crate) sign_in: Option<Arc<Provider>>,
    /// The address that people know this server by.
    pub(crate) public_url: Option<String>,
    /// Who embeds and ranks, if anybody does.
    pub(crate) embed: Option<Arc<dyn Embed>>,
    /// What was used and what it cost, if anybody counts.
    pub(crate) books: Option<Arc<Books>>,
    /// Sealed secrets and settings of residency, if they are kept.
    pub(crate) custody: Option<Custody>,
    /// Vector buckets, if there are any.
    pub(crate) buckets: Option<Arc<Buckets>>,
    /// Who loads and unloads models, if anybody does.
    pub(crate) manage: Option<Arc<dyn Manage>>,
    /// The models that lie on this machine, where somebody may look at them.
    pub(crate) shelf: Option<Shelf>,
    /// The models that were pulled, where other machines may have them.
    pub(crate) depot: Option<Depot>,
    /// What the mover needs, where models may be sent by it.
    pub(crate) mover: Option<Mover>,
    /// Whoever fetches models from hubs, if anybody does.
    pub(crate) pulls: Option<Arc<dyn Pulls>>,
    /// Whoever routes requests among pools, if anybody does.
    pub(crate) routing: Option<Routing>,
    /// Where the API keeps what outlives a request.
    pub(crate) objects: Arc<dyn Store>,
    /// Whose data may be kept there; `None`: everybody's.
    may_keep: Option<MayKeep>,
    /// What is measured.
    pub(crate) observer: Arc<Observer>,
    /// Batches that are not over.
    pub(crate) desk: Arc<Desk>,
    /// Responses that nobody waits for.
    pub(crate) background: openai::Background,
    /// What nobody may guess.
    entropy: Arc<dyn Entropy>,
    ids: Mutex<Rng>,
    seed: u64,
    ready: AtomicBool,
}

impl App {
    /// An app that is ready to serve. `seed` makes request ids; it must differ between processes. Secrets come from it
    /// as well, which is for tests only: see [`Self::with_entropy`].
    #[must_use]
    pub fn new(generate: Arc<dyn Generate>, clock: Arc<dyn Clock>, seed: u64) -> Self {
        let objects: Arc<dyn Store> = Arc::new(store::Memory::new());
        let desk = Arc::new(Desk::new(Arc::clone(&objects), Arc::clone(&clock), seed));
        let observer = Observer::new(Arc::clone(&clock));
        Self {
            generate: Arc::new(OnBehalf(Arc::new(Observed { inner: generate, observer: Arc::clone(&observer) }))),
            observer,
            clock,
            directory: None,
            sign_in: None,
            public_url: None,
            embed: None,
            books: None,
            custody: None,
            buckets: None,
            manage: None,
            shelf: None,
            depot: None,
            mover: None,
            pulls: None,
            objects,
            may_keep: None,
            desk,
            routing: None,
            background: openai::Background::default(),
            entropy: Arc::new(SeededEntropy::new(seed)),
            ids: Mutex::new(Rng::seeded(seed)),
            seed,
            ready: AtomicBool::new(true),
        }
    }

    /// The same with somebody who loads and unloads models.
    #[must_use]
    pub fn with_manage(self, manage: Arc<dyn Manage>) -> Self {
        Self { manage: Some(Arc::new(OnBehalf(manage))), ..self }
    }

    /// The same with somebody who is told of every generation that is over.
    #[must_use]
    pub fn with_listener(self, listener: Listener) -> Self {
        self.observer.tell(listener);
        self
    }

    /// The same with secrets that nobody can guess.
    #[must_use]
    pub fn with_entropy(self, entropy: Arc<dyn Entropy>) -> Self {
        Self { entropy, ..self }
    }

    /// The same with a look at the files of models.
    #[must_use]
    pub fn with_shelf(self, shelf: Shelf) -> Self {
        Self { shelf: Some(shelf), ..self }
    }

    /// The same with the models that were pulled, for other machines.
    #[must_use]
    pub fn with_depot(self, depot: Depot) -> Self {
        Self { depot: Some(depot), ..self }
    }

    /// The same with the mover, which sends those models to machines that ask for it.
    #[must_use]
    pub fn with_mover(self, machine: fabric::Machine) -> Self {
        Self { mover: Some(Mover::new(machine)), ..self }
    }

    /// The same with somebody who fetches models from hubs.
    #[must_use]
    pub fn with_pulls(self, pulls: Arc<dyn Pulls>) -> Self {
        Self { pulls: Some(pulls), ..self }
    }

    /// The same with a look at whoever routes requests.
    #[must_use]
    pub fn with_routing(self, routing: Routing) -> Self {
        Self { routing: Some(routing), ..self }
    }

    /// The same with a store for what outlives a request: stored responses, files and batches. Without one they are
    /// kept in memory.
    #[must_use]
    pub fn with_objects(self, objects: Arc<dyn Store>) -> Self {
        let desk = Arc::new(Desk::new(Arc::clone(&objects), Arc::clone(&self.clock), self.seed));
        Self { objects, desk, ..self }
    }

    /// The same for callers whose data may not be kept everywhere.
    #[must_use]
    pub fn with_may_keep(self, may_keep: MayKeep) -> Self {
        Self { may_keep: Some(may_keep), ..self }
    }

    /// Whether something of a caller's, made by a model if by any, may be kept on this machine.
    ///
    /// # Errors
    /// [`chat::Error::NotKept`] says what and why not.
    pub(crate) fn may_keep(&self, what: &str, caller: Option<&Caller>, model: Option<&str>) -> chat::Result<()> {
        let Some(may_keep) = &self.may_keep else { return Ok(()) };
        let refused = |reason| chat::Error::NotKept { what: what.to_owned(), reason };
        may_keep(caller, model.unwrap_or_default()).map_err(refused)
    }

    /// Takes up the batches that an earlier process left; says how many there were. Once, before the first request.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn resume_batches(self: &Arc<Self>) -> store::Result<usize> {
        let lines = |record: &Record| -> Arc<dyn Lines> {
            match record.dialect {
                Dialect::OpenAi => Arc::new(openai::OpenAiLines::of(self)),
                Dialect::Anthropic => Arc::new(anthropic::AnthropicLines::of(self)),
            }
        };
        self.desk.resume(lines).await
    }

    /// The same with somebody who embeds texts and ranks documents.
    #[must_use]
    pub fn with_embed(self, embed: Arc<dyn Embed>) -> Self {
        Self { embed: Some(Arc::new(OnBehalf(embed))), ..self }
    }

    /// The same with accounts: whoever has no key of this directory is not let in.
    #[must_use]
    pub fn with_accounts(self, directory: Directory) -> Self {
        Self { directory: Some(directory), ..self }
    }

    /// The same for people who know this server by this address: `https://…` marks cookies, so that no browser sends
    /// them in the clear.
    #[must_use]
    pub fn with_public_url(self, url: String) -> Self {
        Self { public_url: Some(url), ..self }
    }

    /// The same with a provider where members sign in to the console.
    #[must_use]
    pub fn with_sign_in(self, provider: Provider) -> Self {
        Self { sign_in: Some(Arc::new(provider)), ..self }
    }

    /// The same with books to look at. Whoever charges requests stands around the models that were handed in.
    #[must_use]
    pub fn with_books(self, books: Books) -> Self {
        Self { books: Some(Arc::new(books)), ..self }
    }

    /// The same with what is kept for whoever runs the place.
    #[must_use]
    pub fn with_custody(self, custody: Custody) -> Self {
        Self { custody: Some(custody), ..self }
    }

    /// The same with vector buckets.
    #[must_use]
    pub fn with_buckets(self, buckets: Buckets) -> Self {
        Self { buckets: Some(Arc::new(buckets)), ..self }
    }

    /// Counts what vector buckets keep in this hour, for whoever pays for them.
    ///
    /// # Errors
    /// If the store cannot be read; what was counted until then counts.
    pub async fn count_kept(&self) -> vectors::Result<()> {
        match &self.buckets {
            Some(buckets) => buckets.count_kept().await,
            None => Ok(()),
        }
    }

    /// Says on `/readyz` that no new requests should be sent here; running ones go on.
    pub fn begin_shutdown(&self) {
        self.ready.store(false, Ordering::SeqCst);
        self.desk.stop();
    }

    /// Every model that a request may name, those that generate first.
    pub(crate) fn models(&self) -> Vec<ModelCard> {
        let mut cards = self.generate.models();
        if let Some(embed) = &self.embed {
            cards.extend(embed.embedding_models());
            cards.extend(embed.reranking_models());
        }
        cards
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.ready.load(Ordering::SeqCst)
    }

    /// What nobody may guess comes from here.
    pub(crate) fn entropy(&self) -> &dyn Entropy {
        &*self.entropy
    }

    /// 128 bits that nobody guesses, in hexadecimal.
    pub(crate) fn secret_digits(&self) -> String {
        let mut bytes = [0; 16];
        self.entropy.fill(&mut bytes);
        format!("{:032x}", u128::from_be_bytes(bytes))
    }

    pub(crate) fn request_id(&self) -> RequestId {
        // A poisoned lock means that a thread panicked between two draws; the generator is still good.
        RequestId::random(&mut self.ids.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// All routes.
pub fn router(app: Arc<App>) -> Router {
    Router::new()
        .merge(openai::routes())
        .merge(openai::infill_routes())
        .merge(anthropic::routes())
        .merge(ollama::routes())
        .merge(cohere::routes())
        .merge(dashscope::routes())
        .merge(s3vectors::routes(&app))
        .merge(shared::routes())
        // Where clients of Alibaba Cloud's Model Studio find the two dialects; they change the host only.
        .nest("/compatible-mode", openai::routes().merge(openai::own_routes()))
        .nest("/apps/anthropic", anthropic::routes().merge(anthropic::own_routes()))
        .merge(health::routes())
        .merge(observe::routes())
        .merge(console::routes())
        .merge(residents::routes())
        .merge(shelf::routes())
        .merge(pulls::routes())
        .merge(lending::routes())
        .merge(planner::routes())
        .merge(routing::routes())
        .merge(accounting::routes())
        .merge(buckets::counts::routes())
        .merge(admin::routes())
        .merge(auth::session::routes())
        .merge(auth::elsewhere::routes())
        .fallback(error::no_such_route)
        .method_not_allowed_fallback(error::method_not_allowed)
        .layer(axum::middleware::from_fn_with_state(Arc::clone(&app), auth::gate))
        .layer(axum::middleware::from_fn_with_state(Arc::clone(&app), limited::tell))
        .layer(axum::middleware::from_fn_with_state(Arc::clone(&app), observe::watch))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(axum::middleware::from_fn_with_state(Arc::clone(&app), ossvectors::taken))
        .layer(axum::middleware::from_fn_with_state(Arc::clone(&app), guard::only_local_names))
        .with_state(app)
}

pub(crate) use error::wrong_method;

/// What is not there, in the dialect that was spoken.
mod error {
    use std::sync::Arc;

    use axum::extract::State;
    use axum::http::{HeaderMap, Method, Uri};
    use axum::response::Response;

    use crate::{App, anthropic, dashscope, ollama, openai};

    pub(super) async fn no_such_route(
        State(app): State<Arc<App>>,
        method: Method,
        uri: Uri,
        headers: HeaderMap,
    ) -> Response {
        match is_anthropic(uri.path(), &headers) {
            true => anthropic::Failure::no_such_route(&method, uri.path()).response(app.request_id()),
            false if uri.path().starts_with("/api/v1/services/") => {
                dashscope::Failure::no_such_route(&method, uri.path()).response(app.request_id())
            }
            false if uri.path().starts_with("/api/") => {
                ollama::Failure::no_such_route(&method, uri.path()).into_response()
            }
            false => openai::Failure::no_such_route(&method, uri.path()).into_response_without_id(),
        }
    }

    pub(super) async fn method_not_allowed(
        State(app): State<Arc<App>>,
        method: Method,
        uri: Uri,
        headers: HeaderMap,
    ) -> Response {
        wrong_method(&app, &method, &uri, &headers)
    }

    /// A method that a path does not have.
    pub(crate) fn wrong_method(app: &App, method: &Method, uri: &Uri, headers: &HeaderMap) -> Response {
        match is_anthropic(uri.path(), headers) {
            true => anthropic::Failure::wrong_method(method, uri.path()).response(app.request_id()),
            false if uri.path().starts_with("/api/v1/services/") => {
                dashscope::Failure::wrong_method(method, uri.path()).response(app.request_id())
            }
            false if uri.path().starts_with("/api/") => {
                ollama::Failure::wrong_method(method, uri.path()).into_response()
            }
            false => openai::Failure::wrong_method(method, uri.path()).into_response_without_id(),
        }
    }

    fn is_anthropic(path: &str, headers: &HeaderMap) -> bool {
        headers.contains_key(anthropic::VERSION_HEADER)
            || path.starts_with("/v1/messages")
            || path.starts_with("/apps/anthropic/")
    }
}
