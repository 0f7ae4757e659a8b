//! How a request is shared among accounts that pay in tokens and in money.
//!
//! A request is so many tokens and costs so much. An account of tokens that pays a part of the tokens pays the same
//! part of the cost, and the other way round, rounded so that what is left is never too little.

use super::Used;
use crate::account::Unit;
use crate::money::share_up;

/// What is still to be paid.
pub(super) struct Due(pub(super) Used);

impl Due {
    /// Takes what an account has, at most what is due; returns how much in the account's unit.
    ///
    /// What costs nothing takes nothing, tokens neither.
    pub(super) fn pay(&mut self, unit: Unit, available: i64) -> i64 {
        let Used { tokens, cost_micro } = &mut self.0;
        let (own, other) = match unit {
            Unit::Token => (tokens, cost_micro),
            Unit::Micro => (cost_micro, tokens),
        };
        let nothing_due = *own == 0 || (unit == Unit::Token && *other == 0);
        if nothing_due || available <= 0 {
            return 0;
        }
        let taken = available.min(*own);
        let rest = *own - taken;
        *other = share_up(*other, rest, *own);
        *own = rest;
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::{Due, Used};
    use crate::account::Unit;

    #[track_caller]
    fn check(tokens: i64, cost_micro: i64, sources: &[(Unit, i64)], taken: &[i64], left: (i64, i64)) {
        let mut due = Due(Used { tokens, cost_micro });
        let paid: Vec<i64> = sources.iter().map(|&(unit, available)| due.pay(unit, available)).collect();
        assert_eq!((paid.as_slice(), (due.0.tokens, due.0.cost_micro)), (taken, left));
    }

    #[test]
    fn tokens_and_money_pay_for_the_same_thing() {
        check(100, 50, &[(Unit::Token, 1000)], &[100], (0, 0));
        check(100, 50, &[(Unit::Token, 60), (Unit::Micro, 1000)], &[60, 20], (0, 0));
        check(100, 50, &[(Unit::Micro, 20), (Unit::Token, 1000)], &[20, 60], (0, 0));
        check(3, 1, &[(Unit::Token, 2), (Unit::Micro, 0), (Unit::Token, 5)], &[2, 0, 1], (0, 0));
        check(100, 50, &[(Unit::Micro, 20)], &[20], (60, 30));
    }

    #[test]
    fn what_is_no_token_is_paid_in_money_and_what_is_free_by_nobody() {
        check(0, 50, &[(Unit::Token, 1000), (Unit::Micro, 50)], &[0, 50], (0, 0));
        check(100, 0, &[(Unit::Token, 1000), (Unit::Micro, 50)], &[0, 0], (100, 0));
    }
}
