//! The pure core over random fleets: nothing leaves its scope, weights hold, nobody starves.

use std::collections::HashMap;
use std::sync::Arc;

use base::{Kind, Rng};
use proptest::prelude::{ProptestConfig, prop_assert, prop_assert_eq, proptest};
use route::{
    Against, Ask, Bound, By, Decision, Fleet, Group, Keeps, Level, Network, Offer, Place, Policy, Pool, PoolState,
    Region, Retry, Route, Score, Target, decide,
};

const NOW_MS: u64 = 1_000_000;
const PLACES: [&str; 8] = ["EU", "DE", "US", "CN", "JP", "frankfurt", "paris", "virginia"];

/// A random fleet: pools anywhere in any state, routes with groups and fallbacks, and settings of residency.
struct World {
    policy: Policy,
    states: Vec<PoolState>,
    bounds: Vec<Arc<Bound>>,
}

fn some_region(rng: &mut Rng) -> Region {
    let mut regions = Region::defaults();
    regions.swap_remove(rng.below(10) as usize)
}

fn pool(rng: &mut Rng, index: usize) -> Pool {
    let keeps = match rng.below(3) {
        0 => Keeps::Nothing,
        1 => Keeps::In(some_region(rng)),
        _ => Keeps::Unknown,
    };
    let computes = (rng.below(5) > 0).then(|| some_region(rng));
    let offer = |model: &str, rng: &mut Rng| Offer {
        input_micro_per_million: rng.below(1_000_000),
        output_micro_per_million: rng.below(1_000_000),
        quality_permille: rng.below(1_001) as u32,
        ..Offer::free(model)
    };
    Pool {
        name: format!("pool-{index}"),
        place: Place { computes, keeps },
        running_max: 1 + rng.below(4) as u32,
        offers: vec![offer("m", rng), offer("n", rng)],
        ..Pool::local(None)
    }
}

fn state(rng: &mut Rng) -> PoolState {
    let mut state =
        PoolState { running: rng.below(4) as u32, first_byte_us: rng.below(900_000), ..PoolState::default() };
    if rng.below(4) == 0 {
        (0..route::FAILURES_IN_A_ROW).for_each(|_| state.breaker.failed(NOW_MS - rng.below(3_000)));
    }
    if rng.below(5) == 0 {
        state.busy_until_ms = NOW_MS + rng.below(2_000);
    }
    (0..rng.below(4)).for_each(|_| state.checked(Err("down".to_owned())));
    state
}

fn route(rng: &mut Rng, model: &str, fallback: &[&str], pools: usize) -> Route {
    let mut groups = Vec::new();
    for group in 0..=rng.below(3) {
        let mut targets = Vec::new();
        for _ in 0..=rng.below(3) {
            let model = if rng.below(2) == 0 { "m".to_owned() } else { "n".to_owned() };
            targets.push(Target { pool: rng.below(pools as u64) as usize, model, weight: rng.below(4) as u32 });
        }
        groups.push(Group { name: format!("group-{group}"), weight: rng.below(4) as u32, targets });
    }
    let weight = |rng: &mut Rng| if rng.below(2) == 0 { 0.0 } else { rng.unit_f64() };
    let score = Score { cost: weight(rng), latency: weight(rng), quality: weight(rng), carbon: weight(rng) };
    let score = if rng.below(2) == 0 { score } else { Score::default() };
    Route {
        model: model.to_owned(),
        groups,
        fallback: fallback.iter().map(|&name| name.to_owned()).collect(),
        score,
        affinity: rng.below(2) == 0,
        hedge_ms: None,
    }
}

fn bound(rng: &mut Rng, level: Level) -> Option<Arc<Bound>> {
    let places = |rng: &mut Rng| {
        let some = (0..rng.below(4)).map(|_| PLACES[rng.below(8) as usize].to_owned()).collect();
        (rng.below(2) == 0).then_some(some)
    };
    let (data_region, compute_scope) = (places(rng), places(rng));
    (rng.below(3) == 0).then(|| Arc::new(Bound { level, name: "x".to_owned(), data_region, compute_scope }))
}

impl World {
    fn random(seed: u64) -> Self {
        let mut rng = Rng::seeded(seed);
        let pools: Vec<Pool> = (0..=rng.below(6) as usize).map(|index| pool(&mut rng, index)).collect();
        let states = pools.iter().map(|_| state(&mut rng)).collect();
        let routes = vec![
            route(&mut rng, "a", &["b", "a", "missing"], pools.len()),
            route(&mut rng, "b", &["c"], pools.len()),
            route(&mut rng, "c", &["a"], pools.len()),
        ];
        let levels = [Level::Organisation, Level::Project, Level::Key, Level::Bucket, Level::Model];
        let bounds = levels.into_iter().filter_map(|level| bound(&mut rng, level)).collect();
        let home = (rng.below(2) == 0).then(|| some_region(&mut rng));
        let (regions, mut residency) = (Region::defaults(), route::Residency::default());
        // Of what was asked for, what it falls back to, and what those are called where they are computed.
        for model in ["a", "b", "c", "m", "n"] {
            if let Some(bound) = bound(&mut rng, Level::Model) {
                residency.add(Bound { name: model.to_owned(), ..Bound::clone(&bound) });
            }
        }
        let (retry, network) = (Retry::default(), Network::default());
        let policy = Policy { version: 1, home, regions, pools, routes, residency, retry, network };
        Self { policy, states, bounds }
    }

    fn decide(&self, draw: u64, tried: &[(usize, String)]) -> Decision {
        let ask = Ask {
            model: "a",
            bounds: &self.bounds,
            residency: &self.policy.residency,
            prefix: draw.wrapping_mul(31),
            draw,
            prompt_tokens: 100,
            output_tokens: 100,
            bytes: 0,
            tried,
        };
        decide(NOW_MS, &ask, Fleet { policy: &self.policy, states: &self.states })
    }

    /// Written down once more, as plainly as it can be: whether a target may have the request.
    fn is_open(&self, route: &str, pool: usize, model: &str, tried: &[(usize, String)]) -> bool {
        let (place, state) = (&self.policy.pools[pool].place, &self.states[pool]);
        let allowed = |places: &Option<Vec<String>>, region: Option<&Region>| match (places, region) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(places), Some(region)) => {
                places.iter().any(|place| *place == region.name || region.jurisdictions.contains(place))
            }
        };
        let of_models = [route, model].into_iter().flat_map(|model| self.policy.residency.of_model(model));
        let inside = self.bounds.iter().chain(of_models).all(|bound| {
            let data = match &place.keeps {
                Keeps::Nothing => true,
                Keeps::In(region) => allowed(&bound.data_region, Some(region)),
                Keeps::Unknown => allowed(&bound.data_region, None),
            };
            data && allowed(&bound.compute_scope, place.computes.as_ref())
        });
        let up = state.breaker.admits(NOW_MS) && state.failed_checks < 2 && state.busy_until_ms <= NOW_MS;
        let new = !tried.contains(&(pool, model.to_owned()));
        inside && up && new && state.running < self.policy.pools[pool].running_max
    }

    fn open(&self, route: &str, tried: &[(usize, String)]) -> usize {
        let groups = self.policy.route(route).unwrap().groups.iter().filter(|group| group.weight > 0);
        let targets = groups.flat_map(|group| &group.targets).filter(|target| target.weight > 0);
        targets.filter(|target| self.is_open(route, target.pool, &target.model, tried)).count()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn nothing_leaves_its_scope_and_nobody_is_refused_who_could_be_served(seed: u64, draws: [u64; 4]) {
        let world = World::random(seed);
        for draw in draws {
            let mut tried = Vec::new();
            // As a request is tried again and again: every target at most once, then a refusal.
            for _ in 0..40 {
                let decision = world.decide(draw, &tried);
                prop_assert_eq!(&decision, &world.decide(draw, &tried), "the same question has the same answer");
                let Some(choice) = decision.choice.clone() else { break };
                let is_open = world.is_open(&choice.route, choice.pool, &choice.model, &tried);
                prop_assert!(is_open, "{:?}", decision.explain(&world.policy));
                for bound in &world.bounds {
                    prop_assert!(bound.admits(&world.policy.pools[choice.pool].place).is_ok());
                }
                // A fallback only where nobody before it could answer.
                let chain = ["a", "b", "c"];
                let step = chain.iter().position(|name| *name == choice.route).unwrap();
                for before in &chain[..step] {
                    prop_assert_eq!(world.open(before, &tried), 0);
                }
                tried.push((choice.pool, choice.model));
            }
            let last = world.decide(draw, &tried);
            prop_assert!(last.choice.is_none(), "no request is tried for ever");
            prop_assert!(["a", "b", "c"].iter().all(|name| world.open(name, &tried) == 0));
            let (_, reason) = last.refusal();
            prop_assert!(!reason.is_empty());
            prop_assert!(last.verdicts.iter().all(|verdict| verdict.outcome.is_err()), "each one has a reason");
        }
    }
}

/// `count` pools in Frankfurt with nothing against them, in one group each or all in one.
fn fleet(weights: &[u32], grouped: bool) -> World {
    let mut world = World::random(0);
    let home = Region::defaults().into_iter().find(|region| region.name == "frankfurt");
    world.policy.pools = (0..weights.len())
        .map(|index| Pool { name: format!("p{index}"), offers: vec![Offer::free("m")], ..Pool::local(home.clone()) })
        .collect();
    world.states = vec![PoolState::default(); weights.len()];
    world.bounds = Vec::new();
    world.policy.residency = route::Residency::default();
    let target = |pool: usize, weight: u32| Target { pool, model: "m".to_owned(), weight };
    let groups = if grouped {
        let one =
            |(pool, &weight): (usize, &u32)| Group { name: format!("g{pool}"), weight, targets: vec![target(pool, 1)] };
        weights.iter().enumerate().map(one).collect()
    } else {
        let targets = weights.iter().enumerate().map(|(pool, &weight)| target(pool, weight)).collect();
        vec![Group { name: "all".to_owned(), weight: 1, targets }]
    };
    let (fallback, score) = (Vec::new(), Score::default());
    world.policy.routes =
        vec![Route { model: "a".to_owned(), groups, fallback, score, affinity: false, hedge_ms: None }];
    world
}

fn shares(world: &World, draws: u64) -> Vec<f64> {
    let mut rng = Rng::seeded(11);
    let mut counts: HashMap<usize, f64> = HashMap::new();
    for _ in 0..draws {
        *counts.entry(world.decide(rng.next_u64(), &[]).choice.unwrap().pool).or_default() += 1.0;
    }
    (0..world.policy.pools.len()).map(|pool| counts.get(&pool).copied().unwrap_or(0.0) / draws as f64).collect()
}

#[test]
fn weights_are_respected_in_groups_and_among_them() {
    // 20,000 draws: a share deviates by less than 1.5 points in more than 99.99 of 100 runs; the seed is fixed.
    let check = |world: &World| {
        let found = shares(world, 20_000);
        for (share, expected) in found.iter().zip([0.95, 0.05, 0.0]) {
            assert!((share - expected).abs() < 0.015, "{found:?}");
        }
    };
    check(&fleet(&[95, 5, 0], true));
    check(&fleet(&[95, 5, 0], false));
    let mut by_prefix = fleet(&[95, 5, 0], false);
    by_prefix.policy.routes[0].affinity = true;
    check(&by_prefix);
}

#[test]
fn a_group_without_anybody_leaves_its_share_to_the_others() {
    let mut world = fleet(&[95, 5], true);
    (0..5).for_each(|_| world.states[0].breaker.failed(NOW_MS));
    assert_eq!(shares(&world, 500), [0.0, 1.0]);
}

#[test]
fn a_target_with_bad_figures_is_heard_of_again() {
    let mut world = fleet(&[1, 1, 1], false);
    world.policy.routes[0].score = Score { latency: 1.0, ..Score::default() };
    for (state, first_byte_us) in world.states.iter_mut().zip([10_000, 20_000, 900_000]) {
        state.answered(first_byte_us);
    }
    let found = shares(&world, 20_000);
    assert!(found[0] > 0.95 && found[1..].iter().all(|&share| share > 0.003), "{found:?}");
}

#[test]
fn prefixes_stay_and_only_those_of_a_lost_target_move() {
    let mut world = fleet(&[1, 1, 1, 1], false);
    world.policy.routes[0].affinity = true;
    let homes = |world: &World| -> Vec<usize> {
        (0..2_000).map(|prefix| world.decide(prefix, &[]).choice.unwrap()).map(|choice| choice.pool).collect()
    };
    let before = homes(&world);
    assert_eq!(before, homes(&world));
    (0..5).for_each(|_| world.states[2].breaker.failed(NOW_MS));
    let after = homes(&world);
    let moved = before.iter().zip(&after).filter(|(before, after)| before != after);
    assert!(moved.clone().all(|(before, _)| *before == 2), "only those of the lost one move");
    assert_eq!(moved.count(), before.iter().filter(|&&pool| pool == 2).count());
    // One that has far more to do than the others is passed over.
    world.states[0].running = 40;
    let eased = homes(&world);
    assert!(eased.iter().all(|&pool| pool != 0));
}

#[test]
fn scores_weigh_what_they_say() {
    let mut world = fleet(&[1, 1], false);
    world.policy.pools[0].offers[0].output_micro_per_million = 500_000;
    world.policy.pools[1].offers[0].output_micro_per_million = 400_000;
    world.policy.pools[1].offers[0].quality_permille = 400;
    let check = |world: &mut World, score: Score, expected: usize| {
        world.policy.routes[0].score = score;
        let mut rng = Rng::seeded(2);
        let choices = (0..100).map(|_| world.decide(rng.next_u64(), &[]).choice.unwrap());
        assert!(choices.filter(|choice| choice.by == By::Score).all(|choice| choice.pool == expected), "{score:?}");
    };
    check(&mut world, Score { cost: 1.0, ..Score::default() }, 1);
    check(&mut world, Score { quality: 1.0, ..Score::default() }, 0);
    let region = |name: &str| Region::defaults().into_iter().find(|region| region.name == name);
    world.policy.pools[1].place.computes = region("paris");
    check(&mut world, Score { carbon: 1.0, ..Score::default() }, 1);
    world.policy.pools[1].place.computes = region("tokyo");
    world.policy.home = region("frankfurt");
    check(&mut world, Score { latency: 1.0, ..Score::default() }, 0);
}

#[test]
fn refusals_explain_themselves() {
    let mut world = fleet(&[1, 1], false);
    let bound = |places: &[&str]| {
        let compute_scope = Some(places.iter().map(|&place| place.to_owned()).collect());
        let name = "acme".to_owned();
        Arc::new(Bound { level: Level::Project, name, data_region: None, compute_scope })
    };
    world.bounds = vec![bound(&["US"])];
    let (kind, reason) = world.decide(1, &[]).refusal();
    assert_eq!(kind, Kind::Forbidden);
    assert_eq!(reason, "project acme: compute_scope is US; frankfurt (DE, EU) is outside");
    world.bounds = vec![bound(&["EU"])];
    world.states[0].busy_until_ms = NOW_MS + 1;
    world.states[1].running = u32::MAX;
    let decision = world.decide(1, &[]);
    assert_eq!(decision.refusal().0, Kind::Exhausted);
    let explained = decision.explain(&world.policy);
    assert_eq!(explained["targets"][0]["against"]["what"], "busy");
    assert_eq!(explained["targets"][1]["against"]["what"], "full");
    assert_eq!(explained["refusal"]["kind"], "exhausted");
    assert!(matches!(decision.verdicts[0].outcome, Err(Against::Busy { .. })));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, ..ProptestConfig::default() })]

    #[test]
    fn what_a_machine_computes_and_keeps_is_inside_of_every_setting(seed: u64) {
        let mut rng = Rng::seeded(seed);
        let place = pool(&mut rng, 0).place;
        let border = route::Border::around(place.clone());
        let caller = chat::Caller { project: "p".into(), key: "k".into(), priority: chat::Priority::Normal };
        prop_assert!(border.admits(Some(&caller), Some("bucket"), "m").is_ok(), "nothing is limited yet");
        let mut residency = route::Residency::default();
        residency.set_organisation("p", "o");
        let mut set = Vec::new();
        // Some are of this request, some of others, some are said twice.
        for _ in 0..rng.below(8) {
            let (level, own) = [
                (Level::Organisation, "o"), (Level::Project, "p"), (Level::Key, "k"), (Level::Bucket, "bucket"),
                (Level::Model, "m"),
            ][rng.below(5) as usize];
            let is_own = rng.below(3) > 0;
            let Some(bound) = bound(&mut rng, level) else { continue };
            let name = if is_own { own } else { "other" }.to_owned();
            let bound = Bound { name, ..Bound::clone(&bound) };
            residency.add(bound.clone());
            if is_own { set.push(bound); }
        }
        border.set(residency);
        let outside: Vec<String> = set.iter().filter_map(|bound| bound.admits(&place).err()).collect();
        match border.admits(Some(&caller), Some("bucket"), "m") {
            Ok(()) => prop_assert!(outside.is_empty(), "{outside:?}"),
            Err(why) => {
                prop_assert!(!outside.is_empty());
                // Every setting that says no is named.
                for reason in &outside { prop_assert!(why.contains(reason), "{why} lacks {reason}"); }
            }
        }
        // What is kept is held to the regions of data alone, read here by hand: the place's name or a law that holds.
        let lies_in = |allowed: &[String]| match &place.keeps {
            Keeps::Nothing => true,
            Keeps::Unknown => false,
            Keeps::In(region) => allowed.iter().any(|at| *at == region.name || region.jurisdictions.contains(at)),
        };
        let of_kept = set.iter().filter(|bound| bound.level != Level::Bucket);
        let may_keep = of_kept.filter_map(|bound| bound.data_region.as_deref()).all(lies_in);
        prop_assert_eq!(border.admits_kept(Some(&caller), "m").is_ok(), may_keep);
        // Whoever has no account is held to buckets and models only.
        let nobody = set.iter().filter(|bound| matches!(bound.level, Level::Bucket | Level::Model));
        let is_inside = nobody.clone().all(|bound| bound.admits(&place).is_ok());
        prop_assert_eq!(border.admits(None, Some("bucket"), "m").is_ok(), is_inside);
    }
}
