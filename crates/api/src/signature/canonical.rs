//! What both vendors' signatures are made of.

use std::fmt::Write as _;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};

use super::{Refusal, SKEW_MS_MAX};

/// The MAC of a text under a key that is itself derived step by step from the secret.
pub(super) struct Derived([u8; 32]);

impl Derived {
    /// The chain `mac(mac(key, first), second)` and so on.
    pub(super) fn chain(prefix: &str, secret: &str, steps: [&str; 4]) -> Self {
        let mut derived = Self::mac(format!("{prefix}{secret}").as_bytes(), steps[0].as_bytes());
        for step in &steps[1..] {
            derived = Self::mac(&derived.0, step.as_bytes());
        }
        derived
    }

    fn mac(key: &[u8], text: &[u8]) -> Self {
        Self(keyed(key).chain_update(text).finalize().into_bytes().into())
    }

    pub(super) fn sign(&self, text: &str) -> String {
        hex(&Self::mac(&self.0, text.as_bytes()).0)
    }

    /// Whether `signature` (hexadecimal) is that of the text, found in constant time.
    pub(super) fn verifies(&self, text: &str, signature: &str) -> bool {
        let Some(signature) = unhex(signature) else { return false };
        keyed(&self.0).chain_update(text.as_bytes()).verify_slice(&signature).is_ok()
    }
}

fn keyed(key: &[u8]) -> Hmac<Sha256> {
    Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length")
}

pub(super) fn sha256_hex(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> =
        text.chars().map(|digit| digit.to_digit(16).map(|value| value as u8)).collect::<Option<_>>()?;
    let (pairs, rest) = digits.as_chunks::<2>();
    rest.is_empty().then(|| pairs.iter().map(|[high, low]| high << 4 | low).collect())
}

/// Percent-encodes everything but RFC 3986's unreserved characters and those in `safe`.
pub(super) fn encoded(bytes: impl IntoIterator<Item = u8>, safe: &[u8]) -> String {
    let mut text = String::new();
    for byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) || safe.contains(&byte) {
            text.push(char::from(byte));
        } else {
            let _ = write!(text, "%{byte:02X}");
        }
    }
    text
}

/// Undoes percent-encoding; what is no pair of digits stays as it is.
pub(super) fn decoded(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let mut plain = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let value = (bytes[at] == b'%').then(|| text.get(at + 1..at + 3)).flatten().and_then(unhex);
        match value {
            Some(value) => {
                plain.extend(value);
                at += 3;
            }
            None => {
                plain.push(bytes[at]);
                at += 1;
            }
        }
    }
    plain
}

/// The pairs of a query as they were written.
pub(super) fn pairs(query: &str) -> impl Iterator<Item = (&str, &str)> {
    query.split('&').filter(|pair| !pair.is_empty()).map(|pair| pair.split_once('=').unwrap_or((pair, "")))
}

/// The value of a parameter, decoded.
pub(super) fn parameter(query: &str, name: &str) -> Option<String> {
    let (_, value) = pairs(query).find(|(key, _)| decoded(key) == name.as_bytes())?;
    String::from_utf8(decoded(value)).ok()
}

/// `20251125T101500Z` in milliseconds since 1970.
pub(super) fn time_ms(text: &str) -> Option<u64> {
    let bytes = text.as_bytes();
    if bytes.len() != 16 || bytes[8] != b'T' || bytes[15] != b'Z' {
        return None;
    }
    let number = |range: std::ops::Range<usize>| -> Option<u64> {
        let digits = text.get(range)?;
        digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok()).flatten()
    };
    let (year, month, day) = (number(0..4)?, number(4..6)?, number(6..8)?);
    let (hour, minute, second) = (number(9..11)?, number(11..13)?, number(13..15)?);
    let valid = year >= 1970 && (1..=12).contains(&month) && (1..=31).contains(&day);
    if !valid || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    // Days since 1970 by counting years from March, so that the leap day is the last
    // (howardhinnant.github.io/date_algorithms.html).
    let year = if month <= 2 { year - 1 } else { year };
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = year * 365 + year / 4 - year / 100 + year / 400 + day_of_year - 719_468;
    Some((days * 86_400 + hour * 3_600 + minute * 60 + second) * 1_000)
}

/// Milliseconds since 1970 as `20251125T101500Z`.
pub(super) fn time_text(ms: u64) -> String {
    let text = crate::time::rfc3339(ms / 1_000 * 1_000);
    let digits: String = text.chars().filter(char::is_ascii_digit).take(14).collect();
    format!("{}T{}Z", &digits[..8], &digits[8..])
}

/// Refuses what was signed too long ago or too far ahead. `lasts_ms` is how long it asks to be good.
pub(super) fn check_time(signed: &str, lasts_ms: Option<u64>, now_ms: u64) -> Result<(), Refusal> {
    let signed_ms = time_ms(signed).ok_or_else(|| Refusal::Malformed(format!("{signed:?} is no date")))?;
    let skewed = || Refusal::Skewed { signed: signed.to_owned(), now_ms };
    if signed_ms > now_ms.saturating_add(SKEW_MS_MAX) {
        return Err(skewed());
    }
    match lasts_ms {
        Some(lasts_ms) if now_ms > signed_ms + lasts_ms => {
            Err(Refusal::Expired { until_ms: signed_ms + lasts_ms, now_ms })
        }
        None if now_ms > signed_ms + SKEW_MS_MAX => Err(skewed()),
        _ => Ok(()),
    }
}
