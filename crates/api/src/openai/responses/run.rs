//! A generation from its start to the stored end: in front of a caller, or in the background.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::body::Bytes;
use base::RequestId;
use chat::{Caller, Error, EventStream, GenerateRequest};
use futures::{Stream, StreamExt as _, stream};
use tokio::sync::{Notify, watch};

use super::builder::Builder;
use super::shelf::{self, Record};
use super::types::Status;
use crate::App;
use crate::auth::carried;
use crate::openai::Failure;

/// Responses that run in the background at once.
const BACKGROUND_MAX: usize = 256;

/// A response on its way.
pub(super) struct Run {
    pub(super) app: Arc<App>,
    pub(super) caller: Option<Caller>,
    pub(super) id: RequestId,
    pub(super) builder: Builder,
    /// What is stored with the response; `None` if it is not.
    pub(super) record: Option<Record>,
}

impl Run {
    /// The events of a stream. The last one is sent after the response was stored: whoever has seen it may refer to it.
    pub(super) fn streamed(mut self, events: EventStream) -> impl Stream<Item = Bytes> + Send + 'static {
        let begin = self.builder.begin();
        let rest = stream::unfold(Some((self, events)), |state| async move {
            let (mut run, mut events) = state?;
            match run.next(&mut events).await {
                Step::More(lines) => Some((lines, Some((run, events)))),
                Step::Last(line) => Some((vec![line], None)),
            }
        });
        stream::iter([begin]).chain(rest).flat_map(stream::iter)
    }

    /// Runs to the end, which the response then says; errors too.
    pub(super) async fn drain(&mut self, mut events: EventStream) {
        while let Step::More(_) = self.next(&mut events).await {}
    }

    async fn next(&mut self, events: &mut EventStream) -> Step {
        match events.next().await {
            Some(Ok(event)) if !self.builder.is_finished() => Step::More(self.builder.push(event)),
            None if self.builder.is_finished() => Step::Last(self.end().await),
            Some(Err(error)) => Step::Last(self.fail(&error)),
            Some(Ok(_)) => Step::Last(self.fail(&interrupted("an event follows the last one"))),
            None => Step::Last(self.fail(&interrupted("the stream of events ended without its last one"))),
        }
    }

    async fn end(&mut self) -> Bytes {
        let last = self.builder.end(self.app.clock.now_ms() / 1000);
        match self.keep().await {
            Ok(()) => last,
            Err(error) => {
                let (code, message) = Failure::of_store(&error, self.id).words();
                self.builder.fail(code, message)
            }
        }
    }

    pub(super) fn fail(&mut self, error: &Error) -> Bytes {
        let (code, message) = Failure::of(error, self.id).words();
        self.builder.fail(code, message)
    }

    /// Stores the response as it is now.
    pub(super) async fn keep(&self) -> store::Result<()> {
        let Some(record) = &self.record else { return Ok(()) };
        let record = Record { response: self.builder.response.clone(), ..record.clone() };
        shelf::put(&*self.app.objects, self.caller.as_ref(), &record).await
    }
}

enum Step {
    More(Vec<Bytes>),
    Last(Bytes),
}

fn interrupted(reason: &str) -> Error {
    Error::Interrupted { reason: reason.to_owned() }
}

/// What runs in the background, by the id of the response.
#[derive(Default)]
pub(crate) struct Background {
    running: Mutex<HashMap<String, Arc<Handle>>>,
}

#[derive(Default)]
struct Handle {
    cancel: Notify,
    done: watch::Sender<bool>,
}

impl Background {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<Handle>>> {
        // The map is whole between any two statements that hold the lock.
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the response is still being made by this process.
    pub(super) fn has(&self, id: &str) -> bool {
        self.lock().contains_key(id)
    }

    /// Starts a run, which was stored before.
    ///
    /// # Errors
    /// [`Error::Overloaded`] if too many are running.
    pub(super) fn start(&self, mut run: Run, request: GenerateRequest) -> Result<(), Error> {
        let (id, handle) = (run.builder.response.id.clone(), Arc::new(Handle::default()));
        {
            let mut running = self.lock();
            if running.len() >= BACKGROUND_MAX {
                return Err(Error::Overloaded { waiting: running.len(), limit: BACKGROUND_MAX });
            }
            running.insert(id.clone(), Arc::clone(&handle));
        }
        // It ends by itself, is cancelled through its handle, or dies with the process.
        tokio::spawn(carried(async move {
            let cancelled = tokio::select! {
                biased;
                () = handle.cancel.notified() => true,
                () = generate(&mut run, request) => false,
            };
            if cancelled {
                run.builder.cancel();
            }
            if (cancelled || run.builder.response.status == Status::Failed)
                && let Err(error) = run.keep().await
            {
                tracing::error!(request.id = %run.id, error = crate::error::chain(&error), "a response was not stored");
            }
            run.app.background.lock().remove(&id);
            handle.done.send_replace(true);
        }));
        Ok(())
    }

    /// Cancels a run and waits until that is stored. Nothing happens if it does not run.
    pub(super) async fn cancel(&self, id: &str) {
        let handle = self.lock().get(id).cloned();
        if let Some(handle) = handle {
            handle.cancel.notify_one();
            // The sender lives in the handle that we hold.
            let _ = handle.done.subscribe().wait_for(|done| *done).await;
        }
    }
}

async fn generate(run: &mut Run, request: GenerateRequest) {
    run.builder.response.status = Status::InProgress;
    let app = Arc::clone(&run.app);
    match app.generate.generate(request).await {
        Ok(events) => run.drain(events).await,
        Err(error) => drop(run.fail(&error)),
    }
}
