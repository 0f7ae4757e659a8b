//! A policy from text: parsed once, with every violation reported together.

mod raw;

use std::collections::HashSet;

use raw::{RawGroup, RawHealth, RawLink, RawModel, RawPolicy, RawPool, RawRegion, RawResidency, RawRoute, RawTarget};

use crate::policy::{Group, LOCAL, Offer, Pool, Retry, Route, Score, Target};
use crate::{
    Bound, Error, Form, Keeps, Level, Link, Network, Place, Policy, Region, Residency, Result, TimeLimits,
    UpstreamModel, UpstreamOptions,
};

/// Bytes of the text.
const TEXT_BYTES_MAX: usize = 4 << 20;
/// Pools, routes or settings in one policy.
const ENTRIES_MAX: usize = 10_000;
/// Requests that may run in a pool at once, if nothing is said.
const RUNNING_MAX: u32 = 1_024;
/// Between two checks of a pool's health, if nothing is said.
const CHECK_EVERY_MS: u64 = 10_000;
/// The longest answer where a form requires a limit and nobody sets one.
const OUTPUT_TOKENS_MAX: u32 = 8_192;
/// The word for a pool that keeps nothing of what it is sent.
const NOWHERE: &str = "nowhere";

impl Policy {
    /// The policy without any text: the models of this machine.
    #[must_use]
    pub fn local_only() -> Self {
        Self {
            version: 0,
            home: None,
            regions: Region::defaults(),
            pools: vec![Pool::local(None)],
            routes: Vec::new(),
            residency: Residency::default(),
            retry: Retry::default(),
            network: Network::default(),
        }
    }

    /// The policy of a TOML text; `docs/routing.md` shows one. The pool `local` is always there.
    ///
    /// # Errors
    /// [`Error::Text`] if it is no such TOML, [`Error::Policy`] with everything else that is wrong.
    pub fn parse(text: &str) -> Result<Self> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(Error::Text { reason: format!("{} bytes, {TEXT_BYTES_MAX} allowed", text.len()) });
        }
        let raw: RawPolicy = toml::from_str(text).map_err(|why| Error::Text { reason: why.to_string() })?;
        let mut wrong = Vec::new();
        let policy = lower(raw, &mut wrong);
        if wrong.is_empty() { Ok(policy) } else { Err(Error::Policy { wrong }) }
    }
}

fn lower(raw: RawPolicy, wrong: &mut Vec<String>) -> Policy {
    let regions = regions(raw.region, wrong);
    let home = raw.home.and_then(|name| region("home", &name, &regions, wrong));
    let mut pools = vec![Pool::local(home.clone())];
    for entry in [raw.pool.len(), raw.route.len(), raw.residency.len(), raw.link.len()] {
        if entry > ENTRIES_MAX {
            wrong.push(format!("{entry} entries of one kind, {ENTRIES_MAX} allowed"));
            return Policy::local_only();
        }
    }
    for pool in raw.pool {
        let pool = self::pool(pool, &regions, wrong);
        match pools.iter_mut().find(|known| known.name == pool.name) {
            // Prices and the like of this machine's own models.
            Some(local) if pool.name == LOCAL => {
                local.offers = pool.offers;
                local.running_max = pool.running_max;
            }
            Some(_) => wrong.push(format!("pool {}: there are two of this name", pool.name)),
            None => pools.push(pool),
        }
    }
    let mut routes: Vec<Route> = Vec::new();
    let names: Vec<String> = raw.route.iter().map(|route| route.model.clone()).collect();
    for route in raw.route {
        if routes.iter().any(|known| known.model == route.model) {
            wrong.push(format!("route {}: there are two of this name", route.model));
        }
        routes.push(self::route(route, &pools, &names, wrong));
    }
    let mut residency = Residency::default();
    for setting in raw.residency {
        self::residency(setting, &regions, &mut residency, wrong);
    }
    let retry = Retry { tries_max: raw.retry.tries_max, budget_percent: raw.retry.budget_percent };
    if !(1..=10).contains(&retry.tries_max) || retry.budget_percent > 100 {
        wrong.push("retry: tries_max is 1 to 10, budget_percent at most 100".to_owned());
    }
    let links = raw.link.into_iter().map(|link| {
        let RawLink { between, round_trip_ms, mbps, loss_percent } = link;
        Link { between, round_trip_ms, mbps, loss_percent }
    });
    let network = Network::new(home.as_ref(), &regions, links.collect()).unwrap_or_else(|sentences| {
        wrong.extend(sentences);
        Network::default()
    });
    Policy { version: raw.version, home, regions, pools, routes, residency, retry, network }
}

fn regions(raw: Vec<RawRegion>, wrong: &mut Vec<String>) -> Vec<Region> {
    let mut regions = Region::defaults();
    for new in raw {
        let name = new.name;
        if !(-90.0..=90.0).contains(&new.latitude) || !(-180.0..=180.0).contains(&new.longitude) {
            wrong.push(format!("region {name}: {}, {} are no coordinates", new.latitude, new.longitude));
        }
        let is_code = |code: &String| !code.is_empty() && code.bytes().all(|byte| byte.is_ascii_uppercase());
        if let Some(code) = new.jurisdictions.iter().find(|code| !is_code(code)) {
            wrong.push(format!("region {name}: jurisdiction {code:?} is not written in capitals"));
        }
        let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if name.is_empty() || !name.bytes().all(is_plain) {
            wrong.push(format!("region {name:?}: a name is small letters, digits and hyphens"));
        }
        regions.retain(|known| known.name != name);
        regions.push(Region {
            name,
            latitude: new.latitude,
            longitude: new.longitude,
            jurisdictions: new.jurisdictions,
            price_permille: new.price_permille,
            carbon_g_per_kwh: new.carbon_g_per_kwh,
        });
    }
    regions
}

fn region(whose: &str, name: &str, regions: &[Region], wrong: &mut Vec<String>) -> Option<Region> {
    let found = regions.iter().find(|region| region.name == name).cloned();
    if found.is_none() {
        let known: Vec<&str> = regions.iter().map(|region| region.name.as_str()).collect();
        wrong.push(format!("{whose}: there is no region {name:?}, there are {}", known.join(", ")));
    }
    found
}

fn pool(raw: RawPool, regions: &[Region], wrong: &mut Vec<String>) -> Pool {
    let name = raw.name;
    let whose = format!("pool {name}");
    if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)) {
        wrong.push(format!("pool {name:?}: a name is letters, digits, hyphens, underscores and dots"));
    }
    let computes = raw.region.and_then(|name| region(&whose, &name, regions, wrong));
    let keeps = match raw.keeps_data_in.as_deref() {
        Some(NOWHERE) => Keeps::Nothing,
        Some(name) => region(&whose, name, regions, wrong).map_or(Keeps::Unknown, Keeps::In),
        None => Keeps::Unknown,
    };
    let limits = TimeLimits {
        connect_ms: raw.limits.connect_ms,
        first_byte_ms: raw.limits.first_byte_ms,
        between_ms: raw.limits.between_ms,
        whole_ms: raw.limits.whole_ms,
    };
    if [limits.connect_ms, limits.first_byte_ms, limits.between_ms, limits.whole_ms].contains(&0) {
        wrong.push(format!("{whose}: a limit of 0 ms lets nothing through"));
    }
    let mut seen = HashSet::new();
    for model in &raw.model {
        if !seen.insert(&model.name) {
            wrong.push(format!("{whose}: there are two models {:?}", model.name));
        }
        if !(0.0..=1.0).contains(&model.quality) {
            wrong.push(format!("{whose}: the quality of {} is {}, allowed: 0 to 1", model.name, model.quality));
        }
    }
    let upstream = match raw.url {
        _ if name == LOCAL => None,
        Some(url) => Some(UpstreamOptions {
            name: name.clone(),
            form: raw.form.unwrap_or(Form::OpenAi),
            server: raw.server,
            url,
            models: raw.model.iter().map(upstream_model).collect(),
            limits,
            health_path: raw.health.path.clone(),
        }),
        None => {
            wrong.push(format!("{whose}: url is missing"));
            None
        }
    };
    if name != LOCAL && raw.model.is_empty() {
        wrong.push(format!("{whose}: it serves no model; name them in [[pool.model]]"));
    }
    let RawHealth { every_ms, path: _ } = raw.health;
    let every_ms = every_ms.unwrap_or(CHECK_EVERY_MS);
    Pool {
        place: Place { computes, keeps },
        upstream,
        secret: raw.secret,
        running_max: raw.running_max.unwrap_or(if name == LOCAL { u32::MAX } else { RUNNING_MAX }),
        check_every_ms: (every_ms > 0 && name != LOCAL).then_some(every_ms),
        offers: raw.model.iter().map(offer).collect(),
        name,
    }
}

fn upstream_model(raw: &RawModel) -> UpstreamModel {
    UpstreamModel {
        name: raw.name.clone(),
        upstream: raw.upstream.clone().unwrap_or_else(|| raw.name.clone()),
        context_tokens: raw.context_tokens,
        output_tokens_max: raw.output_tokens_max.unwrap_or(OUTPUT_TOKENS_MAX),
    }
}

fn offer(raw: &RawModel) -> Offer {
    Offer {
        model: raw.name.clone(),
        input_micro_per_million: raw.input_micro_per_million,
        output_micro_per_million: raw.output_micro_per_million,
        quality_permille: (raw.quality * 1e3) as u32,
    }
}

fn route(raw: RawRoute, pools: &[Pool], routes: &[String], wrong: &mut Vec<String>) -> Route {
    let whose = format!("route {}", raw.model);
    let mut groups: Vec<Group> = Vec::new();
    for RawGroup { name, weight, targets } in raw.group {
        if groups.iter().any(|group| group.name == name) {
            wrong.push(format!("{whose}: there are two groups {name:?}"));
        }
        let targets = targets.into_iter().filter_map(|raw_target| target(raw_target, &whose, &raw.model, pools, wrong));
        let targets: Vec<Target> = targets.collect();
        let is_new = |index: usize, target: &Target| {
            !targets[..index].iter().any(|known| known.pool == target.pool && known.model == target.model)
        };
        if !targets.iter().enumerate().all(|(index, target)| is_new(index, target)) {
            wrong.push(format!("{whose}: a target stands twice in the group {name:?}"));
        }
        groups.push(Group { name, weight, targets });
    }
    let share = |group: &Group| group.weight > 0 && group.targets.iter().any(|target| target.weight > 0);
    if !groups.iter().any(share) {
        wrong.push(format!("{whose}: no group with a weight has a target with a weight"));
    }
    for name in &raw.fallback {
        let serves = |pool: &Pool| pool.offers.iter().any(|offer| offer.model == *name);
        let is_served = pools.iter().any(|pool| pool.upstream.is_none() || serves(pool));
        if !routes.contains(name) && !is_served {
            wrong.push(format!("{whose}: the fallback {name:?} is no route and no model of a pool"));
        }
    }
    let score = raw.score;
    let weights = [score.cost, score.latency, score.quality, score.carbon];
    if weights.iter().any(|weight| !(0.0..=1_000.0).contains(weight)) {
        wrong.push(format!("{whose}: weights of the score are 0 to 1000"));
    }
    let score = Score { cost: score.cost, latency: score.latency, quality: score.quality, carbon: score.carbon };
    let (affinity, hedge_ms) = (raw.affinity, raw.hedge_ms);
    Route { model: raw.model, groups, fallback: raw.fallback, score, affinity, hedge_ms }
}

fn target(raw: RawTarget, whose: &str, model: &str, pools: &[Pool], wrong: &mut Vec<String>) -> Option<Target> {
    let Some(pool) = pools.iter().position(|pool| pool.name == raw.pool) else {
        wrong.push(format!("{whose}: there is no pool {:?}", raw.pool));
        return None;
    };
    let model = raw.model.unwrap_or_else(|| model.to_owned());
    let known = &pools[pool];
    // What this machine serves is known only when it serves.
    if known.upstream.is_some() && !known.offers.iter().any(|offer| offer.model == model) {
        wrong.push(format!("{whose}: pool {} has no model {model:?}", raw.pool));
    }
    Some(Target { pool, model, weight: raw.weight })
}

fn residency(raw: RawResidency, regions: &[Region], all: &mut Residency, wrong: &mut Vec<String>) {
    let named = [
        (Level::Organisation, &raw.organisation),
        (Level::Project, &raw.project),
        (Level::Key, &raw.key),
        (Level::Bucket, &raw.bucket),
        (Level::Model, &raw.model),
    ];
    // A project may say beside its own name which organisation it belongs to.
    let named = named.into_iter().filter_map(|(level, name)| Some((level, name.clone()?)));
    let named: Vec<(Level, String)> = named.collect();
    let (level, name) = match named.as_slice() {
        [one] => one.clone(),
        [(Level::Organisation, organisation), (Level::Project, project)] => {
            all.set_organisation(project, organisation);
            (Level::Project, project.clone())
        }
        _ => {
            let words = "name one of organisation, project, key, bucket, model, or a project with its organisation";
            wrong.push(format!("residency: {words}"));
            return;
        }
    };
    let places = raw.data_region.iter().chain(&raw.compute_scope).flatten();
    for place in places.filter(|place| !regions.iter().any(|region| region.lies_in(place))) {
        let level = level.as_str();
        wrong.push(format!("residency of {level} {name}: {place:?} is neither a region nor a jurisdiction of one"));
    }
    if raw.data_region.is_some() || raw.compute_scope.is_some() {
        all.add(Bound { level, name, data_region: raw.data_region, compute_scope: raw.compute_scope });
    } else if named.len() == 1 {
        wrong.push(format!("residency of {} {name}: neither data_region nor compute_scope is set", level.as_str()));
    }
}

#[cfg(test)]
mod tests;
