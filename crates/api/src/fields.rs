//! Which fields a request may have. A field that we know and do not support is refused by name, never dropped; what
//! happens to a field that nobody knows is the vendor's custom. The words of a refusal are each dialect's own.

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// A request's body, as the router read it.
pub(crate) type Body = Result<Bytes, BytesRejection>;

/// A documented field that is not supported.
pub(crate) struct Refused {
    pub(crate) field: &'static str,
    /// The values that ask for nothing special and are therefore fine; `null` always is.
    pub(crate) harmless: fn(&Value) -> bool,
    pub(crate) why: &'static str,
}

/// What is wrong with a body.
#[derive(Debug, PartialEq)]
pub(crate) enum Fault {
    /// It did not arrive whole, or is larger than allowed.
    Unread(String),
    /// It is no JSON, with the reason.
    NotJson(String),
    /// It is JSON, and not an object.
    NotAnObject,
    /// A field that we know and do not support.
    Unsupported { field: &'static str, why: &'static str },
    /// A field that the vendor does not know.
    Unknown { field: String },
    /// A field whose value has the wrong type; without a path it is the body as a whole.
    Wrong { path: Option<String>, why: String },
}

impl Fault {
    /// The fault in plain words, for dialects that have no own.
    pub(crate) fn plainly(self) -> String {
        match self {
            Self::Unread(why) => why,
            Self::NotJson(why) => format!("the body is not JSON: {why}"),
            Self::NotAnObject => "the body is not a JSON object".to_owned(),
            Self::Unsupported { field, why } => format!("{field} is not supported: {why}"),
            Self::Unknown { field } => format!("{field} is not known"),
            Self::Wrong { path, why } => format!("{}: {why}", path.as_deref().unwrap_or("the body")),
        }
    }
}

/// What becomes of fields that stand in no table.
#[derive(Clone, Copy)]
pub(crate) enum Others<'names> {
    /// They are refused; these are known.
    Refused(&'names [&'names str]),
    /// They are passed over.
    Ignored,
}

/// The bytes of a body that arrived whole.
pub(crate) fn whole(body: Body) -> Result<Bytes, Fault> {
    body.map_err(|rejection| Fault::Unread(format!("read the body: {}", rejection.body_text())))
}

/// The fields of a body that is a JSON object, without those that were refused or harmless.
pub(crate) fn object(body: &[u8], others: Others<'_>, refused: &[Refused]) -> Result<Value, Fault> {
    let value: Value = serde_json::from_slice(body).map_err(|why| Fault::NotJson(why.to_string()))?;
    let Value::Object(mut object) = value else { return Err(Fault::NotAnObject) };
    check(&mut object, others, refused)?;
    Ok(Value::Object(object))
}

/// Reads a struct; an error names the path of the wrong value.
pub(crate) fn read<T: DeserializeOwned>(value: &Value) -> Result<T, Fault> {
    serde_path_to_error::deserialize(value).map_err(|why| {
        let path = why.path().to_string();
        Fault::Wrong { path: (path != ".").then_some(path), why: why.inner().to_string() }
    })
}

/// Takes the refused fields out of an object if they are harmless.
pub(crate) fn check(object: &mut Map<String, Value>, others: Others<'_>, refused: &[Refused]) -> Result<(), Fault> {
    for rule in refused {
        if let Some(value) = object.shift_remove(rule.field)
            && !value.is_null()
            && !(rule.harmless)(&value)
        {
            return Err(Fault::Unsupported { field: rule.field, why: rule.why });
        }
    }
    let Others::Refused(known) = others else { return Ok(()) };
    match object.keys().find(|field| !known.contains(&field.as_str())) {
        Some(field) => Err(Fault::Unknown { field: field.clone() }),
        None => Ok(()),
    }
}

/// No value is harmless.
pub(crate) fn never(_: &Value) -> bool {
    false
}

/// `false` and empty lists ask for nothing.
pub(crate) fn if_empty(value: &Value) -> bool {
    match value {
        Value::Bool(truth) => !truth,
        Value::Array(items) => items.is_empty(),
        Value::Object(_) | Value::String(_) | Value::Number(_) | Value::Null => false,
    }
}

/// Only labels and hints, which change nothing about the answer.
pub(crate) fn always(_: &Value) -> bool {
    true
}

/// `["text"]`.
pub(crate) fn if_text_only(value: &Value) -> bool {
    value.as_array().is_some_and(|kinds| kinds.iter().all(|kind| kind == "text"))
}

/// `auto` and `default` leave the choice to the server.
pub(crate) fn if_automatic(value: &Value) -> bool {
    matches!(value.as_str(), Some("auto" | "default"))
}

/// One.
pub(crate) fn if_one(value: &Value) -> bool {
    value.as_u64() == Some(1)
}

/// `true`.
pub(crate) fn if_true(value: &Value) -> bool {
    value == &Value::Bool(true)
}
