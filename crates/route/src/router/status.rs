//! What the console shows of routing.

use serde_json::{Value, json};

use super::{Shared, locked};

/// The policy, the state of every pool and the last decisions. No prompt and no secret is in it.
pub(super) fn status(shared: &Shared) -> Value {
    let policy = shared.policy();
    let now_ms = shared.clock.now_ms();
    let states = locked(&shared.states).clone();
    let pools = policy.pools.iter().zip(&states).map(|(pool, state)| {
        let upstream = pool.upstream.as_ref();
        json!({
            "name": pool.name, "form": upstream.map(|options| json!(options.form)),
            "server": upstream.map(|options| json!(options.server)), "url": upstream.map(|options| shown(&options.url)),
            "has_secret": pool.secret.is_some(), "place": pool.place, "running": state.running,
            "running_max": (pool.running_max < u32::MAX).then_some(pool.running_max), "models": pool.offers,
            "health": {
                "checked": pool.check_every_ms.is_some(), "healthy": state.is_healthy(),
                "complaint": state.complaint, "breaker": state.breaker.state(),
                "busy_until_ms": (state.busy_until_ms > now_ms).then_some(state.busy_until_ms),
                "first_byte_ms": (state.first_byte_us > 0).then_some(state.first_byte_us as f64 / 1e3),
            },
            "counts": state.counts,
        })
    });
    let routes = policy.routes.iter().map(|route| {
        let groups = route.groups.iter().map(|group| {
            let targets = group.targets.iter().map(|target| {
                json!({
                    "pool": policy.pools[target.pool].name, "model": target.model, "weight": target.weight,
                })
            });
            json!({"name": group.name, "weight": group.weight, "targets": targets.collect::<Vec<_>>()})
        });
        json!({
            "model": route.model, "fallback": route.fallback, "affinity": route.affinity, "hedge_ms": route.hedge_ms,
            "score": route.score, "groups": groups.collect::<Vec<_>>(),
        })
    });
    let recent: Vec<_> = locked(&shared.recent).iter().rev().cloned().collect();
    let recent = recent.into_iter().map(|(time_ms, id, decision)| {
        let explained = decision.explain(&policy);
        json!({
            "time_ms": time_ms, "request_id": id.to_string(), "model": decision.asked,
            "choice": explained["choice"], "refusal": explained["refusal"],
        })
    });
    let residency = shared.residency();
    json!({
        "policy_version": policy.version, "home": policy.home.as_ref().map(|region| region.name.as_str()),
        "retry": policy.retry, "regions": policy.regions,
        "residency": residency.all().iter().map(|bound| json!(**bound)).collect::<Vec<_>>(),
        "pools": pools.collect::<Vec<_>>(), "routes": routes.collect::<Vec<_>>(),
        "recent": recent.collect::<Vec<_>>(),
    })
}

/// The address without what could be a secret in it.
fn shown(url: &str) -> String {
    match reqwest::Url::parse(url) {
        Ok(mut url) => {
            // Addresses of http have both; a failure leaves them as they are not.
            let _ = url.set_password(None);
            let _ = url.set_username("");
            url.set_query(None);
            url.to_string()
        }
        Err(_) => "not an address".to_owned(),
    }
}
