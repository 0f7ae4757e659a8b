//! Of the targets that nothing speaks against, one.

use super::{Ask, By, Choice, Fleet, Marks, Verdict};
use crate::Route;

/// One draw in so many goes by weight although a score is set, so that a target whose figures were bad once is heard of
/// again.
const EXPLORED_ONE_IN: u64 = 50;
/// The target of a prefix is passed over while it has more requests than so many hundredths of the mean, and one more.
const LOAD_PERCENT_MAX: u64 = 125;
/// Latency of a pool that was never asked, in milliseconds: none, so that it is asked soon.
const LATENCY_MS_UNKNOWN: f64 = 0.0;

/// Chooses, and writes the marks into the verdicts.
pub(super) fn pick(ask: &Ask<'_>, fleet: Fleet<'_>, route: &Route, verdicts: &mut [Verdict]) -> Option<Choice> {
    let open: Vec<usize> = (0..verdicts.len()).filter(|&index| verdicts[index].outcome.is_ok()).collect();
    mark(ask, fleet, route, verdicts, &open);
    // Two independent draws from one.
    let (group_draw, target_draw) = (mixed(ask.draw, 1), mixed(ask.draw, 2));
    let is_open = |group: usize| open.iter().any(|&index| verdicts[index].group == group);
    let groups: Vec<(usize, u32)> = route.groups.iter().map(|group| group.weight).enumerate().collect();
    let groups = groups.into_iter().filter(|&(group, _)| is_open(group));
    let group = weighted(groups, group_draw)?;
    let inside: Vec<usize> = open.into_iter().filter(|&index| verdicts[index].group == group).collect();
    let by_weight = || {
        let weights = inside.iter().map(|&index| (index, weight(route, &verdicts[index])));
        weighted(weights, target_draw)
    };
    let marks = |index: usize| verdicts[index].outcome.as_ref().map_or(f64::INFINITY, |marks| marks.sum);
    let (index, by) = if inside.len() == 1 {
        (inside[0], By::Alone)
    } else if route.score.is_set() && mixed(ask.draw, 3).is_multiple_of(EXPLORED_ONE_IN) {
        (by_weight()?, By::Exploring)
    } else if route.score.is_set() {
        // Among equals the one whose prefix it is, so that they share the traffic and keep their caches.
        let order = |a: &usize, b: &usize| {
            let ties = || claim(ask, route, &verdicts[*b]).total_cmp(&claim(ask, route, &verdicts[*a]));
            marks(*a).total_cmp(&marks(*b)).then_with(ties)
        };
        (inside.iter().copied().min_by(order)?, By::Score)
    } else if route.affinity {
        (by_prefix(ask, fleet, route, verdicts, &inside)?, By::Prefix)
    } else {
        (by_weight()?, By::Weight)
    };
    let chosen = &verdicts[index];
    let (model, route) = (chosen.model.clone(), route.model.clone());
    Some(Choice { pool: chosen.pool, model, route, group, by })
}

/// Weighted rendezvous hashing: whoever claims the prefix most has it, and only its prefixes move when it goes.
fn by_prefix(ask: &Ask<'_>, fleet: Fleet<'_>, route: &Route, verdicts: &[Verdict], inside: &[usize]) -> Option<usize> {
    let running = |index: usize| u64::from(fleet.states[verdicts[index].pool].running);
    let all: u64 = inside.iter().map(|&index| running(index)).sum();
    let most = all * LOAD_PERCENT_MAX / (100 * inside.len() as u64) + 1;
    let mut order = inside.to_vec();
    order.sort_by(|&a, &b| claim(ask, route, &verdicts[b]).total_cmp(&claim(ask, route, &verdicts[a])));
    order.iter().copied().find(|&index| running(index) <= most).or_else(|| order.first().copied())
}

/// How strongly a target claims the prefix: -w / ln(u), u drawn from the prefix and the target (weighted rendezvous
/// hashing, Schindelhauer and Schomaker 2005).
fn claim(ask: &Ask<'_>, route: &Route, verdict: &Verdict) -> f64 {
    let mut hash = ask.prefix;
    for byte in verdict.model.bytes().chain((verdict.pool as u64).to_le_bytes()) {
        hash = mixed(hash, u64::from(byte) + 1);
    }
    // In (0, 1): never 0 nor 1.
    let unit = ((hash >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
    -f64::from(weight(route, verdict)) / unit.ln()
}

fn weight(route: &Route, verdict: &Verdict) -> u32 {
    let targets = &route.groups[verdict.group].targets;
    let same = targets.iter().filter(|target| target.pool == verdict.pool && target.model == verdict.model);
    // Configuration names each target of a group once; data that does not is read the generous way.
    same.map(|target| target.weight).max().unwrap_or(0)
}

/// One of them, each as likely as its weight says.
fn weighted(parts: impl Iterator<Item = (usize, u32)>, draw: u64) -> Option<usize> {
    let parts: Vec<(usize, u32)> = parts.collect();
    let all: u64 = parts.iter().map(|&(_, weight)| u64::from(weight)).sum();
    let mut left = ((u128::from(draw) * u128::from(all)) >> 64) as u64;
    for (index, weight) in parts {
        match left.checked_sub(u64::from(weight)) {
            None => return Some(index),
            Some(rest) => left = rest,
        }
    }
    None
}

/// SplitMix64's finaliser over both: <https://prng.di.unimi.it/splitmix64.c>.
pub(crate) fn mixed(value: u64, salt: u64) -> u64 {
    let mut mix = value ^ salt.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mix = (mix ^ (mix >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mix = (mix ^ (mix >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mix ^ (mix >> 31)
}

/// Fills in how good each open target is, as parts of the worst one's figures.
fn mark(ask: &Ask<'_>, fleet: Fleet<'_>, route: &Route, verdicts: &mut [Verdict], open: &[usize]) {
    let raw: Vec<Marks> = open.iter().map(|&index| figures(ask, fleet, &verdicts[index])).collect();
    let worst = |figure: fn(&Marks) -> f64| raw.iter().map(figure).fold(0.0, f64::max);
    let part = |value: f64, worst: f64| if worst > 0.0 { value / worst } else { 0.0 };
    let (cost, latency) = (worst(|marks| marks.cost), worst(|marks| marks.latency));
    let (quality, carbon) = (worst(|marks| marks.quality), worst(|marks| marks.carbon));
    for (&index, raw) in open.iter().zip(&raw) {
        let mut marks = Marks {
            cost: part(raw.cost, cost),
            latency: part(raw.latency, latency),
            quality: part(raw.quality, quality),
            carbon: part(raw.carbon, carbon),
            sum: 0.0,
        };
        let score = &route.score;
        marks.sum = score.cost * marks.cost
            + score.latency * marks.latency
            + score.quality * marks.quality
            + score.carbon * marks.carbon;
        verdicts[index].outcome = Ok(marks);
    }
}

/// Micro-dollars, milliseconds, what it lacks in quality, grams a kilowatt-hour.
fn figures(ask: &Ask<'_>, fleet: Fleet<'_>, verdict: &Verdict) -> Marks {
    let (pool, state) = (&fleet.policy.pools[verdict.pool], &fleet.states[verdict.pool]);
    let offer = pool.offers.iter().find(|offer| offer.model == verdict.model);
    let (input, output) = offer.map_or((0, 0), |offer| (offer.input_micro_per_million, offer.output_micro_per_million));
    let tokens = |count: u32, price: u64| f64::from(count) * price as f64 / 1e6;
    let region = pool.place.computes.as_ref();
    let factor = f64::from(region.map_or(1_000, |region| region.price_permille)) / 1e3;
    let (network, home) = (&fleet.policy.network, fleet.policy.home.as_ref());
    let reach = region.and_then(|region| network.reach(home, region, ask.bytes));
    let (way, bytes) = reach.map_or((LATENCY_MS_UNKNOWN, 0.0), |reach| (reach.round_trip_ms, reach.bytes_ms));
    // What was measured holds the way there; the way alone is for pools that were never asked.
    let answering = if state.first_byte_us == 0 { way } else { state.first_byte_us as f64 / 1e3 };
    let latency = answering + bytes;
    // A pool with many requests takes longer for the next one: twice as long when it is full.
    let load = f64::from(state.running) / f64::from(pool.running_max.max(1));
    Marks {
        cost: (tokens(ask.prompt_tokens, input) + tokens(ask.output_tokens, output)) * factor,
        latency: latency * (1.0 + load),
        quality: 1.0 - f64::from(offer.map_or(500, |offer| offer.quality_permille)) / 1e3,
        carbon: f64::from(region.map_or(crate::CARBON_G_PER_KWH_UNKNOWN, |region| region.carbon_g_per_kwh)),
        sum: 0.0,
    }
}
