//! One look at a server, put together from its public endpoints: `/admin/v1/models`, `/admin/v1/requests`,
//! `/admin/v1/usage` and `/metrics`.

use anyhow::Context as _;
use ledger::calendar::show_day;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::client::Client;

/// What a server does.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(super) struct Sample {
    pub(super) server: String,
    pub(super) version: String,
    pub(super) ready: bool,
    /// Generations that were accepted and are not over.
    pub(super) live: u64,
    /// Requests that wait for an engine.
    pub(super) waiting: u64,
    /// Generated tokens a second by the engines of this machine, while they compute.
    pub(super) tokens_per_second: f64,
    pub(super) kv_used_bytes: u64,
    pub(super) kv_max_bytes: u64,
    /// Tokens since the server was started.
    pub(super) prompt_tokens: u64,
    pub(super) cached_tokens: u64,
    pub(super) output_tokens: u64,
    /// Today's spend in micro-dollars; absent where no books are kept, or this key may not see them.
    pub(super) spend_today_micro: Option<i64>,
    pub(super) models: Vec<Model>,
    /// Newest first; absent where this key may not see them.
    pub(super) requests: Option<Vec<Request>>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Model {
    pub(super) id: String,
    /// `pool` for one that somebody else computes.
    pub(super) state: String,
    /// Generations that are not over.
    #[serde(skip_deserializing)]
    pub(super) live: u64,
    pub(super) waiting: u64,
    /// Sequences that its engine computes together.
    pub(super) running: u64,
    pub(super) tokens_per_second: f64,
    pub(super) kv_used_bytes: u64,
    pub(super) kv_max_bytes: u64,
    pub(super) weights_bytes: u64,
    #[serde(skip_deserializing)]
    pub(super) prompt_tokens: u64,
    #[serde(skip_deserializing)]
    pub(super) cached_tokens: u64,
    #[serde(skip_deserializing)]
    pub(super) output_tokens: u64,
    /// The mean since the server was started.
    #[serde(skip_deserializing)]
    pub(super) first_token_ms: Option<f64>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Request {
    pub(super) id: String,
    pub(super) route: String,
    pub(super) model: String,
    pub(super) project: Option<String>,
    pub(super) state: String,
    pub(super) arrived_at_ms: u64,
    pub(super) prompt_tokens: u64,
    pub(super) cached_tokens: u64,
    pub(super) output_tokens: u64,
    pub(super) first_token_us: Option<u64>,
    pub(super) over_us: Option<u64>,
    pub(super) reason: Option<String>,
}

impl Sample {
    /// Asks the server for everything.
    pub(super) fn take(client: &Client, now_ms: u64) -> anyhow::Result<Self> {
        let of = |what: &'static str| move || format!("{} of {}", what, client.base());
        let platform = client.json("/admin/v1/models")?.with_context(of("this key may not see the models"))?;
        let metrics = client.text("/metrics")?.with_context(of("this key may not see the figures"))?;
        let requests = client.json("/admin/v1/requests")?;
        let usage = client.json(&format!("/admin/v1/usage?by=all&from={}", show_day(now_ms)))?;
        let mut sample = Self::of(&platform, &metrics, requests, usage.as_ref())?;
        client.base().clone_into(&mut sample.server);
        Ok(sample)
    }

    fn of(platform: &Value, metrics: &str, requests: Option<Value>, usage: Option<&Value>) -> anyhow::Result<Self> {
        let mut models: Vec<Model> =
            Deserialize::deserialize(&platform["models"]).context("read the server's models")?;
        count(&mut models, metrics);
        for model in &mut models {
            // An idle engine keeps saying how fast it was.
            if model.running == 0 {
                model.tokens_per_second = 0.0;
            }
        }
        let requests = requests.map(|mut answer| serde_json::from_value(answer["requests"].take())).transpose();
        let spent = usage.and_then(|usage| usage["data"].as_array());
        let spent = spent.map(|totals| totals.iter().filter_map(|total| total["price_micro"].as_i64()).sum());
        let sum = |of: fn(&Model) -> u64| models.iter().map(of).fold(0, u64::saturating_add);
        Ok(Self {
            server: String::new(),
            version: platform["version"].as_str().unwrap_or_default().to_owned(),
            ready: platform["ready"].as_bool().unwrap_or(false),
            live: sum(|model| model.live),
            waiting: sum(|model| model.waiting),
            tokens_per_second: models.iter().map(|model| model.tokens_per_second).sum(),
            kv_used_bytes: sum(|model| model.kv_used_bytes),
            kv_max_bytes: sum(|model| model.kv_max_bytes),
            prompt_tokens: sum(|model| model.prompt_tokens),
            cached_tokens: sum(|model| model.cached_tokens),
            output_tokens: sum(|model| model.output_tokens),
            spend_today_micro: spent,
            models,
            requests: requests.context("read the server's requests")?,
        })
    }
}

/// Adds what is counted of every model, and the models that somebody else computes.
fn count(models: &mut Vec<Model>, metrics: &str) {
    let mut waited: Vec<(String, f64, f64)> = Vec::new();
    for (name, id, value) in metrics.lines().filter_map(figure) {
        let known = models.iter().position(|model| model.id == id);
        let known = known.unwrap_or_else(|| {
            models.push(Model { id: id.clone(), state: "pool".to_owned(), ..Model::default() });
            models.len() - 1
        });
        let model = &mut models[known];
        // Counts below 2^53 are exact.
        let whole = value.max(0.0) as u64;
        match name {
            "sampan_running" => model.live = whole,
            "sampan_prompt_tokens_total" => model.prompt_tokens = whole,
            "sampan_cached_prompt_tokens_total" => model.cached_tokens = whole,
            "sampan_output_tokens_total" => model.output_tokens = whole,
            "sampan_time_to_first_token_seconds_sum" => waited.push((id, value, 0.0)),
            _ => {
                if let Some(wait) = waited.iter_mut().find(|wait| wait.0 == id) {
                    wait.2 = value;
                }
            }
        }
    }
    for (id, seconds, times) in waited {
        if let Some(model) = models.iter_mut().find(|model| model.id == id && times > 0.0) {
            model.first_token_ms = Some(seconds / times * 1000.0);
        }
    }
}

/// What is read of the figures.
const FIGURES: [&str; 6] = [
    "sampan_running",
    "sampan_prompt_tokens_total",
    "sampan_cached_prompt_tokens_total",
    "sampan_output_tokens_total",
    "sampan_time_to_first_token_seconds_sum",
    "sampan_time_to_first_token_seconds_count",
];

/// Name, model and value of a line `name{model="…"} value` of OpenMetrics text, if it is one that is read.
fn figure(line: &str) -> Option<(&'static str, String, f64)> {
    let (name, rest) = line.split_once("{model=\"")?;
    let name = FIGURES.into_iter().find(|known| *known == name)?;
    let mut id = String::new();
    let mut letters = rest.char_indices();
    let end = loop {
        match letters.next()? {
            (at, '"') => break at,
            (_, '\\') => id.push(match letters.next()?.1 {
                'n' => '\n',
                other => other,
            }),
            (_, letter) => id.push(letter),
        }
    };
    let value = rest[end..].strip_prefix("\"} ")?.split_whitespace().next()?.parse().ok()?;
    Some((name, id, value))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Sample, figure};

    const METRICS: &str = "\
# TYPE sampan_running gauge
sampan_running{model=\"a\"} 2
sampan_running{model=\"far\"} 1
sampan_prompt_tokens_total{model=\"a\"} 100
sampan_cached_prompt_tokens_total{model=\"a\"} 25
sampan_time_to_first_token_seconds_sum{model=\"a\"} 1.5
sampan_time_to_first_token_seconds_count{model=\"a\"} 3
sampan_time_to_first_token_seconds_bucket{le=\"0.005\",model=\"a\"} 0
# EOF
";

    #[test]
    fn engines_pools_and_books_make_one_sample() {
        let platform = json!({"version": "1.0", "ready": true, "models": [
            {"id": "a", "state": "loaded", "running": 2, "waiting": 1, "tokens_per_second": 40.5, "kv_used_bytes": 10,
             "kv_max_bytes": 40, "prompt_tokens": 7, "unknown": {}},
            {"id": "idle", "state": "loaded", "running": 0, "tokens_per_second": 99.0},
        ]});
        let usage = json!({"data": [{"price_micro": 5}, {"price_micro": 7}]});
        let requests = json!({"requests": [{"id": "r", "state": "waiting", "over_us": null}]});
        let sample = Sample::of(&platform, METRICS, Some(requests), Some(&usage)).unwrap();
        assert_eq!((sample.live, sample.waiting, sample.spend_today_micro), (3, 1, Some(12)));
        assert_eq!((sample.prompt_tokens, sample.cached_tokens), (100, 25));
        assert!((sample.tokens_per_second - 40.5).abs() < 1e-9);
        assert_eq!(sample.models[0].first_token_ms, Some(500.0));
        let names: Vec<(&str, &str)> =
            sample.models.iter().map(|model| (model.id.as_str(), model.state.as_str())).collect();
        assert_eq!(names, [("a", "loaded"), ("idle", "loaded"), ("far", "pool")]);
        assert_eq!(sample.requests.unwrap()[0].id, "r");
    }

    #[test]
    fn what_may_not_be_seen_is_absent_and_what_is_wrong_is_said() {
        let sample = Sample::of(&json!({"models": []}), "", None, None).unwrap();
        assert_eq!((sample.spend_today_micro, sample.requests), (None, None));
        let error = Sample::of(&json!({"models": 1}), "", None, None).unwrap_err().to_string();
        assert!(error.contains("models"), "{error}");
    }

    #[test]
    fn names_of_models_are_read_as_they_were_escaped() {
        let read = figure("sampan_running{model=\"a\\\"b\\\\c\\nd\"} 4").unwrap();
        assert_eq!((read.1.as_str(), read.2), ("a\"b\\c\nd", 4.0));
        for other in
            ["", "sampan_running 1", "sampan_running{model=\"a", "sampan_running{model=\"a\"} x", "x{model=\"\"} 1"]
        {
            assert!(figure(other).is_none(), "{other}");
        }
    }
}
