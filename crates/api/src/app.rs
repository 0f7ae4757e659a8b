//! What every handler has at hand, and the routes of all dialects together.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::DefaultBodyLimit;
use base::{Clock, RequestId, Rng};
use chat::Generate;

use crate::{guard, health, openai};

/// Bytes of a request body. Pictures come inside JSON, so it is generous.
const BODY_BYTES_MAX: usize = 64 << 20;

/// What handlers share.
pub struct App {
    /// Who answers.
    pub generate: Arc<dyn Generate>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    ids: Mutex<Rng>,
    ready: AtomicBool,
}

impl App {
    /// An app that is ready to serve. `seed` makes request ids; it must differ between processes.
    #[must_use]
    pub fn new(generate: Arc<dyn Generate>, clock: Arc<dyn Clock>, seed: u64) -> Self {
        Self { generate, clock, ids: Mutex::new(Rng::seeded(seed)), ready: AtomicBool::new(true) }
    }

    /// Says on `/readyz` that no new requests should be sent here; running ones go on.
    pub fn begin_shutdown(&self) {
        self.ready.store(false, Ordering::SeqCst);
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.ready.load(Ordering::SeqCst)
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
        .merge(health::routes())
        .fallback(error::no_such_route)
        .method_not_allowed_fallback(error::wrong_method)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(axum::middleware::from_fn(guard::only_local_names))
        .with_state(app)
}

mod error {
    use axum::http::{Method, Uri};
    use axum::response::Response;

    use crate::openai::Failure;

    pub(super) async fn no_such_route(method: Method, uri: Uri) -> Response {
        Failure::no_such_route(&method, uri.path()).into_response_without_id()
    }

    pub(super) async fn wrong_method(method: Method, uri: Uri) -> Response {
        Failure::wrong_method(&method, uri.path()).into_response_without_id()
    }
}
