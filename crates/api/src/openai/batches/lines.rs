//! The lines of a batch in OpenAI's form.

use std::sync::Arc;

use axum::response::Response;
use base::RequestId;
use chat::Caller;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};
use serde_json::json;
use serde_json::value::RawValue;

use crate::batch::{ANSWER_BYTES_MAX, CUSTOM_ID_BYTES_MAX, Ending, Fault, Lines, Record, Reply};
use crate::openai::files::BATCH_OUTPUT;
use crate::openai::{Failure, embeddings, handlers, responses};
use crate::{App, batch};

/// Asks the app on behalf of a batch.
pub(crate) struct OpenAiLines {
    app: Arc<App>,
}

#[derive(Deserialize)]
struct WireLine<'line> {
    custom_id: Option<String>,
    method: Option<String>,
    url: Option<String>,
    #[serde(borrow)]
    body: Option<&'line RawValue>,
}

/// Who answers a line, and what it cannot ask for.
#[derive(Deserialize)]
struct Waits {
    #[serde(default)]
    model: Option<String>,
    #[serde(default)]
    stream: Option<bool>,
    #[serde(default)]
    background: Option<bool>,
}

#[derive(Serialize)]
struct WireAnswer<'a> {
    id: String,
    custom_id: &'a str,
    response: WireResponse<'a>,
    error: Option<()>,
}

#[derive(Serialize)]
struct WireResponse<'a> {
    status_code: u16,
    request_id: String,
    body: &'a RawValue,
}

fn fault(code: &str, message: String, param: Option<&str>) -> Fault {
    Fault { code: code.to_owned(), message, param: param.map(str::to_owned), line: None }
}

fn missing(param: &str) -> Fault {
    fault("missing_required_parameter", format!("Missing required parameter: '{param}'."), Some(param))
}

impl OpenAiLines {
    pub(crate) fn of(app: &Arc<App>) -> Self {
        Self { app: Arc::clone(app) }
    }

    async fn asked(&self, id: RequestId, caller: Caller, endpoint: &str, body: &[u8]) -> Result<Response, Failure> {
        if let Ok(Waits { model, stream, background }) = serde_json::from_slice(body) {
            // A setting may be younger than the batch.
            let kept = self.app.may_keep("an answer", Some(&caller), model.as_deref());
            kept.map_err(|error| Failure::of(&error, id))?;
            for (param, asks) in [("stream", stream), ("background", background)] {
                if asks == Some(true) {
                    return Err(Failure::invalid(
                        format!("{param} is not possible in a batch"),
                        Some(param.to_owned()),
                    ));
                }
            }
        }
        let (app, caller) = (&self.app, Some(caller));
        match endpoint {
            "/v1/chat/completions" => handlers::chat(app, id, caller.as_ref(), body).await,
            "/v1/completions" => handlers::completion(app, id, caller.as_ref(), body).await,
            "/v1/embeddings" => embeddings::embedded(app, id, caller, body).await,
            "/v1/responses" => responses::respond(app, id, caller, body).await,
            other => Err(Failure::invalid(format!("no batch is sent to {other}"), None)),
        }
    }

    async fn reply(&self, record: &Record, line: &[u8]) -> Reply {
        let wire: WireLine<'_> = serde_json::from_slice(line).expect("the line was checked");
        let (custom_id, body) = (wire.custom_id.unwrap_or_default(), wire.body.map_or("null", RawValue::get));
        let id = self.app.request_id();
        let answered = self.asked(id, record.caller(), &record.endpoint, body.as_bytes()).await;
        let failure = match answered {
            Ok(response) => match batch::text_of(response).await {
                Some((status, text)) => return done(id, &custom_id, status, text),
                None => Failure::internal(format!("the answer has more than {ANSWER_BYTES_MAX} bytes")),
            },
            Err(failure) if failure.is_passing() => return Reply::Later,
            Err(failure) => failure,
        };
        done(id, &custom_id, failure.status(), failure.body())
    }
}

fn done(id: RequestId, custom_id: &str, status_code: u16, body: String) -> Reply {
    let body = RawValue::from_string(body).expect("answers and failures are JSON");
    let response = WireResponse { status_code, request_id: id.to_string(), body: &body };
    let answer = WireAnswer { id: format!("batch_req_{id}"), custom_id, response, error: None };
    let line = serde_json::to_string(&answer).expect("wire structs have string keys");
    Reply::Done { is_success: status_code < 400, line }
}

impl Lines for OpenAiLines {
    fn check(&self, record: &Record, line: &[u8]) -> Result<String, Fault> {
        let wire: WireLine<'_> = serde_json::from_slice(line)
            .map_err(|why| fault("invalid_json_line", format!("This line is no JSON request: {why}"), None))?;
        let custom_id = wire.custom_id.ok_or_else(|| missing("custom_id"))?;
        if custom_id.is_empty() || custom_id.len() > CUSTOM_ID_BYTES_MAX {
            let message = format!("custom_id has {} bytes, allowed: 1 to {CUSTOM_ID_BYTES_MAX}", custom_id.len());
            return Err(fault("invalid_custom_id", message, Some("custom_id")));
        }
        match wire.method.as_deref() {
            Some("POST") => {}
            None => return Err(missing("method")),
            Some(other) => {
                return Err(fault("invalid_method", format!("method is {other:?}, allowed: POST"), Some("method")));
            }
        }
        match wire.url {
            Some(url) if url == record.endpoint => {}
            None => return Err(missing("url")),
            Some(url) => {
                let message = format!("url is {url:?}, the endpoint of the batch is {:?}", record.endpoint);
                return Err(fault("mismatched_url", message, Some("url")));
            }
        }
        match wire.body {
            Some(body) if body.get().starts_with('{') => Ok(custom_id),
            Some(_) => Err(fault("invalid_body", "body is not a JSON object".to_owned(), Some("body"))),
            None => Err(missing("body")),
        }
    }

    fn answer<'a>(&'a self, record: &'a Record, line: &'a [u8]) -> BoxFuture<'a, Reply> {
        self.reply(record, line).boxed()
    }

    fn unanswered(&self, _: &Record, custom_id: &str, ending: Ending, id: RequestId) -> String {
        let (code, message) = match ending {
            Ending::Cancelled => ("batch_cancelled", "This request was not executed: the batch was cancelled."),
            Ending::Expired | Ending::Completed => {
                ("batch_expired", "This request could not be executed before the completion window expired.")
            }
        };
        let error = json!({"code": code, "message": message});
        json!({"id": format!("batch_req_{id}"), "custom_id": custom_id, "response": null, "error": error}).to_string()
    }

    fn splits_errors(&self) -> bool {
        true
    }

    fn owns_input(&self) -> bool {
        false
    }

    fn output_purpose(&self) -> &'static str {
        BATCH_OUTPUT
    }
}
