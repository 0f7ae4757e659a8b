//! The flow simulator: every flow gets its max-min fair rate at every instant, and runs until its bytes are through.
//!
//! Four ideas make it fast and keep it exact:
//!
//! 1. **Symmetry** (`reduce`). Links and flows that no refinement of colours can tell apart behave alike for ever, so
//!    one of each stands for its class. An all-reduce of 15,360 GPUs becomes a handful of flows.
//! 2. **Independence** (`parts`). Flows that share no link, not even through others, are solved apart, several such
//!    parts at once where the problem is large.
//! 3. **Progressive filling** (`shares`). All rates rise together; a link that is full freezes the flows on it.
//!    One heap over links, `O(entries + links log links)`.
//! 4. **Local repair** (`shares`). When a flow comes or goes, only levels at and above the lowest touched one can move.
//!    The repair walks outward from the touched links in the order of their levels and stops where rates stay.
//!
//! Between two events rates are constant, so the next event is the earliest finish in a heap or the next arrival.
//! With [`Options::coalesce`] above the rounding error, finishes that lie that close together share one repair; that
//! is the only approximation, and it errs to the slow side by at most about half of the number given.

mod certificate;
mod heap;
mod parts;
mod reduce;
mod run;
mod shares;

#[cfg(test)]
mod tests;

use crate::error::{Error, Result, at_most};

pub(crate) use parts::threads;

/// The most entries (flow times link) that one simulation takes.
pub const ENTRIES_MAX: u64 = 200_000_000;

/// Finishes this close together, relative to the time, count as one event; far below the 1e-6 that is promised.
const COALESCE_EXACT: f64 = 1e-10;

/// A list of flows with their paths, as flat arrays.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Flows {
    first: Vec<u32>,
    links: Vec<u32>,
    /// The share of a flow's bytes that crosses the link; empty while every share is 1.
    shares: Vec<f64>,
    bytes: Vec<f64>,
    start_s: Vec<f64>,
}

impl Flows {
    /// No flows, with room for `flows` of them over `entries` links in all.
    #[must_use]
    pub fn with_capacity(flows: usize, entries: usize) -> Self {
        let mut first = Vec::with_capacity(flows + 1);
        first.push(0);
        Self {
            first,
            links: Vec::with_capacity(entries),
            shares: Vec::new(),
            bytes: Vec::with_capacity(flows),
            start_s: Vec::with_capacity(flows),
        }
    }

    /// Adds a flow of `bytes` over a path of links, and returns its number. No link twice.
    pub fn push(&mut self, bytes: f64, start_s: f64, path: &[u32]) -> u32 {
        self.links.extend_from_slice(path);
        if !self.shares.is_empty() {
            self.shares.resize(self.links.len(), 1.0);
        }
        self.close(bytes, start_s)
    }

    /// Adds a flow that is sprayed: each link carries the given share of its bytes.
    pub fn push_spread(&mut self, bytes: f64, start_s: f64, path: &[(u32, f64)]) -> u32 {
        self.shares.resize(self.links.len(), 1.0);
        self.links.extend(path.iter().map(|entry| entry.0));
        self.shares.extend(path.iter().map(|entry| entry.1));
        self.close(bytes, start_s)
    }

    fn close(&mut self, bytes: f64, start_s: f64) -> u32 {
        if self.first.is_empty() {
            self.first.push(0);
        }
        self.first.push(self.links.len() as u32);
        self.bytes.push(bytes);
        self.start_s.push(start_s);
        self.bytes.len() as u32 - 1
    }

    /// How many flows there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The links of a flow.
    #[must_use]
    pub fn path(&self, flow: usize) -> &[u32] {
        &self.links[self.range(flow)]
    }

    /// The bytes of a flow.
    #[must_use]
    pub fn bytes(&self, flow: usize) -> f64 {
        self.bytes[flow]
    }

    /// When a flow starts.
    #[must_use]
    pub fn start_s(&self, flow: usize) -> f64 {
        self.start_s[flow]
    }

    /// Changes the size of every flow, for example by the headers of its packets.
    pub fn scale_bytes(&mut self, factor: f64) {
        self.bytes.iter_mut().for_each(|bytes| *bytes *= factor);
    }

    /// The links of a flow, each with the share of its bytes.
    pub fn entries(&self, flow: usize) -> impl Iterator<Item = (u32, f64)> + '_ {
        self.range(flow).map(|entry| (self.links[entry], self.share(entry)))
    }

    /// Adds all of some other flows behind these.
    pub fn append(&mut self, other: &Self) {
        if !self.shares.is_empty() || !other.shares.is_empty() {
            self.shares.resize(self.links.len(), 1.0);
            self.shares.extend((0..other.links.len()).map(|entry| other.share(entry)));
        }
        let before = self.links.len() as u32;
        if self.first.is_empty() {
            self.first.push(0);
        }
        self.first.extend(other.first.iter().skip(1).map(|&first| before + first));
        self.links.extend_from_slice(&other.links);
        self.bytes.extend_from_slice(&other.bytes);
        self.start_s.extend_from_slice(&other.start_s);
    }

    /// Adds one of these flows to others, with another size and start; returns its number there.
    pub fn copy_to(&self, flow: usize, bytes: f64, start_s: f64, to: &mut Self) -> u32 {
        if self.shares.is_empty() && to.shares.is_empty() {
            return to.push(bytes, start_s, self.path(flow));
        }
        let entries: Vec<(u32, f64)> = self.entries(flow).collect();
        to.push_spread(bytes, start_s, &entries)
    }

    /// Gives every flow a new start.
    pub fn restart(&mut self, start_s: impl Fn(usize) -> f64) {
        self.start_s.iter_mut().enumerate().for_each(|(flow, start)| *start = start_s(flow));
    }

    /// Empties the flows that are named: they finish when they start.
    pub fn drop_bytes(&mut self, which: impl Fn(usize) -> bool) {
        self.bytes.iter_mut().enumerate().filter(|(flow, _)| which(*flow)).for_each(|(_, bytes)| *bytes = 0.0);
    }

    /// The bytes that each of `links` links has to carry in all.
    #[must_use]
    pub fn load(&self, links: usize) -> Vec<f64> {
        let mut load = vec![0.0; links];
        for flow in 0..self.len() {
            for entry in self.range(flow) {
                load[self.links[entry] as usize] += self.bytes[flow] * self.share(entry);
            }
        }
        load
    }

    fn range(&self, flow: usize) -> std::ops::Range<usize> {
        self.first[flow] as usize..self.first[flow + 1] as usize
    }

    fn share(&self, entry: usize) -> f64 {
        self.shares.get(entry).copied().unwrap_or(1.0)
    }

    fn check(&self, capacities: &[f64]) -> Result<()> {
        at_most("flow entries", self.links.len() as u64, ENTRIES_MAX)?;
        if let Some(link) = self.links.iter().find(|&&link| link as usize >= capacities.len()) {
            return Err(Error::invalid("flow", format!("link {link} of {}", capacities.len())));
        }
        let sound = |value: f64| value.is_finite() && value >= 0.0;
        if let Some(bytes) = self.bytes.iter().find(|bytes| !sound(**bytes)) {
            return Err(Error::invalid("flow", format!("{bytes} bytes")));
        }
        if let Some(start_s) = self.start_s.iter().find(|start_s| !sound(**start_s)) {
            return Err(Error::invalid("flow", format!("starts at {start_s} s")));
        }
        if let Some(share) = self.shares.iter().find(|share| !(share.is_finite() && **share > 0.0)) {
            return Err(Error::invalid("flow", format!("share {share} of a link")));
        }
        if let Some(capacity) = capacities.iter().find(|capacity| !(capacity.is_finite() && **capacity > 0.0)) {
            return Err(Error::invalid("link", format!("capacity {capacity}")));
        }
        Ok(())
    }
}

/// How to simulate. The default is exact.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// Finishes within this share of the elapsed time are handled together, each at its own time but with one repair of
    /// the rates at the last; among flows that depend on each other. 0 is exact.
    pub coalesce: f64,
    /// Whether to look for symmetry first. It never changes the result.
    pub reduce: bool,
    /// Stop here; what is left of each flow is in [`Outcome::left_bytes`].
    pub until_s: Option<f64>,
}

impl Default for Options {
    fn default() -> Self {
        Self { coalesce: 0.0, reduce: true, until_s: None }
    }
}

/// What became of the flows.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// When each flow finished; infinite if the simulation stopped before.
    pub finish_s: Vec<f64>,
    /// Bytes that each flow had left at [`Options::until_s`]; empty if every flow finished.
    pub left_bytes: Vec<f64>,
    /// The last finish.
    pub makespan_s: f64,
    /// How many classes of flows were simulated.
    pub classes: usize,
    /// How many times rates were computed or repaired.
    pub repairs: u64,
}

/// Runs the flows over links of these capacities (bytes a second).
///
/// # Errors
/// If a flow names a link that does not exist, or a number is negative or not finite.
pub fn simulate(capacities: &[f64], flows: &Flows, options: &Options) -> Result<Outcome> {
    flows.check(capacities)?;
    Ok(run::run(capacities, flows, options))
}

/// The max-min fair rate of every flow, all of them present at once. Infinite for a flow without links.
///
/// # Errors
/// As [`simulate`].
pub fn fair_rates(capacities: &[f64], flows: &Flows) -> Result<Vec<f64>> {
    flows.check(capacities)?;
    Ok(run::rates(capacities, flows))
}
