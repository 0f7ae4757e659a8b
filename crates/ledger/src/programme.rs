//! Programmes that give credit to young companies: who may apply, how much there is, and when which part of it comes.
//!
//! A programme is data ([`Programme::parse`]). A company applies for a project; who does not meet the rules is told all
//! reasons at once. A reviewer grants or rejects. A grant comes in tranches: those without a milestone at once, the
//! others when somebody confirms theirs. Every tranche ends on its day, what ends first is used first, and what was
//! given can be taken back. Each step stands in the trail with its actor and reason.

mod desk;
mod standing;

use serde::{Deserialize, Serialize};

use crate::calendar::{DAY_MS, parse_day};
use crate::money::{TOKENS_MAX, dollars, parse_dollars};
use crate::{Error, Result};

pub use desk::{Application, ApplicationState, Decision, Filed, Programmes};
pub use standing::{ALERTS_PERCENT, Alert, Burn, Event, Standing, TrancheStanding, TrancheState};

/// The programme that ships as an example, and is there until somebody defines others.
pub const CATALYST: &str = include_str!("programme/catalyst.toml");

/// Tranches of one grant.
const TRANCHES_MAX: usize = 100;
/// Days of a year, as far as the age of a company goes.
const YEAR_DAYS: u64 = 365;
/// A name of anything here.
const NAME_BYTES_MAX: usize = 64;

/// A programme.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Programme {
    /// Its name in commands.
    pub name: String,
    /// What it is, for people.
    pub title: String,
    /// The most tokens of one grant.
    pub tokens_max: i64,
    /// The most micro-dollars of one grant.
    pub micro_max: i64,
    /// Who may apply.
    pub rules: Rules,
    /// In which parts a grant comes.
    pub tranches: Vec<Tranche>,
}

/// Who may apply. What is left out excludes nobody.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rules {
    /// The company was founded so many years ago at most.
    pub company_age_years_max: Option<u64>,
    /// Funding stages.
    pub stages: Vec<String>,
    /// Countries in two letters (ISO 3166).
    pub countries: Vec<String>,
    /// Who had a grant of this programme may have another.
    pub again: bool,
}

/// A part of a grant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tranche {
    /// Of the whole. All of them are 100.
    pub percent: i64,
    /// What must be reached; empty: nothing.
    #[serde(default)]
    pub milestone: String,
    /// How long it can be used after it came.
    pub valid_days: u64,
}

/// Who applies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Company {
    /// Its name.
    pub name: String,
    /// The day on which it was founded, as `2024-05-01`.
    pub founded: String,
    /// Its funding stage.
    pub stage: String,
    /// Its country in two letters.
    pub country: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    name: String,
    title: String,
    tokens_max: i64,
    dollars_max: String,
    #[serde(default)]
    rules: Rules,
    tranches: Vec<Tranche>,
}

impl Programme {
    /// Reads a programme as TOML.
    ///
    /// # Errors
    /// [`Error::Wrong`] with what is wrong.
    pub fn parse(text: &str) -> Result<Self> {
        let wrong =
            |field, value: String, allowed: &str| Err(Error::Wrong { field, value, allowed: allowed.to_owned() });
        let raw: Raw = toml::from_str(text).map_err(|error| Error::Wrong {
            field: "programme",
            value: error.to_string(),
            allowed: "TOML".to_owned(),
        })?;
        check_name("programme", &raw.name)?;
        if !(0..=TOKENS_MAX).contains(&raw.tokens_max) {
            return wrong("tokens_max", raw.tokens_max.to_string(), "0 to 10^15");
        }
        let sum: i64 = raw.tranches.iter().map(|tranche| tranche.percent.clamp(0, 101)).sum();
        let each = raw.tranches.iter().all(|tranche| tranche.percent >= 1 && (1..=3660).contains(&tranche.valid_days));
        if raw.tranches.len() > TRANCHES_MAX || sum != 100 || !each {
            return wrong("tranches", format!("{:?}", raw.tranches), "parts of 100 percent, each valid 1 to 3660 days");
        }
        Ok(Self {
            name: raw.name,
            title: raw.title,
            tokens_max: raw.tokens_max,
            micro_max: parse_dollars("dollars_max", &raw.dollars_max)?,
            rules: raw.rules,
            tranches: raw.tranches,
        })
    }

    /// Why this company may not apply; empty: it may.
    #[must_use]
    pub fn against(&self, company: &Company, had_grant: bool, now_ms: u64) -> Vec<String> {
        let mut reasons = Vec::new();
        match parse_day("founded", &company.founded) {
            Err(error) => reasons.push(error.to_string()),
            Ok(founded_ms) if founded_ms > now_ms => {
                reasons.push(format!("the company will be founded on {} only", company.founded));
            }
            Ok(founded_ms) => {
                let age_days = (now_ms - founded_ms) / DAY_MS;
                if let Some(years) = self.rules.company_age_years_max
                    && age_days > years * YEAR_DAYS + years / 4
                {
                    let founded = &company.founded;
                    reasons.push(format!("the company was founded on {founded}, more than {years} years ago"));
                }
            }
        }
        for (what, value, allowed) in [
            ("funding stage", &company.stage, &self.rules.stages),
            ("country", &company.country, &self.rules.countries),
        ] {
            if !allowed.is_empty() && !allowed.iter().any(|one| one.eq_ignore_ascii_case(value)) {
                reasons.push(format!("the {what} is {value:?}, allowed: {}", allowed.join(", ")));
            }
        }
        if had_grant && !self.rules.again {
            reasons.push(format!("the project or the company had a grant of {} already", self.name));
        }
        reasons
    }

    /// Refuses more than the programme gives, and nothing.
    ///
    /// # Errors
    /// [`Error::Wrong`].
    pub fn check_amounts(&self, tokens: i64, micro: i64) -> Result<()> {
        if !(0..=self.tokens_max).contains(&tokens) {
            let allowed = format!("0 to {}", self.tokens_max);
            return Err(Error::Wrong { field: "tokens", value: tokens.to_string(), allowed });
        }
        if !(0..=self.micro_max).contains(&micro) || (tokens == 0 && micro == 0) {
            let allowed = format!("up to {}, and something of either", dollars(self.micro_max));
            return Err(Error::Wrong { field: "dollars", value: dollars(micro), allowed });
        }
        Ok(())
    }

    /// What each tranche holds: tokens and micro-dollars. The last one has what rounding left.
    #[must_use]
    pub fn split(&self, tokens: i64, micro: i64) -> Vec<(i64, i64)> {
        let part = |amount: i64, percent: i64| (i128::from(amount) * i128::from(percent) / 100) as i64;
        let mut parts: Vec<(i64, i64)> =
            self.tranches.iter().map(|tranche| (part(tokens, tranche.percent), part(micro, tranche.percent))).collect();
        let given = parts.iter().fold((0, 0), |sum, part| (sum.0 + part.0, sum.1 + part.1));
        if let Some(last) = parts.last_mut() {
            *last = (last.0 + tokens - given.0, last.1 + micro - given.1);
        }
        parts
    }
}

fn check_name(field: &'static str, name: &str) -> Result<()> {
    let is_plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    if (1..=NAME_BYTES_MAX).contains(&name.len()) && is_plain {
        return Ok(());
    }
    let allowed = format!("1 to {NAME_BYTES_MAX} letters, digits, - and _");
    Err(Error::Wrong { field, value: name.to_owned(), allowed })
}

#[cfg(test)]
mod tests {
    use super::{CATALYST, Company, Programme};
    use crate::calendar::parse_day;

    fn company(founded: &str, stage: &str) -> Company {
        Company {
            name: "Kite".to_owned(),
            founded: founded.to_owned(),
            stage: stage.to_owned(),
            country: "BR".to_owned(),
        }
    }

    #[test]
    fn the_example_gives_what_it_says() {
        let catalyst = Programme::parse(CATALYST).unwrap();
        assert_eq!((catalyst.tokens_max, catalyst.micro_max), (2_000_000_000, 120_000_000_000));
        assert!(catalyst.check_amounts(2_000_000_000, 120_000_000_000).is_ok());
        for (tokens, micro) in [(2_000_000_001, 0), (0, 120_000_000_001), (0, 0), (-1, 5)] {
            assert!(catalyst.check_amounts(tokens, micro).is_err(), "{tokens} {micro}");
        }
        let parts = catalyst.split(1_000_000_001, 7);
        assert_eq!(parts.iter().fold((0, 0), |sum, part| (sum.0 + part.0, sum.1 + part.1)), (1_000_000_001, 7));
    }

    #[test]
    fn who_may_not_apply_is_told_every_reason() {
        let catalyst = Programme::parse(CATALYST).unwrap();
        let now_ms = parse_day("now", "2026-11-25").unwrap();
        assert_eq!(catalyst.against(&company("2024-05-01", "Seed"), false, now_ms), Vec::<String>::new());
        let reasons = catalyst.against(&company("1999-01-01", "listed"), true, now_ms);
        assert_eq!(reasons.len(), 3, "{reasons:?}");
        for founded in ["2027-01-01", "long ago", "2024-13-01"] {
            assert_eq!(catalyst.against(&company(founded, "seed"), false, now_ms).len(), 1, "{founded}");
        }
    }

    #[test]
    fn what_is_no_programme_is_refused() {
        let halves = "[[tranches]]\npercent = 50\nvalid_days = 10\n";
        let head = "name = \"x\"\ntitle = \"X\"\ntokens_max = 1\ndollars_max = \"1\"\n";
        assert!(Programme::parse(&format!("{head}{halves}{halves}")).is_ok());
        for text in [
            head.to_owned(),
            format!("{head}{halves}"),
            format!("{}{halves}{halves}", head.replace("\"x\"", "\"a b\"")),
            format!("{}{halves}{halves}", head.replace("= 1", "= -1")),
            format!("{head}surprise = 1\n{halves}{halves}"),
        ] {
            assert!(Programme::parse(&text).is_err(), "{text}");
        }
    }
}
