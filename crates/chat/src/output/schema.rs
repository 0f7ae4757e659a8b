//! From XML values, which are all text, to typed JSON.

use indexmap::IndexMap;
use serde_json::Value;

use crate::Tool;

/// References and unions followed in one schema. Schemas come from clients and may refer to themselves.
const HOPS_MAX: u32 = 16;

/// The arguments of a call as JSON text, in Python's spacing like everything that models of this kind read and write.
pub(super) fn arguments(name: &str, values: &IndexMap<String, String>, tools: &[Tool]) -> String {
    let parameters = tools.iter().find(|tool| tool_name(tool) == Some(name)).and_then(Tool::parameters);
    let fields: Vec<String> = values
        .iter()
        .map(|(key, value)| {
            let types = parameters.map_or(Types::default(), |root| types_of_property(root, key));
            format!("{}: {}", Value::from(key.as_str()), typed(value, types))
        })
        .collect();
    format!("{{{}}}", fields.join(", "))
}

fn tool_name(tool: &Tool) -> Option<&str> {
    let defined = tool.definition.pointer("/function/name").or_else(|| tool.definition.get("name"));
    defined.and_then(Value::as_str).or(Some(&tool.name))
}

/// The JSON types that a schema allows. None at all: it does not say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Types(u8);

impl Types {
    const STRING: Self = Self(1);
    const NUMBER: Self = Self(2);
    const INTEGER: Self = Self(4);
    const BOOLEAN: Self = Self(8);
    const NULL: Self = Self(16);
    const OBJECT: Self = Self(32);
    const ARRAY: Self = Self(64);

    fn named(name: &str) -> Self {
        match name {
            "string" => Self::STRING,
            "number" => Self::NUMBER,
            "integer" => Self::INTEGER,
            "boolean" => Self::BOOLEAN,
            "null" => Self::NULL,
            "object" => Self::OBJECT,
            "array" => Self::ARRAY,
            _ => Self::default(),
        }
    }

    fn of(value: &Value) -> Self {
        match value {
            Value::Null => Self::NULL,
            Value::Bool(_) => Self::BOOLEAN,
            Value::Number(_) => Self::NUMBER,
            Value::String(_) => Self::STRING,
            Value::Array(_) => Self::ARRAY,
            Value::Object(_) => Self::OBJECT,
        }
    }

    fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    fn allows(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

fn types_of_property(root: &Value, key: &str) -> Types {
    let property = root.get("properties").and_then(|properties| properties.get(key));
    let mut hops = HOPS_MAX;
    property.map_or(Types::default(), |schema| types_of(schema, root, &mut hops))
}

fn types_of(schema: &Value, root: &Value, hops: &mut u32) -> Types {
    if *hops == 0 {
        return Types::default();
    }
    *hops -= 1;
    match schema.get("type") {
        Some(Value::String(name)) => return Types::named(name),
        Some(Value::Array(names)) => {
            let named = names.iter().filter_map(Value::as_str).map(Types::named);
            return named.fold(Types::default(), Types::and);
        }
        Some(_) | None => {}
    }
    if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
        let target = reference.strip_prefix('#').and_then(|pointer| root.pointer(pointer));
        return target.map_or(Types::default(), |target| types_of(target, root, hops));
    }
    let mut types = Types::default();
    for union in ["anyOf", "oneOf", "allOf"] {
        for member in schema.get(union).and_then(Value::as_array).into_iter().flatten() {
            types = types.and(types_of(member, root, hops));
        }
    }
    let values = schema.get("enum").and_then(Value::as_array).into_iter().flatten().chain(schema.get("const"));
    values.map(Types::of).fold(types, Types::and)
}

/// The value as JSON text of an allowed type, or else as a string: the tool may complain, we do not guess.
///
/// Templates up to Qwen3.5 write Python's `True`, `False` and `None`, so models do too.
fn typed(text: &str, types: Types) -> String {
    let string = || Value::from(text).to_string();
    if types == Types::default() || types == Types::STRING {
        return string();
    }
    let json = match text.trim() {
        "True" => "true",
        "False" => "false",
        "None" => "null",
        other => other,
    };
    let allowed = match serde_json::from_str(json) {
        // A parameter that may be no string at all can be left out only by saying so.
        Ok(Value::Null) => types.allows(Types::NULL) || !types.allows(Types::STRING),
        Ok(Value::Number(number)) => {
            let whole = number.as_f64().is_none_or(|value| value.fract() == 0.0);
            types.allows(Types::NUMBER) || (types.allows(Types::INTEGER) && whole)
        }
        Ok(Value::String(_)) | Err(_) => false,
        Ok(value) => types.allows(Types::of(&value)),
    };
    if allowed { json.to_owned() } else { string() }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{Types, typed, types_of_property};

    /// `schema` is that of the parameter `p`.
    #[track_caller]
    fn check(schema: &Value, text: &str, expected: &str) {
        let root = json!({
            "properties": {"p": schema},
            "$defs": {"Mode": {"enum": ["fast", 2]}, "Loop": {"$ref": "#/$defs/Loop"}, "Point": {"type": "object"}},
        });
        assert_eq!(typed(text, types_of_property(&root, "p")), expected);
    }

    #[test]
    fn plain_types() {
        check(&json!({"type": "integer"}), " 7 ", "7");
        check(&json!({"type": "integer"}), "12345678901234567890123", "12345678901234567890123");
        check(&json!({"type": "integer"}), "7.5", "\"7.5\"");
        check(&json!({"type": "integer"}), "None", "null");
        check(&json!({"type": "number"}), "1e3", "1e3");
        check(&json!({"type": "boolean"}), "True", "true");
        check(&json!({"type": "boolean"}), "1", "\"1\"");
        check(&json!({"type": "object"}), "{\"a\": [1]}", "{\"a\": [1]}");
        check(&json!({"type": "object"}), "[1]", "\"[1]\"");
        check(&json!({"type": "array"}), "[1", "\"[1\"");
        check(&json!({"type": "string"}), "7", "\"7\"");
        check(&json!({}), "7", "\"7\"");
    }

    #[test]
    fn unions_references_and_lists_of_values() {
        check(&json!({"type": ["integer", "null"]}), "null", "null");
        check(&json!({"anyOf": [{"type": "string"}, {"type": "null"}]}), "None", "null");
        check(&json!({"anyOf": [{"type": "string"}, {"type": "integer"}]}), "None", "\"None\"");
        check(&json!({"anyOf": [{"type": "string"}, {"type": "integer"}]}), "7", "7");
        check(&json!({"$ref": "#/$defs/Point"}), "{}", "{}");
        check(&json!({"$ref": "#/$defs/Mode"}), "2", "2");
        check(&json!({"$ref": "#/$defs/Mode"}), "fast", "\"fast\"");
        check(&json!({"$ref": "#/$defs/Loop"}), "2", "\"2\"");
        check(&json!({"$ref": "elsewhere"}), "2", "\"2\"");
    }

    #[test]
    fn schemas_that_are_none() {
        for schema in [json!(null), json!(7), json!({"type": 7}), json!({"anyOf": 7}), json!({"type": "no such"})] {
            check(&schema, "7", "\"7\"");
        }
        assert_eq!(types_of_property(&json!([]), "p"), Types::default());
    }
}
