//! What form an answer must have: OpenAI's `response_format`, and the fields by which clients of vLLM say the same.

use chat::Format;
use serde_json::{Map, Value};

use super::Failure;
use super::types::ChatRequest;

/// The form that a request asks for. Several fields that ask for one are refused.
pub(super) fn of(wire: &ChatRequest) -> Result<Format, Failure> {
    let text = |name: &'static str, value: &Option<String>, make: fn(String) -> Format| {
        value.as_ref().map(|text| Ok((name, make(text.clone()))))
    };
    let asked = [
        wire.response_format.as_ref().map(|value| Ok(("response_format", response_format(value)?))),
        wire.structured_outputs.as_ref().map(|value| Ok(("structured_outputs", structured_outputs(value)?))),
        wire.guided_json.as_ref().map(|value| Ok(("guided_json", schema("guided_json", value)?))),
        text("guided_regex", &wire.guided_regex, Format::Regex),
        text("guided_grammar", &wire.guided_grammar, Format::Lark),
    ];
    let asked = asked.into_iter().flatten().collect::<Result<Vec<_>, Failure>>()?;
    let mut forms = asked.into_iter().filter(|(_, format)| *format != Format::Text);
    match (forms.next(), forms.next()) {
        (None, _) => Ok(Format::Text),
        (Some((_, format)), None) => Ok(format),
        (Some((first, _)), Some((second, _))) => Err(invalid(second, format!("{second} is set beside {first}"))),
    }
}

fn response_format(wire: &Value) -> Result<Format, Failure> {
    match wire.get("type").and_then(Value::as_str) {
        Some("text") => Ok(Format::Text),
        Some("json_object") => Ok(Format::JsonObject),
        Some("json_schema") => match wire.pointer("/json_schema/schema") {
            Some(value) => schema("response_format.json_schema.schema", value),
            None => {
                let name = "response_format.json_schema.schema";
                Err(invalid(name, format!("{name} is missing")))
            }
        },
        _ => {
            let (name, found) = ("response_format.type", wire.get("type").unwrap_or(&Value::Null));
            Err(invalid(name, format!("{name} is {found}, allowed: text, json_object, json_schema")))
        }
    }
}

fn structured_outputs(wire: &Map<String, Value>) -> Result<Format, Failure> {
    let name = "structured_outputs";
    let set: Vec<(&String, &Value)> = wire.iter().filter(|(_, value)| !value.is_null()).collect();
    let &[(kind, value)] = set.as_slice() else {
        return Err(invalid(name, format!("{name} has {} fields, one is needed: json, regex or grammar", set.len())));
    };
    let path = format!("{name}.{kind}");
    match (kind.as_str(), value.as_str()) {
        ("json", _) => schema(&path, value),
        ("json_object", _) if *value == Value::Bool(true) => Ok(Format::JsonObject),
        ("regex", Some(text)) => Ok(Format::Regex(text.to_owned())),
        ("grammar", Some(text)) => Ok(Format::Lark(text.to_owned())),
        _ => Err(invalid(&path, format!("{path} is {value}, supported: json, json_object: true, regex, grammar"))),
    }
}

/// A schema, which clients also send as text.
fn schema(name: &str, value: &Value) -> Result<Format, Failure> {
    let wrong = |why: String| invalid(name, format!("{name} {why}"));
    let schema = match value {
        Value::String(text) => serde_json::from_str(text).map_err(|why| wrong(format!("is no JSON: {why}")))?,
        other => other.clone(),
    };
    match schema {
        Value::Object(_) | Value::Bool(_) => Ok(Format::JsonSchema(schema)),
        other => Err(wrong(format!("is {other}, a schema is an object"))),
    }
}

fn invalid(name: &str, message: String) -> Failure {
    Failure::invalid(message, Some(name.to_owned()))
}
