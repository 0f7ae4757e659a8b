//! Accounts: who holds how much of what.

use std::fmt;

use crate::{Error, Result};

/// What an account counts. The two are never added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Unit {
    /// Tokens of any model.
    Token,
    /// Micro-dollars.
    Micro,
}

impl Unit {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Token, Self::Micro];

    /// Its name in account names.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Micro => "micro",
        }
    }

    /// An amount in words.
    #[must_use]
    pub fn show(self, amount: i64) -> String {
        match self {
            Self::Token => format!("{amount} tokens"),
            Self::Micro => format!("{} dollars", crate::money::dollars(amount)),
        }
    }
}

/// Accounts of the house: where what projects hold comes from and goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum House {
    /// Money that was paid in; it stands in the red by as much.
    Cash,
    /// What was given away; it stands in the red by as much.
    Granted,
    /// What was used.
    Revenue,
    /// What was given back; it stands in the red by as much.
    Refunds,
    /// Grants that nobody used in time.
    Expired,
    /// Grants that were taken back.
    ClawedBack,
    /// What was used and nobody pays for; it stands in the red by as much.
    WrittenOff,
}

impl House {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Cash, Self::Granted, Self::Revenue, Self::Refunds, Self::Expired, Self::ClawedBack, Self::WrittenOff];

    fn name(self) -> &'static str {
        match self {
            Self::Cash => "cash",
            Self::Granted => "granted",
            Self::Revenue => "revenue",
            Self::Refunds => "refunds",
            Self::Expired => "expired",
            Self::ClawedBack => "clawed-back",
            Self::WrittenOff => "written-off",
        }
    }
}

/// The name of an account: `prepaid:PROJECT:micro`, `held:PROJECT:UNIT`, `grant:NAME:UNIT`, `house:NAME:UNIT`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AccountId(String);

impl AccountId {
    /// What a project paid in advance, or owes.
    #[must_use]
    pub fn prepaid(project: &str) -> Self {
        Self(format!("prepaid:{project}:{}", Unit::Micro.name()))
    }

    /// What a project's running requests may still use.
    #[must_use]
    pub fn held(project: &str, unit: Unit) -> Self {
        Self(format!("held:{project}:{}", unit.name()))
    }

    /// What is left of a grant.
    #[must_use]
    pub fn grant(name: &str, unit: Unit) -> Self {
        Self(format!("grant:{name}:{}", unit.name()))
    }

    /// An account of the house.
    #[must_use]
    pub fn house(house: House, unit: Unit) -> Self {
        Self(format!("house:{}:{}", house.name(), unit.name()))
    }

    /// Reads a name back.
    ///
    /// # Errors
    /// [`Error::Wrong`] if it is none.
    pub fn parse(text: &str) -> Result<Self> {
        let known = ["prepaid:", "held:", "grant:", "house:"].iter().any(|kind| text.starts_with(kind));
        if known && Unit::ALL.iter().any(|unit| text.ends_with(&format!(":{}", unit.name()))) {
            return Ok(Self(text.to_owned()));
        }
        let allowed = "prepaid:PROJECT:micro, held:PROJECT:UNIT, grant:NAME:UNIT or house:NAME:UNIT".to_owned();
        Err(Error::Wrong { field: "account", value: text.to_owned(), allowed })
    }

    /// What it counts.
    #[must_use]
    pub fn unit(&self) -> Unit {
        if self.0.ends_with(":token") { Unit::Token } else { Unit::Micro }
    }

    /// Whether requests are paid from it.
    #[must_use]
    pub fn pays(&self) -> bool {
        self.is_grant() || self.0.starts_with("prepaid:")
    }

    /// Whether it is a grant.
    #[must_use]
    pub fn is_grant(&self) -> bool {
        self.0.starts_with("grant:")
    }

    /// The name as it is stored.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for AccountId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

/// An account as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Its name.
    pub id: AccountId,
    /// Whose it is; `None`: the house's.
    pub project: Option<String>,
    /// What it holds.
    pub balance: i64,
    /// What it must hold at least; `None`: it may owe any amount.
    pub floor: Option<i64>,
    /// When a grant can be used from.
    pub starts_ms: u64,
    /// When a grant ends.
    pub expires_ms: Option<u64>,
    /// Nothing is paid from it any more.
    pub is_closed: bool,
}

/// What an account without a limit can pay: more than any operation moves.
const UNLIMITED: i64 = i64::MAX / 4;

impl Account {
    /// An empty account without an end.
    #[must_use]
    pub fn new(id: AccountId, project: Option<&str>, floor: Option<i64>) -> Self {
        Self {
            id,
            project: project.map(str::to_owned),
            balance: 0,
            floor,
            starts_ms: 0,
            expires_ms: None,
            is_closed: false,
        }
    }

    /// What can be taken from it, 0 or more.
    #[must_use]
    pub fn available(&self) -> i64 {
        self.floor.map_or(UNLIMITED, |floor| self.balance.saturating_sub(floor).max(0))
    }

    /// Whether requests of this moment are paid from it.
    #[must_use]
    pub fn pays_at(&self, now_ms: u64) -> bool {
        let ended = self.expires_ms.is_some_and(|expires_ms| expires_ms <= now_ms);
        self.id.pays() && !self.is_closed && self.starts_ms <= now_ms && !ended
    }

    /// The place in the order in which accounts are used up: what expires first, tokens before money, grants before
    /// what was paid for.
    #[must_use]
    pub fn burn_order(&self) -> (bool, u64, Unit, &AccountId) {
        (!self.id.is_grant(), self.expires_ms.unwrap_or(u64::MAX), self.id.unit(), &self.id)
    }
}
