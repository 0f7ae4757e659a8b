//! The books as a pure state machine: [`Books::apply`] says what an operation changes, or why it may not, and
//! [`Books::commit`] makes it so. The database runs the same code on the rows that an operation touches.
//!
//! What holds after every change:
//! * the entries of a transaction sum to zero, tokens and micro-dollars each;
//! * no balance is below its floor;
//! * a request is charged at most what was reserved for it and [`OVERRUN_PERCENT`] more, and never beyond its budgets;
//!   what it used above that is written off, and stands in the books as such;
//! * a transaction's name is used once: the same name again changes nothing.

mod burn;
mod settle;

use std::collections::{BTreeMap, BTreeSet};

use crate::account::{Account, AccountId, House, Unit};
use crate::budget::{Budget, Scope, Window};
use crate::money::{AMOUNT_MAX, TOKENS_MAX, dollars};
use crate::{Error, Result};

pub use settle::OVERRUN_PERCENT;

use burn::Due;

/// What can be done to the books.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// Makes a project's accounts, or changes how much it may owe. `None`: any amount.
    Open {
        /// Whose.
        project: String,
        /// What it may owe, in micro-dollars.
        credit_line_micro: Option<i64>,
    },
    /// Money comes in.
    Deposit {
        /// For whom.
        project: String,
        /// Micro-dollars.
        amount_micro: i64,
    },
    /// What was charged is given back.
    Refund {
        /// To whom.
        project: String,
        /// Micro-dollars.
        amount_micro: i64,
    },
    /// Credit is given away.
    Grant {
        /// Its account.
        account: AccountId,
        /// To whom.
        project: String,
        /// In the account's unit.
        amount: i64,
        /// From when it can be used.
        starts_ms: u64,
        /// When it ends.
        expires_ms: Option<u64>,
    },
    /// What a request may use is set aside.
    Reserve(Reserve),
    /// A request ended: what it used is charged, the rest goes back.
    Settle {
        /// Which.
        reservation: String,
        /// What it used.
        used: Used,
    },
    /// A request was not made: everything goes back.
    Release {
        /// Which.
        reservation: String,
    },
    /// What is left of a grant after its end.
    Expire {
        /// Which.
        account: AccountId,
    },
    /// A grant is taken back, and is closed.
    ClawBack {
        /// Which.
        account: AccountId,
    },
}

/// What a request may use at most.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reserve {
    /// The reservation's name.
    pub id: String,
    /// Who pays.
    pub project: String,
    /// With which key.
    pub key: String,
    /// At most so much.
    pub most: Used,
}

/// An amount that is used: what it costs, and the tokens that it is where tokens pay for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Used {
    /// Tokens of any direction.
    pub tokens: i64,
    /// Micro-dollars.
    pub cost_micro: i64,
}

/// What was set aside for a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reservation {
    /// Its name.
    pub id: String,
    /// Who pays.
    pub project: String,
    /// At most so much.
    pub most: Used,
    /// From which accounts, in burn order.
    pub parts: Vec<Part>,
    /// The budgets that count it.
    pub windows: Vec<Window>,
    /// What became of it.
    pub state: State,
}

/// What one account pays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Which.
    pub account: AccountId,
    /// In its unit.
    pub amount: i64,
}

/// What became of a reservation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// The request runs.
    Open,
    /// The request ended.
    Settled(Charge),
    /// The request was not made.
    Released,
}

/// What a request was charged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Charge {
    /// What it cost and the project bore: its value, whichever account paid.
    pub value_micro: i64,
    /// Micro-dollars that were paid.
    pub paid_micro: i64,
    /// Tokens that were paid from grants of tokens.
    pub paid_tokens: i64,
    /// What the house bears.
    pub written_off_micro: i64,
}

/// What an operation changes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Change {
    /// The transaction's name was used before, so nothing changes.
    pub is_replay: bool,
    /// What is added to which account. Sums to zero in each unit.
    pub entries: BTreeMap<AccountId, i64>,
    /// Accounts that are new or have another floor; their balances stand in `entries`.
    pub opened: Vec<Account>,
    /// Accounts that are closed.
    pub closed: Vec<AccountId>,
    /// A reservation as it is afterwards.
    pub reservation: Option<Reservation>,
    /// What is added to which budget.
    pub spent: Vec<(Window, i64)>,
}

/// All accounts, reservations and budgets, or those that an operation touches.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Books {
    /// By name.
    pub accounts: BTreeMap<AccountId, Account>,
    /// By name.
    pub reservations: BTreeMap<String, Reservation>,
    /// Limits.
    pub budgets: Vec<Budget>,
    /// What was spent of them.
    pub spent: BTreeMap<Window, i64>,
    /// Names of the transactions that were made.
    pub done: BTreeSet<String>,
}

impl Books {
    /// Books with the accounts of the house and nothing else.
    #[must_use]
    pub fn new() -> Self {
        let mut books = Self::default();
        for unit in Unit::ALL {
            for house in House::ALL {
                let id = AccountId::house(house, unit);
                books.accounts.insert(id.clone(), Account::new(id, None, None));
            }
        }
        books
    }

    /// What the operation changes. `name` is the transaction's.
    ///
    /// # Errors
    /// If it may not be made; nothing changes then.
    pub fn apply(&self, name: &str, operation: &Operation, now_ms: u64) -> Result<Change> {
        if self.done.contains(name) {
            return Ok(Change { is_replay: true, ..Change::default() });
        }
        let change = match operation {
            Operation::Open { project, credit_line_micro } => self.open(project, *credit_line_micro)?,
            Operation::Deposit { project, amount_micro } => self.pay_in(House::Cash, project, *amount_micro)?,
            Operation::Refund { project, amount_micro } => self.pay_in(House::Refunds, project, *amount_micro)?,
            Operation::Grant { account, project, amount, starts_ms, expires_ms } => {
                let mut opened = Account::new(account.clone(), Some(project), Some(0));
                (opened.starts_ms, opened.expires_ms) = (*starts_ms, *expires_ms);
                self.grant(opened, *amount)?
            }
            Operation::Reserve(reserve) => self.reserve(reserve, now_ms)?,
            Operation::Settle { reservation, used } => self.settle(reservation, *used, now_ms)?,
            Operation::Release { reservation } => self.release(reservation)?,
            Operation::Expire { account } => self.expire(account, now_ms)?,
            Operation::ClawBack { account } => {
                let mut change = self.take_all(account, House::ClawedBack)?;
                change.closed.push(account.clone());
                change
            }
        };
        self.check(&change)?;
        Ok(change)
    }

    /// Makes a change that [`Self::apply`] allowed.
    pub fn commit(&mut self, name: &str, change: &Change) {
        if change.is_replay {
            return;
        }
        for account in &change.opened {
            let balance = self.accounts.get(&account.id).map_or(0, |known| known.balance);
            self.accounts.insert(account.id.clone(), Account { balance, ..account.clone() });
        }
        for (id, amount) in &change.entries {
            if let Some(account) = self.accounts.get_mut(id) {
                account.balance += amount;
            }
        }
        for id in &change.closed {
            if let Some(account) = self.accounts.get_mut(id) {
                account.is_closed = true;
            }
        }
        if let Some(reservation) = &change.reservation {
            self.reservations.insert(reservation.id.clone(), reservation.clone());
        }
        for (window, amount) in &change.spent {
            *self.spent.entry(window.clone()).or_default() += amount;
        }
        self.done.insert(name.to_owned());
    }

    /// The accounts that pay for a project's requests now, in the order in which they are used up.
    #[must_use]
    pub fn sources(&self, project: &str, now_ms: u64) -> Vec<&Account> {
        let pays = |account: &&Account| account.project.as_deref() == Some(project) && account.pays_at(now_ms);
        let mut sources: Vec<&Account> = self.accounts.values().filter(pays).collect();
        sources.sort_by_key(|account| account.burn_order());
        sources
    }

    fn open(&self, project: &str, credit_line_micro: Option<i64>) -> Result<Change> {
        if let Some(line) = credit_line_micro {
            check_amount(Unit::Micro, line, 0)?;
        }
        let prepaid = Account::new(AccountId::prepaid(project), Some(project), credit_line_micro.map(|line| -line));
        let held = Unit::ALL.map(|unit| Account::new(AccountId::held(project, unit), Some(project), Some(0)));
        Ok(Change { opened: held.into_iter().chain([prepaid]).collect(), ..Change::default() })
    }

    fn pay_in(&self, from: House, project: &str, amount_micro: i64) -> Result<Change> {
        check_amount(Unit::Micro, amount_micro, 1)?;
        let mut change = Change::default();
        change.post(AccountId::house(from, Unit::Micro), -amount_micro);
        change.post(AccountId::prepaid(project), amount_micro);
        Ok(change)
    }

    fn grant(&self, opened: Account, amount: i64) -> Result<Change> {
        let unit = opened.id.unit();
        check_amount(unit, amount, 1)?;
        if self.accounts.contains_key(&opened.id) {
            return Err(Error::Exists { what: "grant", name: opened.id.to_string() });
        }
        let mut change = Change::default();
        change.post(AccountId::house(House::Granted, unit), -amount);
        change.post(opened.id.clone(), amount);
        change.opened.push(opened);
        Ok(change)
    }

    fn reserve(&self, reserve: &Reserve, now_ms: u64) -> Result<Change> {
        let Reserve { id, project, key, most } = reserve;
        check_amount(Unit::Micro, most.cost_micro, 0)?;
        check_amount(Unit::Token, most.tokens, 0)?;
        if self.reservations.contains_key(id) {
            return Err(Error::Exists { what: "reservation", name: id.clone() });
        }
        let mut change = Change::default();
        let scopes = [Scope::project(project), Scope::key(key)];
        for budget in self.budgets.iter().filter(|budget| scopes.contains(&budget.scope)) {
            let window = budget.window(now_ms);
            let spent = self.spent.get(&window).copied().unwrap_or(0);
            budget.check(spent, most.cost_micro)?;
            change.spent.push((window, most.cost_micro));
        }
        let mut due = Due(*most);
        let mut parts = Vec::new();
        for source in self.sources(project, now_ms) {
            let amount = due.pay(source.id.unit(), source.available());
            if amount > 0 {
                change.post(source.id.clone(), -amount);
                change.post(AccountId::held(project, source.id.unit()), amount);
                parts.push(Part { account: source.id.clone(), amount });
            }
        }
        if due.0.cost_micro > 0 {
            return Err(Error::Insufficient {
                project: project.clone(),
                asked: format!("{} dollars", dollars(most.cost_micro)),
                lacking: format!("{} dollars", dollars(due.0.cost_micro)),
            });
        }
        let windows = change.spent.iter().map(|(window, _)| window.clone()).collect();
        change.reservation = Some(Reservation {
            id: id.clone(),
            project: project.clone(),
            most: *most,
            parts,
            windows,
            state: State::Open,
        });
        Ok(change)
    }

    fn expire(&self, id: &AccountId, now_ms: u64) -> Result<Change> {
        let account = self.account(id)?;
        if account.expires_ms.is_none_or(|expires_ms| expires_ms > now_ms) {
            return Err(Error::State { what: "account", name: id.to_string(), state: "valid".to_owned() });
        }
        self.take_all(id, House::Expired)
    }

    fn take_all(&self, id: &AccountId, to: House) -> Result<Change> {
        let account = self.account(id)?;
        if !id.is_grant() {
            let allowed = "a grant".to_owned();
            return Err(Error::Wrong { field: "account", value: id.to_string(), allowed });
        }
        let mut change = Change::default();
        if account.balance > 0 {
            change.post(id.clone(), -account.balance);
            change.post(AccountId::house(to, id.unit()), account.balance);
        }
        Ok(change)
    }

    fn account(&self, id: &AccountId) -> Result<&Account> {
        self.accounts.get(id).ok_or_else(|| Error::Missing { what: "account", name: id.to_string() })
    }

    /// Refuses what would break the books: an unknown account, a balance below its floor.
    ///
    /// # Panics
    /// If the entries do not sum to zero: that is a bug here, and nothing must be written.
    fn check(&self, change: &Change) -> Result<()> {
        for unit in Unit::ALL {
            let of_unit = change.entries.iter().filter(|(id, _)| id.unit() == unit);
            let sum: i128 = of_unit.map(|(_, amount)| i128::from(*amount)).sum();
            assert!(sum == 0, "entries in {} sum to {sum}: {:?}", unit.name(), change.entries);
        }
        for (id, amount) in &change.entries {
            let opened = change.opened.iter().find(|account| account.id == *id);
            let known = self.accounts.get(id);
            let balance = known.map_or(0, |account| account.balance);
            let account = opened.or(known).ok_or_else(|| Error::Missing { what: "account", name: id.to_string() })?;
            let balance = balance.checked_add(*amount).ok_or(Error::TooLarge { what: "the balance" })?;
            // What comes in is welcome also where too little is there.
            below(account, balance, *amount < 0)?;
        }
        for account in change.opened.iter().filter(|account| !change.entries.contains_key(&account.id)) {
            if let Some(known) = self.accounts.get(&account.id) {
                below(account, known.balance, true)?;
            }
        }
        Ok(())
    }
}

impl Change {
    fn post(&mut self, account: AccountId, amount: i64) {
        *self.entries.entry(account).or_default() += amount;
    }
}

fn below(account: &Account, balance: i64, counts: bool) -> Result<()> {
    match account.floor {
        Some(floor) if counts && balance < floor => {
            Err(Error::BelowLimit { account: account.id.to_string(), balance, floor })
        }
        _ => Ok(()),
    }
}

fn check_amount(unit: Unit, amount: i64, least: i64) -> Result<()> {
    let (field, most) = match unit {
        Unit::Micro => ("the amount in micro-dollars", AMOUNT_MAX),
        Unit::Token => ("the amount in tokens", TOKENS_MAX),
    };
    if (least..=most).contains(&amount) {
        return Ok(());
    }
    Err(Error::Wrong { field, value: amount.to_string(), allowed: format!("{least} to {most}") })
}
