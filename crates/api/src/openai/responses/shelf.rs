//! What is kept of a response: `responses/<owner>/<id>`, an object that is created or replaced as a whole.
//!
//! Ids begin with the time, so a listing has the oldest first: with every new response some of those whose time is over
//! are thrown away.

use base::Clock;
use chat::Caller;
use serde::{Deserialize, Serialize};
use store::{Name, Store};

use super::types::{Item, WireResponse};
use crate::{App, kept};

/// How long a response is kept: thirty days, as the vendor does.
pub(super) const KEPT_MS: u64 = 30 * 24 * 3600 * 1000;
/// Bytes of a response with the conversation before it.
const RECORD_BYTES_MAX: u64 = 32 << 20;
/// So many old responses are looked at when a new one is made.
const SWEPT: usize = 8;
/// Hexadecimal digits of the time in an id.
const TIME_DIGITS: usize = 12;

/// A response and what it answered.
#[derive(Serialize, Deserialize, Clone)]
pub(super) struct Record {
    pub(super) expires_at_ms: u64,
    /// The conversation up to the response.
    pub(super) context: Vec<Item>,
    pub(super) response: WireResponse,
}

/// A new id, which nobody guesses.
pub(super) fn new_id(app: &App, now_ms: u64) -> String {
    format!("resp_{now_ms:0TIME_DIGITS$x}{}", app.secret_digits())
}

/// The response, unless its time is over.
pub(super) async fn get(
    objects: &dyn Store,
    caller: Option<&Caller>,
    id: &str,
    now_ms: u64,
) -> store::Result<Option<Record>> {
    let Some(name) = name(caller, id) else { return Ok(None) };
    let record: Option<Record> = kept::read(objects, &name, RECORD_BYTES_MAX).await?;
    Ok(record.filter(|record| record.expires_at_ms > now_ms))
}

/// Keeps a response. It is durable when this has answered.
pub(super) async fn put(objects: &dyn Store, caller: Option<&Caller>, record: &Record) -> store::Result<()> {
    match name(caller, &record.response.id) {
        Some(name) => kept::write(objects, &name, record, RECORD_BYTES_MAX).await,
        None => Ok(()),
    }
}

/// Forgets a response.
pub(super) async fn delete(objects: &dyn Store, caller: Option<&Caller>, id: &str) -> store::Result<()> {
    match name(caller, id) {
        Some(name) => objects.delete(&name).await,
        None => Ok(()),
    }
}

/// Throws away some of those whose time is over.
pub(super) async fn sweep(objects: &dyn Store, caller: Option<&Caller>, clock: &dyn Clock) -> store::Result<()> {
    let oldest = objects.list_after(&folder(caller), None, SWEPT).await?;
    let began = |name: &Name| u64::from_str_radix(name.last_part().get(5..5 + TIME_DIGITS)?, 16).ok();
    for entry in oldest {
        if began(&entry.name).is_some_and(|began| began + KEPT_MS <= clock.now_ms()) {
            objects.delete(&entry.name).await?;
        }
    }
    Ok(())
}

fn folder(caller: Option<&Caller>) -> Name {
    kept::folder("responses", caller)
}

/// `None` for what cannot be an id.
fn name(caller: Option<&Caller>, id: &str) -> Option<Name> {
    let digits = id.strip_prefix("resp_")?;
    let is_id = digits.len() > TIME_DIGITS && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_id { folder(caller).join(id).ok() } else { None }
}
