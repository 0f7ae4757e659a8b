//! Days and months in UTC, on which budgets begin and prices change.

use crate::{Error, Result};

/// Milliseconds of a day.
pub const DAY_MS: u64 = 86_400_000;
/// Milliseconds of an hour.
pub const HOUR_MS: u64 = 3_600_000;
/// Days from the first of March of the year 0 to 1970.
const DAYS_TO_EPOCH: u64 = 719_468;
const DAYS_OF_400_YEARS: u64 = 146_097;
/// Years beyond are mistakes.
const YEARS: std::ops::RangeInclusive<u64> = 1970..=9999;

/// When the day of this time began.
#[must_use]
pub fn day_start(at_ms: u64) -> u64 {
    at_ms / DAY_MS * DAY_MS
}

/// When the month of this time began.
#[must_use]
pub fn month_start(at_ms: u64) -> u64 {
    let (year, month, _) = date(at_ms / DAY_MS);
    days(year, month, 1) * DAY_MS
}

/// When the month after that of this time begins.
#[must_use]
pub fn next_month(at_ms: u64) -> u64 {
    let (year, month, _) = date(at_ms / DAY_MS);
    days(year + month / 12, month % 12 + 1, 1) * DAY_MS
}

/// The day as `2026-01-31`.
#[must_use]
pub fn show_day(at_ms: u64) -> String {
    let (year, month, day) = date(at_ms / DAY_MS);
    format!("{year:04}-{month:02}-{day:02}")
}

/// The month as `2026-01`.
#[must_use]
pub fn show_month(at_ms: u64) -> String {
    show_day(at_ms)[..7].to_owned()
}

/// The time as `2026-01-31T23:59:59.000Z`.
#[must_use]
pub fn show_time(at_ms: u64) -> String {
    let seconds = at_ms % DAY_MS / 1000;
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{}T{hour:02}:{minute:02}:{second:02}.{:03}Z", show_day(at_ms), at_ms % 1000)
}

/// When a day begins that is written as `2026-01-31`, or a month as `2026-01`.
///
/// # Errors
/// [`Error::Wrong`] if there is no such day.
pub fn parse_day(field: &'static str, text: &str) -> Result<u64> {
    let parsed = parts(text).filter(|&(year, month, day)| {
        // Only what comes back as it was written is a day of the calendar.
        YEARS.contains(&year)
            && (1..=12).contains(&month)
            && (1..=31).contains(&day)
            && date(days(year, month, day)) == (year, month, day)
    });
    let allowed = || "a day as 2026-01-31 or a month as 2026-01".to_owned();
    parsed.map(|(year, month, day)| days(year, month, day) * DAY_MS).ok_or_else(|| Error::Wrong {
        field,
        value: text.to_owned(),
        allowed: allowed(),
    })
}

fn parts(text: &str) -> Option<(u64, u64, u64)> {
    let mut numbers = text.split('-').map(|digits| {
        let is_plain = (2..=4).contains(&digits.len()) && digits.bytes().all(|digit| digit.is_ascii_digit());
        is_plain.then(|| digits.parse::<u64>().ok()).flatten()
    });
    let (year, month) = (numbers.next()??, numbers.next()??);
    let day = match numbers.next() {
        Some(day) => day?,
        None => 1,
    };
    numbers.next().is_none().then_some((year, month, day))
}

/// Days from 1970 to a date (Howard Hinnant, "chrono-compatible low-level date algorithms", `days_from_civil`).
fn days(year: u64, month: u64, day: u64) -> u64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (year / 400, year % 400);
    let month_from_march = (month + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    era * DAYS_OF_400_YEARS + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - DAYS_TO_EPOCH
}

/// Year, month and day (the same source, `civil_from_days`).
fn date(days_since_epoch: u64) -> (u64, u64, u64) {
    let days = days_since_epoch + DAYS_TO_EPOCH;
    let (era, day_of_era) = (days / DAYS_OF_400_YEARS, days % DAYS_OF_400_YEARS);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::{DAY_MS, day_start, month_start, next_month, parse_day, show_day, show_month, show_time};

    #[test]
    fn every_day_of_two_centuries_comes_back() {
        for day in 0..73_000 {
            let start = day * DAY_MS;
            assert_eq!(parse_day("day", &show_day(start)).unwrap(), start);
            assert_eq!((day_start(start + DAY_MS - 1), month_start(start) <= start), (start, true));
            assert!(next_month(start) > start && next_month(start) - month_start(start) <= 31 * DAY_MS);
        }
    }

    #[test]
    fn months_begin_and_end_where_the_calendar_says() {
        let at = parse_day("day", "2024-02-29").unwrap();
        assert_eq!(show_day(month_start(at)), "2024-02-01");
        assert_eq!(show_day(next_month(at)), "2024-03-01");
        let december = parse_day("day", "2026-12-31").unwrap();
        assert_eq!(show_day(next_month(december)), "2027-01-01");
        assert_eq!(show_month(parse_day("month", "2026-11").unwrap()), "2026-11");
        assert_eq!(show_time(1_700_000_000_123), "2023-11-14T22:13:20.123Z");
    }

    #[test]
    fn what_is_no_day_is_refused() {
        for text in ["", "2026", "2026-13-01", "2026-02-30", "2026-1-1", "1969-12-31", "2026-01-01-01", "x-y-z"] {
            assert!(parse_day("from", text).is_err(), "{text:?}");
        }
    }
}
