//! Routes: parse, ask whoever answers, write the wire form.

use std::sync::Arc;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::header::ACCEPT;
use axum::response::{IntoResponse as _, Response};
use base::RequestId;

use super::Failure;
use super::from_wire::{self, Call};
use super::to_wire::{self, GenerationStream};
use crate::fields::{Body, whole};
use crate::{App, answer, sse};

pub(super) async fn generation(headers: HeaderMap, State(app): State<Arc<App>>, body: Body) -> Response {
    let id = app.request_id();
    generated(&app, id, &headers, body, from_wire::generation).await.unwrap_or_else(|failure| failure.response(id))
}

pub(super) async fn multimodal(headers: HeaderMap, State(app): State<Arc<App>>, body: Body) -> Response {
    let id = app.request_id();
    generated(&app, id, &headers, body, from_wire::multimodal).await.unwrap_or_else(|failure| failure.response(id))
}

async fn generated(
    app: &App,
    id: RequestId,
    headers: &HeaderMap,
    body: Body,
    parse: fn(&[u8], RequestId) -> Result<Call, Failure>,
) -> Result<Response, Failure> {
    let failed = |error: chat::Error| Failure::of(&error, id);
    let call = parse(&whole(body)?, id)?;
    let streams = answer::start(&*app.generate, call.requests).await.map_err(failed)?;
    if wants_stream(headers) {
        let wire = GenerationStream::new(id, call.form, call.incremental, streams.len());
        return Ok(sse::response(answer::streamed(streams, wire), sse::COMMENT));
    }
    let answers = answer::collect(streams).await.map_err(failed)?;
    let body = to_wire::whole(id, call.form, answers);
    Ok(([("content-type", "application/json")], body).into_response())
}

fn wants_stream(headers: &HeaderMap) -> bool {
    let is = |name: &str, value: &[u8]| headers.get(name).is_some_and(|found| found.as_bytes() == value);
    is("x-dashscope-sse", b"enable") || is(ACCEPT.as_str(), b"text/event-stream")
}
