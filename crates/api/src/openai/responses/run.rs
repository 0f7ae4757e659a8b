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
    /// Why it failed, if it did.
    pub(super) failure: Option<Failure>,
    /// The server is told to end, and this with it.
    pub(super) is_stopped: bool,
}

impl Run {
    pub(super) fn new(app: &Arc<App>, caller: Option<Caller>, id: RequestId, builder: Builder) -> Self {
        Self { app: Arc::clone(app), caller, id, builder, record: None, failure: None, is_stopped: false }
    }

    /// The events of a stream. The last one is sent after the response was stored: whoever has seen it may refer to it.
    pub(super) fn streamed(mut self, events: EventStream) -> impl Stream<Item = Bytes> + Send + 'static {
        let begin = self.builder.begin();
        let rest = stream::unfold(Some((self, events)), |state| async move {
            let (mut run, mut events) = state?;
            match run.next(&mut events).await {
                Step::More(lines) => Some((lines, Some((run, events)))),
                Step::Whole => Some((vec![run.end().await], None)),
                Step::Failed(line) => Some((vec![line], None)),
            }
        });
        stream::iter([begin]).chain(rest).flat_map(stream::iter)
    }

    /// Runs to the end and stores it. The response then says how it ended; errors too.
    pub(super) async fn drain(&mut self, events: EventStream) {
        if self.play(events).await {
            self.end().await;
        }
    }

    /// Takes all events. Whether the answer is whole; it is not stored then, nor does the response say so yet.
    async fn play(&mut self, mut events: EventStream) -> bool {
        loop {
            match self.next(&mut events).await {
                Step::More(_) => {}
                Step::Whole => return true,
                Step::Failed(_) => return false,
            }
        }
    }

    async fn next(&mut self, events: &mut EventStream) -> Step {
        match events.next().await {
            Some(Ok(event)) if !self.builder.is_finished() => Step::More(self.builder.push(event)),
            None if self.builder.is_finished() => Step::Whole,
            Some(Err(error)) => Step::Failed(self.fail(&error)),
            Some(Ok(_)) => Step::Failed(self.fail(&interrupted("an event follows the last one"))),
            None => Step::Failed(self.fail(&interrupted("the stream of events ended without its last one"))),
        }
    }

    async fn end(&mut self) -> Bytes {
        let last = self.builder.end(self.app.clock.now_ms() / 1000);
        match self.keep().await {
            Ok(()) => last,
            Err(error) => {
                let failure = Failure::of_store(&error, self.id);
                self.failed(failure)
            }
        }
    }

    fn fail(&mut self, error: &Error) -> Bytes {
        self.is_stopped = matches!(error, Error::ShuttingDown);
        self.failed(Failure::of(error, self.id))
    }

    fn failed(&mut self, failure: Failure) -> Bytes {
        let (code, message) = failure.words();
        self.failure = Some(failure);
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
    /// The events are over, and the answer is whole.
    Whole,
    /// With the last line.
    Failed(Bytes),
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
            let is_whole = tokio::select! {
                biased;
                () = handle.cancel.notified() => None,
                is_whole = generate(&mut run, request) => Some(is_whole),
            };
            // It is decided here, once, what the response ends as; whoever cancels from now on is too late, and nothing
            // that is written is ever written over by another end.
            match is_whole {
                Some(true) => drop(run.end().await),
                Some(false) if !run.is_stopped => {}
                Some(false) | None => run.builder.cancel(),
            }
            if matches!(run.builder.response.status, Status::Failed | Status::Cancelled)
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

/// Whether the answer is whole.
async fn generate(run: &mut Run, request: GenerateRequest) -> bool {
    run.builder.response.status = Status::InProgress;
    let app = Arc::clone(&run.app);
    match app.generate.generate(request).await {
        Ok(events) => run.play(events).await,
        Err(error) => {
            run.fail(&error);
            false
        }
    }
}
