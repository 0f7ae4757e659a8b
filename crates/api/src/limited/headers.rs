//! How a caller stands with their limits, in the headers that each dialect documents:
//!
//! * [OpenAI](https://platform.openai.com/docs/guides/rate-limits#rate-limits-in-headers):
//!   `x-ratelimit-limit-requests`, `-remaining-`, `-reset-`, and the same for tokens; times are spans, `6m0s`.
//! * [Anthropic](https://docs.anthropic.com/en/api/rate-limits#response-headers): `anthropic-ratelimit-requests-limit`,
//!   `-remaining`, `-reset`, and the same for tokens; times are moments.
//!
//! Whoever is refused reads in `retry-after` when there is room, in all dialects. Clients that both vendors generate
//! heed `x-should-retry`, which says no where waiting helps nothing.

use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::Response;
use ledger::limit::Standing;

use crate::App;
use crate::auth::Dialect;
use crate::time::rfc3339;

/// How whoever asked stands after their last request to a model.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Told {
    pub(super) requests: Option<Standing>,
    pub(super) tokens: Option<Standing>,
    pub(super) refused: Option<Wait>,
}

/// What helps whoever was refused.
#[derive(Debug, Clone, Copy)]
pub(super) enum Wait {
    Us(u64),
    /// Waiting does not.
    Never,
}

tokio::task_local! {
    /// Where the request that this task answers notes how its caller stands.
    static TOLD: Arc<Mutex<Told>>;
}

/// Notes it for the answer's headers, if there will be an answer.
pub(super) fn note(told: Told) {
    // Work of its own has no answer: background responses, lines of batches.
    let _ = TOLD.try_with(|cell| *cell.lock().unwrap_or_else(PoisonError::into_inner) = told);
}

/// Stands around every route, and adds the headers.
pub(crate) async fn tell(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let dialect = Dialect::of(request.uri().path(), request.headers());
    let cell = Arc::new(Mutex::new(Told::default()));
    let mut response = TOLD.scope(Arc::clone(&cell), next.run(request)).await;
    let told = *cell.lock().unwrap_or_else(PoisonError::into_inner);
    let headers = response.headers_mut();
    for (what, standing) in [("requests", told.requests), ("tokens", told.tokens)] {
        match (dialect, standing) {
            (Dialect::OpenAi, Some(standing)) => {
                let Standing { limit, remaining, reset_us } = standing;
                insert(headers, &format!("x-ratelimit-limit-{what}"), &limit.to_string());
                insert(headers, &format!("x-ratelimit-remaining-{what}"), &remaining.to_string());
                insert(headers, &format!("x-ratelimit-reset-{what}"), &span(reset_us));
            }
            (Dialect::Anthropic, Some(standing)) => {
                let Standing { limit, remaining, reset_us } = standing;
                let reset_ms = app.clock.now_ms().saturating_add(reset_us / 1000);
                insert(headers, &format!("anthropic-ratelimit-{what}-limit"), &limit.to_string());
                insert(headers, &format!("anthropic-ratelimit-{what}-remaining"), &remaining.to_string());
                insert(headers, &format!("anthropic-ratelimit-{what}-reset"), &rfc3339(reset_ms));
            }
            _ => {}
        }
    }
    match told.refused {
        Some(Wait::Us(wait_us)) => insert(headers, "retry-after", &wait_us.div_ceil(1_000_000).max(1).to_string()),
        Some(Wait::Never) => {
            headers.remove("retry-after");
            insert(headers, "x-should-retry", "false");
        }
        None => {}
    }
    response
}

fn insert(headers: &mut HeaderMap, name: &str, value: &str) {
    if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::from_str(value)) {
        headers.insert(name, value);
    }
}

/// A span as OpenAI writes it: `12ms`, `1.5s`, `6m0s`, `2h0m0s`. Rounded up.
pub(super) fn span(us: u64) -> String {
    let ms = us.div_ceil(1000);
    if ms < 1000 {
        return format!("{ms}ms");
    }
    let (hours, minutes, seconds) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60);
    let seconds = match ms % 1000 {
        0 => format!("{seconds}s"),
        rest => format!("{seconds}.{}s", format!("{rest:03}").trim_end_matches('0')),
    };
    match (hours, minutes) {
        (0, 0) => seconds,
        (0, _) => format!("{minutes}m{seconds}"),
        _ => format!("{hours}h{minutes}m{seconds}"),
    }
}

#[cfg(test)]
mod tests {
    use super::span;

    #[test]
    fn spans_are_written_as_the_vendor_writes_them() {
        for (us, expected) in [
            (0, "0ms"),
            (1, "1ms"),
            (12_000, "12ms"),
            (1_000_000, "1s"),
            (1_050_000, "1.05s"),
            (360_000_000, "6m0s"),
            (7_323_000_001, "2h2m3.001s"),
        ] {
            assert_eq!(span(us), expected);
        }
    }
}
