//! Who may come now: GCRA (the generic cell rate algorithm, ITU-T I.371) as a leaky bucket that holds whole numbers.
//!
//! What came fills a bucket, which leaks the limit's amount per minute and holds its burst. So in any span of time `t`
//! no more comes than `burst + amount * t`. A bucket's content is kept in parts of 1/60,000,000, of which an amount
//! of 1 per minute leaks one per microsecond, so nothing is ever rounded.
//!
//! Tokens are known when an answer is over. A request comes in with what it is expected to use; afterwards its bucket
//! is corrected. What was too much is given back only as far as it cannot have leaked meanwhile (otherwise a request
//! that expects much, uses nothing and takes long would make room twice); what was too little is owed, and holds up
//! those who come next. The crate `governor` keeps the same algorithm, but cannot correct, nor ask several limits at
//! once and charge either all or none.

use std::collections::HashMap;

use super::{Holder, Limit, Measure};

/// Parts of one request or token.
const PARTS: u128 = 60_000_000;
/// Holders that are remembered before those that are idle are looked for and forgotten.
const REMEMBERED: usize = 10_000;

/// So many per minute, and so many at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Rate {
    amount: u64,
    burst: u64,
}

#[derive(Debug, Clone, Copy, Default)]
struct Rates {
    requests: Option<Rate>,
    tokens: Option<Rate>,
    concurrent: Option<u64>,
}

impl Rates {
    fn is_empty(self) -> bool {
        self.requests.is_none() && self.tokens.is_none() && self.concurrent.is_none()
    }
}

/// What came and has not leaked, as it was at one moment.
#[derive(Debug, Clone, Copy, Default)]
struct Bucket {
    parts: u128,
    at_us: u64,
}

impl Bucket {
    /// What is left of it now.
    fn now(self, rate: Rate, now_us: u64) -> u128 {
        let leaked = u128::from(rate.amount) * u128::from(now_us.saturating_sub(self.at_us));
        self.parts.saturating_sub(leaked)
    }

    fn set(&mut self, parts: u128, now_us: u64) {
        *self = Self { parts, at_us: self.at_us.max(now_us) };
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Use {
    requests: Bucket,
    tokens: Bucket,
    running: u64,
}

/// A request at the gate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// Whose limits it is held to.
    pub holders: Vec<Holder>,
    /// Tokens that it is expected to read and write.
    pub tokens: u64,
}

/// Why somebody may not come in now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Whose limit it is.
    pub holder: Holder,
    /// Of what.
    pub measure: Measure,
    /// What the limit allows at once.
    pub limit: u64,
    /// How much of it is used.
    pub used: u64,
    /// How much was asked for.
    pub asked: u64,
    /// When there is room; `None` if more is asked for than the limit ever allows at once.
    pub wait_us: Option<u64>,
}

/// How a holder stands with one limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// What may come at once after a pause.
    pub limit: u64,
    /// What may come at once now.
    pub remaining: u64,
    /// When all of it may come again.
    pub reset_us: u64,
}

/// Somebody who came in. It must be given back, or the places it holds are never free again.
#[derive(Debug)]
#[must_use = "a place that is not given back is never free again"]
pub struct Ticket {
    holders: Vec<Holder>,
    tokens: u64,
    at_us: u64,
}

/// Who has limits, and how much of them is used.
#[derive(Debug, Default)]
pub struct Gate {
    rates: HashMap<Holder, Rates>,
    uses: HashMap<Holder, Use>,
    /// Holders when idle ones were last looked for.
    kept: usize,
}

impl Gate {
    /// A gate with these limits; of two for the same holder and measure the later one counts.
    #[must_use]
    pub fn new(limits: &[Limit]) -> Self {
        let mut gate = Self::default();
        gate.set(limits);
        gate
    }

    /// Puts other limits in force. What was used stays used, and whoever is in stays in.
    pub fn set(&mut self, limits: &[Limit]) {
        self.rates.clear();
        for limit in limits {
            let rates = self.rates.entry(limit.holder.clone()).or_default();
            let rate = Some(Rate { amount: limit.amount, burst: limit.burst });
            match limit.measure {
                Measure::Requests => rates.requests = rate,
                Measure::Tokens => rates.tokens = rate,
                Measure::Concurrent => rates.concurrent = Some(limit.amount),
            }
        }
    }

    /// Lets somebody in whom every limit allows, and counts them; otherwise nothing changes.
    ///
    /// # Errors
    /// The refusal that lasts longest.
    pub fn admit(&mut self, asked: &Asked, now_us: u64) -> Result<Ticket, Refused> {
        let limited: Vec<(Holder, Rates)> = asked
            .holders
            .iter()
            .map(|holder| (holder.clone(), self.rates_of(holder)))
            .filter(|(_, rates)| !rates.is_empty())
            .collect();
        let refusals = limited.iter().flat_map(|(holder, rates)| self.refusals(holder, *rates, asked.tokens, now_us));
        if let Some(longest) = refusals.max_by_key(|refused| refused.wait_us.unwrap_or(u64::MAX)) {
            return Err(longest);
        }
        self.make_room(now_us);
        for (holder, rates) in &limited {
            let used = self.uses.entry(holder.clone()).or_default();
            used.running += 1;
            if let Some(rate) = rates.requests {
                used.requests.set(used.requests.now(rate, now_us) + PARTS, now_us);
            }
            if let Some(rate) = rates.tokens {
                used.tokens.set(used.tokens.now(rate, now_us) + u128::from(asked.tokens) * PARTS, now_us);
            }
        }
        let holders = limited.into_iter().map(|(holder, _)| holder).collect();
        Ok(Ticket { holders, tokens: asked.tokens, at_us: now_us })
    }

    /// Gives the place back, and corrects what was expected to what was used.
    pub fn leave(&mut self, ticket: Ticket, used_tokens: u64, now_us: u64) {
        let Ticket { holders, tokens, at_us } = ticket;
        for holder in holders {
            let rate = self.rates_of(&holder).tokens;
            let Some(used) = self.uses.get_mut(&holder) else { continue };
            used.running = used.running.saturating_sub(1);
            let Some(rate) = rate else { continue };
            let owed = u128::from(used_tokens.saturating_sub(tokens)) * PARTS;
            let leaked = u128::from(rate.amount) * u128::from(now_us.saturating_sub(at_us));
            let spare = (u128::from(tokens.saturating_sub(used_tokens)) * PARTS).saturating_sub(leaked);
            let parts = (used.tokens.now(rate, now_us) + owed).saturating_sub(spare);
            used.tokens.set(parts, now_us);
        }
    }

    /// How the one of them stands who has least left of a limit; `None` if nobody has such a limit.
    #[must_use]
    pub fn standing(&self, holders: &[Holder], measure: Measure, now_us: u64) -> Option<Standing> {
        let standings = holders.iter().filter_map(|holder| {
            let (rates, used) = (self.rates_of(holder), self.used(holder));
            let (rate, bucket) = match measure {
                Measure::Requests => (rates.requests?, used.requests),
                Measure::Tokens => (rates.tokens?, used.tokens),
                Measure::Concurrent => {
                    let limit = rates.concurrent?;
                    return Some(Standing { limit, remaining: limit.saturating_sub(used.running), reset_us: 0 });
                }
            };
            let parts = bucket.now(rate, now_us);
            let remaining = (u128::from(rate.burst) * PARTS).saturating_sub(parts) / PARTS;
            let reset_us = whole(parts.div_ceil(u128::from(rate.amount)));
            Some(Standing { limit: rate.burst, remaining: whole(remaining), reset_us })
        });
        standings.min_by_key(|standing| standing.remaining)
    }

    /// Holders that something is remembered of.
    #[must_use]
    pub fn remembered(&self) -> usize {
        self.uses.len()
    }

    fn rates_of(&self, holder: &Holder) -> Rates {
        if self.rates.is_empty() {
            return Rates::default();
        }
        let own = self.rates.get(holder).copied().unwrap_or_default();
        let each = self.rates.get(&holder.each()).copied().unwrap_or_default();
        Rates {
            requests: own.requests.or(each.requests),
            tokens: own.tokens.or(each.tokens),
            concurrent: own.concurrent.or(each.concurrent),
        }
    }

    fn used(&self, holder: &Holder) -> Use {
        self.uses.get(holder).copied().unwrap_or_default()
    }

    /// Every limit of a holder that does not allow it.
    fn refusals(&self, holder: &Holder, rates: Rates, tokens: u64, now_us: u64) -> Vec<Refused> {
        let used = self.used(holder);
        let refused = |measure, limit, used, asked, wait_us| {
            let holder = holder.clone();
            Refused { holder, measure, limit, used, asked, wait_us }
        };
        let mut refusals = Vec::new();
        // Nobody knows when an answer is over.
        if let Some(limit) = rates.concurrent.filter(|limit| used.running >= *limit) {
            refusals.push(refused(Measure::Concurrent, limit, used.running, 1, Some(0)));
        }
        for (measure, rate, bucket, asked) in [
            (Measure::Requests, rates.requests, used.requests, 1),
            (Measure::Tokens, rates.tokens, used.tokens, tokens),
        ] {
            let Some(rate) = rate else { continue };
            let parts = bucket.now(rate, now_us);
            let beyond = (parts + u128::from(asked) * PARTS).saturating_sub(u128::from(rate.burst) * PARTS);
            if beyond > 0 {
                let wait_us = (asked <= rate.burst).then(|| whole(beyond.div_ceil(u128::from(rate.amount))));
                refusals.push(refused(measure, rate.burst, whole(parts.div_ceil(PARTS)), asked, wait_us));
            }
        }
        refusals
    }

    /// Forgets whoever is idle, if there are many. Whoever is not stays: forgetting them would let them in again. The
    /// next look is when there are twice as many, so that looking costs nothing in the long run.
    fn make_room(&mut self, now_us: u64) {
        if self.uses.len() < REMEMBERED.max(2 * self.kept) {
            return;
        }
        let mut uses = std::mem::take(&mut self.uses);
        uses.retain(|holder, used| {
            let rates = self.rates_of(holder);
            let is_empty = |rate: Option<Rate>, bucket: Bucket| rate.is_none_or(|rate| bucket.now(rate, now_us) == 0);
            used.running > 0 || !is_empty(rates.requests, used.requests) || !is_empty(rates.tokens, used.tokens)
        });
        self.kept = uses.len();
        self.uses = uses;
    }
}

fn whole(number: u128) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
