//! The lines of a batch in Anthropic's form.

use std::sync::Arc;

use axum::response::Response;
use base::RequestId;
use chat::Caller;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};
use serde_json::json;
use serde_json::value::RawValue;

use super::RESULTS;
use crate::anthropic::{Failure, handlers};
use crate::batch::{ANSWER_BYTES_MAX, Ending, Fault, Lines, Record, Reply};
use crate::{App, batch};

/// Asks the app on behalf of a batch.
pub(crate) struct AnthropicLines {
    app: Arc<App>,
}

#[derive(Deserialize)]
struct WireLine<'line> {
    custom_id: String,
    #[serde(borrow)]
    params: &'line RawValue,
}

#[derive(Serialize)]
struct WireResult<'a> {
    custom_id: &'a str,
    result: WireOutcome<'a>,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum WireOutcome<'a> {
    Succeeded { message: &'a RawValue },
    Errored { error: &'a RawValue },
}

impl AnthropicLines {
    pub(crate) fn of(app: &Arc<App>) -> Self {
        Self { app: Arc::clone(app) }
    }

    async fn asked(&self, id: RequestId, caller: Caller, params: &str) -> Result<Response, Failure> {
        if let Ok(Asks { model, stream }) = serde_json::from_str(params) {
            if stream {
                return Err(Failure::invalid("stream: not possible in a batch".to_owned()));
            }
            // A setting may be younger than the batch.
            let kept = self.app.may_keep("an answer", Some(&caller), model.as_deref());
            kept.map_err(|error| Failure::of(&error, id))?;
        }
        handlers::message(&self.app, id, Some(caller), params.as_bytes()).await
    }

    async fn reply(&self, record: &Record, line: &[u8]) -> Reply {
        let wire: WireLine<'_> = serde_json::from_slice(line).expect("the line was checked");
        let id = self.app.request_id();
        let answered = self.asked(id, record.caller(), wire.params.get()).await;
        let text = match answered {
            Ok(response) => batch::text_of(response).await.map(|(_, text)| text).ok_or_else(|| {
                Failure::invalid(format!("the answer has more than {ANSWER_BYTES_MAX} bytes")).body(Some(id))
            }),
            Err(failure) if failure.is_passing() => return Reply::Later,
            Err(failure) => Err(failure.body(Some(id))),
        };
        let raw = |text: String| RawValue::from_string(text).expect("answers and failures are JSON");
        let (is_success, text) = match text {
            Ok(text) => (true, raw(text)),
            Err(text) => (false, raw(text)),
        };
        let result = match is_success {
            true => WireOutcome::Succeeded { message: &text },
            false => WireOutcome::Errored { error: &text },
        };
        let line = serde_json::to_string(&WireResult { custom_id: &wire.custom_id, result });
        Reply::Done { is_success, line: line.expect("wire structs have string keys") }
    }
}

#[derive(Deserialize)]
struct Asks {
    #[serde(default)]
    model: Option<String>,
    #[serde(default)]
    stream: bool,
}

impl Lines for AnthropicLines {
    fn check(&self, _: &Record, line: &[u8]) -> Result<String, Fault> {
        let wire: WireLine<'_> = serde_json::from_slice(line).map_err(|why| {
            let message = format!("a stored request cannot be read: {why}");
            Fault { code: "invalid_request_error".to_owned(), message, param: None, line: None }
        })?;
        Ok(wire.custom_id)
    }

    fn answer<'a>(&'a self, record: &'a Record, line: &'a [u8]) -> BoxFuture<'a, Reply> {
        self.reply(record, line).boxed()
    }

    fn unanswered(&self, _: &Record, custom_id: &str, ending: Ending, _: RequestId) -> String {
        let kind = if ending == Ending::Cancelled { "canceled" } else { "expired" };
        json!({"custom_id": custom_id, "result": {"type": kind}}).to_string()
    }

    fn splits_errors(&self) -> bool {
        false
    }

    fn owns_input(&self) -> bool {
        true
    }

    fn output_purpose(&self) -> &'static str {
        RESULTS
    }
}
