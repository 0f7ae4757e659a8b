//! Figures in Prometheus' form. Their names are an interface: they stay.

use chat::{ModelStatus, Usage};
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

type Labels<const N: usize> = [(&'static str, String); N];
type Spans = Family<Labels<1>, Histogram, fn() -> Histogram>;

/// Seconds from a cached prompt on a fast machine to a long one on a slow one.
const WAITS_S: [f64; 14] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0];
/// Seconds between two tokens, 1,000 to 1 a second.
const STEPS_S: [f64; 10] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0];

/// What engines say of themselves when they are asked: names and help.
const ENGINE: [(&str, &str); 15] = [
    ("engine_sequences", "Sequences that are computed together"),
    ("engine_waiting", "Requests that wait for the engine"),
    ("engine_kv_used_bytes", "Keys and values in use or kept"),
    ("engine_kv_max_bytes", "Keys and values that there is room for"),
    ("engine_weights_bytes", "Weights"),
    ("engine_preemptions", "Sequences that were put back"),
    ("engine_drafted_tokens", "Tokens that were guessed ahead"),
    ("engine_accepted_tokens", "Guessed tokens that the model agreed with"),
    ("engine_masks", "How often it was found out which tokens fit a form"),
    ("engine_masks_us", "Microseconds which that took beside the steps"),
    ("engine_mask_waits_us", "Microseconds by which steps waited for it"),
    ("engine_begun", "Requests whose prompt began to be computed"),
    ("engine_queue_wait_us", "Microseconds that they had waited for that in the queue, together"),
    ("engine_steps", "Forward passes"),
    ("engine_step_sequences", "Sequences that they computed, together: over engine_steps the mean batch"),
];

pub(super) struct Figures {
    registry: Registry,
    answered: Family<Labels<2>, Counter>,
    generations: Family<Labels<3>, Counter>,
    first_token: Spans,
    per_token: Spans,
    whole: Spans,
    prompt_tokens: Family<Labels<1>, Counter>,
    cached_tokens: Family<Labels<1>, Counter>,
    output_tokens: Family<Labels<1>, Counter>,
    running: Family<Labels<1>, Gauge>,
    engine: [Family<Labels<1>, Gauge>; ENGINE.len()],
}

fn of_model(model: &str) -> Labels<1> {
    [("model", model.to_owned())]
}

fn seconds(us: u64) -> f64 {
    us as f64 / 1e6
}

impl Figures {
    pub(super) fn new() -> Self {
        let waits: fn() -> Histogram = || Histogram::new(WAITS_S);
        let steps: fn() -> Histogram = || Histogram::new(STEPS_S);
        let mut figures = Self {
            registry: Registry::with_prefix("sampan"),
            answered: Family::default(),
            generations: Family::default(),
            first_token: Family::new_with_constructor(waits),
            per_token: Family::new_with_constructor(steps),
            whole: Family::new_with_constructor(waits),
            prompt_tokens: Family::default(),
            cached_tokens: Family::default(),
            output_tokens: Family::default(),
            running: Family::default(),
            engine: ENGINE.map(|_| Family::default()),
        };
        let registry = &mut figures.registry;
        registry.register("http_requests", "Answers by route and status", figures.answered.clone());
        registry.register("generations", "Generations by route, model and outcome", figures.generations.clone());
        registry.register(
            "time_to_first_token_seconds",
            "From arrival to the first token",
            figures.first_token.clone(),
        );
        registry.register("time_per_output_token_seconds", "Between two tokens", figures.per_token.clone());
        registry.register("generation_seconds", "From arrival to the end", figures.whole.clone());
        registry.register("prompt_tokens", "Tokens of prompts", figures.prompt_tokens.clone());
        registry.register("cached_prompt_tokens", "Those that were in the cache", figures.cached_tokens.clone());
        registry.register("output_tokens", "Tokens that were generated", figures.output_tokens.clone());
        registry.register("running", "Generations that were accepted and are not over", figures.running.clone());
        for ((name, help), family) in ENGINE.iter().zip(&figures.engine) {
            registry.register(*name, *help, family.clone());
        }
        figures
    }

    pub(super) fn answered(&self, route: &str, status: u16) {
        self.answered.get_or_create(&[("route", route.to_owned()), ("status", status.to_string())]).inc();
    }

    pub(super) fn running(&self, model: &str, by: i64) {
        self.running.get_or_create(&of_model(model)).inc_by(by);
    }

    pub(super) fn first_token(&self, model: &str, us: u64) {
        self.first_token.get_or_create(&of_model(model)).observe(seconds(us));
    }

    pub(super) fn per_token(&self, model: &str, us: u64) {
        self.per_token.get_or_create(&of_model(model)).observe(seconds(us));
    }

    pub(super) fn tokens(&self, model: &str, usage: Usage) {
        let model = of_model(model);
        self.prompt_tokens.get_or_create(&model).inc_by(u64::from(usage.prompt_tokens));
        self.cached_tokens.get_or_create(&model).inc_by(u64::from(usage.cached_tokens));
        self.output_tokens.get_or_create(&model).inc_by(u64::from(usage.output_tokens));
    }

    pub(super) fn over(&self, route: &str, model: &str, outcome: &str, us: u64) {
        let outcome = outcome.to_lowercase();
        let labels = [("route", route.to_owned()), ("model", model.to_owned()), ("outcome", outcome)];
        self.generations.get_or_create(&labels).inc();
        if !model.is_empty() {
            self.whole.get_or_create(&of_model(model)).observe(seconds(us));
        }
    }

    pub(super) fn engines(&self, statuses: &[ModelStatus]) {
        for status in statuses {
            let values = [
                u64::from(status.running),
                u64::from(status.waiting),
                status.kv_used_bytes,
                status.kv_max_bytes,
                status.weights_bytes,
                status.preemptions,
                status.drafted_tokens,
                status.accepted_tokens,
                status.masks,
                status.masks_us,
                status.mask_waits_us,
                status.begun,
                status.waited_us,
                status.steps,
                status.step_sequences,
            ];
            for (family, value) in self.engine.iter().zip(values) {
                family.get_or_create(&of_model(&status.card.id)).set(i64::try_from(value).unwrap_or(i64::MAX));
            }
        }
    }

    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("a string takes everything");
        text
    }
}
