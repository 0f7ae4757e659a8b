//! A price list as TOML.

use std::fmt::Write as _;

use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::{DIRECTIONS, Direction, Price};
use crate::calendar::{parse_day, show_day};
use crate::money::{dollars, parse_dollars};
use crate::{Error, Result};

/// Prices of one list.
const PRICES_MAX: usize = 10_000;
/// Bytes of one list.
const LIST_BYTES_MAX: usize = 4 << 20;
/// Digits of a list's version: enough to tell lists apart.
const VERSION_DIGITS: usize = 12;

/// Prices by model, region and day.
///
/// ```toml
/// [[price]]
/// model = "qwen3*"         # a trailing star stands for any ending; the longest match counts
/// region = "eu-west"       # left out: every region that has no price of its own
/// from = "2026-01-01"      # left out: always; the latest day that has come counts
/// input = "0.40"           # dollars, as text: there are no fractions of a micro-dollar
/// output = "1.20"
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PriceList {
    rows: Vec<Row>,
    version: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Row {
    model: String,
    region: Option<String>,
    from_ms: u64,
    rates: [Option<i64>; DIRECTIONS],
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawList {
    #[serde(default)]
    price: Vec<RawPrice>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPrice {
    model: String,
    region: Option<String>,
    from: Option<String>,
    input: Option<String>,
    cached_input: Option<String>,
    output: Option<String>,
    embedding: Option<String>,
    image: Option<String>,
    video: Option<String>,
    vector_write: Option<String>,
    vector_read: Option<String>,
    vector_storage: Option<String>,
    job: Option<String>,
}

impl PriceList {
    /// The list that ships as an example of the form. Its figures are nobody's.
    ///
    /// # Panics
    /// Never: a test reads the example.
    #[must_use]
    pub fn example() -> Self {
        Self::parse(Self::EXAMPLE).expect("the example is a list; a test reads it")
    }

    /// The text of the example.
    pub const EXAMPLE: &str = include_str!("example.toml");

    /// Reads a list.
    ///
    /// # Errors
    /// [`Error::Prices`] with the place, if it is no list; [`Error::Wrong`] if a price is not one.
    pub fn parse(text: &str) -> Result<Self> {
        let wrong = |why: String| Error::Prices { why };
        if text.len() > LIST_BYTES_MAX {
            return Err(wrong(format!("it has {} bytes, {LIST_BYTES_MAX} are allowed", text.len())));
        }
        let raw: RawList = toml::from_str(text).map_err(|error| wrong(error.to_string()))?;
        if raw.price.len() > PRICES_MAX {
            return Err(wrong(format!("it has {} prices, {PRICES_MAX} are allowed", raw.price.len())));
        }
        let rows: Vec<Row> = raw.price.into_iter().map(Row::from_raw).collect::<Result<_>>()?;
        for (index, row) in rows.iter().enumerate() {
            let same =
                |other: &Row| (&other.model, &other.region, other.from_ms) == (&row.model, &row.region, row.from_ms);
            if rows[..index].iter().any(same) {
                return Err(wrong(format!("the model {:?} has two prices for one region and day", row.model)));
            }
        }
        let mut version = String::new();
        for byte in Sha256::digest(text.as_bytes()).iter().take(VERSION_DIGITS / 2) {
            write!(version, "{byte:02x}").expect("a string takes every digit");
        }
        Ok(Self { rows, version })
    }

    /// Names this text among all lists that were in force.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The price of a model. A name beats a longer beginning, which beats a shorter one; then the region's own price
    /// beats the one for all; then the latest day.
    ///
    /// # Errors
    /// [`Error::NoPrice`].
    pub fn price(&self, model: &str, region: &str, at_ms: u64) -> Result<Price> {
        let applies = |row: &&Row| {
            row.from_ms <= at_ms
                && row.matches(model).is_some()
                && row.region.as_deref().is_none_or(|own| own == region)
        };
        let best =
            self.rows.iter().filter(applies).max_by_key(|row| (row.matches(model), row.region.is_some(), row.from_ms));
        let row = best.ok_or_else(|| Error::NoPrice {
            model: model.to_owned(),
            direction: "anything",
            region: region.to_owned(),
        })?;
        Ok(Price { model: model.to_owned(), region: region.to_owned(), rates: row.rates })
    }

    /// Every price as model, region, day and `direction dollars/unit`, in the order of the list.
    #[must_use]
    pub fn table(&self) -> Vec<[String; 4]> {
        let line = |row: &Row| {
            let shown = |direction: Direction| {
                let rate = row.rates[direction as usize]?;
                Some(format!("{} {}/{}", direction.name(), dollars(rate), direction.unit()))
            };
            let rates: Vec<String> = Direction::ALL.into_iter().filter_map(shown).collect();
            let day = if row.from_ms == 0 { String::new() } else { show_day(row.from_ms) };
            [row.model.clone(), row.region.clone().unwrap_or_default(), day, rates.join(", ")]
        };
        self.rows.iter().map(line).collect()
    }
}

impl Row {
    fn from_raw(raw: RawPrice) -> Result<Self> {
        let from_ms = raw.from.as_deref().map_or(Ok(0), |day| parse_day("from", day))?;
        let texts = [
            (Direction::Input, raw.input),
            (Direction::CachedInput, raw.cached_input),
            (Direction::Output, raw.output),
            (Direction::Embedding, raw.embedding),
            (Direction::Image, raw.image),
            (Direction::VideoSecond, raw.video),
            (Direction::VectorWrite, raw.vector_write),
            (Direction::VectorRead, raw.vector_read),
            (Direction::VectorByteHour, raw.vector_storage),
            (Direction::JobCoreSecond, raw.job),
        ];
        let mut rates = [None; DIRECTIONS];
        for (direction, text) in texts {
            rates[direction as usize] = text.map(|text| parse_dollars(direction.name(), &text)).transpose()?;
        }
        Ok(Self { model: raw.model, region: raw.region, from_ms, rates })
    }

    /// How well the row names the model: its own name best, else by the length of the beginning.
    fn matches(&self, model: &str) -> Option<usize> {
        match self.model.strip_suffix('*') {
            Some(beginning) => model.starts_with(beginning).then_some(beginning.len()),
            None => (self.model == model).then_some(usize::MAX),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::PriceList;
    use crate::calendar::parse_day;
    use crate::price::Direction;

    const LIST: &str = r#"
        price = [
            { model = "*", input = "9" },
            { model = "qwen3*", input = "1" },
            { model = "qwen3*", input = "2", region = "eu-west" },
            { model = "qwen3*", input = "3", region = "eu-west", from = "2026-06-01" },
            { model = "qwen3-max", input = "4", from = "2026-06-01" },
        ]"#;

    #[track_caller]
    fn check(model: &str, region: &str, day: &str, dollars: i64) {
        let list = PriceList::parse(LIST).unwrap();
        let price = list.price(model, region, parse_day("day", day).unwrap()).unwrap();
        assert_eq!(price.rate(Direction::Input), Some(dollars * 1_000_000), "{model} {region} {day}");
    }

    #[test]
    fn the_closest_price_counts() {
        check("other", "eu-west", "2026-01-01", 9);
        check("qwen3-8b", "", "2026-01-01", 1);
        check("qwen3-8b", "ap-northeast", "2026-07-01", 1);
        check("qwen3-8b", "eu-west", "2026-05-31", 2);
        check("qwen3-8b", "eu-west", "2026-06-01", 3);
        check("qwen3-max", "", "2026-05-31", 1);
        check("qwen3-max", "eu-west", "2026-06-01", 4);
    }

    #[test]
    fn what_is_no_list_is_refused() {
        for text in [
            "price = 1",
            "[[price]]\nmodel = \"a\"\ninput = 0.4",
            "[[price]]\nmodel = \"a\"\ninputs = \"0.4\"",
            "[[price]]\nmodel = \"a\"\ninput = \"-0.4\"",
            "[[price]]\nmodel = \"a\"\nfrom = \"yesterday\"",
            "[[price]]\nmodel = \"a\"\n[[price]]\nmodel = \"a\"",
        ] {
            assert!(PriceList::parse(text).is_err(), "{text}");
        }
        assert!(PriceList::parse("").unwrap().price("a", "", 0).is_err());
    }

    #[test]
    fn the_example_prices_every_direction() {
        let list = PriceList::example();
        let price = list.price("anything", "anywhere", 0).unwrap();
        for direction in Direction::ALL {
            assert!(price.rate(direction).is_some(), "{direction:?}");
        }
        assert_ne!(list.version(), PriceList::parse(LIST).unwrap().version());
        assert_eq!(list.table().len(), list.rows.len());
    }
}
