//! Tool calls as rules of a Lark grammar, in the form in which the model's template writes them.

use std::fmt::Write as _;

use chat::{Tool, ToolFormat};
use jsonschema::Validator;
use llguidance::ParserFactory;
use llguidance::api::GrammarWithLexer;
use serde_json::{Map, Value, json};

use super::schema::{Schema, any_object};

/// The tools of a request as rules: `calls` is one call's inside, without the tags around it.
pub(super) struct Calls {
    /// Lark rules; the first is called `call`.
    pub(super) rules: String,
    /// The schemas that the rules refer to.
    pub(super) grammars: Vec<GrammarWithLexer>,
    /// What arguments have to fit.
    pub(super) checks: Vec<(String, Validator)>,
    /// Whether the rules allow nothing that a schema forbids.
    pub(super) is_exact: bool,
}

/// Which tools are held to their schemas.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Which {
    /// Those whose definition says `strict`.
    Strict,
    /// All. A schema that is none leaves its tool with any object.
    All,
}

impl Calls {
    /// Rules for these tools.
    ///
    /// An error names the strict tool whose schema is none, and says why.
    pub(super) fn new(
        tools: &[&Tool],
        format: ToolFormat,
        which: Which,
        factory: &ParserFactory,
    ) -> Result<Self, (String, String)> {
        let mut calls = Self { rules: String::new(), grammars: Vec::new(), checks: Vec::new(), is_exact: true };
        let names: Vec<String> = (0..tools.len()).map(|index| format!("tool_{index}")).collect();
        let _ = writeln!(calls.rules, "call: {}", names.join(" | "));
        for (index, tool) in tools.iter().enumerate() {
            let is_strict = tool.is_strict();
            let no_schema = json!({"type": "object"});
            let parameters = tool.parameters().unwrap_or(&no_schema);
            let schema = match Schema::new(parameters, factory) {
                Ok(schema) => Some(schema),
                Err(why) if is_strict => return Err((tool.name.clone(), why)),
                Err(_) => None,
            };
            let schema = schema.filter(|_| is_strict || which == Which::All);
            match format {
                ToolFormat::Json => calls.json_rule(index, tool, schema.as_ref()),
                ToolFormat::Xml => calls.xml_rule(index, tool, parameters, schema.is_some(), factory),
            }
            if let Some(schema) = schema {
                calls.is_exact &= schema.is_exact;
                calls.checks.push((tool.name.clone(), schema.validator));
            }
        }
        Ok(calls)
    }

    fn json_rule(&mut self, index: usize, tool: &Tool, schema: Option<&Schema>) {
        let arguments = self.reference(schema.map_or_else(any_object, |schema| schema.grammar.clone()));
        let begin = literal(&format!(r#"{{"name": {}, "arguments": "#, Value::from(tool.name.as_str())));
        let _ = writeln!(self.rules, r#"tool_{index}: {begin} {arguments} "}}\n""#);
    }

    /// Parameters come in the order of the schema. Values of strings are free text up to the closing tag; what else
    /// their schema says is left to the check.
    fn xml_rule(&mut self, index: usize, tool: &Tool, parameters: &Value, is_held: bool, factory: &ParserFactory) {
        let begin = literal(&format!("<function={}>\n", tool.name));
        let _ = write!(self.rules, "tool_{index}: {begin}");
        let properties = parameters.get("properties").and_then(Value::as_object);
        let mut values = String::new();
        let is_open = !is_held || properties.is_none_or(Map::is_empty) && parameters.get("properties").is_none();
        if is_open {
            let _ = write!(self.rules, " any_parameter_{index}*");
            let _ = writeln!(values, r#"any_parameter_{index}: /<parameter=[^>\n]{{1,200}}>\n/ any_value_{index}"#);
            let _ = writeln!(values, r#"any_value_{index}[lazy]: /(?s:.*)/ "\n</parameter>\n""#);
        }
        let required: Vec<&str> = parameters
            .get("required")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        for (place, (name, property)) in properties.into_iter().flatten().enumerate().filter(|_| !is_open) {
            let optional = if required.contains(&name.as_str()) { "" } else { "?" };
            let _ = write!(self.rules, " parameter_{index}_{place}{optional}");
            let begin = literal(&format!("<parameter={name}>\n"));
            let value = self.xml_value(property, parameters, factory);
            let rule = match &value {
                Some(value) => format!("parameter_{index}_{place}: {begin} {value} \"\\n</parameter>\\n\"\n"),
                None => format!(
                    "parameter_{index}_{place}: {begin} value_{index}_{place}\n\
                     value_{index}_{place}[lazy]: /(?s:.*)/ \"\\n</parameter>\\n\"\n"
                ),
            };
            values.push_str(&rule);
        }
        let _ = writeln!(self.rules, " \"</function>\\n\"");
        self.rules.push_str(&values);
    }

    /// The rule of a value that is not free text.
    fn xml_value(&mut self, property: &Value, parameters: &Value, factory: &ParserFactory) -> Option<String> {
        if let Some(choices) = property.get("enum").and_then(Value::as_array)
            && let Some(choices) = choices.iter().map(Value::as_str).collect::<Option<Vec<_>>>()
            && !choices.is_empty()
        {
            return Some(format!("({})", choices.into_iter().map(literal).collect::<Vec<_>>().join(" | ")));
        }
        let target = property.get("$ref").and_then(Value::as_str).and_then(|reference| reference.strip_prefix('#'));
        let referred = target.and_then(|pointer| parameters.pointer(pointer)).unwrap_or(property);
        match referred.get("type").and_then(Value::as_str) {
            Some("integer" | "number" | "boolean" | "null" | "object" | "array") => {}
            Some("string") => {
                let says_more =
                    ["pattern", "format", "minLength", "maxLength", "const", "enum", "allOf", "anyOf", "not"];
                self.is_exact &= !says_more.iter().any(|keyword| referred.get(keyword).is_some());
                return None;
            }
            Some(_) | None => {
                self.is_exact = false;
                return None;
            }
        }
        // What the value refers to stands at the root of the tool's schema.
        let mut alone = property.clone();
        for shared in ["$defs", "definitions"] {
            if let (Some(object), Some(definitions)) = (alone.as_object_mut(), parameters.get(shared)) {
                object.entry(shared).or_insert_with(|| definitions.clone());
            }
        }
        match Schema::new(&alone, factory) {
            Ok(schema) => {
                self.is_exact &= schema.is_exact;
                Some(self.reference(schema.grammar))
            }
            Err(_) => {
                self.is_exact = false;
                None
            }
        }
    }

    /// Puts a schema beside the rules; returns what refers to it.
    fn reference(&mut self, schema: Value) -> String {
        let name = format!("schema-{}", self.grammars.len());
        let grammar = GrammarWithLexer { name: Some(name.clone()), json_schema: Some(schema), lark_grammar: None };
        self.grammars.push(grammar);
        format!("@{name}")
    }
}

/// Text as a literal of Lark.
pub(super) fn literal(text: &str) -> String {
    Value::from(text).to_string()
}
