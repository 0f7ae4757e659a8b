//! The end of a request.

use super::burn::Due;
use super::{Books, Change, Charge, Reservation, State, Used, check_amount};
use crate::account::{AccountId, House, Unit};
use crate::money::share_up;
use crate::{Error, Result};

/// A request that used more than was reserved for it is charged at most so much more, in percent of what was reserved,
/// and only as far as its project's accounts and budgets go. The rest is written off. An engine of our own never
/// exceeds a reservation; a foreign one that counts tokens differently may.
pub const OVERRUN_PERCENT: i64 = 10;

impl Books {
    pub(super) fn settle(&self, id: &str, used: Used, now_ms: u64) -> Result<Change> {
        check_amount(Unit::Micro, used.cost_micro, 0)?;
        check_amount(Unit::Token, used.tokens, 0)?;
        let reservation = self.open_reservation(id)?;
        let project = &reservation.project;
        let value_micro = self.chargeable(reservation, used.cost_micro);
        let mut due = Due(Used {
            tokens: if used.cost_micro == 0 { 0 } else { share_up(used.tokens, value_micro, used.cost_micro) },
            cost_micro: value_micro,
        });
        let mut change = Change::default();
        let mut charge = Charge::default();
        for part in &reservation.parts {
            let unit = part.account.unit();
            let amount = due.pay(unit, part.amount);
            change.post(AccountId::held(project, unit), -part.amount);
            if amount < part.amount {
                change.post(part.account.clone(), part.amount - amount);
            }
            charge.add(unit, amount);
        }
        if due.0.cost_micro > 0 {
            for source in self.sources(project, now_ms) {
                let unit = source.id.unit();
                let amount = due.pay(unit, source.available());
                if amount > 0 {
                    change.post(source.id.clone(), -amount);
                    charge.add(unit, amount);
                }
            }
        }
        charge.value_micro = value_micro - due.0.cost_micro;
        charge.written_off_micro = used.cost_micro - charge.value_micro;
        let revenue = [(Unit::Token, charge.paid_tokens), (Unit::Micro, charge.paid_micro + charge.written_off_micro)];
        for (unit, amount) in revenue.into_iter().filter(|&(_, amount)| amount > 0) {
            change.post(AccountId::house(House::Revenue, unit), amount);
        }
        if charge.written_off_micro > 0 {
            change.post(AccountId::house(House::WrittenOff, Unit::Micro), -charge.written_off_micro);
        }
        change.close(reservation, State::Settled(charge), charge.value_micro);
        Ok(change)
    }

    pub(super) fn release(&self, id: &str) -> Result<Change> {
        let reservation = self.open_reservation(id)?;
        let mut change = Change::default();
        for part in &reservation.parts {
            change.post(AccountId::held(&reservation.project, part.account.unit()), -part.amount);
            change.post(part.account.clone(), part.amount);
        }
        change.close(reservation, State::Released, 0);
        Ok(change)
    }

    /// What of a cost may be charged: the reserved amount and the overrun, as far as the budgets have room.
    fn chargeable(&self, reservation: &Reservation, cost_micro: i64) -> i64 {
        let reserved = reservation.most.cost_micro;
        let mut most = reserved + share_up(reserved, OVERRUN_PERCENT, 100);
        for window in &reservation.windows {
            let is_of = |budget: &&crate::Budget| (&budget.scope, budget.period) == (&window.scope, window.period);
            if let Some(budget) = self.budgets.iter().find(is_of) {
                let spent = self.spent.get(window).copied().unwrap_or(0);
                most = most.min(reserved + (budget.limit_micro - spent).max(0));
            }
        }
        cost_micro.min(most)
    }

    fn open_reservation(&self, id: &str) -> Result<&Reservation> {
        let missing = || Error::Missing { what: "reservation", name: id.to_owned() };
        let reservation = self.reservations.get(id).ok_or_else(missing)?;
        let state = match reservation.state {
            State::Open => return Ok(reservation),
            State::Settled(_) => "settled",
            State::Released => "released",
        };
        Err(Error::State { what: "reservation", name: id.to_owned(), state: state.to_owned() })
    }
}

impl Reservation {
    /// Whether the accounts that it was made from pay for this, and no others are asked.
    pub(crate) fn covers(&self, used: Used) -> bool {
        let mut due = Due(used);
        for part in &self.parts {
            due.pay(part.account.unit(), part.amount);
        }
        used.cost_micro <= self.most.cost_micro && due.0.cost_micro == 0
    }
}

impl Change {
    fn close(&mut self, reservation: &Reservation, state: State, value_micro: i64) {
        let difference = value_micro - reservation.most.cost_micro;
        if difference != 0 {
            self.spent.extend(reservation.windows.iter().map(|window| (window.clone(), difference)));
        }
        self.reservation = Some(Reservation { state, ..reservation.clone() });
    }
}

impl Charge {
    fn add(&mut self, unit: Unit, amount: i64) {
        match unit {
            Unit::Token => self.paid_tokens += amount,
            Unit::Micro => self.paid_micro += amount,
        }
    }
}
