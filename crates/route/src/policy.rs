//! Who may answer which model, as data: made from configuration, never changed.

use std::collections::HashSet;

use base::Rng;
use serde::Serialize;
use serde_json::Value;

use crate::decide::{Ask, Fleet, Question, decide};
use crate::{Error, Link, Network, Place, PoolState, Region, Residency, Result, UpstreamOptions};

/// The name of the pool of this machine's own models.
pub const LOCAL: &str = "local";

/// The length of prompts and answers that nobody has measured, where a decision weighs costs.
pub(crate) const OUTPUT_TOKENS_GUESS: u32 = 512;

/// Everything that decides who answers.
#[derive(Debug, Clone)]
pub struct Policy {
    /// The operator's number for this text, shown in every decision.
    pub version: u64,
    /// The region of this machine.
    pub home: Option<Region>,
    /// All regions.
    pub regions: Vec<Region>,
    /// Who answers.
    pub pools: Vec<Pool>,
    /// By the name that requests use.
    pub routes: Vec<Route>,
    /// Where data may be kept and computed on.
    pub residency: Residency,
    /// How often a request may be tried.
    pub retry: Retry,
    /// The links between regions.
    pub network: Network,
}

/// How often a request may be tried, as long as nothing was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Retry {
    /// Tries of one request, the first one too.
    pub tries_max: u32,
    /// Further tries of all requests together, in hundredths of the requests.
    pub budget_percent: u32,
}

impl Default for Retry {
    /// Three tries; a fifth of the requests may be tried again, so that a fleet that fails is not asked twice as much.
    fn default() -> Self {
        Self { tries_max: 3, budget_percent: 20 }
    }
}

/// Who answers: an upstream, or the models of this machine.
#[derive(Debug, Clone)]
pub struct Pool {
    /// Its name.
    pub name: String,
    /// Where it stands.
    pub place: Place,
    /// How it is reached; `None`: it is [`LOCAL`].
    pub upstream: Option<UpstreamOptions>,
    /// The name of its secret, if it has one.
    pub secret: Option<String>,
    /// Requests that may run there at once.
    pub running_max: u32,
    /// Between two checks of its health; `None`: it is not checked.
    pub check_every_ms: Option<u64>,
    /// What its models cost and are worth.
    pub offers: Vec<Offer>,
}

/// A model of a pool.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Offer {
    /// Its name in the pool.
    pub model: String,
    /// Millionths of a dollar for a million tokens of the prompt. What a decision weighs, not what anybody is billed.
    pub input_micro_per_million: u64,
    /// The same for generated tokens.
    pub output_micro_per_million: u64,
    /// How good it is, in thousandths, as the operator sees it.
    pub quality_permille: u32,
}

/// Who answers for one name.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Route {
    /// The name that requests use.
    pub model: String,
    /// Shares of the traffic.
    pub groups: Vec<Group>,
    /// Names of routes that are tried in turn when nobody here can answer.
    pub fallback: Vec<String>,
    /// What makes one target better than another. All zero: weights alone decide.
    pub score: Score,
    /// Prompts that begin alike go to the same target, which has computed that beginning already.
    pub affinity: bool,
    /// When another target is asked too if nothing has come from the first, in milliseconds; `None`: never.
    pub hedge_ms: Option<u64>,
}

/// What makes a target better, each with its weight.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Score {
    /// Cheaper ones.
    pub cost: f64,
    /// Those whose first byte comes sooner, the way there and the request's bytes included, and that have less to do.
    pub latency: f64,
    /// Those that the operator holds for better.
    pub quality: f64,
    /// Those whose grid causes less carbon dioxide.
    pub carbon: f64,
}

impl Score {
    /// Whether anything is weighed.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.cost + self.latency + self.quality + self.carbon > 0.0
    }
}

/// A share of the traffic: `stable` and `canary`, for example.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// Its share beside the others'.
    pub weight: u32,
    /// Who is in it.
    pub targets: Vec<Target>,
}

/// A pool in a group.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Target {
    /// Which pool, by its place in [`Policy::pools`].
    pub pool: usize,
    /// The name that the model has in that pool.
    pub model: String,
    /// Its share beside the others' in the group.
    pub weight: u32,
}

impl Policy {
    /// The same, with a route for every model of a pool that has none: all pools that serve a name share its traffic
    /// evenly, and prompts that begin alike stay together. `local` are the names of this machine's own models.
    #[must_use]
    pub fn completed(mut self, local: &[String]) -> Self {
        for pool in self.pools.iter_mut().filter(|pool| pool.upstream.is_none()) {
            let unknown = local.iter().filter(|name| !pool.offers.iter().any(|offer| offer.model == **name));
            let new: Vec<Offer> = unknown.map(|name| Offer::free(name)).collect();
            pool.offers.extend(new);
        }
        let routed: HashSet<String> = self.routes.iter().map(|route| route.model.clone()).collect();
        let mut seen = HashSet::new();
        let offers = self.pools.iter().flat_map(|pool| &pool.offers);
        let names: Vec<String> = offers.map(|offer| offer.model.clone()).collect();
        for name in names.into_iter().filter(|name| !routed.contains(name) && seen.insert(name.clone())) {
            let targets = self.pools.iter().enumerate();
            let targets = targets.filter(|(_, pool)| pool.offers.iter().any(|offer| offer.model == name));
            let targets = targets.map(|(pool, _)| Target { pool, model: name.clone(), weight: 1 }).collect();
            let groups = vec![Group { name: "all".to_owned(), weight: 1, targets }];
            let (fallback, score) = (Vec::new(), Score::default());
            self.routes.push(Route { model: name, groups, fallback, score, affinity: true, hedge_ms: None });
        }
        self
    }

    /// What would be decided for a request if every pool were well and idle, as JSON; `None` if nothing of this name is
    /// served.
    #[must_use]
    pub fn explain(&self, question: &Question<'_>, now_ms: u64, seed: u64) -> Option<Value> {
        let Question { model, caller, bucket, bytes } = *question;
        self.route(model)?;
        let bounds = self.residency.of(caller, bucket, model);
        let mut rng = Rng::seeded(seed);
        let (prefix, draw) = (rng.next_u64(), rng.next_u64());
        let (prompt_tokens, output_tokens) = (OUTPUT_TOKENS_GUESS, OUTPUT_TOKENS_GUESS);
        let residency = &self.residency;
        let ask =
            Ask { model, bounds: &bounds, residency, prefix, draw, prompt_tokens, output_tokens, bytes, tried: &[] };
        let states = vec![PoolState::default(); self.pools.len()];
        Some(decide(now_ms, &ask, Fleet { policy: self, states: &states }).explain(self))
    }

    /// The same without the links between two regions: what if they fail.
    ///
    /// # Errors
    /// [`Error::Policy`] if there is no such link.
    pub fn without_link(mut self, ends: [&str; 2]) -> Result<Self> {
        let is_it = |link: &Link| ends.iter().all(|end| link.between.iter().any(|name| name == end));
        let all = self.network.links();
        if !all.iter().any(is_it) {
            let known: Vec<String> = all.iter().map(|link| link.between.join(" - ")).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            return Err(Error::Policy { wrong: vec![format!("no link {}; there are: {known}", ends.join(" - "))] });
        }
        let left: Vec<Link> = all.iter().filter(|link| !is_it(link)).cloned().collect();
        self.network =
            Network::new(self.home.as_ref(), &self.regions, left).map_err(|wrong| Error::Policy { wrong })?;
        Ok(self)
    }

    /// The same on a machine that stands there.
    ///
    /// # Errors
    /// [`Error::Policy`] if its links cannot be laid from there.
    pub fn at(mut self, home: Option<Region>) -> Result<Self> {
        if let Some(local) = self.pools.iter_mut().find(|pool| pool.upstream.is_none()) {
            local.place.computes.clone_from(&home);
        }
        let links = self.network.links().to_vec();
        self.network = Network::new(home.as_ref(), &self.regions, links).map_err(|wrong| Error::Policy { wrong })?;
        Ok(Self { home, ..self })
    }

    /// The route of a name.
    #[must_use]
    pub fn route(&self, model: &str) -> Option<&Route> {
        self.routes.iter().find(|route| route.model == model)
    }
}

impl Offer {
    /// A model of which nothing is said.
    #[must_use]
    pub fn free(model: &str) -> Self {
        let (input_micro_per_million, output_micro_per_million, quality_permille) = (0, 0, 500);
        Self { model: model.to_owned(), input_micro_per_million, output_micro_per_million, quality_permille }
    }
}

impl Pool {
    /// The models of this machine, standing at `home`; they keep nothing.
    #[must_use]
    pub fn local(home: Option<Region>) -> Self {
        Self {
            name: LOCAL.to_owned(),
            place: Place { computes: home, keeps: crate::Keeps::Nothing },
            upstream: None,
            secret: None,
            running_max: u32::MAX,
            check_every_ms: None,
            offers: Vec::new(),
        }
    }
}
