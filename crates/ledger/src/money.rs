//! Money as people write it, and shares of whole numbers. There are no fractions of a micro-dollar anywhere.

use crate::{Error, Result};

/// Micro-dollars of a dollar.
pub const MICROS: i64 = 1_000_000;
/// The largest amount that one operation moves: a trillion dollars is a mistake.
pub const AMOUNT_MAX: i64 = 1_000_000 * MICROS * 1_000;
/// The most tokens that one operation moves.
pub const TOKENS_MAX: i64 = 1_000_000_000_000_000;

/// Reads dollars: digits, a point, at most six digits.
///
/// # Errors
/// [`Error::Wrong`] if it is written otherwise or is too large.
pub fn parse_dollars(field: &'static str, text: &str) -> Result<i64> {
    let wrong = || Error::Wrong {
        field,
        value: text.to_owned(),
        allowed: "dollars as 12, 12.5 or 0.000001, at most 1000000000".to_owned(),
    };
    let plain = text.trim().trim_start_matches('$');
    let (whole, part) = plain.split_once('.').unwrap_or((plain, ""));
    let are_digits = |digits: &str| digits.bytes().all(|digit| digit.is_ascii_digit());
    if whole.is_empty() || whole.len() > 10 || part.len() > 6 || !are_digits(whole) || !are_digits(part) {
        return Err(wrong());
    }
    let whole: i64 = whole.parse().map_err(|_| wrong())?;
    let part: i64 = format!("{part:0<6}").parse().map_err(|_| wrong())?;
    let amount = whole.checked_mul(MICROS).and_then(|micro| micro.checked_add(part)).ok_or_else(wrong)?;
    if amount > AMOUNT_MAX { Err(wrong()) } else { Ok(amount) }
}

/// Micro-dollars as dollars: at least two digits after the point, as many as needed.
#[must_use]
pub fn dollars(micro: i64) -> String {
    let sign = if micro < 0 { "-" } else { "" };
    let (whole, part) = (micro.unsigned_abs() / MICROS as u64, micro.unsigned_abs() % MICROS as u64);
    let digits = format!("{part:06}");
    let shown = digits.trim_end_matches('0').len().max(2);
    format!("{sign}{whole}.{}", &digits[..shown])
}

/// `amount * part / whole`, rounded up. All are at least 0, `part` at most `whole`, `whole` above 0.
pub(crate) fn share_up(amount: i64, part: i64, whole: i64) -> i64 {
    debug_assert!(amount >= 0 && (0..=whole).contains(&part) && whole > 0);
    let product = i128::from(amount) * i128::from(part);
    let share = (product + i128::from(whole) - 1) / i128::from(whole);
    i64::try_from(share).expect("a part of an i64 is an i64")
}

#[cfg(test)]
mod tests {
    use super::{dollars, parse_dollars, share_up};

    #[test]
    fn dollars_are_read_and_written_exactly() {
        for (text, micro) in
            [("0", 0), ("1", 1_000_000), ("$0.4", 400_000), ("120000", 120_000_000_000), ("0.000001", 1)]
        {
            assert_eq!(parse_dollars("amount", text).unwrap(), micro);
        }
        for text in ["", ".5", "-1", "1e3", "0.0000001", "1.2.3", "99999999999", "1,5", "٣"] {
            assert!(parse_dollars("amount", text).is_err(), "{text:?}");
        }
        for (micro, text) in [(0, "0.00"), (-1, "-0.000001"), (1_500_000, "1.50"), (123_456, "0.123456")] {
            assert_eq!(dollars(micro), text);
        }
        assert_eq!(dollars(i64::MIN), "-9223372036854.775808");
    }

    #[test]
    fn a_share_is_never_rounded_down() {
        assert_eq!((share_up(10, 1, 3), share_up(9, 1, 3), share_up(i64::MAX, 7, 7)), (4, 3, i64::MAX));
    }
}
