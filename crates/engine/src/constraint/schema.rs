//! JSON schemas: how far a grammar can hold an answer to one, and whether an answer fits it.

use jsonschema::Validator;
use llguidance::ParserFactory;
use llguidance::api::TopLevelGrammar;
use serde_json::{Map, Value, json};

/// Bytes of a schema as compact JSON.
const SCHEMA_BYTES_MAX: usize = 512 << 10;
/// Whitespace between the parts of JSON. A model that likes it cannot fill the context with it.
const WHITESPACE: &str = r"[ \t\n\r]{1,40}";

/// A schema, ready to be used.
pub(super) struct Schema {
    /// What the grammar is made of.
    pub(super) grammar: Value,
    /// Whether the grammar allows nothing that the schema forbids.
    pub(super) is_exact: bool,
    /// Says whether a value fits.
    pub(super) validator: Validator,
}

impl Schema {
    /// Reads a schema. Keywords that no grammar can express are left to the validator.
    ///
    /// Errors say why it is no schema, or refers to what is not there.
    pub(super) fn new(schema: &Value, factory: &ParserFactory) -> Result<Self, String> {
        let bytes = schema.to_string().len();
        if bytes > SCHEMA_BYTES_MAX {
            return Err(format!("it has {bytes} bytes, {SCHEMA_BYTES_MAX} allowed"));
        }
        let validator = jsonschema::options()
            .should_validate_formats(true)
            .build(schema)
            .map_err(|why| format!("{why} at {:?}", why.instance_path().as_str()))?;
        let exact = with_options(schema, &json!({"whitespace_pattern": WHITESPACE}));
        if compiles(&exact, factory) {
            return Ok(Self { grammar: exact, is_exact: true, validator });
        }
        let options = json!({"whitespace_pattern": WHITESPACE, "lenient": true, "coerce_one_of": true});
        let loose = [with_options(schema, &options), with_options(&top(schema), &options)];
        let grammar = loose.into_iter().find(|grammar| compiles(grammar, factory));
        Ok(Self { grammar: grammar.unwrap_or_else(any_json), is_exact: false, validator })
    }
}

/// Some JSON object.
pub(super) fn any_object() -> Value {
    with_options(&json!({"type": "object"}), &json!({"whitespace_pattern": WHITESPACE}))
}

fn any_json() -> Value {
    with_options(&json!({}), &json!({"whitespace_pattern": WHITESPACE}))
}

/// What is left of a schema that no grammar takes even in part: the type of the value.
fn top(schema: &Value) -> Value {
    let object = schema.get("properties").is_some().then(|| json!("object"));
    match schema.get("type").cloned().or(object) {
        Some(kind) => json!({ "type": kind }),
        None => json!({}),
    }
}

/// The grammar's options stand beside the schema; a request cannot set them.
fn with_options(schema: &Value, options: &Value) -> Value {
    let mut object = match schema {
        Value::Object(object) => object.clone(),
        // Nothing fits `false`; the compiler says so.
        Value::Bool(false) => Map::from_iter([("not".to_owned(), json!({}))]),
        Value::Bool(true) | Value::Null | Value::Number(_) | Value::String(_) | Value::Array(_) => Map::new(),
    };
    object.insert("x-guidance".to_owned(), options.clone());
    Value::Object(object)
}

fn compiles(grammar: &Value, factory: &ParserFactory) -> bool {
    factory.create_parser(TopLevelGrammar::from_json_schema(grammar.clone())).is_ok()
}
