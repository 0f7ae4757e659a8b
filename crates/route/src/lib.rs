//! Upstream pools, and who answers which request.
//!
//! Everything here stands behind [`chat::Generate`], so every dialect uses it without knowing.
//!
//! * `upstream`: a server in OpenAI's, Anthropic's or DashScope's form as a [`chat::Generate`]. A cut stream never
//!   looks finished, every wait and every buffer has a limit, and a whole answer has exactly one usage.
//! * `fault`: what can go wrong with an upstream, and what follows from it.
//! * `limits`, `secret`: how long an upstream is waited for, and what only it may see.
//! * `breaker`: a pool that fails is left alone for a while.
//! * `network`: the links between regions, by which a request with many bytes waits longer; the planner computes it.
//! * `region`, `residency`: where machines stand, and where data may be kept and computed on.
//! * `confined`: this machine's models and what it keeps, held to the same limits where nothing is routed.
//! * `pictures`: what requests name by its address, fetched for this machine's models.
//! * `testing`: an upstream that misbehaves on demand.
//!
//! * `policy`, `config`: who may answer what, as data and as text.
//! * `decide`: the choice, a pure function that explains itself. `state` is what it knows of pools.
//! * `router`: all pools as one [`chat::Generate`]: tries, budget, hedging, health.
//!
//! Deliberately absent: a database, prices in money, accounts. Configuration comes as text, secrets through a function.

#![warn(missing_docs)]

mod breaker;
mod config;
mod confined;
mod decide;
mod error;
mod fault;
mod limits;
mod network;
mod pictures;
mod policy;
mod region;
mod residency;
mod router;
mod secret;
mod state;
pub mod testing;
mod upstream;

pub use breaker::{Breaker, BreakerState, FAILURES_IN_A_ROW};
pub use confined::{Border, Confined};
pub use decide::{Against, Ask, By, CHAIN_MAX, Choice, Decision, Fleet, Marks, Question, Verdict, decide};
pub use error::{Error, Result};
pub use fault::{Fault, Waiting};
pub use limits::TimeLimits;
pub use network::{Link, Network, Reach};
pub use pictures::{Fetching, Pictures};
pub use policy::{Group, LOCAL, Offer, Policy, Pool, Retry, Route, Score, Target};
pub use region::{CARBON_G_PER_KWH_UNKNOWN, Region};
pub use residency::{Bound, Keeps, Level, Place, Places, Residency};
pub use router::{Router, Secrets};
pub use secret::Secret;
pub use state::{Counts, PoolState, RetryBudget};
pub use upstream::{Form, Server, Upstream, UpstreamModel, UpstreamOptions};
