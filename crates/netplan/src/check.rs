//! Holds the simulator against files of reference results, in the formats of `fixtures/hpn`.
//!
//! [`check`] finds out which format a file has, runs every case, and reports each figure beside what was expected and
//! how far it may be off. A case that its file marks as informational is reported and never fails.

mod astra;
mod counts;
mod efficiency;
mod maxmin;
mod packet;
mod published;
mod report;
mod simai;

pub use report::{Line, Report};

use serde_json::Value;

use crate::error::{Error, Result, at_most};

/// The longest reference file that is read.
pub const FILE_BYTES_MAX: u64 = 1 << 30;

/// Runs all cases of a reference file.
///
/// # Errors
/// If the text is no JSON, has none of the known formats, or a case of it cannot be understood.
pub fn check(text: &str) -> Result<Report> {
    at_most("bytes of reference", text.len() as u64, FILE_BYTES_MAX)?;
    let value: Value =
        serde_json::from_str(text).map_err(|source| Error::Json { what: "the reference file", source })?;
    let has = |list: &str, field: &str| value[list].get(0).is_some_and(|first| first.get(field).is_some());
    if has("cases", "capacities_Bps") {
        maxmin::check(value)
    } else if has("cases", "transport") {
        packet::check(value)
    } else if has("cases", "workload") {
        simai::check(value)
    } else if has("cases", "collective") {
        astra::check(value)
    } else if value["tables"].is_object() {
        efficiency::check(value)
    } else if has("rows", "coll") {
        published::check(&value)
    } else if has("rows", "id") {
        counts::check(value)
    } else {
        Err(Error::invalid("reference file", "its format is none of those in fixtures/hpn"))
    }
}

/// Reads a part of the file into its type.
fn typed<T: serde::de::DeserializeOwned>(what: &'static str, value: Value) -> Result<T> {
    serde_json::from_value(value).map_err(|source| Error::Json { what, source })
}
