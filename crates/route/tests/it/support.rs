//! Upstreams for tests.

use std::sync::Once;

use route::testing::Stub;
use route::{Form, Secret, Server, TimeLimits, Upstream, UpstreamModel, UpstreamOptions};

/// The model's name in all tests.
pub(crate) const MODEL: &str = "m";

/// Short enough for a test, long enough for a busy machine.
pub(crate) const LIMITS: TimeLimits =
    TimeLimits { connect_ms: 500, first_byte_ms: 800, between_ms: 500, whole_ms: 900 };

pub(crate) fn install_cryptography() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| rustls::crypto::ring::default_provider().install_default().unwrap());
}

pub(crate) fn options(name: &str, url: String, form: Form, server: Server) -> UpstreamOptions {
    let model = UpstreamModel {
        name: MODEL.to_owned(),
        upstream: format!("there/{MODEL}"),
        context_tokens: 4_096,
        output_tokens_max: 512,
    };
    let models = vec![model];
    UpstreamOptions { name: name.to_owned(), form, server, url, models, limits: LIMITS, health_path: None }
}

pub(crate) fn upstream(stub: &Stub, form: Form, server: Server) -> Upstream {
    install_cryptography();
    let secret = Secret::new("sk-of-the-pool").unwrap();
    Upstream::new(options("pool", stub.url(form), form, server), Some(secret)).unwrap()
}
