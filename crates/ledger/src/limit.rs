//! Limits: how many requests and tokens per minute a key, a project or a model may have, and how many answers at once.
//!
//! Limits stand in the configuration or with the accounts, and are counted in memory by [`Gate`], a pure state machine.
//! Each process counts by itself: what must hold across processes and restarts is a [`crate::Budget`].

mod gate;
mod kept;

use std::fmt;
use std::sync::Arc;

use chat::{GenerateRequest, Prompt};

use crate::metered::bound;
use crate::{Error, Result};

pub use gate::{Asked, Gate, Refused, Standing, Ticket};

/// Stands for each key, project or model that has no limit of its own.
const EACH: &str = "*";
/// More is as good as no limit.
const AMOUNT_MAX: u64 = 1_000_000_000_000;
/// Bytes of a name.
const NAME_BYTES_MAX: usize = 256;

/// Bytes of a token, about.
const TOKEN_BYTES: u64 = 4;

/// Tokens that a request is expected to read and write, before anybody has counted them: a quarter of its bytes, and
/// what it asks for at most, if it says so.
#[must_use]
pub fn expected_tokens(request: &GenerateRequest) -> u64 {
    let prompt = match &request.prompt {
        Prompt::Tokens(tokens) => tokens.len() as u64,
        // Pictures count when the model has counted them.
        Prompt::Text(_) | Prompt::Messages(_) => bound::prompt(request).unwrap_or(0) / TOKEN_BYTES,
    };
    prompt + request.max_tokens.map_or(0, u64::from)
}

/// What a limit counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Measure {
    /// Requests per minute.
    Requests,
    /// Tokens per minute, read and written.
    Tokens,
    /// Answers under way at one time.
    Concurrent,
}

impl Measure {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Requests, Self::Tokens, Self::Concurrent];

    /// Its name, as it is stored.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Tokens => "tokens",
            Self::Concurrent => "concurrent",
        }
    }

    /// The measure of this name.
    ///
    /// # Errors
    /// [`Error::Wrong`].
    pub fn parse(name: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|measure| measure.name() == name).ok_or_else(|| Error::Wrong {
            field: "measure",
            value: name.to_owned(),
            allowed: Self::ALL.map(Self::name).join(", "),
        })
    }
}

/// Who is limited: `key:ID`, `project:ID` or `model:NAME`; `*` as the name stands for each that has no limit of its
/// own.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Holder(Arc<str>);

impl Holder {
    /// A key.
    #[must_use]
    pub fn key(id: &str) -> Self {
        Self(format!("key:{id}").into())
    }

    /// A project.
    #[must_use]
    pub fn project(id: &str) -> Self {
        Self(format!("project:{id}").into())
    }

    /// A model, whoever asks for it.
    #[must_use]
    pub fn model(name: &str) -> Self {
        Self(format!("model:{name}").into())
    }

    /// Reads a name back.
    ///
    /// # Errors
    /// [`Error::Wrong`].
    pub fn parse(text: &str) -> Result<Self> {
        match text.split_once(':') {
            Some(("key" | "project" | "model", name)) if (1..=NAME_BYTES_MAX).contains(&name.len()) => {
                Ok(Self(text.into()))
            }
            _ => {
                let allowed = "key:ID, project:ID or model:NAME, or * instead of a name".to_owned();
                Err(Error::Wrong { field: "limit", value: text.to_owned(), allowed })
            }
        }
    }

    /// The name as it is stored.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its kind (`key`, `project` or `model`) and its name.
    #[must_use]
    pub fn parts(&self) -> (&str, &str) {
        self.0.split_once(':').unwrap_or((&self.0, ""))
    }

    /// The holder that stands for each of this kind.
    fn each(&self) -> Self {
        Self(format!("{}:{EACH}", self.parts().0).into())
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

/// One limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limit {
    /// Whose.
    pub holder: Holder,
    /// Of what.
    pub measure: Measure,
    /// So many per minute, or at one time.
    pub amount: u64,
    /// So many may come at once after a pause; for answers at one time it is the amount.
    pub burst: u64,
}

impl Limit {
    /// A limit; a minute's worth may come at once where no burst is named.
    ///
    /// # Errors
    /// [`Error::Wrong`].
    pub fn new(holder: Holder, measure: Measure, amount: u64, burst: Option<u64>) -> Result<Self> {
        let wrong = |field, value: u64, allowed: String| Err(Error::Wrong { field, value: value.to_string(), allowed });
        if !(1..=AMOUNT_MAX).contains(&amount) {
            return wrong("amount", amount, format!("1 to {AMOUNT_MAX}"));
        }
        match (measure, burst) {
            (Measure::Concurrent, Some(burst)) if burst != amount => {
                wrong("burst", burst, "none, for answers at one time".to_owned())
            }
            (_, Some(burst)) if !(1..=AMOUNT_MAX).contains(&burst) => {
                wrong("burst", burst, format!("1 to {AMOUNT_MAX}"))
            }
            _ => Ok(Self { holder, measure, amount, burst: burst.unwrap_or(amount) }),
        }
    }

    /// Reads `HOLDER=MEASURE:AMOUNT[:BURST]`, for example `key:*=requests:60`.
    ///
    /// # Errors
    /// [`Error::Wrong`].
    pub fn parse(text: &str) -> Result<Self> {
        let wrong = || {
            let allowed = "HOLDER=MEASURE:AMOUNT[:BURST], for example key:*=requests:60".to_owned();
            Error::Wrong { field: "limit", value: text.to_owned(), allowed }
        };
        let (holder, rest) = text.rsplit_once('=').ok_or_else(wrong)?;
        let mut parts = rest.split(':');
        let measure = Measure::parse(parts.next().ok_or_else(wrong)?)?;
        let amount = parts.next().and_then(|digits| digits.parse().ok()).ok_or_else(wrong)?;
        let burst = parts.next().map(|digits| digits.parse().map_err(|_| wrong())).transpose()?;
        match parts.next() {
            None => Self::new(Holder::parse(holder)?, measure, amount, burst),
            Some(_) => Err(wrong()),
        }
    }
}

/// The limits that hold somebody: those of the key and of the project, those of each where these have none of their
/// own, and those of models that may be asked for.
#[must_use]
pub fn binding<'l>(limits: &'l [Limit], key: &str, project: &str, asks: impl Fn(&str) -> bool) -> Vec<&'l Limit> {
    let own = [Holder::key(key), Holder::project(project)];
    let has_own = |each: &Limit| {
        let is_own = |limit: &Limit| own.contains(&limit.holder) && limit.holder.each() == each.holder;
        limits.iter().any(|limit| is_own(limit) && limit.measure == each.measure)
    };
    let holds = |limit: &&Limit| match limit.holder.parts() {
        ("model", name) => name == EACH || asks(name),
        (_, EACH) => !has_own(limit),
        _ => own.contains(&limit.holder),
    };
    limits.iter().filter(holds).collect()
}

#[cfg(test)]
mod tests {
    use super::{Holder, Limit, Measure, binding};

    #[test]
    fn limits_are_read_as_they_are_written() {
        let limit = Limit::parse("model:qwen3:8b=tokens:1000:50").unwrap();
        let expected = Limit { holder: Holder::model("qwen3:8b"), measure: Measure::Tokens, amount: 1000, burst: 50 };
        assert_eq!(limit, expected);
        assert_eq!(Limit::parse("key:*=requests:60").unwrap().burst, 60);
        assert_eq!(Holder::key("k").each(), Holder::parse("key:*").unwrap());
    }

    #[test]
    fn whoever_is_limited_sees_every_limit_that_holds_them() {
        let limits: Vec<Limit> = [
            "key:*=requests:60",
            "key:*=tokens:1000",
            "key:k=requests:6",
            "key:other=requests:1",
            "model:*=concurrent:9",
            "model:m=tokens:500",
            "model:secret=requests:2",
            "project:*=requests:100",
            "project:other=requests:1",
            "project:p=concurrent:3",
        ]
        .map(|text| Limit::parse(text).unwrap())
        .into();
        let found = binding(&limits, "k", "p", |model| model != "secret");
        let names: Vec<String> =
            found.iter().map(|limit| format!("{} {}", limit.holder, limit.measure.name())).collect();
        let expected = [
            "key:* tokens",
            "key:k requests",
            "model:* concurrent",
            "model:m tokens",
            "project:* requests",
            "project:p concurrent",
        ];
        assert_eq!(names, expected);
    }

    #[test]
    fn what_is_no_limit_is_refused() {
        for text in [
            "",
            "key:k",
            "key:k=requests",
            "key:k=requests:0",
            "key:k=requests:-1",
            "key:k=requests:1:0",
            "key:k=requests:1:2:3",
            "key:k=concurrent:2:5",
            "key:k=wishes:3",
            "key:=requests:1",
            "user:k=requests:1",
            "key:k=tokens:99999999999999",
        ] {
            assert!(Limit::parse(text).is_err(), "{text:?}");
        }
    }
}
