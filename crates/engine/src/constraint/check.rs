//! Whether a finished answer is what was asked for.

use chat::Event;
use jsonschema::Validator;
use serde_json::Value;

/// What a finished answer must be.
#[derive(Default)]
pub(super) struct Check {
    /// The visible answer, if there is no call.
    pub(super) answer: Rule,
    /// The arguments of calls, by the name of the tool. Tools that are not listed may get anything.
    pub(super) tools: Vec<(String, Validator)>,
    /// Whether there must be a call.
    pub(super) needs_call: bool,
}

/// What text must be.
#[derive(Default)]
pub(super) enum Rule {
    /// Anything, or something that the grammar alone knows.
    #[default]
    Free,
    /// A JSON object.
    Object,
    /// A JSON value that fits.
    Fits(Box<Validator>),
}

impl Check {
    /// Why an answer is not what was asked for.
    pub(super) fn verdict(&self, said: &Said) -> Result<(), String> {
        for (name, arguments) in &said.calls {
            let Some((_, validator)) = self.tools.iter().find(|(tool, _)| tool == name) else { continue };
            fits(arguments, validator).map_err(|why| format!("the arguments of {name}: {why}"))?;
        }
        if self.needs_call && said.calls.is_empty() {
            return Err("no tool is called".to_owned());
        }
        match &self.answer {
            Rule::Fits(validator) if said.calls.is_empty() => fits(&said.text, validator),
            Rule::Object if said.calls.is_empty() => match serde_json::from_str(&said.text) {
                Ok(Value::Object(_)) => Ok(()),
                Ok(_) => Err("it is no JSON object".to_owned()),
                Err(why) => Err(format!("it is no JSON: {why}")),
            },
            Rule::Free | Rule::Fits(_) | Rule::Object => Ok(()),
        }
    }
}

fn fits(text: &str, validator: &Validator) -> Result<(), String> {
    let mut value: Value = serde_json::from_str(text).map_err(|why| format!("it is no JSON: {why}"))?;
    unsign_zeros(&mut value);
    validator.validate(&value).map_err(|why| format!("{} does not fit: {why}", place(why.instance_path().as_str())))
}

/// A negative zero is zero, an integer, which the validator does not see.
fn unsign_zeros(value: &mut Value) {
    match value {
        Value::Number(number) if number.as_f64() == Some(0.0) => *value = Value::from(0),
        Value::Array(items) => items.iter_mut().for_each(unsign_zeros),
        Value::Object(fields) => fields.values_mut().for_each(unsign_zeros),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn place(path: &str) -> &str {
    if path.is_empty() { "the value" } else { path }
}

/// What an answer says, without its reasoning.
#[derive(Debug, Default, Clone)]
pub(super) struct Said {
    text: String,
    calls: Vec<(String, String)>,
}

impl Said {
    pub(super) fn add(&mut self, event: &Event) {
        match event {
            Event::Text(text) => self.text.push_str(text),
            Event::ToolCallStarted { name, .. } => self.calls.push((name.clone(), String::new())),
            Event::ToolCallArguments { fragment, .. } => {
                if let Some((_, arguments)) = self.calls.last_mut() {
                    arguments.push_str(fragment);
                }
            }
            Event::Started { .. }
            | Event::Reasoning(_)
            | Event::Logprobs(_)
            | Event::Warning(_)
            | Event::Finished(_) => {}
        }
    }
}
