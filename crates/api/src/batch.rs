//! Batches: many requests in one file, answered when nobody else wants the machine, whichever dialect they came in.
//!
//! ```text
//! open-batches/<id>                   whose it is, as long as it is not over: what a new process takes up again
//! batches/<owner>/<id>                the record, replaced as a whole at every change of its state
//! batch-log/<owner>/<id>/<run>.<n>    lines with their answers, as they came; gone when the batch is over
//! ```
//! Every line that was accepted is answered exactly once: an answer counts when it is in the log, which is durable;
//! a process that takes a batch up reads the log and asks for the other lines; and the output is written from the log
//! with the first answer of every line. A run that dies anywhere is begun again from what is durable, so a failure of
//! the store is a restart of the run and no case of its own. One process at a time works on the batches of a store.
//!
//! [`Desk`] holds what is open and whose turn it is, `run` brings one batch from its first line to its files.

mod desk;
mod log;
mod run;

use std::sync::Arc;

use axum::response::Response;
use base::RequestId;
use chat::{Caller, Priority};
use futures::future::BoxFuture;
use meta::{Principal, Role, Scopes};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use store::Name;

use crate::auth::principal;
use crate::kept;

pub(crate) use desk::Desk;

/// Lines of a batch. OpenAI documents 50,000, Anthropic 100,000.
pub(crate) const LINES_MAX: u64 = 100_000;
/// Bytes of a line.
pub(crate) const LINE_BYTES_MAX: usize = 16 << 20;
/// Bytes of one answer; a longer one is a failure of its line.
pub(crate) const ANSWER_BYTES_MAX: usize = 16 << 20;
/// Bytes of a custom id.
pub(crate) const CUSTOM_ID_BYTES_MAX: usize = 512;
/// Batches that are not over, of all owners together; more are refused.
const OPEN_MAX: usize = 1000;
/// Bytes of all that a batch answers.
const OUTPUT_BYTES_MAX: u64 = 64 << 30;
/// How long output is kept, and the record of a batch.
pub(crate) const KEPT_MS: u64 = 30 * 24 * 3600 * 1000;
/// Bytes of a record: it holds labels of the caller and some faults.
const RECORD_BYTES_MAX: u64 = 1 << 20;

/// Whose words a batch is in.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Dialect {
    OpenAi,
    Anthropic,
}

/// What is happening with a batch.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Status {
    Validating,
    InProgress,
    Cancelling,
    Finalizing,
    Completed,
    Failed,
    Expired,
    Cancelled,
}

impl Status {
    pub(crate) fn is_over(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Expired | Self::Cancelled)
    }
}

/// Why no more lines are answered.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Ending {
    /// All are.
    Completed,
    /// Its time is over.
    Expired,
    /// The caller wants none.
    Cancelled,
}

/// How many lines there are of each kind.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) struct Counts {
    pub(crate) total: u64,
    /// Answered as they asked.
    pub(crate) succeeded: u64,
    /// Answered with an error.
    pub(crate) errored: u64,
    /// Given up, because the batch expired or was cancelled.
    pub(crate) unanswered: u64,
}

/// What is wrong with the input.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) code: String,
    pub(crate) message: String,
    pub(crate) param: Option<String>,
    pub(crate) line: Option<u64>,
}

/// Who made a batch; its lines are asked on his behalf.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    project: String,
    key: String,
    grants: Option<Grants>,
}

/// What the key was good for when the batch was made; a batch keeps it to its end.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
struct Grants {
    organisation: String,
    role: String,
    scopes: Scopes,
}

impl Owner {
    /// Whoever this task works for, as the caller of a new batch.
    fn of(caller: &Caller) -> Self {
        let grants = principal().map(|principal| Grants {
            organisation: principal.organisation.to_string(),
            role: principal.role.name().to_owned(),
            scopes: principal.scopes.clone(),
        });
        Self { project: caller.project.to_string(), key: caller.key.to_string(), grants }
    }

    fn principal(&self) -> Option<Arc<Principal>> {
        let grants = self.grants.as_ref()?;
        Some(Arc::new(Principal {
            key: self.key.as_str().into(),
            project: self.project.as_str().into(),
            organisation: grants.organisation.as_str().into(),
            role: Role::parse(&grants.role).ok()?,
            scopes: grants.scopes.clone(),
            // Lines ask models, which is the same in every organisation.
            runs_place: false,
            expires_ms: None,
        }))
    }
}

/// All that is known of a batch.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) id: String,
    pub(crate) dialect: Dialect,
    pub(crate) owner: Option<Owner>,
    /// What each line is sent to.
    pub(crate) endpoint: String,
    /// The file of the lines.
    pub(crate) input: String,
    pub(crate) window: String,
    /// The caller's labels.
    pub(crate) metadata: Option<Map<String, Value>>,
    pub(crate) status: Status,
    pub(crate) ending: Option<Ending>,
    pub(crate) counts: Counts,
    pub(crate) faults: Vec<Fault>,
    /// The files of answers and of failures.
    pub(crate) output: Option<String>,
    pub(crate) errors: Option<String>,
    pub(crate) created_at_ms: u64,
    pub(crate) expires_at_ms: u64,
    pub(crate) in_progress_at_ms: Option<u64>,
    pub(crate) cancelling_at_ms: Option<u64>,
    pub(crate) finalizing_at_ms: Option<u64>,
    pub(crate) over_at_ms: Option<u64>,
}

/// What a caller asks for.
pub(crate) struct Wanted {
    pub(crate) id: String,
    pub(crate) dialect: Dialect,
    pub(crate) endpoint: String,
    pub(crate) input: String,
    pub(crate) window: String,
    pub(crate) window_ms: u64,
    pub(crate) metadata: Option<Map<String, Value>>,
}

impl Record {
    pub(crate) fn new(wanted: Wanted, owner: Option<&Caller>, now_ms: u64) -> Self {
        let Wanted { id, dialect, endpoint, input, window, window_ms, metadata } = wanted;
        let owner = owner.map(Owner::of);
        Self {
            id,
            dialect,
            owner,
            endpoint,
            input,
            window,
            metadata,
            status: Status::Validating,
            ending: None,
            counts: Counts::default(),
            faults: Vec::new(),
            output: None,
            errors: None,
            created_at_ms: now_ms,
            expires_at_ms: now_ms + window_ms,
            in_progress_at_ms: None,
            cancelling_at_ms: None,
            finalizing_at_ms: None,
            over_at_ms: None,
        }
    }

    /// On whose behalf the lines are asked: behind everybody who waits for an answer.
    pub(crate) fn caller(&self) -> Caller {
        let text = |text: Option<&str>| Arc::from(text.unwrap_or("-"));
        let owner = self.owner.as_ref();
        Caller {
            project: text(owner.map(|owner| owner.project.as_str())),
            key: text(owner.map(|owner| owner.key.as_str())),
            priority: Priority::Background,
        }
    }

    /// For whom the lines are asked, where there are accounts.
    fn principal(&self) -> Option<Arc<Principal>> {
        self.owner.as_ref().and_then(Owner::principal)
    }

    fn owner_caller(&self) -> Option<Caller> {
        self.owner.is_some().then(|| self.caller())
    }

    fn name(&self) -> store::Result<Name> {
        kept::folder("batches", self.owner_caller().as_ref()).join(&self.id)
    }

    fn log_folder(&self) -> store::Result<Name> {
        kept::folder("batch-log", self.owner_caller().as_ref()).join(&self.id)
    }

    fn marker(&self) -> store::Result<Name> {
        Name::parse("open-batches")?.join(&self.id)
    }
}

/// What came of a line.
pub(crate) enum Reply {
    /// Its line of the output, and whether it went well.
    Done { is_success: bool, line: String },
    /// The same request may succeed a little later.
    Later,
}

/// Status and text of an answer; `None` if it is longer than allowed.
pub(crate) async fn text_of(response: Response) -> Option<(u16, String)> {
    let status = response.status().as_u16();
    let bytes = axum::body::to_bytes(response.into_body(), ANSWER_BYTES_MAX).await.ok()?;
    Some((status, String::from_utf8(bytes.into()).ok()?))
}

/// How a dialect reads lines and writes answers.
pub(crate) trait Lines: Send + Sync {
    /// The custom id of a line, unless something is wrong with it. The fault's line number is filled in by the caller.
    fn check(&self, record: &Record, line: &[u8]) -> Result<String, Fault>;

    /// Asks for the answer to a line that was checked.
    fn answer<'a>(&'a self, record: &'a Record, line: &'a [u8]) -> BoxFuture<'a, Reply>;

    /// The output for a line that was given up.
    fn unanswered(&self, record: &Record, custom_id: &str, ending: Ending, id: RequestId) -> String;

    /// Whether failures are a file of their own.
    fn splits_errors(&self) -> bool;

    /// Whether the input was made for the batch, and goes with it.
    fn owns_input(&self) -> bool;

    /// What an output file is for, in the words of the dialect.
    fn output_purpose(&self) -> &'static str;
}

#[cfg(test)]
mod tests;
