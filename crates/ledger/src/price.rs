//! What things cost: lists by model, direction, region and day.
//!
//! A rate is whole micro-dollars for so many units as its direction counts in ([`Direction::per`]). A cost is summed
//! exactly over all directions and rounded up once to a whole micro-dollar, so that a request never costs nothing by
//! rounding, and never more than a millionth of a dollar too much.

mod list;

pub use list::PriceList;

use crate::money::AMOUNT_MAX;
use crate::{Error, Result};

/// What can be paid for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Direction {
    /// Tokens of a prompt that were computed.
    Input,
    /// Tokens of a prompt whose computation was reused.
    CachedInput,
    /// Tokens that were generated.
    Output,
    /// Tokens that were embedded or ranked.
    Embedding,
    /// Pictures that were made.
    Image,
    /// Seconds of video that were made.
    VideoSecond,
    /// Vectors that were written.
    VectorWrite,
    /// Vectors that were asked for.
    VectorRead,
    /// Bytes of vectors that were kept, times hours.
    VectorByteHour,
    /// Seconds that a job held a core.
    JobCoreSecond,
}

/// Every `per` divides it, so costs are summed without a remainder.
const COMMON: i128 = 6_570_000_000_000;
/// How many directions there are.
const DIRECTIONS: usize = Direction::ALL.len();

impl Direction {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Input,
        Self::CachedInput,
        Self::Output,
        Self::Embedding,
        Self::Image,
        Self::VideoSecond,
        Self::VectorWrite,
        Self::VectorRead,
        Self::VectorByteHour,
        Self::JobCoreSecond,
    ];

    /// Its name in price lists.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Input => "input",
            Self::CachedInput => "cached_input",
            Self::Output => "output",
            Self::Embedding => "embedding",
            Self::Image => "image",
            Self::VideoSecond => "video",
            Self::VectorWrite => "vector_write",
            Self::VectorRead => "vector_read",
            Self::VectorByteHour => "vector_storage",
            Self::JobCoreSecond => "job",
        }
    }

    /// A price is for so many units: a million tokens or vectors, one picture or second, a gigabyte for a month of
    /// 730 hours, an hour of a core.
    #[must_use]
    pub const fn per(self) -> u64 {
        match self {
            Self::Input | Self::CachedInput | Self::Output | Self::Embedding | Self::VectorWrite | Self::VectorRead => {
                1_000_000
            }
            Self::Image | Self::VideoSecond => 1,
            Self::VectorByteHour => 730_000_000_000,
            Self::JobCoreSecond => 3600,
        }
    }

    /// What a price is for, in words.
    #[must_use]
    pub fn unit(self) -> &'static str {
        match self {
            Self::Input | Self::CachedInput | Self::Output | Self::Embedding => "million tokens",
            Self::VectorWrite | Self::VectorRead => "million vectors",
            Self::Image => "picture",
            Self::VideoSecond => "second",
            Self::VectorByteHour => "GB-month",
            Self::JobCoreSecond => "core-hour",
        }
    }
}

/// How much of each direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Quantities([u64; DIRECTIONS]);

impl Quantities {
    /// So much of one direction and nothing else.
    #[must_use]
    pub fn of(direction: Direction, units: u64) -> Self {
        Self::default().with(direction, units)
    }

    /// The same with so much of this direction.
    #[must_use]
    pub fn with(mut self, direction: Direction, units: u64) -> Self {
        self.0[direction as usize] = units;
        self
    }

    /// How much of this direction.
    #[must_use]
    pub fn get(&self, direction: Direction) -> u64 {
        self.0[direction as usize]
    }

    /// Everything that is counted in tokens: what grants of tokens pay for.
    #[must_use]
    pub fn tokens(&self) -> u64 {
        [Direction::Input, Direction::CachedInput, Direction::Output, Direction::Embedding]
            .into_iter()
            .fold(0, |sum, direction| sum.saturating_add(self.get(direction)))
    }
}

/// How a request is charged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Tariff {
    /// As the list says.
    #[default]
    Full,
    /// Work that waits until nobody else wants the machine: half of it.
    Batch,
}

/// What one model costs in one region on one day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Price {
    model: String,
    region: String,
    rates: [Option<i64>; DIRECTIONS],
}

impl Price {
    /// A price of nothing, for who only counts.
    #[must_use]
    pub fn free() -> Self {
        Self { model: "*".to_owned(), region: String::new(), rates: [Some(0); DIRECTIONS] }
    }

    /// The same with nothing to pay for what has no price, for who only counts.
    #[must_use]
    pub fn or_free(mut self) -> Self {
        for direction in Direction::ALL {
            let rate = self.rate(direction).unwrap_or(0);
            self.rates[direction as usize] = Some(rate);
        }
        self
    }

    /// Micro-dollars of [`Direction::per`] units. Cached input costs as input where it has no price of its own.
    #[must_use]
    pub fn rate(&self, direction: Direction) -> Option<i64> {
        let own = self.rates[direction as usize];
        match direction {
            Direction::CachedInput => own.or(self.rates[Direction::Input as usize]),
            _ => own,
        }
    }

    /// Micro-dollars for so much, rounded up once.
    ///
    /// # Errors
    /// [`Error::NoPrice`] if something is wanted that has none; [`Error::TooLarge`].
    pub fn cost(&self, wanted: &Quantities, tariff: Tariff) -> Result<i64> {
        let too_large = || Error::TooLarge { what: "the cost" };
        let mut sum: i128 = 0;
        for direction in Direction::ALL {
            let units = wanted.get(direction);
            if units == 0 {
                continue;
            }
            let rate = self.rate(direction).ok_or_else(|| Error::NoPrice {
                model: self.model.clone(),
                direction: direction.name(),
                region: self.region.clone(),
            })?;
            let weight = i128::from(rate) * (COMMON / i128::from(direction.per()));
            let cost = weight.checked_mul(i128::from(units)).ok_or_else(too_large)?;
            sum = sum.checked_add(cost).ok_or_else(too_large)?;
        }
        let whole = match tariff {
            Tariff::Full => COMMON,
            Tariff::Batch => 2 * COMMON,
        };
        let micro = sum / whole + i128::from(sum % whole != 0);
        i64::try_from(micro).ok().filter(|&micro| micro <= AMOUNT_MAX).ok_or_else(too_large)
    }
}

#[cfg(test)]
mod tests {
    use super::{COMMON, Direction, PriceList, Quantities, Tariff};
    use crate::Error;

    const LIST: &str = r#"
        [[price]]
        model = "small"
        input = "0.05"
        output = "0.40"
        vector_storage = "0.06"
        job = "0.05"
        image = "0.03"
    "#;

    fn check(wanted: Quantities, full: i64, batch: i64) {
        let price = PriceList::parse(LIST).unwrap().price("small", "", 0).unwrap();
        assert_eq!(price.cost(&wanted, Tariff::Full).unwrap(), full, "{wanted:?}");
        assert_eq!(price.cost(&wanted, Tariff::Batch).unwrap(), batch, "{wanted:?}");
    }

    #[test]
    fn every_direction_is_summed_without_a_remainder() {
        for direction in Direction::ALL {
            assert_eq!(COMMON % i128::from(direction.per()), 0, "{direction:?}");
        }
    }

    #[test]
    fn a_cost_is_rounded_up_once() {
        check(Quantities::default(), 0, 0);
        check(Quantities::of(Direction::Input, 1), 1, 1);
        // 10 * 0.05 + 10 * 0.4 = 4.5 micro-dollars, not 1 + 4.
        check(Quantities::of(Direction::Input, 10).with(Direction::Output, 10), 5, 3);
        check(Quantities::of(Direction::Output, 1_000_000), 400_000, 200_000);
        check(Quantities::of(Direction::CachedInput, 1_000_000), 50_000, 25_000);
        check(Quantities::of(Direction::VectorByteHour, 730_000_000_000), 60_000, 30_000);
        check(Quantities::of(Direction::JobCoreSecond, 7200).with(Direction::Image, 3), 190_000, 95_000);
    }

    #[test]
    fn what_has_no_price_is_refused_by_name() {
        let price = PriceList::parse(LIST).unwrap().price("small", "eu-west", 0).unwrap();
        let refused = price.cost(&Quantities::of(Direction::VideoSecond, 1), Tariff::Full);
        assert!(matches!(refused, Err(Error::NoPrice { direction: "video", .. })), "{refused:?}");
        let second = Quantities::of(Direction::VideoSecond, 1).with(Direction::CachedInput, 1_000_000);
        assert_eq!(price.clone().or_free().cost(&second, Tariff::Full).unwrap(), 50_000, "the rest costs what it did");
        let refused = price.cost(&Quantities::of(Direction::Output, u64::MAX), Tariff::Full);
        assert!(matches!(refused, Err(Error::TooLarge { .. })), "{refused:?}");
    }
}
