//! Which fields a request may have. A field that we know and do not support is refused by name, never dropped.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::Failure;
use super::types::SharedFields;

/// A documented field that is not supported.
pub(super) struct Refused {
    pub(super) field: &'static str,
    /// The values that ask for nothing special and are therefore fine; `null` always is.
    pub(super) harmless: fn(&Value) -> bool,
    pub(super) why: &'static str,
}

/// Parses a body, an object, into the fields of its route and those that both routes share.
pub(super) fn parse<T: DeserializeOwned>(
    body: &[u8],
    known: &[&str],
    refused: &[Refused],
) -> Result<(T, SharedFields), Failure> {
    let value: Value =
        serde_json::from_slice(body).map_err(|why| Failure::invalid(format!("the body is not JSON: {why}"), None))?;
    let Value::Object(mut object) = value else {
        return Err(Failure::invalid("the body is not a JSON object".to_owned(), None));
    };
    check(&mut object, known, refused)?;
    let value = Value::Object(object);
    Ok((read(&value)?, read(&value)?))
}

/// Reads a struct; an error names the path of the wrong value.
fn read<T: DeserializeOwned>(value: &Value) -> Result<T, Failure> {
    serde_path_to_error::deserialize(value).map_err(|why| {
        let path = why.path().to_string();
        let param = if path == "." { None } else { Some(path) };
        Failure::invalid(format!("{}: {}", param.as_deref().unwrap_or("the body"), why.inner()), param)
    })
}

fn check(object: &mut Map<String, Value>, known: &[&str], refused: &[Refused]) -> Result<(), Failure> {
    for rule in refused {
        if let Some(value) = object.remove(rule.field)
            && !value.is_null()
            && !(rule.harmless)(&value)
        {
            let message = format!("{} is not supported: {}", rule.field, rule.why);
            return Err(Failure::unsupported(message, rule.field));
        }
    }
    if let Some(field) = object.keys().find(|field| !known.contains(&field.as_str())) {
        let message = format!("Unrecognized request argument supplied: {field}");
        return Err(Failure::invalid(message, Some(field.clone())));
    }
    Ok(())
}

/// No value is harmless.
pub(super) fn never(_: &Value) -> bool {
    false
}

/// `false` and empty lists ask for nothing.
pub(super) fn if_empty(value: &Value) -> bool {
    match value {
        Value::Bool(truth) => !truth,
        Value::Array(items) => items.is_empty(),
        Value::Object(_) | Value::String(_) | Value::Number(_) | Value::Null => false,
    }
}

/// Only labels and hints, which change nothing about the answer.
pub(super) fn always(_: &Value) -> bool {
    true
}

/// `{"type": "text"}`.
pub(super) fn if_text_format(value: &Value) -> bool {
    value["type"] == "text"
}

/// `["text"]`.
pub(super) fn if_text_only(value: &Value) -> bool {
    value.as_array().is_some_and(|kinds| kinds.iter().all(|kind| kind == "text"))
}

/// `auto` and `default` leave the choice to the server.
pub(super) fn if_automatic(value: &Value) -> bool {
    matches!(value.as_str(), Some("auto" | "default"))
}

/// One.
pub(super) fn if_one(value: &Value) -> bool {
    value.as_u64() == Some(1)
}
